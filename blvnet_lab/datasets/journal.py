"""Folders that remember their settings and what is done, and back up older tables."""

import filecmp
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.layouts import Finding
from blvnet_lab.paths import free_name, write_files

REPORT = "report.csv"
REPORT_HEADER = "kind,split,name,detail"
Values = dict[str, Any]


class Journal:
    """Keep the settings of long work in a folder, and a log of what is done.

    The log has one JSON object per line; lines cut off when a process was killed are ignored.
    `logs` is a pattern for all logs to read, if other machines write some, too; `earlier` are the
    settings of folders from before these were stored.

    Raises ValueError if the folder was begun with other settings.
    """

    def __init__(
        self, file: Path, values: Values, log: str, logs: str = "", earlier: Values | None = None
    ):
        self.log, self.logs = file.with_name(log), logs or log
        before = json.loads(file.read_text("utf-8")) if file.is_file() else values
        for name, value in values.items():
            old = ((earlier or {}) | before).get(name)
            if old != value:
                wanted = f"the {name} with which {file.parent} was begun, {old}"
                remedy = f"take another folder, or the same {name}"
                raise ValueError(f"expected {wanted}, got {value}: {remedy}")
        write_files({file: json.dumps(values, indent=2)})
        for leftover in file.parent.glob("clips/*/.*.part"):  # of a run that was killed
            leftover.unlink()

    def add(self, entry: Values) -> None:
        """Append an entry; it is on the disk when this returns."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")
            file.flush()
            os.fsync(file.fileno())

    def last(self, key: str) -> dict[str, Values]:
        """Read the logs; return the last entry for each value of a key."""
        found = {}
        for log in sorted(self.log.parent.glob(self.logs)):
            for line in log.read_text("utf-8").splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    found[entry.get(key)] = entry
        found.pop(None, None)
        return found


@dataclass(frozen=True)
class Tables:
    """A manifest that was written, and its report."""

    manifest: Path
    problems: pd.DataFrame  # as in the report: kind, split, name, detail
    counts: pd.DataFrame  # rows by split and status, or a subset's clips by class
    backups: tuple[Path, ...] = ()  # older files, under their new names

    @property
    def report(self) -> Path:
        return self.manifest.with_name(REPORT)

    def __str__(self) -> str:
        kinds = self.problems["kind"].value_counts().to_string(header=False)
        lines = [f"{self.counts.to_string()}\n"]
        lines += [f"findings\n{kinds}\n"] * (not self.problems.empty)
        lines += [f"{path} is the file that was there before" for path in self.backups]
        lines.append(f"{self.manifest} is the manifest, {REPORT} beside it lists all findings")
        return "\n".join(lines)


def write_tables(
    data_set: DataSet, problems: Sequence[Finding], out: Path, counts: pd.DataFrame | None = None
) -> Tables:
    """Write manifest.csv, classes.csv and report.csv; keep an older manifest that differs.

    It is renamed to manifest.1.csv, and a report that is not ours to report.1.csv. Raises
    ValueError, once all is written, if no row is "ok" or a "duplicate" of one in another split.
    """
    path, report, backups = out / "manifest.csv", out / REPORT, []
    data_set.check(path)
    if path.is_file():
        backups.append(path.rename(free_name(path)))
    data_set.save(path)
    if backups and filecmp.cmp(path, backups[0], shallow=False):
        backups.pop().unlink()
    if report.is_file() and not report.read_text("utf-8", "replace").startswith(REPORT_HEADER):
        backups.append(report.rename(free_name(report)))
    table = pd.DataFrame(sorted(problems), columns=REPORT_HEADER.split(","))
    write_files({report: table.to_csv(index=False, lineterminator="\n")})
    if not data_set.rows["status"].isin(["ok", "duplicate"]).any():
        wanted = f"expected clips that can be read, got none of the {len(data_set.rows)} in {path}"
        raise ValueError(f"{wanted}: {report} says why")
    if counts is None:
        found = Counter(zip(data_set.rows["split"], data_set.rows["status"], strict=True))
        counts = pd.Series(found).rename_axis(["split", "status"]).unstack(fill_value=0)
    return Tables(path, table, counts, tuple(backups))


def in_units(count: float) -> str:
    """Format a number of bytes in GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
