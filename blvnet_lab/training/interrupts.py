"""Requests to stop: of the stop button, a queueing system, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import cache, partial
from types import FrameType
from typing import Any

# SLURM sends SIGTERM before a job's time is up, or SIGUSR1 if asked to; Windows knows no SIGUSR1.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


@cache
def _busy() -> Any:
    """Share with workers whether this process hears signals (1) or not (0)."""
    return multiprocessing.RawValue("b", 0)


def signals_of_workers() -> Callable[[int], None]:
    """Make the `worker_init_fn` that leaves signals to the process that trains.

    Ctrl-C and queueing systems signal every process of a job, but the clips of the current step are
    still needed. Only when no training goes on (any more) does SIGTERM end a worker: then it is
    this process that ends, or a worker does not answer.
    """
    return partial(_leave_signals, _busy())


def _leave_signals(busy: Any, worker: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: busy.value or os._exit(0))


class Interrupts:
    """Note these signals in `asked`, within `with`, instead of ending the process.

    So a step is finished and a checkpoint written before the run ends. The stop button pressed a
    second time ends it at once (KeyboardInterrupt). Other threads than the main one hear nothing.
    """

    def __init__(self) -> None:
        self.asked = ""  # name of the signal
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            _busy().value = 1
        return self

    def __exit__(self, *error: object) -> None:
        if self._before:
            _busy().value = 0
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked == "SIGINT":
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
