"""Being asked to stop: by the stop button, by a queueing system, by Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType

# SLURM sends SIGTERM before a job's time is up, or SIGUSR1 if asked to; Windows knows no SIGUSR1.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


class Interrupts:
    """Within `with`, these signals are noted in `asked` instead of ending the process.

    So a step is finished and a checkpoint written before the run ends. The stop button pressed a
    second time ends it at once (KeyboardInterrupt). Other threads than the main one hear nothing.
    """

    def __init__(self) -> None:
        self.asked = ""  # name of the signal
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked == "SIGINT":
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
