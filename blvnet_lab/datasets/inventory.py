"""From a data set's lists and its folder of videos to a manifest one can trust, and a report.

python -m blvnet_lab manifest kinetics400 --root /data/kinetics400 --out /data/kinetics400
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
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
) -> Tables:
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
            between class and clip, and names that differ in numbers only, unless (nearly) a whole
            class is called so. Equal files are of one source.
        fold: which of UCF101's three divisions.

    Raises:
        ValueError: the lists are not as published; no row has a video; no such class or split.
    """
    is_own = dataset in ("folder", "list")
    if source and not is_own:
        raise ValueError(f"expected no source, as the lists of {dataset} name theirs, got {source}")
    # As paths are in a manifest, without "..": what is known of a video is found again by its path.
    root = Path(os.path.abspath(data_root() / dataset if root is None else root))
    out = Path(os.path.abspath(out))
    lists = read_lists(dataset, root, annotations=annotations and Path(annotations), fold=fold)
    kept = selection.choose_classes(lists.classes)
    mirror = mirror_table(kept, [pair for pair in lists.mirrored if set(pair) <= set(kept)])
    check_class_list(kept, mirror, out / "manifest.csv")  # now, and not after hours of looking
    rows = lists.rows[lists.rows["class_name"].isin(kept)].reset_index(drop=True)
    is_divided, problems = (rows["split"] != "").any(), lists.findings
    if is_own:
        rows = find_sources(rows, root, source, problems, in_folders=dataset == "folder")
    draw = partial(divide, val_share=selection.val_share, seed=selection.seed)
    if not is_divided:
        rows["split"] = draw(rows)
    if unknown := set(selection.split) - set(rows["split"]):
        splits = ", ".join(sorted(set(rows["split"])))
        raise ValueError(f"expected splits among {splits}, got {', '.join(sorted(unknown))}")
    if selection.split:
        rows = rows[rows["split"].isin(selection.split)]
    clips = _match(rows.to_dict("records"), lists, root, dataset, problems)
    clips = _probe(clips, out, selection, problems)
    table = pd.DataFrame(clips).drop(columns=["names", "others", "detail"])
    table["label"] = list(map(kept.index, table["class_name"]))
    good = table["status"] == "ok"
    table.loc[good & table["path"].duplicated(), "status"] = "duplicate"
    if not is_divided:
        if not selection.split and selection.clips_per_class is None:
            table.loc[good, "split"] = draw(table[good])  # others take no place in a split
        problems += one_sided_classes(table, selection.split or ("train", "val"))
    return write_tables(DataSet(table, kept, mirror), problems, out)


def _match(
    rows: list[Clip], lists: Lists, root: Path, dataset: str, problems: list[Finding]
) -> list[Clip]:
    """Give each row a path, others that may stand in for it, and a status.

    The status is "" if there is a video, otherwise "missing" or "duplicate".
    """
    videos = lists.videos
    if videos is None:
        videos, findings, _ = find_videos(root, frames_from=1 if dataset.endswith("v1") else None)
        problems += findings
    by_stem, replacements, known = defaultdict(list), defaultdict(list), set(videos)
    for path in videos:
        if path.parent.name.startswith(REPLACEMENTS):
            replacements[path.name[:ID_LENGTH]].append(path)
        else:
            by_stem[without_suffix(path.name)].append(path)

    def named(name: str) -> list[Path]:
        """Find videos by their name, with or without folders and suffix."""
        if root / name in known:
            return [root / name]
        ends = f"/{name}"
        found = [(path, path.as_posix()) for path in by_stem[without_suffix(name.split("/")[-1])]]
        return [
            p for p, text in found if text.endswith(ends) or without_suffix(text).endswith(ends)
        ]

    clips, first_of = [], {}
    for row in rows:
        split, name = row["split"], row["names"][0]
        paths = next(filter(None, map(named, row["names"])), [])
        paths.sort(key=lambda path: split not in path.relative_to(root).parts)
        if paths[1:]:
            also = f"also {', '.join(map(str, paths[1:]))}"
            problems.append(("duplicate video", split, str(paths[0]), also))
        paths += replacements[row["source_id"]]
        status = row.get("status", "")
        if not paths:
            status = "missing"
            problems.append(("row without video", split, name, row["class_name"]))
        path, *others = map(str, paths or [name])
        first = first_of.setdefault(path, row)
        if first is not row:
            status = "duplicate"
            detail = f"of {first['class_name']} in {first['split']}; here {row['class_name']}"
            problems.append(("duplicate row", split, name, detail))
        clip = {"path": path, "others": others, "status": status, "detail": None, "probe": None}
        clips.append(row | clip)
    if all(clip["status"] == "missing" for clip in clips):
        some = ", ".join(path.name for path in videos[:3])
        such = f", such as {rows[0]['names'][0]}" if rows else ""
        raise ValueError(
            f"expected videos of {dataset} in {root} for the rows of these classes and splits"
            f"{such}, but none of the {len(rows)} rows has one; found there: {some or 'no videos'}"
        )
    problems += _without_row(clips, videos, lists.rows)
    splits = defaultdict(set)
    for clip in clips:
        if not clip["status"]:
            splits[clip["source_id"]].add(clip["split"])
    problems += [
        ("source in several splits", "", source, ", ".join(sorted(names)))
        for source, names in splits.items()
        if len(names) > 1
    ]
    return clips


