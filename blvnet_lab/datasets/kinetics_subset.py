"""Some classes of Kinetics-400 from a public mirror, without storing the rest.

The mirror holds tar archives ("parts") of about 1.6 GB, and the classes are mixed over all of them:
to have every clip of a class, every part must be streamed, though next to nothing of it is kept.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urljoin

import pandas as pd

from blvnet_lab.data import DataSet, VideoReadError, read_frames
from blvnet_lab.data.dataset_files import check_class_list
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info, refuse_damage
from blvnet_lab.datasets import remote
from blvnet_lab.datasets.inventory import ID_LENGTH, build_manifest, table_values
from blvnet_lab.datasets.journal import Journal, Tables, in_units, remove_leftovers, write_tables
from blvnet_lab.datasets.layouts import Layout, kinetics_name, read_kinetics_rows
from blvnet_lab.datasets.mirror import OFFICIAL, REPLACEMENTS, serve_mirror, write_mirror
from blvnet_lab.datasets.selection import Selection, mirror_table, mirrored_names
from blvnet_lab.datasets.sources import divide, one_sided_classes
from blvnet_lab.paths import atomic_write, plain_name
from blvnet_lab.progress import tqdm

UP_TO_100 = Selection(clips_per_class=100)
MIN_FREE = 1_000_000_000  # bytes of disk that are left free
LICENCE = (
    "The annotations are licensed CC BY 4.0 by Google; the clips belong to the people who put them "
    "on YouTube. Use them for research and teaching, and do not pass them on."
)


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
        raise ValueError(f"expected kinetics400 or, on disk, --root, got {dataset} without --root")
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
    parts = found.problems[found.problems["kind"] == "missing part"]
    if set(parts["name"]) - {REPLACEMENTS}:
        raise remote.DownloadError(f"{found}\nsome parts are missing: run the same command again")
    return found


# --- The plan -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SubsetPlan:
    """Describe what a subset takes, before any of it is fetched."""

    mirror: str  # address in front of 400/...
    out: Path
    selection: Selection
    max_disk_gb: float | None
    splits: list[str]
    classes: list[str]
    rows: pd.DataFrame  # rows of a manifest, by the clips' names
    num_rows: int  # of all classes, in these splits
    parts: dict[str, int | None]  # names of the archives, and bytes; the replacements come first

    @property
    def quota(self) -> pd.Series:
        """Count the clips to be kept by split and class."""
        available = self.rows.groupby(["split", "class_name"]).size()
        return available.clip(upper=self.selection.clips_per_class)

    @property
    def expected_clips(self) -> int:
        return int(self.quota.sum())

    def __str__(self) -> str:
        place = next(folder for folder in (self.out, *self.out.parents) if folder.is_dir())
        stream = sum(filter(None, self.parts.values()))
        kept = stream * self.expected_clips / self.num_rows  # as if all clips were equally large
        return (
            f"{len(self.classes)} classes of Kinetics-400 from {self.mirror}: "
            f"{', '.join(self.classes)}\n"
            f"clips of {' and '.join(self.splits)} are mixed over {len(self.parts) - 1} parts: "
            f"{in_units(stream)} in all (where the mirror tells)\n"
            f"to be kept: {self.expected_clips} clips, about {in_units(kept)} "
            f"({in_units(shutil.disk_usage(place).free)} are free)\n{LICENCE}"
        )


def plan_subset(
    out: Path, selection: Selection, *, mirror: str = OFFICIAL, max_disk_gb: float | None = None
) -> SubsetPlan:
    """Fetch the annotations, the lists of parts and the parts' sizes, and no clip.

    Args:
        out: folder for the subset; the annotations are kept in it from now on.
        selection: which clips; without a split those of "val".
        mirror: address in front of `400/...`; the official one, or a copy of it.
        max_disk_gb: of clips, at which to stop.

    Raises:
        ValueError: no such split or class.
        DownloadError: the mirror does not answer, lacks these files, or sends something else.
    """
    splits = list(selection.split) or ["val"]
    if sorted(splits) not in (["train"], ["val"], ["train", "val"]):
        raise ValueError(f"expected the splits train, val or both, got {', '.join(splits)}")
    if not (selection.classes or selection.class_list or selection.num_classes is not None):
        raise ValueError("expected classes, got none: name some, or say how many")
    if max_disk_gb is not None and not max_disk_gb > 0:
        raise ValueError(f"expected a positive max_disk_gb, got {max_disk_gb}")
    if not mirror.startswith(("http://", "https://")):
        raise ValueError(f"expected a mirror's address, http://... or https://..., got {mirror}")
    mirror, out = mirror.rstrip("/") + "/", Path(out).absolute()
    lists = [_fetch_lists(mirror, split, out) for split in splits]
    table = pd.concat([rows for rows, _ in lists])
    parts = [REPLACEMENTS, *(part for _, parts in lists for part in parts)]
    classes = selection.choose_classes(sorted(set(table["label"])))
    rows = table[table["label"].isin(classes)].drop_duplicates(["youtube_id", "time_start"])
    rows.columns = ["class_name", "source_id", "start", "end", "split"]
    rows.index = list(map(kinetics_name, rows["source_id"], rows["start"], rows["end"]))
    folders = [out / "clips" / plain_name(name) for name in rows["class_name"]]
    rows = rows.assign(
        path=[f"{folder / name}.mp4" for folder, name in zip(folders, rows.index, strict=True)],
        label=list(map(classes.index, rows["class_name"])),
        status="ok",
    )
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(remote.remote_size, (urljoin(mirror, part) for part in parts))
        sizes = list(tqdm(asked, "sizes of the parts", len(parts), leave=False, unit="part"))
    return SubsetPlan(
        mirror=mirror,
        out=out,
        selection=selection,
        max_disk_gb=max_disk_gb,
        splits=splits,
        classes=classes,
        rows=rows,
        num_rows=len(table),
        parts=dict(zip(parts, sizes, strict=True)),
    )


def _fetch_lists(mirror: str, split: str, out: Path) -> tuple[pd.DataFrame, list[str]]:
    """Fetch a split's annotations, and the names of its archives or their whole addresses."""
    url, file = f"{mirror}400/annotations/{split}.csv", out / "annotations" / f"{split}.csv"
    text = remote.fetch_text(url)
    try:
        table = read_kinetics_rows(io.StringIO(text), split, name=url)
    except ValueError as error:
        raise remote.DownloadError(str(error)) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8", newline="")
    url = f"{mirror}400/{split}/k400_{split}_path.txt"
    names = [line.removeprefix(OFFICIAL) for line in remote.fetch_text(url).split()]
    if not names or not all(name.endswith((".tar", ".tar.gz", ".tgz")) for name in names):
        raise remote.DownloadError(f"{url}: expected a list of tar archives, got {names[:1]}")
    return table, names


