"""Folders that remember: work in them may be stopped at any time, and goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from blvnet_lab.paths import written_whole


class Journal:
    """Keep the settings of long work in a folder, and a log of what is done.

    The log has one JSON object a line. A line that was cut off when a process was killed is passed
    over; the next entry begins on a line of its own.
    """

    def __init__(self, settings: Path, log: Path):
        self.settings, self.log = settings, log

    def keep_settings(self, values: dict[str, Any]) -> None:
        """Write the settings, or raise ValueError if the folder was begun with others."""
        before = json.loads(self.settings.read_text("utf-8")) if self.settings.is_file() else values
        for name, value in values.items():
            if before.get(name) != value:
                raise ValueError(
                    f"expected the {name} with which {self.settings.parent} was begun, "
                    f"{before.get(name)}, got {value}: take another folder, or the same {name}"
                )
        self.settings.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.settings) as unfinished:
            unfinished.write_text(json.dumps(values, indent=2), "utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry; it is on the disk when this returns."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self, logs: str = "") -> Iterator[dict[str, Any]]:
        """Read the log, or all logs of a pattern (of other machines, too), from the first entry."""
        for log in sorted(self.log.parent.glob(logs or self.log.name)):
            for line in log.read_text("utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete what was being written to these files (`written_whole`) when a run was killed."""
    wanted = set(targets)
    for folder in {target.parent for target in wanted}:
        for path in folder.glob(".*.part"):
            name = path.name[1:].removesuffix(".part").rpartition(".")[0]
            if folder / name in wanted:
                path.unlink(missing_ok=True)


def back_up(path: Path) -> Path:
    """Rename a file to the first free name of the kind manifest.1.csv."""
    numbered = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
    return path.rename(next(name for name in numbered if not name.exists()))
