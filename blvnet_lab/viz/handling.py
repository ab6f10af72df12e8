"""What controls set off happens one after the other.

JupyterLab hands the messages of widgets to the kernel's main thread or to a thread of their own,
at times to both at once (its setting "Kernel Comms over subshells"). Without a lock, one handler
would find half of what the other one has changed, or a model that the other one is just using.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_LOCK = threading.RLock()  # of all widgets, since they may share a model


def handler(action: Callable[[], None]) -> Callable[[object], None]:
    """`action` for `observe` or `on_click`: it waits for other handlers, but for those it is in."""

    def handle(change: object) -> None:
        with _LOCK:
            action()

    return handle
