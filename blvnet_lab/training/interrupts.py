"""Requests to stop: of the stop button, a queueing system, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def noted_signals() -> Iterator[list[str]]:
    """Note the names of signals in a list, within `with`, instead of ending the process.

    So a step is finished and a checkpoint written before the run ends. The stop button pressed a
    second time ends it at once (KeyboardInterrupt). Other threads than the main one hear nothing.
    """
    asked: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and "SIGINT" in asked:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    _busy().value = 1
    try:
        yield asked
    finally:
        _busy().value = 0
        for number, handler in before.items():
            signal.signal(number, handler)
