"""Fetch some classes of Kinetics from a public mirror, without storing the rest.

Archives are streamed, and only wanted clips are kept: `kinetics_plan.py` says how much that is.
Whatever is on disk is good: clips get their names once their first and last frame have been
decoded, and a log says which archives are done. So one can stop at any time, and continue.
"""

import json
import math
import os
import re
import shutil
import sys
import tarfile
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import urljoin

import pandas as pd

from blvnet_lab.data import DataSet, VideoReadError, read_frames
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info, refuse_damage
from blvnet_lab.datasets import kinetics_plan, remote
from blvnet_lab.datasets.inventory import ID_LENGTH, table_values
from blvnet_lab.datasets.journal import Journal, Tables, in_units, write_tables
from blvnet_lab.datasets.kinetics_plan import SubsetPlan, clip_rows, compare_releases, plan_subset
from blvnet_lab.datasets.reencoding import CODINGS, EARLIER, write_small
from blvnet_lab.datasets.selection import Selection, mirror_table
from blvnet_lab.datasets.sources import divide, one_sided_classes
from blvnet_lab.paths import atomic_write, write_files
from blvnet_lab.progress import tqdm

LOG = "progress.jsonl"
UP_TO_100 = Selection(clips_per_class=100)
MIN_FREE = 1_000_000_000  # bytes of disk to leave free
NAME = re.compile(r".{11}_\d{6}_\d{6}")  # a clip's name: YouTube id, start and end in seconds


def subset(
    dataset: Literal["kinetics400", "kinetics600", "kinetics700-2020"],
    /,
    out: Path,
    mirror: str = remote.OFFICIAL,
    selection: Selection = UP_TO_100,
    short_side: int | None = None,
    compare: bool = False,
    yes: bool = False,
) -> Tables | str:
    """Fetch some classes of Kinetics from a mirror, without storing the rest of it.

    It first says what it would fetch, and asks; to find that out, it downloads annotations and
    sizes (some MB). If interrupted, the same command continues where it stopped.

    Args:
        dataset: which release. (If it is on disk already, use `manifest`.)
        out: folder for clips/, annotations/, manifest.csv, classes.csv and report.csv.
        mirror: address of the official mirror or of a copy; "sample" makes a tiny one from the
            sample clips, to try the command without a network.
        selection: which clips; by default those of val. A single split is divided into train and
            val.
        short_side: in pixels; re-encode each clip as it arrives, as `prepare` does, and keep that
            instead. By default clips are kept as they are.
        compare: only say what the same classes take from each release of Kinetics.
        yes: begin without asking.
    """
    with ExitStack() as stack:
        if mirror == "sample":
            folder = stack.enter_context(TemporaryDirectory())
            copy = remote.write_mirror(folder, remote.FOLDERS)
            mirror = stack.enter_context(remote.serve_mirror(copy))
        plan = plan_subset(out, selection, dataset=dataset, mirror=mirror, short_side=short_side)
        if compare:
            return compare_releases(plan).to_string()
        if yes:
            tqdm.write(str(plan))
        elif not sys.stdin.isatty():
            return f"{plan}\nnothing was fetched: run the same command with --yes to begin"
        elif input(f"{plan}\nbegin? [y/N] ").strip().lower() not in ("y", "yes"):
            return "nothing was fetched"
        found = fetch_subset(plan)
    parts = found.problems[found.problems["kind"] == "missing part"]
    if set(parts["name"]) - {remote.REPLACEMENTS}:
        raise remote.DownloadError(f"{found}\nsome parts are missing: run the same command again")
    return found


def fetch_subset(plan: SubsetPlan) -> Tables:
    """Stream the parts until every class has its clips, and write manifest and report.

    Run again with the same plan, it continues where it stopped. Raises ValueError if the folder
    holds another subset or class list, DownloadError if the mirror stops answering.
    """
    fetching = _Fetching(plan)
    # In Kinetics every class is its own mirror image; in the sample mirror not all are.
    mirror = mirror_table(plan.classes)
    DataSet(plan.rows[:0], plan.classes, mirror).check(plan.out / "manifest.csv")
    lists = plan.out / "annotations"
    write_files({lists / f"{name}.csv": text for name, text in plan.annotations.items()}, keep=True)
    # The replacements come first, so that they stand in for corrupt clips of the parts.
    waiting = [part for part in plan.parts if not fetching.is_done(part)]
    total = sum(plan.parts[part] or 0 for part in waiting)
    with tqdm(total=total, desc="streaming", unit="B", unit_scale=True) as bar:
        for part in waiting:
            if not fetching.is_done(part) and fetching.has_room():
                fetching.take(part, bar)
    return fetching.finish(mirror)


