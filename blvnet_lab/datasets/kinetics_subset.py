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
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urljoin

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet, check_class_list
from blvnet_lab.data.decoding import VideoReadError
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info, refuse_damage
from blvnet_lab.data.reading import read_frames
from blvnet_lab.datasets.finding import Finding
from blvnet_lab.datasets.inventory import ID_LENGTH, build_manifest, table_values
from blvnet_lab.datasets.journal import Journal, Tables, in_units, remove_leftovers, write_tables
from blvnet_lab.datasets.layouts import Layout
from blvnet_lab.datasets.mirror import OFFICIAL, REPLACEMENTS, serve_mirror, write_mirror
from blvnet_lab.datasets.remote import (
    CHUNK,
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


def subset(
    dataset: Layout,
    /,
    out: Path,
    mirror: str = "",
    root: Path | None = None,
    selection: Selection = UP_TO_100,
    max_disk_gb: float | None = None,
    yes: bool = False,
) -> Tables | str:
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


def fetch_subset(plan: SubsetPlan) -> Tables:
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
    waiting = [name for name in plan.parts if not fetching.is_done(name)]
    total = sum(plan.parts[name] or 0 for name in waiting)
    with tqdm(total=total, desc="streaming", unit="B", unit_scale=True) as bar:
        for name in waiting:
            if fetching.stop():
                break
            fetching.take(name, bar)
    return fetching.finish(mirror)


class _Fetching:
    """Hold a subset in the making: what is there, what is lacking, and the log of it."""

    def __init__(self, plan: SubsetPlan):
        self.plan, self.stopped, self.kept = plan, "", {}
        settings = {"classes": plan.classes, "splits": plan.splits}
        settings["clips_per_class"] = plan.selection.clips_per_class
        self.journal = Journal(plan.out / "subset.json", settings, "progress.jsonl")
        rows = plan.rows
        self.group_of = dict(
            zip(rows.index, zip(rows["split"], rows["label"], strict=True), strict=True)
        )
        self.names_of = rows.index.to_series().groupby(rows["youtube_id"]).agg(list).to_dict()
        self.lacking = Counter(plan.quota.to_dict())  # clips still wanted, by split and label
        self.parts, logged = self.journal.last("part"), self.journal.last("kept")
        remove_leftovers(map(self._path, self.group_of))
        for name in tqdm(self.group_of, "looking at the clips", leave=False, unit="clip"):
            path, entry = self._path(name), logged.get(name, {"from": "", "probe": ""})
            try:
                self._count(name, _check_clip(path, entry["probe"]))
            except VideoReadError:  # the part of a missing or damaged clip waits again
                path.unlink(missing_ok=True)
                self.parts.pop(entry["from"], None)

    def _path(self, name: str) -> Path:
        return self.plan.out / "clips" / plain_name(self.group_of[name][1]) / f"{name}.mp4"

    def _count(self, name: str, info: VideoInfo) -> None:
        self.kept[name] = info
        self.lacking[self.group_of[name]] -= 1

    @property
    def bytes_kept(self) -> int:
        return sum(info.num_bytes for info in self.kept.values())

    def is_done(self, part: str) -> bool:
        return self.parts.get(part, {"state": "missing"})["state"] != "missing"

    def stop(self) -> bool:
        """Check whether there is nothing more to fetch, or no room for it (see `stopped`)."""
        limit = self.plan.max_disk_gb
        if not any(number > 0 for number in self.lacking.values()):
            return True
        if limit is not None and self.bytes_kept >= limit * 1e9:
            self.stopped = f"the clips take {in_units(self.bytes_kept)}, as much as allowed"
        elif shutil.disk_usage(self.plan.out).free < MIN_FREE:
            self.stopped = f"less than {in_units(MIN_FREE)} of disk are free"
        return bool(self.stopped)

    def take(self, part: str, bar: tqdm) -> None:
        """Stream one archive, keep what is wanted of it, and log what became of it."""
        before, state, detail = bar.n, "missing", ""  # a web page may be sent in its place
        url = urljoin(self.plan.mirror, part)
        try:
            with RemoteFile(url, self.plan.retries, on_bytes=bar.update) as file:
                stream = io.BufferedReader(file, CHUNK)
                if stream.peek(2)[:2] == b"\x1f\x8b":  # compressed: names do not tell
                    stream = gzip.GzipFile(fileobj=stream)
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    for member in archive:
                        state = "truncated"  # if it ends too early it was put there so
                        if (name := self._wanted_name(member)) is not None:
                            self._keep(name, archive.extractfile(member).read(), part)
                            if self.stop():
                                return
                    # Two empty blocks are the end, of which tarfile reads one. It takes a cut or
                    # damaged header for the end, too.
                    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                        raise tarfile.ReadError("its end is missing")
            state = "finished"
        except MissingError as error:
            bar.update(before - bar.n)
            state, detail = "missing", str(error)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            detail = f"{url}: expected a whole tar archive, got: {error}"
        self.parts[part] = {"part": part, "state": state, "detail": detail}
        self.journal.add(self.parts[part])

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
        return None if name in self.kept or self.lacking[self.group_of[name]] <= 0 else name

    def _keep(self, name: str, content: bytes, part: str) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path) as partial_file:
                partial_file.write_bytes(content)
                info = _check_clip(partial_file)
                # Before it has its name: a clip that nobody knows of would not be missed.
                self.journal.add({"kept": name, "from": part, "probe": pack_info(info)})
        except VideoReadError as error:
            detail = str(error).removeprefix(f"{partial_file}: ")
            self.journal.add({"clip": name, "detail": detail})
        else:
            self._count(name, replace(info, path=str(path)))

    def finish(self, mirror: list[int | None]) -> Tables:
        """Write manifest and report of what is there."""
        plan, rows = self.plan, self.plan.rows[self.plan.rows.index.isin(self.kept)]
        if rows.empty:
            raise DownloadError(
                f"expected clips of {len(plan.classes)} classes in {len(plan.parts)} parts, found "
                f"none: see {self.journal.log}"
            )
        names = {"label": "class_name", "youtube_id": "source_id"}
        table = rows.rename(columns={**names, "time_start": "start", "time_end": "end"})
        infos = [self.kept[name] for name in rows.index]
        table = table.assign(
            path=[info.path for info in infos],
            label=list(map(plan.classes.index, rows["label"])),
            status="ok",
            **pd.DataFrame(map(table_values, infos), index=rows.index),
        )
        unreadable = self.journal.last("clip")
        unreadable = {name: unreadable[name] for name in unreadable.keys() - self.kept.keys()}
        problems = self._problems({name: entry["detail"] for name, entry in unreadable.items()})
        if len(plan.splits) == 1:
            table["split"] = divide(table, plan.selection.val_share, plan.selection.seed)
            problems += one_sided_classes(table, ("train", "val"))
        counts = {
            "wanted": plan.quota.groupby(level="label").sum(),
            "kept": rows.groupby("label").size(),
            "unreadable": Counter(self.group_of[name][1] for name in unreadable),
        }
        counts = pd.DataFrame(counts).fillna(0).astype(int)
        notes = [f"{in_units(self.bytes_kept)} of clips are in {plan.out / 'clips'}"]
        notes += [f"stopped before the end: {self.stopped}"] * bool(self.stopped)
        data_set = DataSet(table.reset_index(drop=True), plan.classes, mirror)
        return write_tables(data_set, problems, plan.out, counts, notes)

    def _problems(self, unreadable: dict[str, str]) -> list[Finding]:
        """List what is wrong with the parts, and which clips are lacking."""
        kinds = {part: f"{entry['state']} part" for part, entry in self.parts.items()}
        kinds |= {REPLACEMENTS: "no replacements"}
        found = [
            (kinds[part], "", part, entry["detail"])
            for part, entry in self.parts.items()
            if entry["state"] != "finished"
        ]
        groups, quota = self.group_of, self.plan.quota
        found += [("unreadable", groups[name][0], name, why) for name, why in unreadable.items()]
        lacking = {group: number for group, number in self.lacking.items() if number > 0}
        found += [
            ("class with fewer clips", *group, f"{quota[group] - number} of {quota[group]}")
            for group, number in lacking.items()
        ]
        if all(map(self.is_done, self.plan.parts)):
            rest = groups.keys() - self.kept.keys() - unreadable.keys()
            found += [
                ("row without video", groups[name][0], name, groups[name][1])
                for name in rest
                if groups[name] in lacking
            ]
        return found


def _check_clip(path: Path, packed: str = "") -> VideoInfo:
    """Decode the first and the last frame. Raises VideoReadError if that, or more, is lacking.

    packed: what was found when it came. A file of the same size is taken for the same.
    """
    info = refuse_damage(known_video(path, packed))
    if pack_info(info) != packed:
        read_frames(info, [0, info.num_frames - 1])
    return info
