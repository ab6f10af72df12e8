"""What controls set off happens one after the other, in the order in which it was set off.

JupyterLab hands the messages of widgets to the kernel's main thread or to a thread of their own,
at times to both at once (its setting "Kernel Comms over subshells"). Without turns, one handler
would find half of what the other one has changed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()  # of all widgets
_WAITING: deque[Callable[[], None]] = deque()  # what was set off and is not done yet


class _Here(threading.local):
    inside = False  # is it this thread's turn?


_HERE = _Here()


@contextmanager
def turn() -> Iterator[None]:
    """Inside, no other thread handles anything."""
    with _LOCK:
        before, _HERE.inside = _HERE.inside, True
        try:
            yield
        finally:
            _HERE.inside = before


def in_turn(action: Callable[[], None]) -> None:
    """Call `action` when its turn comes, and wait for that; at once, if it is part of another."""
    if _HERE.inside:
        action()
        return
    _WAITING.append(action)  # a lock alone would not keep the order of those who wait for it
    with turn():
        while _WAITING:  # what came first comes first; another thread may have done ours
            _WAITING.popleft()()