def _without_row(clips: list[Clip], videos: list[Path], rows: pd.DataFrame) -> list[Finding]:
    """Find the videos that no row names; rows of other classes and splits count, too."""
    taken = {path for clip in clips for path in (clip["path"], *clip["others"])}
    stems = {without_suffix(name.split("/")[-1]) for names in rows["names"] for name in names}
    return [
        ("video without row", "", str(path), "")
        for path in videos
        if str(path) not in taken
        and without_suffix(path.name) not in stems
        and not (path.parent.name.startswith(REPLACEMENTS) and path.name[:ID_LENGTH] in stems)
    ]


def _probe(
    clips: list[Clip], out: Path, selection: Selection, problems: list[Finding]
) -> list[Clip]:
    """Open the videos; of each class and split at most as many readable ones as wanted stay."""

    def group(clip: Clip) -> tuple[str, str]:
        return clip["split"], clip["class_name"]

    def look(clip: Clip) -> Clip | None:
        if full(good[group(clip)]):
            return None
        found = _best(clip, probes)
        good[group(clip)] += found["status"] == "ok"  # if a count gets lost, more are opened
        return found

    old = read_old(out / "manifest.csv")
    old = pd.DataFrame(columns=["path", "probe"]) if old is None else old[old["probe"] != ""]
    probes = dict(zip(old["path"], old["probe"], strict=True))
    limit = selection.clips_per_class

    def full(number: int) -> bool:
        return limit is not None and number >= limit

    good, taken = Counter(), Counter()
    waiting = [clip for clip in clips if not clip["status"]]
    random.Random(selection.seed).shuffle(waiting)
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        looked = tqdm(pool.map(look, waiting), "opening videos", len(waiting), unit="video")
        # In order, whatever was opened first: the same clips are drawn each time.
        for clip, found in zip(waiting, looked, strict=True):
            if full(taken[group(clip)]):
                continue
            if found["path"] != clip["path"]:
                by = f"by {found['path']}"
                problems.append(("replaced video", clip["split"], clip["path"], by))
            clip.update(found)
            taken[group(clip)] += clip["status"] == "ok"
            if clip["status"] != "ok":
                problems.append((clip["status"], clip["split"], clip["path"], clip["detail"]))
    if limit is None:
        return clips
    problems += [
        ("class with fewer clips", *key, f"{taken[key]} of {limit}")
        for key in {group(clip) for clip in clips}
        if not full(taken[key])
    ]
    return [clip for clip in clips if clip["detail"] is not None]


def _best(clip: Clip, probes: dict[str, str]) -> Clip:
    """Look at a clip's videos up to the first that is well; if none is, take the first."""
    first = None
    for path in (clip["path"], *clip["others"]):
        try:
            # Pictures may have come to a folder since, or gone from it: it is looked at each time.
            info = known_video(path, probes.get(path, "") if os.path.isfile(path) else "")
            status = "damaged" if info.damage else "ok"
            found = {"path": path, "status": status, "detail": info.damage, **table_values(info)}
        except VideoReadError as error:
            found = {"path": path, "status": "unreadable", "detail": str(error)}
        if found["status"] == "ok":
            return found
        first = first or found
    return first


def table_values(info: VideoInfo) -> dict[str, Any]:
    """Give what a manifest says of a video: num_frames, fps, height, width and probe."""
    return {
        "num_frames": info.num_frames,
        "fps": info.fps or None,
        "height": info.size[0],
        "width": info.size[1],
        "probe": pack_info(info),
    }
