"""Some classes of Kinetics-400 from a public mirror, without storing the rest.

    python -m blvnet_lab subset kinetics400 --num-classes 10 --out runs/mini --mirror sample

The mirror holds tar archives ("parts") of about 1.6 GB, and the classes are mixed over all of them:
to have every clip of a class, every part must be streamed, though next to nothing of it is kept.
242 parts hold the training clips, 20 the validation clips, some 50 of each class. So a subset for
learning comes from the validation parts, and is divided again into training and validation.

What is on disk at any time is good: clips get their names when their first and last frame were
decoded, and a log says which parts are done. So one may stop at any time, and go on.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet, check_class_list
from blvnet_lab.data.decoding import VideoReadError
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info, refuse_damage
from blvnet_lab.data.reading import read_frames
from blvnet_lab.datasets.finding import Finding
from blvnet_lab.datasets.inventory import ID_LENGTH, Inventory, build_manifest, table_values
from blvnet_lab.datasets.journal import Journal, Tables, in_units, remove_leftovers, write_tables
from blvnet_lab.datasets.layouts import Layout
from blvnet_lab.datasets.mirror import OFFICIAL, REPLACEMENTS, serve_mirror, write_mirror
from blvnet_lab.datasets.remote import (
    CHUNK,
    ChangedError,
    DownloadError,
    MissingError,
    RemoteFile,
)
from blvnet_lab.datasets.selection import Selection, mirror_table, mirrored_names
from blvnet_lab.datasets.sources import divide, one_sided_classes
from blvnet_lab.datasets.subset_plan import SubsetPlan, plan_subset
from blvnet_lab.paths import atomic_write, plain_name
from blvnet_lab.progress import tqdm

UP_TO_100 = Selection(clips_per_class=100)
MIN_FREE = 1_000_000_000  # bytes of disk that are left free


@dataclass(frozen=True, kw_only=True)
class Subset(Tables):
    """Record what came of a plan."""

    counts: pd.DataFrame  # a row a class: wanted, kept, unreadable
    bytes_kept: int
    stopped: str  # why before the end; empty if it was not

    def __str__(self) -> str:
        clips = self.manifest.parent / "clips"
        lines = [self.counts.to_string(), f"{in_units(self.bytes_kept)} of clips are in {clips}"]
        lines.append(super().__str__())
        return "\n".join(lines + [f"stopped before the end: {self.stopped}"] * bool(self.stopped))


def subset(
    dataset: Layout,
    /,
    out: Path,
    mirror: str = "",
    root: Path | None = None,
    selection: Selection = UP_TO_100,
    max_disk_gb: float | None = None,
    yes: bool = False,
) -> Subset | Inventory | str:
    """Fetch some classes of Kinetics from a mirror, without storing the rest of it.

    It first says what it would fetch, and asks; to find that out, it downloads annotations and
    sizes (a few MB) into out. If interrupted, the same command continues where it stopped.

    Args:
        dataset: kinetics400; with --root any other.
        out: folder for the clips, manifest.csv, classes.csv and report.csv.
        mirror: address of a copy of the official mirror; without it, the official one; "sample"
            makes a tiny one from the sample clips, to try the command without a network.
        root: the data set's folder, where it is on disk already: nothing is downloaded or copied.
        selection: which clips. Without --split those of val from a mirror, and all that are there
            from a disk. A single split from a mirror is divided into train and val.
        max_disk_gb: size of the clips at which to stop.
        yes: begin without asking.
    """
    if root is not None:
        if mirror:
            raise ValueError("expected --root (on disk) or --mirror (to download), got both")
        return build_manifest(dataset, root, out=out, selection=selection)
    if dataset != "kinetics400":
        raise ValueError(
            f"expected kinetics400, the one whose mirror is known, got {dataset}: download it, "
            "then say where it is with --root"
        )
    with ExitStack() as stack:
        if mirror == "sample":
            folder = stack.enter_context(TemporaryDirectory())
            mirror = stack.enter_context(serve_mirror(write_mirror(folder)))
        plan = plan_subset(out, selection, mirror=mirror or OFFICIAL, max_disk_gb=max_disk_gb)
        if yes:
            tqdm.write(str(plan))
        elif not sys.stdin.isatty():
            return f"{plan}\nnothing was fetched: run the same command with --yes to begin"
        elif input(f"{plan}\nbegin? [y/N] ").strip().lower() not in ("y", "yes"):
            return "nothing was fetched"
        found = fetch_subset(plan)
    if (found.problems["kind"] == "missing part").any():
        raise DownloadError(
            f"{found}\nsome parts could not be fetched: run the same command again to retry"
        )
    return found


def fetch_subset(plan: SubsetPlan) -> Subset:
    """Stream the parts until every class has its clips, and write manifest and report.

    Run again with the same plan it goes on where it stopped. With one official split, the share
    `val_share` of the sources of each class becomes "val", the rest "train"; of several, the names
    stay.

    Raises:
        ValueError: the folder holds a subset of other classes or splits, or another class list.
        DownloadError: the mirror does not answer any more; what was fetched stays.
    """
    fetching = _Fetching(plan)
    # Of Kinetics every class is its own mirror image; of the sample mirror not all are.
    mirror = mirror_table(plan.classes, mirrored_names(plan.classes))
    check_class_list(plan.classes, mirror, plan.out / "manifest.csv")
    # The replacements first, so that they stand in for what is corrupt in the parts.
    parts = [("", REPLACEMENTS, plan.replacement_bytes), *plan.parts]
    waiting = [(name, size) for _, name, size in parts if not fetching.is_done(name)]
    total = sum(size or 0 for _, size in waiting)
    with tqdm(total=total, desc="streaming", unit="B", unit_scale=True) as bar:
        for name, _ in waiting:
            if fetching.stop():
                break
            fetching.take(name, bar)
    return fetching.finish(mirror)


class _Fetching:
    """Hold a subset in the making: what is there, what is wanted, and the log of it."""

    def __init__(self, plan: SubsetPlan):
        self.plan, self.stopped = plan, ""
        self.journal = Journal(plan.out / "subset.json", plan.out / "progress.jsonl")
        self.journal.keep_settings(
            {
                "classes": list(plan.classes),
                "splits": list(plan.splits),
                "clips_per_class": plan.selection.clips_per_class,
            }
        )
        self.row_of = {row.name: row for row in plan.rows.itertuples(index=False)}
        self.names_of = plan.rows.groupby("youtube_id")["name"].agg(list).to_dict()
        self.quota = plan.quota.to_dict()
        entries = list(self.journal.entries())
        # The last word about each counts.
        self.parts = {entry["part"]: entry for entry in entries if "part" in entry}
        self.kept = self._look({entry["kept"]: entry for entry in entries if "kept" in entry})
        self.unreadable = {
            entry["clip"]: entry["detail"]
            for entry in entries
            if "clip" in entry and entry["clip"] not in self.kept
        }
        self.bytes_kept = sum(info.num_bytes for info in self.kept.values())
        self.counts = Counter(self._group(name) for name in self.kept)
        remove_leftovers(map(self._path, self.row_of))

    def _look(self, logged: dict[str, dict]) -> dict[str, VideoInfo]:
        """Find the clips that are there. Parts of missing or damaged ones wait again."""
        kept = {}
        for name in tqdm(self.row_of, "looking at the clips", leave=False, unit="clip"):
            path, entry = self._path(name), logged.get(name, {"from": "", "probe": ""})
            if path.is_file():
                try:
                    kept[name] = _check_clip(path, entry["probe"])
                    continue
                except VideoReadError:
                    path.unlink()
            self.parts.pop(entry["from"], None)
        return kept

    def is_done(self, part: str) -> bool:
        return self.parts.get(part, {"state": "missing"})["state"] != "missing"

    def _group(self, name: str) -> tuple[str, str]:
        return self.row_of[name].split, self.row_of[name].label

    def _path(self, name: str) -> Path:
        return self.plan.out / "clips" / plain_name(self.row_of[name].label) / f"{name}.mp4"

    def stop(self) -> bool:
        """Check whether there is nothing more to fetch, or no room for it (see `stopped`)."""
        if all(self.counts[group] >= number for group, number in self.quota.items()):
            return True
        limit = self.plan.max_disk_gb
        if limit is not None and self.bytes_kept >= limit * 1e9:
            self.stopped = f"the clips take {in_units(self.bytes_kept)}, as much as allowed"
        elif shutil.disk_usage(self.plan.out).free < MIN_FREE:
            self.stopped = f"less than {in_units(MIN_FREE)} of disk are free"
        return bool(self.stopped)

    def take(self, part: str, bar: tqdm) -> None:
        """Stream one archive and keep what is wanted of it."""
        before = bar.n
        try:
            address = self.plan.address(part)
            with RemoteFile(address, self.plan.retries, on_bytes=bar.update) as file:
                state, detail = self._keep_wanted(file, part, bar)
        except (MissingError, ChangedError) as error:
            bar.update(before - bar.n)
            state, detail = "missing", str(error)
        if state != "stopped":
            self.parts[part] = {"part": part, "state": state, "detail": detail}
            self.journal.add(self.parts[part])

    def _keep_wanted(self, file: RemoteFile, part: str, bar: tqdm) -> tuple[str, str]:
        """Say what became of the archive (finished, truncated, missing or stopped), and details."""
        state = "missing"  # some web pages are sent in the place of what is not there
        try:
            for archive, member in _members(file):
                # Now it is known to be an archive. If all bytes came and it ends too early, it was
                # put on the mirror so; what comes before its end is as good as any.
                state, name = "truncated", self._wanted_name(member)
                if name is not None:
                    self._keep(name, archive.extractfile(member).read(), part)
                    bar.set_postfix(clips=f"{len(self.kept)}/{sum(self.quota.values())}")
                    if self.stop():
                        return "stopped", ""
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            return state, f"{file.url}: expected a whole tar archive, got: {error}"
        return "finished", ""

    def _wanted_name(self, member: tarfile.TarInfo) -> str | None:
        """Name the clip that a member of an archive is, if it is wanted and not there yet."""
        folder, base = os.path.split(member.name)
        name, suffix = os.path.splitext(base)
        names = self.names_of.get(base[:ID_LENGTH])
        if not member.isreg() or suffix.lower() != ".mp4" or not names:
            return None
        if name not in names:
            if "replacement" not in folder:
                return None
            name = names[0]  # replacements are named by their ids, and more that varies
        group = self._group(name)
        return None if name in self.kept or self.counts[group] >= self.quota[group] else name

    def _keep(self, name: str, content: bytes, part: str) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path) as partial:
                partial.write_bytes(content)
                info = _check_clip(partial)
                # Before it has its name: a clip that nobody knows of would not be missed.
                self.journal.add({"kept": name, "from": part, "probe": pack_info(info)})
        except VideoReadError as error:
            self.unreadable[name] = str(error).removeprefix(f"{partial}: ")
            self.journal.add({"clip": name, "detail": self.unreadable[name]})
            return
        self.kept[name] = replace(info, path=str(path))
        self.unreadable.pop(name, None)
        self.bytes_kept += len(content)
        self.counts[self._group(name)] += 1

    def finish(self, mirror: list[int | None]) -> Subset:
        """Write manifest and report of what is there."""
        plan = self.plan
        rows = plan.rows[plan.rows["name"].isin(self.kept)]
        if rows.empty:
            raise DownloadError(
                f"expected clips of {len(plan.classes)} classes in {len(plan.parts)} parts, found "
                f"none: see {self.journal.log}"
            )
        table = pd.DataFrame(
            {
                "path": self.kept[row.name].path,
                "label": plan.classes.index(row.label),
                "class_name": row.label,
                "split": row.split,
                "source_id": row.youtube_id,
                "start": row.time_start,
                "end": row.time_end,
                "status": "ok",
                **table_values(self.kept[row.name]),
            }
            for row in rows.itertuples()
        )
        problems = self._problems()
        if len(plan.splits) == 1:
            table["split"] = divide(table, plan.selection.val_share, plan.selection.seed)
            problems += one_sided_classes(table, ("train", "val"))
        written = write_tables(DataSet(table, plan.classes, mirror), sorted(problems), plan.out)
        counts = pd.DataFrame(
            {
                "wanted": plan.quota.groupby(level="label").sum(),
                "kept": table.groupby("class_name").size(),
                "unreadable": Counter(self.row_of[name].label for name in self.unreadable),
            }
        )
        counts = counts.fillna(0).astype(int)
        return Subset(
            **vars(written), counts=counts, bytes_kept=self.bytes_kept, stopped=self.stopped
        )

    def _problems(self) -> list[Finding]:
        found = []
        for part, entry in self.parts.items():
            if entry["state"] in ("missing", "truncated"):
                kind = "no replacements" if part == REPLACEMENTS else f"{entry['state']} part"
                found.append((kind, "", part, entry["detail"]))
        for name, detail in self.unreadable.items():
            found.append(("unreadable", self.row_of[name].split, name, detail))
        lacking = {group for group, number in self.quota.items() if self.counts[group] < number}
        for split, label in lacking:
            detail = f"{self.counts[split, label]} of {self.quota[split, label]}"
            found.append(("class with fewer clips", split, label, detail))
        if not self.stopped and all(self.is_done(part) for _, part, _ in self.plan.parts):
            for name in self.row_of.keys() - self.kept.keys() - self.unreadable.keys():
                split, label = self._group(name)
                if (split, label) in lacking:
                    found.append(("row without video", split, name, label))
        return found


def _check_clip(path: Path, packed: str = "") -> VideoInfo:
    """Decode the first and the last frame. Raises VideoReadError if that, or more, is lacking.

    packed: what was found when it came. A file of the same size is taken for the same.
    """
    info = refuse_damage(known_video(path, packed))
    if pack_info(info) != packed:
        read_frames(info, [0, info.num_frames - 1])
    return info


def _members(file: RemoteFile) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Go through a tar archive to its very end; tarfile, gzip and zlib say if it is damaged."""
    stream = io.BufferedReader(file, CHUNK)
    if stream.peek(2)[:2] == b"\x1f\x8b":  # compressed: names do not tell
        stream = gzip.GzipFile(fileobj=stream)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            archive.members = []  # it would remember them all
            yield archive, member
        # tarfile takes a damaged header for the end. Two empty blocks are the end, and it has read
        # the first; what follows is nothing but zeros.
        behind = 0
        while rest := archive.fileobj.read(CHUNK):
            behind += len(rest)
            if rest.strip(b"\0"):
                raise tarfile.ReadError("a header in it is damaged")
    if behind < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
