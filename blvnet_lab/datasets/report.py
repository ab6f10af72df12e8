"""The manifest of a data set together with a report of what is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.finding import Finding
from blvnet_lab.datasets.journal import back_up
from blvnet_lab.paths import written_whole

REPORT = "report.csv"
COLUMNS = ["kind", "split", "name", "detail"]


@dataclass(frozen=True)
class Tables:
    """A manifest that was written, and its report."""

    manifest: Path
    problems: pd.DataFrame  # as in the report: kind, split, name, detail
    backups: tuple[Path, ...] = ()  # older files that said more, under their new names

    @property
    def report(self) -> Path:
        return self.manifest.with_name(REPORT)

    def __str__(self) -> str:
        lines = [f"{path} is the file that was there before" for path in self.backups]
        lines.append(f"{self.manifest} is the manifest, {REPORT} beside it says all findings")
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
            if next(csv.reader(file), COLUMNS) != COLUMNS:
                older.append(report)
    backups = tuple(map(back_up, older))
    data_set.save(path)
    table = pd.DataFrame(problems, columns=COLUMNS)
    with written_whole(report) as unfinished:
        table.to_csv(unfinished, index=False, lineterminator="\n")
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
    """Write a number of bytes as people do."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
