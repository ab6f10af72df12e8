"""From a data set's lists and its folder of videos to a manifest one can trust, and a report.

python -m blvnet_lab manifest kinetics400 --root /data/kinetics400 --out /data/kinetics400
"""

import contextlib
import math
import os
import random
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from blvnet_lab.data import DataSet, VideoReadError
from blvnet_lab.data.dataset_files import COLUMNS, PART, REQUIRED, clip_name, clip_names
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info, part_of
from blvnet_lab.datasets.journal import Tables, write_tables
from blvnet_lab.datasets.layouts import SPLITS, Finding, Layout, Lists, read_lists, without_suffix
from blvnet_lab.datasets.selection import ALL_CLIPS, Selection, mirror_table, reversal_table
from blvnet_lab.datasets.sources import divide, find_sources, one_sided_classes
from blvnet_lab.paths import data_root
from blvnet_lab.progress import tqdm

# Kinetics comes with a folder of other copies of corrupt clips, whose names begin with their ids.
REPLACEMENTS = "replacement_for_corrupted_"
ID_LENGTH = 11  # characters of a YouTube id
# The columns that `table_values` fills, with their types.
FOUND = {name: COLUMNS[name] for name in ("num_frames", "fps", "height", "width", "probe")}
AT_ONCE = 1024  # videos handed at a time to the threads that open them


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

    Every video is opened, but not decoded; if there is a manifest already, only those that have
    changed since are opened. An older manifest that differs is kept as manifest.1.csv.

    Args:
        dataset: its layout, such as kinetics400 or epic-kitchens-100 (docs/data.md), folder (one
            for each class) or list (lines `path label`, or a table with path, label, start, end).
        root: the data set's folder; without it, the folder of that name in BLVNET_DATA.
        out: folder for manifest.csv, classes.csv and report.csv.
        annotations: where its labels are, if not in root; for "list", the file.
        selection: which clips to take.
        source: for folder and list, what clips were cut from: a regular expression, searched in a
            clip's path below root, whose first group (or the whole match) is the source, such as
            "(v_\\w+_g\\d+)"; ".+" makes every clip a source. Without it, sources are the folders
            between class and clip, and names that differ only in numbers, unless (nearly) all of a
            class is named alike. Equal files belong to one source.
        fold: which of UCF101's or HMDB51's three divisions.

    Raises ValueError for lists unlike the published, no row with a video, no such class or split.
    """
    is_own = dataset in ("folder", "list")
    if source and not is_own:
        raise ValueError(f"expected no source, as the lists of {dataset} name theirs, got {source}")
    # Without "..", as in a manifest, for what is known of a video is looked up by its path.
    root = Path(os.path.abspath(data_root() / dataset if root is None else root))
    out = Path(os.path.abspath(out))
    lists = read_lists(dataset, root, annotations=annotations and Path(annotations), fold=fold)
    if lists.multi_label and (count := selection.clips_per_class) is not None:
        wanted = "expected all clips, as they have several labels"
        raise ValueError(f"{wanted}, got {count} a class: leave out clips_per_class")
    kept = selection.choose_classes(lists.classes)
    mirror = mirror_table(kept, [pair for pair in lists.mirrored if set(pair) <= set(kept)])
    reversal, path = reversal_table(kept), out / "manifest.csv"
    DataSet(pd.DataFrame(columns=REQUIRED), kept, mirror, None, reversal).check(path)
    problems, is_divided = lists.findings, (lists.rows["split"] != "").any()
    rows, lists = lists.with_labels(_match(lists, root), kept), None
    if is_own:
        rows = find_sources(rows, root, source, problems, in_folders=dataset == "folder")
    draw = partial(divide, val_share=selection.val_share, seed=selection.seed)
    if not is_divided:
        rows["split"] = draw(rows)
    if unknown := set(selection.split) - set(rows["split"]):
        splits = ", ".join(sorted(set(rows["split"])))
        raise ValueError(f"expected splits among {splits}, got {', '.join(sorted(unknown))}")
    rows = rows[rows["split"].isin(selection.split or rows["split"])]
    if not rows["paths"].astype(bool).any():
        such = ", ".join(names[0] for names in rows["names"][:3])
        raise ValueError(f"expected videos of {dataset} in {root}, such as {such}, found none")
    rows = _with_status(rows, problems)
    rows = _probe(rows, out, selection, problems)
    good = rows["status"] == "ok"
    rows.loc[good & clip_names(rows).duplicated(), "status"] = "duplicate"
    if not is_divided:
        if not selection.split and selection.clips_per_class is None:
            rows.loc[good, "split"] = draw(rows[good])  # the others would not count in a split
        problems += one_sided_classes(rows, selection.split or ("train", "val"))
        problems += _moved(rows[good], path)
    return write_tables(DataSet(rows, kept, mirror, None, reversal), problems, out)


def _match(lists: Lists, root: Path) -> pd.DataFrame:
    """Find each row's videos, the best match first; replacements come last."""
    replacements, named = defaultdict(list), set()
    for path in lists.videos:
        if os.path.basename(os.path.dirname(path)).startswith(REPLACEMENTS):
            replacements[os.path.basename(path)[:ID_LENGTH]].append(path)
    # Two lists, sorted by name, take less memory than a dictionary of many short ones.
    others = {path for paths in replacements.values() for path in paths}
    videos = sorted((path for path in lists.videos if path not in others), key=_stem)
    stems = [*map(_stem, videos)]

    def find(name: str) -> list[str]:
        """Find videos by their name, with or without folders and suffix."""
        name = os.path.normpath(name)
        full, tail, stem = os.path.join(root, name), os.path.join(os.sep, name), _stem(name)
        paths = videos[bisect_left(stems, stem) : bisect_right(stems, stem)]
        whole = [path for path in paths if path == full]
        return whole or [p for p in paths if p.endswith(tail) or without_suffix(p).endswith(tail)]

    found = []
    rows = tqdm(lists.rows.itertuples(), "matching", len(lists.rows), leave=False, unit="clip")
    for row in rows:
        paths = next(filter(None, map(find, row.names)), [])
        if paths[1:]:
            paths.sort(key=lambda path: row.split not in Path(path).relative_to(root).parts)
        found.append((*paths, *replacements.get(row.source_id, ())))
        named.update(found[-1])
    rest = [path for path in lists.videos if path not in named]
    lists.findings.extend(("video without row", "", path, "") for path in rest)
    return lists.rows.assign(paths=found)