class _Fetching:
    """A subset in the making: what is there, what is missing, and the log."""

    def __init__(self, plan: SubsetPlan):
        self.plan, self.stopped = plan, ""
        self.kept: dict[str, VideoInfo] = {}
        names, most = ("dataset", "classes", "splits", "short_side"), plan.selection.clips_per_class
        settings = {name: getattr(plan, name) for name in names} | {"clips_per_class": most}
        # A folder that was begun when there was only one coding continues with it.
        file, earlier = plan.out / "subset.json", {"dataset": "kinetics400", **EARLIER}
        begun = earlier | json.loads(file.read_text("utf-8")) if file.is_file() else {}
        self.coding = begun.get("coding", "mpeg4")
        if plan.short_side is not None:
            settings |= {"coding": self.coding, **CODINGS[self.coding]}
        self.journal = Journal(file, settings, LOG, earlier=earlier)
        groups = plan.rows[["split", "class_name"]].itertuples(index=False, name=None)
        self.group_of = dict(zip(plan.rows.index, groups, strict=True))
        self.by_id = {name[:ID_LENGTH]: name for name in reversed(self.group_of)}
        # Clips still wanted, by split and class; an archive may hold some that no list has.
        quota = dict.fromkeys(plan.group_of.values(), most or math.inf) or plan.quota.to_dict()
        self.lacking = Counter(quota)
        self.parts, logged = self.journal.last("part"), self.journal.last("kept")
        for name, entry in [*logged.items(), *self.journal.last("clip").items()]:
            if group := plan.group_of.get(entry.get("from")):
                self.group_of.setdefault(name, group)
        for name in tqdm(self.group_of, "looking at the clips", leave=False, unit="clip"):
            path, entry = self._path(name), logged.get(name, {"from": "", "probe": ""})
            try:
                self._count(name, _check_clip(path, entry["probe"]))
            except VideoReadError:  # the part of a missing or damaged clip is to be read again
                path.unlink(missing_ok=True)
                self.parts.pop(entry["from"], None)

    def _path(self, name: str) -> Path:
        return kinetics_plan.clip_path(self.plan.out, self.group_of[name][1], name)

    def _count(self, name: str, info: VideoInfo) -> None:
        self.kept[name] = info
        self.lacking[self.group_of[name]] -= 1

    def is_done(self, part: str) -> bool:
        """Check whether a part has been read, or holds nothing that is still wanted."""
        group = self.plan.group_of.get(part)
        is_wanted = any(self.lacking[g] > 0 for g in ([group] if group else self.lacking))
        return not is_wanted or self.parts.get(part, {"state": "missing"})["state"] != "missing"

    def has_room(self) -> bool:
        if shutil.disk_usage(self.plan.out).free < MIN_FREE:
            self.stopped = f"less than {in_units(MIN_FREE)} of disk are free"
        return not self.stopped

    def take(self, part: str, bar: tqdm) -> None:
        """Stream one archive, keep what is wanted of it, and log the outcome."""
        url, detail = urljoin(self.plan.mirror, part), ""
        state = "missing"  # a server may send a web page instead
        try:
            with (
                closing(remote.RemoteFile(url, on_bytes=bar.update)) as file,
                # Names do not tell whether an archive is compressed.
                tarfile.open(fileobj=file, mode="r|*", bufsize=remote.CHUNK) as archive,
            ):
                for member in archive:
                    state = "truncated"  # unless it turns out to be complete
                    name = self._wanted_name(member, part)
                    if name is not None:
                        self._keep(name, archive.extractfile(member).read(), part)
                        if self.is_done(part) or not self.has_room():
                            return
                # An archive ends with two empty blocks, of which tarfile reads one. It also takes a
                # cut or damaged header for the end.
                if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("its end is missing")
            state = "finished"
        except remote.MissingError as error:
            state, detail = "missing", str(error)
        except tarfile.TarError as error:
            detail = f"{url}: expected a whole tar archive, got: {error}"
        self.parts[part] = {"part": part, "state": state, "detail": detail}
        self.journal.add(self.parts[part])

    def _wanted_name(self, member: tarfile.TarInfo, part: str) -> str | None:
        """Name the clip of an archive's member, if it is wanted and not there yet.

        Its row gives the class; for a clip in no row the archive does, if it holds a single class.
        Raises MissingError if the archive names another class than expected.
        """
        folder, base = os.path.split(member.name)
        name, suffix = os.path.splitext(base)
        if not member.isreg() or suffix.lower() != ".mp4":
            return None
        if name not in self.group_of and "replacement" in folder:
            name = self.by_id.get(base[:ID_LENGTH], name)  # its name only starts with the id
        if group := self.plan.group_of.get(part):
            found = os.path.basename(folder)
            if found != group[1] and found in self.plan.all_classes:
                why = f"expected clips of {group[1]}, got {found}: has a list of classes changed?"
                raise remote.MissingError(f"{part}: {why}")
            if name not in self.plan.listed and NAME.fullmatch(name):
                self.group_of.setdefault(name, group)
        is_lacking = self.lacking[self.group_of.get(name)] > 0
        return name if is_lacking and name not in self.kept else None

    def _keep(self, name: str, content: bytes, part: str) -> None:
        path, short_side = self._path(name), self.plan.short_side
        with TemporaryDirectory() as folder:
            shot = Path(folder, "clip.mp4")
            shot.write_bytes(content)
            try:
                info = _check_clip(shot)
                with atomic_write(path) as partial:
                    if short_side is None:
                        partial.write_bytes(content)
                    else:
                        info = write_small(info, short_side, partial, self.coding)[1]
                    # Before the clip gets its name: nobody would miss one that is not logged.
                    self.journal.add({"kept": name, "from": part, "probe": pack_info(info)})
            except VideoReadError as error:
                detail = str(error).removeprefix(f"{shot}: ")
                self.journal.add({"clip": name, "from": part, "detail": detail})
            else:
                self._count(name, info)

    def finish(self, mirror: list[int | None]) -> Tables:
        """Write the manifest and the report of what is there."""
        plan, of, logged = self.plan, self.group_of, self.journal.last("clip")
        spoilt = {n: logged[n]["detail"] for n in of.keys() & logged.keys() - self.kept.keys()}
        unlisted = sorted({*self.kept, *spoilt}.difference(plan.rows.index))
        clips = [(of[n][1], n[:11], int(n[12:18]), int(n[19:]), of[n][0]) for n in unlisted]
        rows = pd.concat([plan.rows, clip_rows(clips, plan.classes, plan.out)])
        state = {"kept": rows.index.isin(self.kept), "unreadable": rows.index.isin(spoilt)}
        table, rows = rows[state["kept"]], rows.assign(**state)
        if table.empty:
            what, log = f"{len(plan.classes)} classes in {len(plan.parts)} parts", self.journal.log
            raise remote.DownloadError(f"expected clips of {what}, got none: see {log}")
        values = pd.DataFrame([table_values(self.kept[n]) for n in table.index], index=table.index)
        table = table.join(values).reset_index(drop=True)
        groups = rows.groupby(["split", "class_name"])
        quota, have = groups.size().clip(upper=plan.selection.clips_per_class), groups["kept"].sum()
        lacking = have[have < quota]
        entries = [entry for entry in self.parts.values() if entry["state"] != "finished"]
        problems = [(f"{e['state']} part", "", e["part"], e["detail"]) for e in entries]
        problems += [("unreadable", of[n][0], n, why) for n, why in spoilt.items()]
        for group, number in lacking.items():
            problems.append(("class with fewer clips", *group, f"{number} of {quota[group]}"))
        problems += [("video without row", of[n][0], n, of[n][1]) for n in unlisted]
        parts = plan.parts.keys() - {remote.REPLACEMENTS}  # of no group: any class may be in it
        unread = {plan.group_of.get(part) for part in parts if not self.is_done(part)}
        for row in rows[~rows["kept"] & ~rows["unreadable"]].itertuples():
            if (group := of[row.Index]) in lacking and not unread & {group, None}:
                problems.append(("row without video", row.split, row.Index, row.class_name))
        if len(plan.splits) == 1:
            table["split"] = divide(table, plan.selection.val_share, plan.selection.seed)
            problems += one_sided_classes(table, ("train", "val"))
        counts = rows.groupby("class_name")[["kept", "unreadable"]].sum().rename_axis(None)
        counts.insert(0, "wanted", quota.groupby("class_name").sum())
        counts = counts.reindex(plan.classes, fill_value=0)
        problems += [(f"stopped: {self.stopped}", "", "", "")] * bool(self.stopped)
        return write_tables(DataSet(table, plan.classes, mirror), problems, plan.out, counts)


def _check_clip(path: str | Path, packed: str = "") -> VideoInfo:
    """Decode the first and the last frame, unless `packed` shows that this was done before."""
    info = refuse_damage(known_video(path, packed))
    if pack_info(info) != packed:
        read_frames(info, [0, info.num_frames - 1])
    return info
