"""From a data set's lists and its folder of videos to a manifest one can trust, and a report.

python -m blvnet_lab manifest kinetics400 --root /data/kinetics400 --out /data/kinetics400
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet, check_class_list
from blvnet_lab.data.decoding import VideoReadError
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info
from blvnet_lab.datasets.finding import Finding, find_videos, without_suffix
from blvnet_lab.datasets.journal import Tables, read_old, write_tables
from blvnet_lab.datasets.layouts import Layout, Lists, read_lists
from blvnet_lab.datasets.selection import ALL_CLIPS, Selection, mirror_table
from blvnet_lab.datasets.sources import divide, find_sources, one_sided_classes
from blvnet_lab.paths import data_root
from blvnet_lab.progress import tqdm

# The folder of Kinetics that holds other copies of corrupt clips, named by their ids and more.
REPLACEMENTS = "replacement_for_corrupted_"
ID_LENGTH = 11  # characters of a YouTube id

Clip = dict[str, Any]  # a row of the manifest in the making


@dataclass(frozen=True, kw_only=True)
class Inventory(Tables):
    """Record what `build_manifest` found and wrote."""

    counts: pd.DataFrame  # a row a split; columns are the rows of the manifest, by status

    def __str__(self) -> str:
        lines = [f"rows by split and status\n{self.counts.to_string()}\n"]
        if not self.problems.empty:
            kinds = self.problems["kind"].value_counts()
            lines.append(f"findings\n{kinds.to_string(header=False)}\n")
        return "\n".join([*lines, super().__str__()])


def build_manifest(
    dataset: Layout,
    /,
    root: Path | None = None,
    *,
    out: Path,
    annotations: Path | None = None,
    selection: Selection = ALL_CLIPS,
    source: str = "",
    fold: Literal[1, 2, 3] = 1,
) -> Inventory:
    """Write the manifest of a data set that is on disk, and report what is wrong with it.

    Every video is opened, not decoded; when the manifest is there already, only those that have
    changed since. Older files that say more are kept as manifest.1.csv and report.1.csv.

    Args:
        dataset: its layout: kinetics400, kinetics600, kinetics700-2020, something-something-v1 or
            -v2, moments-in-time, ucf101, folder (one for each class) or list (`path label`).
        root: the data set's folder; without it, the folder of that name in BLVNET_DATA.
        out: folder for manifest.csv, classes.csv and report.csv.
        annotations: where its labels are, if not in root; for "list", the file.
        selection: which clips.
        source: for folder and list, what clips were cut from: a regular expression, searched in a
            clip's path below root, whose first group (or the whole match) is the source, such as
            "(v_\\w+_g\\d+)"; ".+" makes one of every clip. Without it, sources are the folders
            between class and clip, and names that differ in numbers only (holiday_001 and
            holiday_002), unless (nearly) a whole class is called so (clip_001 to clip_500). Equal
            files are of one source. The report names what was recognised.
        fold: which of UCF101's three divisions.

    Raises:
        ValueError: the lists are not as published; no row has a video; no such class or split.
    """
    is_own = dataset in ("folder", "list")
    if source and not is_own:
        raise ValueError(
            f"expected a source for folder and list only, as the lists of {dataset} name theirs, "
            f"got {source!r}: leave it out"
        )
    # As paths are in a manifest, without "..": what is known of a video is found again by its path.
    root = Path(os.path.abspath(data_root() / dataset if root is None else root))
    out = Path(os.path.abspath(out))
    lists = read_lists(dataset, root, annotations=annotations and Path(annotations), fold=fold)
    kept = selection.choose_classes(lists.classes)
    mirror = mirror_table(kept, [pair for pair in lists.mirrored if set(pair) <= set(kept)])
    check_class_list(kept, mirror, out / "manifest.csv")  # now, and not after hours of looking
    rows = lists.rows[lists.rows["class_name"].isin(kept)].reset_index(drop=True)
    is_divided, copies, problems = (rows["split"] != "").any(), [], list(lists.findings)
    if is_own:
        rows, findings, copies = find_sources(rows, root, source, in_folders=dataset == "folder")
        problems += findings
    draw = partial(divide, val_share=selection.val_share, seed=selection.seed)
    if not is_divided:
        rows = rows.assign(split=draw(rows))
    rows = _of_splits(rows, selection)
    clips = _match(rows, lists, root, copies, dataset, problems)
    clips = _probe(clips, _known_probes(out), selection, problems)
    labels = {name: label for label, name in enumerate(kept)}
    table = pd.DataFrame(clips).drop(columns=["names", "others", "detail"])
    table["label"] = table["class_name"].map(labels)
    if not is_divided:
        if not selection.split and selection.clips_per_class is None:
            good = table["status"] == "ok"  # what cannot be read takes no place in a split
            table.loc[good, "split"] = draw(table[good])
        problems += one_sided_classes(table, selection.split or ("train", "val"))
    written = write_tables(DataSet(table, kept, mirror), problems, out)
    counts = table.groupby(["split", "status"]).size().unstack(fill_value=0)
    return Inventory(**vars(written), counts=counts)


def _of_splits(rows: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    known = set(rows["split"])
    unknown = [name for name in selection.split if name not in known]
    if unknown:
        raise ValueError(
            f"expected splits among {', '.join(sorted(known))}, got {', '.join(unknown)}"
        )
    return rows[rows["split"].isin(selection.split)] if selection.split else rows


def _known_probes(out: Path) -> dict[str, str]:
    """Look up what the manifest that is there keeps of files; duplicate rows have nothing."""
    old = read_old(out / "manifest.csv")
    pairs = [] if old is None else zip(old["path"], old["probe"], strict=True)
    return {path: probe for path, probe in pairs if probe}


def _match(
    rows: pd.DataFrame,
    lists: Lists,
    root: Path,
    copies: list[int],
    dataset: str,
    problems: list[Finding],
) -> list[Clip]:
    """Give each row a path, others that may stand in for it, and a status.

    The status is "" if there is a video, otherwise "missing" or "duplicate".
    """
    found = lists.found or find_videos(root, frames_from=1 if dataset.endswith("v1") else None)
    problems += found.findings
    videos = _Videos(root, found.videos)
    clips, first_of = [], {}
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        split, name = row["split"], row["names"][0]
        paths = videos.named(row["names"], split)
        if paths[1:]:
            also = f"also {', '.join(map(str, paths[1:]))}"
            problems.append(("duplicate video", split, str(paths[0]), also))
        paths = paths + videos.replacements[row["source_id"]]
        status = "" if paths else "missing"
        if not paths:
            problems.append(("row without video", split, name, row["class_name"]))
        path = str(paths[0] if paths else name)
        first = first_of.setdefault(path, row)
        if first is not row:
            detail = f"of {first['class_name']} in {first['split']}; here {row['class_name']}"
            problems.append(("duplicate row", split, name, detail))
        if first is not row or (index in copies and paths):
            status = "duplicate"
        clip = {"path": path, "others": paths[1:], "status": status, "detail": None, "probe": None}
        clips.append(row | clip)
    _refuse_no_videos(clips, dataset, root, found.videos)
    taken = {path for clip in clips for path in (clip["path"], *map(str, clip["others"]))}
    used = set(first_of)  # a video stands in for one row at most
    for clip in clips:
        clip["others"] = [path for path in map(str, clip["others"]) if path not in used]
        used.update(clip["others"])
    # Videos of classes and splits that are not wanted now are no finding.
    of_others = _stems(lists.rows) - _stems(rows)
    for path in sorted(path for path in found.videos if str(path) not in taken):
        if videos.key(path) not in of_others:
            problems.append(("video without row", "", str(path), ""))
    splits = defaultdict(set)
    for clip in clips:
        if not clip["status"]:
            splits[str(clip["source_id"])].add(clip["split"])
    for source, names in sorted(splits.items()):
        if len(names) > 1:
            detail = ", ".join(sorted(names))
            problems.append(("source in several splits", "", source, detail))
    return clips


def _refuse_no_videos(clips: list[Clip], dataset: str, root: Path, videos: list[Path]) -> None:
    if not clips:
        raise ValueError(
            f"expected rows with a label for these classes and splits in the lists of {dataset}, "
            "found none"
        )
    if all(clip["status"] for clip in clips):
        name = without_suffix(clips[0]["names"][0])
        some = ", ".join(path.name for path in videos[:3]) + ", ..." * bool(videos[3:])
        raise ValueError(
            f"expected videos of {dataset} in {root}, such as {name}.mp4, but none of the "
            f"{len(clips)} rows has one; found there: {some or 'no videos'}"
        )


def _stems(rows: pd.DataFrame) -> set[str]:
    return {without_suffix(name.rpartition("/")[2]) for names in rows["names"] for name in names}


class _Videos:
    """Look up a data set's videos by what lists may call them."""

    def __init__(self, root: Path, videos: list[Path]):
        self.root = root
        self.by_stem, self.replacements = defaultdict(list), defaultdict(list)
        for path in videos:
            is_replacement = path.parent.name.startswith(REPLACEMENTS)
            (self.replacements if is_replacement else self.by_stem)[self.key(path)].append(path)

    @staticmethod
    def key(path: Path) -> str:
        is_replacement = path.parent.name.startswith(REPLACEMENTS)
        return path.name[:ID_LENGTH] if is_replacement else without_suffix(path.name)

    def named(self, names: tuple[str, ...], split: str) -> list[Path]:
        """Find the videos of the first name that has some; those in a folder `split` first."""
        paths = next(filter(None, map(self._of_name, names)), [])
        return sorted(paths, key=lambda path: split not in path.relative_to(self.root).parts)

    def _of_name(self, name: str) -> list[Path]:
        """Find videos of a name; with folders, those in these folders, just below root first."""
        folder, _, base = name.rpartition("/")
        found = self.by_stem.get(without_suffix(base), [])
        exactly = [path for path in found if path.name == base]
        if exactly or without_suffix(base) != base:
            found = exactly
        if not folder:
            return found
        exactly = [path for path in found if path.parent == self.root / folder]
        ends = f"/{folder}"
        return exactly or [p for p in found if f"/{p.parent.as_posix()}".endswith(ends)]


