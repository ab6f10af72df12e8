"""Progress of long work: a bar in a terminal or notebook, an occasional line in a log file."""

import sys
from typing import Any

from tqdm import auto, std

LOG_SECONDS = 180.0  # between two lines of a log


class tqdm(auto.tqdm):
    """tqdm's bar, which writes whole lines if standard error is not a terminal.

    Then there is a line every `LOG_SECONDS`, one for each `refresh()` and, unless `leave` is False,
    one at the end; each says how far the work has got, without carriage returns.
    """

    shown = True  # False in a process whose progress another one shows

    def __init__(self, *args: Any, **options: Any):
        is_notebook = auto.notebook_tqdm is not std.tqdm
        output = options.get("file") or sys.stderr
        self.in_log = not is_notebook and not getattr(output, "isatty", bool)()
        self.written = None  # the progress that the last line reported
        options["disable"] = options.get("disable") or not self.shown
        if self.in_log:
            options |= {"mininterval": LOG_SECONDS, "delay": LOG_SECONDS, "miniters": 1, "ncols": 0}
        super().__init__(*args, **options)

    def display(self, *args: Any, **options: Any) -> None:
        if not self.in_log:
            super().display(*args, **options)
        elif self.written != self.n:
            self.written = self.n
            self.fp.write(f"{self}\n")
            self.fp.flush()

    def close(self) -> None:
        if self.in_log and not self.disable:
            if self.leave:
                self.display()
            self.delay = float("inf")  # so that tqdm does not clear a bar that was never shown
        super().close()