def _stem(path: str) -> str:
    return without_suffix(os.path.basename(path))


def _with_status(rows: pd.DataFrame, problems: list[Finding]) -> pd.DataFrame:
    """Give rows a path and a status: "missing", "duplicate", or "" for a video to open."""
    rows = rows.reset_index(drop=True)
    rows["path"] = [(row.paths or row.names)[0] for row in rows.itertuples()]
    rows["others"] = [paths[1:] for paths in rows["paths"]]  # mostly none
    rows["status"], rows["clip"] = rows.get("status", ""), clip_names(rows)
    is_again, is_missing = rows["clip"].duplicated(), ~rows["paths"].astype(bool)
    again = rows[is_again]
    first = rows[rows["clip"].isin(again["clip"]) & ~is_again].set_index("clip")
    for row in again.itertuples():
        there = "of {class_name} in {split}".format(**first.loc[row.clip])
        detail = f"{there}; here {row.class_name}"
        problems.append(("duplicate row", row.split, row.names[0], detail))
    for row in rows[is_missing].itertuples():
        problems.append(("row without video", row.split, row.names[0], row.class_name))
    for row in rows.itertuples():
        if also := [path for path in row.others if REPLACEMENTS not in path]:
            problems.append(("duplicate video", row.split, row.path, f"also {', '.join(also)}"))
    rows.loc[is_again, "status"] = "duplicate"
    rows.loc[is_missing, "status"] = "missing"
    parts = rows[(rows["status"] == "") & rows["part_start"].notna()]
    last = parts.groupby("path")["split"].agg(lambda names: max(names, key=SPLITS.index))
    for row in parts[parts["split"] != parts["path"].map(last)].itertuples():
        rows.loc[row.Index, "status"] = "duplicate"
        detail = f"other parts of the video are in {last[row.path]}: left out here"
        problems.append(("video in several splits", row.split, row.clip, detail))
    pairs = rows.loc[rows["status"] == "", ["source_id", "split"]].drop_duplicates()
    torn = pairs[pairs["source_id"].duplicated(keep=False)].groupby("source_id")["split"]
    for source, splits in torn:
        problems.append(("source in several splits", "", source, ", ".join(sorted(splits))))
    return rows.drop(columns=["names", "paths"])