# --- The clips ----------------------------------------------------------------------------------


def fetch_subset(plan: SubsetPlan) -> Tables:
    """Stream the parts until every class has its clips, and write manifest and report.

    Run again with the same plan it goes on where it stopped. Clips of one official split are
    divided into "train" and "val"; those of both stay where they are.

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
        self.plan, self.stopped = plan, ""
        self.kept: dict[str, VideoInfo] = {}
        settings = {"classes": plan.classes, "splits": plan.splits}
        settings["clips_per_class"] = plan.selection.clips_per_class
        self.journal = Journal(plan.out / "subset.json", settings, "progress.jsonl")
        groups = plan.rows[["split", "class_name"]].itertuples(index=False, name=None)
        self.group_of = dict(zip(plan.rows.index, groups, strict=True))
        self.names_of = plan.rows.groupby("source_id").groups
        self.lacking = Counter(plan.quota.to_dict())  # clips still wanted, by split and class
        self.parts, logged = self.journal.last("part"), self.journal.last("kept")
        remove_leftovers(map(Path, plan.rows["path"]))
        for name in tqdm(self.group_of, "looking at the clips", leave=False, unit="clip"):
            path, entry = self._path(name), logged.get(name, {"from": "", "probe": ""})
            try:
                self._count(name, _check_clip(path, entry["probe"]))
            except VideoReadError:  # the part of a missing or damaged clip waits again
                path.unlink(missing_ok=True)
                self.parts.pop(entry["from"], None)

    def _path(self, name: str) -> Path:
        return Path(self.plan.rows.at[name, "path"])

    def _count(self, name: str, info: VideoInfo) -> None:
        self.kept[name] = info
        self.lacking[self.group_of[name]] -= 1

    def is_done(self, part: str) -> bool:
        return part in self.parts and self.parts[part]["state"] != "missing"

    def stop(self) -> bool:
        """Check whether there is nothing more to fetch, or no room for it (see `stopped`)."""
        limit = self.plan.max_disk_gb
        if not any(number > 0 for number in self.lacking.values()):
            return True
        if limit is not None and sum(info.num_bytes for info in self.kept.values()) >= limit * 1e9:
            self.stopped = f"the clips take {limit:g} GB, as much as allowed"
        elif shutil.disk_usage(self.plan.out).free < MIN_FREE:
            self.stopped = f"less than {in_units(MIN_FREE)} of disk are free"
        return bool(self.stopped)

    def take(self, part: str, bar: tqdm) -> None:
        """Stream one archive, keep what is wanted of it, and log what became of it."""
        before, state, detail = bar.n, "missing", ""  # a web page may be sent in its place
        url = urljoin(self.plan.mirror, part)
        try:
            with remote.RemoteFile(url, on_bytes=bar.update) as file:
                stream = io.BufferedReader(file, remote.CHUNK)
                if stream.peek(2)[:2] == b"\x1f\x8b":  # compressed: names do not tell
                    stream = gzip.GzipFile(fileobj=stream)
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    for member in archive:
                        state = "truncated"  # if it ends too early it was put there so
                        name = self._wanted_name(member)
                        if name is not None:
                            self._keep(name, archive.extractfile(member).read(), part)
                            if self.stop():
                                return
                    # Two empty blocks are the end, of which tarfile reads one. It takes a cut or
                    # damaged header for the end, too.
                    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                        raise tarfile.ReadError("its end is missing")
                    while archive.fileobj.read(remote.CHUNK):  # gzip checks itself at the end
                        pass
            state = "finished"
        except remote.MissingError as error:
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
        names = self.names_of.get(base[:ID_LENGTH], ())
        if name not in names and "replacement" in folder:
            name = next(iter(names), name)  # replacements are named by their ids, and more
        if not member.isreg() or suffix.lower() != ".mp4" or name not in names:
            return None
        return None if name in self.kept or self.lacking[self.group_of[name]] <= 0 else name

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
            detail = str(error).removeprefix(f"{partial}: ")
            self.journal.add({"clip": name, "detail": detail})
        else:
            self._count(name, info)

    def finish(self, mirror: list[int | None]) -> Tables:
        """Write manifest and report of what is there."""
        plan, quota = self.plan, self.plan.quota
        spoilt = self.journal.last("clip")
        spoilt = {name: spoilt[name]["detail"] for name in spoilt if name not in self.kept}
        names = plan.rows.index
        rows = plan.rows.assign(kept=names.isin(self.kept), unreadable=names.isin(spoilt))
        table = rows[rows["kept"]].drop(columns=["kept", "unreadable"])
        if table.empty:
            raise remote.DownloadError(
                f"expected clips of {len(plan.classes)} classes in {len(plan.parts)} parts, found "
                f"none: see {self.journal.log}"
            )
        values = pd.DataFrame([table_values(self.kept[n]) for n in table.index], index=table.index)
        table = table.join(values).reset_index(drop=True)
        have = rows.groupby(["split", "class_name"])["kept"].sum()
        lacking = have[have < quota]
        problems = [
            (f"{entry['state']} part", "", part, entry["detail"])
            for part, entry in self.parts.items()
            if entry["state"] != "finished"
        ]
        problems += [("unreadable", self.group_of[n][0], n, why) for n, why in spoilt.items()]
        problems += [
            ("class with fewer clips", *group, f"{number} of {quota[group]}")
            for group, number in lacking.items()
        ]
        if all(self.is_done(part) for part in plan.parts if part != REPLACEMENTS):
            problems += [
                ("row without video", row.split, row.Index, row.class_name)
                for row in rows[~rows["kept"] & ~rows["unreadable"]].itertuples()
                if self.group_of[row.Index] in lacking
            ]
        if len(plan.splits) == 1:
            table["split"] = divide(table, plan.selection.val_share, plan.selection.seed)
            problems += one_sided_classes(table, ("train", "val"))
        counts = rows.groupby("class_name")[["kept", "unreadable"]].sum().rename_axis(None)
        counts.insert(0, "wanted", quota.groupby("class_name").sum())
        problems += [(f"stopped: {self.stopped}", "", "", "")] * bool(self.stopped)
        return write_tables(DataSet(table, plan.classes, mirror), problems, plan.out, counts)


def _check_clip(path: str | Path, packed: str = "") -> VideoInfo:
    """Decode the first and the last frame, unless it is the file of which `packed` is known."""
    info = refuse_damage(known_video(path, packed))
    if pack_info(info) != packed:
        read_frames(info, [0, info.num_frames - 1])
    return info
