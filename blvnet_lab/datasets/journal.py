"""Folders that remember: their settings, what is done, their tables, and backups of older ones.

Work in them may be stopped at any time, and goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.finding import Finding
from blvnet_lab.paths import atomic_write

REPORT = "report.csv"
REPORT_COLUMNS = ["kind", "split", "name", "detail"]


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
        with atomic_write(self.settings) as partial:
            partial.write_text(json.dumps(values, indent=2), "utf-8")

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
    """Delete what was being written to these files (`atomic_write`) when a run was killed."""
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


# --- Tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """Record a manifest that was written, and its report."""

    manifest: Path
    problems: pd.DataFrame  # as in the report: kind, split, name, detail
    backups: tuple[Path, ...] = ()  # older files that said more, under their new names

    @property
    def report(self) -> Path:
        return self.manifest.with_name(REPORT)

    def __str__(self) -> str:
        lines = [f"{path} is the file that was there before" for path in self.backups]
        lines.append(f"{self.manifest} is the manifest, {REPORT} beside it lists all findings")
        return "\n".join(lines)


def write_tables(data_set: DataSet, problems: Sequence[Finding], out: Path) -> Tables:
    """Write manifest.csv, classes.csv and report.csv.

    Files that are there and say more are kept as manifest.1.csv and report.1.csv: a manifest that
    has good rows or columns that the new one has not, says another class, split or source of a
    video (or another status, if the video did not change), or cannot be read as one; and a report
    that is none of ours.
    """
    path, report, older = out / "manifest.csv", out / REPORT, []
    if path.is_file():
        old = read_old(path)
        if old is None or _says_more(old, data_set.rows):
            older.append(path)
    if report.is_file():
        with report.open(encoding="utf-8", errors="replace", newline="") as file:
            if next(csv.reader(file), REPORT_COLUMNS) != REPORT_COLUMNS:
                older.append(report)
    backups = tuple(map(back_up, older))
    data_set.save(path)
    table = pd.DataFrame(problems, columns=REPORT_COLUMNS)
    with atomic_write(report) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    return Tables(path, table, backups)


def read_old(path: Path) -> pd.DataFrame | None:
    """Read the manifest that is there, if there is one that can be read."""
    try:
        return DataSet.read(path).rows
    except ValueError:
        return None


def _says_more(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    filled = {name for name in old if (old[name].notna() & (old[name].astype("str") != "")).any()}
    if filled - set(new) or set(old["path"][old["status"] == "ok"]) - set(new["path"]):
        return True
    # The status may change with the video, of which the probe then found something else.
    meaning = (["path"], ["label", "class_name", "split", "source_id"])
    for video, said in (meaning, (["path", "probe"], ["status"])):
        before, now = (
            set(table[video + said].fillna("").itertuples(index=False, name=None))
            for table in (old, new)
        )
        known = {row[: len(video)] for row in now}
        if any(row[: len(video)] in known for row in before - now):
            return True
    return False


def in_units(count: float) -> str:
    """Format a number of bytes in GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