def _probe(
    rows: pd.DataFrame, out: Path, selection: Selection, problems: list[Finding]
) -> pd.DataFrame:
    """Open the videos; keep at most the wanted number of readable ones for each class and split."""
    limit, probes = selection.clips_per_class or len(rows), {}
    with contextlib.suppress(ValueError):  # there may be no readable manifest
        old = DataSet.read(out / "manifest.csv").rows.query("probe != ''")
        probes = dict(zip(clip_names(old), old["probe"], strict=True))
    rows = rows.assign(**{name: pd.Series(index=rows.index, dtype=FOUND[name]) for name in FOUND})
    to_open = rows["status"] == ""
    drawn = array("q", rows.index[to_open])  # takes a quarter of a list's memory
    random.Random(selection.seed).shuffle(drawn)
    splits, classes = rows["split"].to_numpy(), rows["class_name"].to_numpy()
    waiting, taken = defaultdict(partial(array, "q")), Counter()
    for k in reversed(drawn):
        waiting[splits[k], classes[k]].append(k)

    def next_ones() -> Iterator[int]:
        """Take as many clips as each class and split still lacks."""
        for group, of_group in waiting.items():
            for _ in range(min(limit - taken[group], len(of_group))):
                yield of_group.pop()

    count = sum(min(limit, len(of_group)) for of_group in waiting.values())  # if all can be read
    bar = tqdm(desc="opening videos", total=count, unit="video")
    with bar, ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        while batch := [*islice(next_ones(), AT_ONCE)]:
            block, looked = rows.loc[batch], []
            paths = ((row.path, *row.others) for row in block.itertuples())
            found = pool.map(_best, paths, block[PART].to_numpy(), repeat(probes))
            for row, values in zip(block.itertuples(), found, strict=True):
                problems += _findings(row, **values)
                taken[row.split, row.class_name] += values["status"] == "ok"
                looked.append(values)
                bar.update()
            table = pd.DataFrame(looked, batch).drop(columns="detail")
            kinds = {name: kind for name, kind in FOUND.items() if name in table}
            for name, values in table.astype(kinds).items():
                rows.loc[batch, name] = values.array
    rows = rows.drop(columns=["others", "clip"])
    if selection.clips_per_class is None:
        return rows
    for group in set(zip(splits, classes, strict=True)):
        if taken[group] < limit:
            problems.append(("class with fewer clips", *group, f"{taken[group]} of {limit}"))
    return rows[to_open & (rows["status"] != "")].reset_index(drop=True)


def _moved(rows: pd.DataFrame, manifest: Path) -> Iterator[Finding]:
    """Report videos that are in another split than in the manifest that is there so far."""
    old, columns = {}, ["path", "split"]
    with contextlib.suppress(ValueError):  # there may be none that can be read
        old = dict(DataSet.read(manifest).rows.query("status == 'ok'")[columns].to_numpy())
    for path, split in rows[columns].drop_duplicates().to_numpy():
        if (was := old.get(path, split)) != split:
            remedy = "for networks trained earlier, evaluate with the older manifest"
            yield "video in another split", split, path, f"it was in {was}: {remedy}"


def _findings(row: Any, path: str, status: str, detail: str, **found: Any) -> Iterator[Finding]:
    """Report what is remarkable about a video that was opened for a row."""
    if path != row.path:
        yield "replaced video", row.split, row.path, f"by {path}"
    if found.get("part_end", math.inf) < row.part_end:
        ends = f"it ends with the video, at {found['part_end']:.9g} s"
        yield "part cut", row.split, row.clip, ends
    if status != "ok":
        yield status, row.split, path, detail


def _best(paths: Sequence[str], part: Sequence[float], probes: dict[str, str]) -> dict[str, Any]:
    """Look at a clip's videos in turn; take the first that is good, or else the first one."""
    looked = []
    for path in paths:
        try:
            # A folder is looked at again each time, since pictures may have been added or removed.
            packed = probes.get(clip_name(path, part), "") if os.path.isfile(path) else ""
            if packed or clip_name(path, part) == path:
                info = known_video(path, packed, part)
            else:  # a video is probed once for all of its parts
                whole = known_video(path, probes.get(path, ""))
                probes[path] = pack_info(whole)
                info = part_of(whole, part, cut=True)
            status = "damaged" if info.damage else "ok"
            found = {"path": path, "status": status, "detail": info.damage, **table_values(info)}
            found |= dict(zip(PART, info.part, strict=False))
        except VideoReadError as error:
            found = {"path": path, "status": "unreadable", "detail": str(error)}
            found |= dict(zip(PART, part, strict=True))
        if found["status"] == "ok":
            return found
        looked.append(found)
    return looked[0]


def table_values(info: VideoInfo) -> dict[str, Any]:
    """Return what a manifest says about a video: num_frames, fps, height, width and probe."""
    values = {"num_frames": info.num_frames, "fps": info.fps or None, "probe": pack_info(info)}
    return values | dict(zip(("height", "width"), info.size, strict=True))