def _probe(
    clips: list[Clip], probes: dict[str, str], selection: Selection, problems: list[Finding]
) -> list[Clip]:
    """Open the videos; of each class and split at most as many readable ones as wanted stay."""

    def group(clip: Clip) -> tuple[str, str]:
        return clip["class_name"], clip["split"]

    limit, good = selection.clips_per_class, Counter()
    waiting = [clip for clip in clips if not clip["status"]]
    random.Random(selection.seed).shuffle(waiting)
    with (
        ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool,
        tqdm(total=len(waiting), desc="opening videos", unit="video") as bar,
    ):
        while waiting:
            planned, now, later = good.copy(), [], []
            for clip in waiting:
                planned[group(clip)] += 1
                full = limit is not None and planned[group(clip)] > limit
                (later if full else now).append(clip)
            if not now:
                break
            for clip, found in zip(now, pool.map(partial(_best, probes=probes), now), strict=True):
                if found["path"] != clip["path"]:
                    detail = f"by {found['path']}"
                    problems.append(("replaced video", clip["split"], clip["path"], detail))
                clip.update(found)
                if clip["status"] == "ok":
                    good[group(clip)] += 1
                else:
                    detail = clip["detail"]
                    problems.append((clip["status"], clip["split"], clip["path"], detail))
                bar.update()
            waiting = later
    if limit is None:
        return clips
    for name, split in sorted({group(clip) for clip in clips}):
        if good[name, split] < limit:
            detail = f"{good[name, split]} of {limit}"
            problems.append(("class with fewer clips", split, name, detail))
    return [clip for clip in clips if clip["detail"] is not None]


def _best(clip: Clip, probes: dict[str, str]) -> Clip:
    """Look at a clip's videos up to the first that is well; if none is, take the first."""
    first = None
    for path in (clip["path"], *clip["others"]):
        found = _look(path, probes.get(path, ""))
        first = first or found
        if found["status"] == "ok":
            return found
    return first


def _look(path: str, packed: str) -> Clip:
    """Say a video's status, what is wrong with it, and what it holds."""
    try:
        # Pictures may have come to a folder since, or gone from it: it is looked at each time.
        info = known_video(path, packed if os.path.isfile(path) else "")
    except VideoReadError as error:
        return {"path": path, "status": "unreadable", "detail": str(error)}
    return {
        "path": path,
        "status": "damaged" if info.damage else "ok",
        "detail": info.damage,
        **table_values(info),
    }


def table_values(info: VideoInfo) -> dict[str, Any]:
    """Give what a manifest says of a video: num_frames, fps, height, width and probe."""
    return {
        "num_frames": info.num_frames,
        "fps": info.fps or None,
        "height": info.size[0],
        "width": info.size[1],
        "probe": pack_info(info),
    }
