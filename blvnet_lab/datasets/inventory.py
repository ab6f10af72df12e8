"""From a data set's lists and its folder of videos to a manifest one can trust, and a report.

python -m blvnet_lab manifest kinetics400 --root /data/kinetics400 --out /data/kinetics400
"""

from __future__ import annotations

import csv
import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from blvnet_lab.data.dataset_files import (
    DataSet,
    check_class_list,
)
from blvnet_lab.data.reading import VideoReadError, known_video, pack_info
from blvnet_lab.datasets.finding import find_videos, without_suffix
from blvnet_lab.datasets.layouts import Dataset, Expected, expected, mirror_table
from blvnet_lab.datasets.sources import divide, find_sources, one_sided_classes
from blvnet_lab.paths import written_whole
from blvnet_lab.progress import tqdm

REPORT = "report.csv"
FINDINGS = ["kind", "split", "name", "detail"]  # the report's columns
# The folder of Kinetics that holds other copies of corrupt clips, named by their ids and more.
REPLACEMENTS = "replacement_for_corrupted_"
ID_LENGTH = 11  # characters of a YouTube id


@dataclass(frozen=True)
class Inventory:
    """What `build_manifest` found and wrote."""

    manifest: Path
    report: Path
    counts: pd.DataFrame  # a row a split; columns are the rows of the manifest, by their status
    problems: pd.DataFrame  # as in the report: kind, split, name, detail
    set_aside: tuple[Path, ...] = ()  # older files that held more, under their new names


def build_manifest(
    dataset: Dataset,
    root: str | os.PathLike,
    out: str | os.PathLike,
    *,
    annotations: str | os.PathLike | None = None,
    fold: Literal[1, 2, 3] = 1,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    clips_per_class: int | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    source: str = "",
    workers: int | None = None,
) -> Inventory:
    """Writes manifest.csv, classes.csv and report.csv for the videos that are there.

    Every video is opened (not decoded), which takes some milliseconds each; when the manifest is
    there already, only those that have changed since. Older files that hold more, or say other
    things, are kept as manifest.1.csv and report.1.csv (`set_aside`).

    Args:
        dataset, root, annotations, fold: as in `formats.expected`. With "list", paths are relative
            to `root`.
        out: folder for the three files.
        splits: only these of "train", "val" and "test"; None for all.
        classes: only these; the labels then number these alone. None for all.
        clips_per_class: at most so many readable clips of each class and split, drawn by `seed`.
        val_share: where the data set has no splits of its own, this share of the sources of each
            class goes to "val" (`sources.divide`).
        source: with "folder" and "list", the pattern of what clips were cut from, as in
            `sources.find_sources`; empty recognises it.
        workers: threads that open videos; None for four a core.

    Raises:
        ValueError: what `formats.expected` raises; not one of the rows has a video; no class or
            split of that name; or less than one clip a class.
    """
    if clips_per_class is not None and clips_per_class < 1:
        raise ValueError(f"expected at least one clip a class, got {clips_per_class}")
    if source and dataset not in ("folder", "list"):
        raise ValueError(
            f"expected a source for folder and list, but the lists of {dataset} say it themselves, "
            f"got {source!r}: leave it out"
        )
    # As paths are in a manifest, without "..": what is known of a video is found again by its path.
    root, out = Path(os.path.abspath(root)), Path(os.path.abspath(out))
    lists = expected(
        dataset, root, annotations=None if annotations is None else Path(annotations), fold=fold
    )
    rows, kept = _of_classes(lists, classes)
    is_divided, copies, problems = (rows["split"] != "").any(), [], []
    if dataset in ("folder", "list"):
        in_folders = dataset == "folder"
        rows, problems, copies = find_sources(rows, root, source, in_folders=in_folders)
    if not is_divided:
        rows = rows.assign(split=divide(rows, val_share, seed))
    rows = _of_splits(rows, splits)
    pictures = 1 if dataset == "something-something-v1" else None
    found = lists.found or find_videos(root, frames_from=pictures)
    videos = found.videos
    problems += [(kind, "", name, why) for kind, name, why in lists.findings + found.findings]
    # Videos of classes and splits that are not wanted now are no finding.
    of_others = _stems(lists.rows) - _stems(rows)
    rows = _match(rows, root, videos, of_others, problems)
    rows.loc[rows.index.isin(copies) & (rows["status"] == ""), "status"] = "duplicate"
    problems += _torn_sources(rows)
    if rows.empty:
        raise ValueError(
            f"expected rows with a label for these classes and splits in the lists of {dataset}, "
            "found none"
        )
    if not (rows["status"] == "").any():
        name = without_suffix(rows["names"].iloc[0][0])
        some = ", ".join(path.name for path in videos[:3]) + (", ..." if videos[3:] else "")
        raise ValueError(
            f"expected videos of {dataset} in {root}, such as {name}.mp4, but none of the "
            f"{len(rows)} rows has one; found there: {some or 'no videos'}"
        )
    mirrored = [pair for pair in lists.mirrored if set(pair) <= set(kept)]
    mirror = mirror_table(kept, mirrored)
    check_class_list(kept, mirror, out / "manifest.csv")  # now, and not after hours of looking
    path = out / "manifest.csv"
    old = _read_old(path)
    known = [] if old is None else zip(old["path"], old["probe"], strict=True)
    probes = {path: probe for path, probe in known if probe}  # duplicate rows have none
    rows = _probe(rows, probes, clips_per_class, seed, workers, problems)
    label_of = {name: label for label, name in enumerate(kept)}
    rows = rows.assign(label=rows["class_name"].map(label_of)).drop(columns=["names", "others"])
    if not is_divided:
        if splits is None and clips_per_class is None:  # what cannot be read takes no place
            good = rows["status"] == "ok"
            rows.loc[good, "split"] = divide(rows[good], val_share, seed)
        problems += one_sided_classes(rows, splits or ("train", "val"))
    aside = set_aside(out, rows)
    DataSet(rows, kept, mirror).save(path)
    report = write_report(problems, out)
    counts = rows.groupby(["split", "status"]).size().unstack(fill_value=0)
    return Inventory(path, out / REPORT, counts, report, aside)


def write_report(problems: Sequence[tuple[str, str, str, str]], out: Path) -> pd.DataFrame:
    """Writes report.csv; gives the table in it."""
    report = pd.DataFrame(problems, columns=FINDINGS)
    with written_whole(out / REPORT) as unfinished:
        report.to_csv(unfinished, index=False, lineterminator="\n")
    return report


def set_aside(out: Path, rows: pd.DataFrame) -> tuple[Path, ...]:
    """Gives files that new ones would replace, though they say more, another name: manifest.1.csv.

    That is a manifest that has good rows or columns that the new `rows` have not, says another
    class, split or source of a video (or another status, if the video did not change), or cannot be
    read as one; and a report that is none of ours.
    """
    found, path = [], out / "manifest.csv"
    if path.is_file():
        old = _read_old(path)
        if old is None or _says_more(old, rows):
            found.append(path)
    if (out / REPORT).is_file():
        with (out / REPORT).open(encoding="utf-8", errors="replace", newline="") as file:
            if next(csv.reader(file), FINDINGS) != FINDINGS:
                found.append(out / REPORT)
    moved = []
    for path in found:
        number = 1
        while (aside := path.with_name(f"{path.stem}.{number}.csv")).exists():
            number += 1
        moved.append(path.rename(aside))
    return tuple(moved)


def _read_old(path: Path) -> pd.DataFrame | None:
    """The manifest that is there, if there is one that can be read."""
    try:
        return DataSet.read(path).rows
    except ValueError:
        return None


def _says_more(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """As in `set_aside`: some of what the old table says may be somebody's own work."""
    told = [name for name in old if (old[name].notna() & (old[name].astype("str") != "")).any()]
    if set(told) - set(new) or set(old["path"][old["status"] == "ok"]) - set(new["path"]):
        return True
    # The status may change with the video, of which the probe then found something else.
    meant = (["path"], ["label", "class_name", "split", "source_id"])
    for video, said in (meant, (["path", "probe"], ["status"])):
        before, now = (
            set(table[video + said].fillna("").itertuples(index=False, name=None))
            for table in (old, new)
        )
        known = {row[: len(video)] for row in now}
        if any(row[: len(video)] in known for row in before - now):
            return True
    return False


def _of_classes(lists: Expected, classes: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the chosen classes, and the names of those."""
    if classes is None:
        return lists.rows, lists.classes
    unknown = [name for name in classes if name not in lists.classes]
    if unknown:
        raise ValueError(f"expected classes of the data set, got {', '.join(unknown)}")
    rows = lists.rows[lists.rows["class_name"].isin(classes)].reset_index(drop=True)
    return rows, [name for name in lists.classes if name in set(classes)]


def _of_splits(rows: pd.DataFrame, splits: Sequence[str] | None) -> pd.DataFrame:
    known = set(rows["split"])
    unknown = [name for name in splits or () if name not in known]
    if unknown:
        raise ValueError(
            f"expected splits among {', '.join(sorted(known))}, got {', '.join(unknown)}"
        )
    return rows if splits is None else rows[rows["split"].isin(splits)]


def _stems(rows: pd.DataFrame) -> set[str]:
    return {_stem(name) for names in rows["names"] for name in names}


def _stem(name: str) -> str:
    """A name without folder and suffix."""
    return without_suffix(name.rpartition("/")[2])


def _match(
    rows: pd.DataFrame,
    root: Path,
    videos: list[Path],
    of_others: set[str],
    problems: list[tuple[str, str, str, str]],
) -> pd.DataFrame:
    """The rows with a path, others that may stand in for it, and a status.

    The status is "" if there is a video, otherwise "missing" or "duplicate".
    """
    by_stem, replacements = defaultdict(list), defaultdict(list)
    for path in videos:
        if path.parent.name.startswith(REPLACEMENTS):
            replacements[path.name[:ID_LENGTH]].append(path)
        else:
            by_stem[without_suffix(path.name)].append(path)
    paths, all_others, statuses, row_of, taken = [], [], [], {}, set()
    for row in rows.itertuples():
        found = (_named(name, root, by_stem) for name in row.names)
        matches = next(filter(None, found), [])
        # Of several, the one in the folder of its split, if there is such a folder.
        matches = sorted(matches, key=lambda path: row.split not in path.relative_to(root).parts)
        if matches[1:]:
            also = f"also {', '.join(map(str, matches[1:]))}"
            problems.append(("duplicate video", row.split, str(matches[0]), also))
        matches += replacements[row.source_id]
        taken |= set(matches)
        path, status = (matches[0] if matches else None), "" if matches else "missing"
        if status == "missing":
            problems.append(("row without video", row.split, row.names[0], row.class_name))
        key = path or row.names[0]
        if key in row_of:
            first = rows.loc[row_of[key]]
            detail = f"of {first['class_name']} in {first['split']}; here {row.class_name}"
            problems.append(("duplicate row", row.split, row.names[0], detail))
            status = "duplicate"
        else:
            row_of[key] = row.Index
        paths.append(str(path or row.names[0]))
        all_others.append(matches[1:])
        statuses.append(status)
    used = set(paths)  # a video stands in for one row at most
    for others in all_others:
        others[:] = [path for path in others if str(path) not in used]
        used.update(map(str, others))
    rows = rows.assign(path=paths, others=all_others, status=statuses)
    for path in sorted(set(videos) - taken):
        is_replacement = path.parent.name.startswith(REPLACEMENTS)
        if (path.name[:ID_LENGTH] if is_replacement else _stem(path.name)) not in of_others:
            problems.append(("video without row", "", str(path), ""))
    return rows


def _torn_sources(rows: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    in_splits = rows[rows["status"] == ""].groupby("source_id")["split"].agg(set)
    return [
        ("source in several splits", "", str(source), ", ".join(sorted(names)))
        for source, names in in_splits.items()
        if len(names) > 1
    ]


def _named(name: str, root: Path, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Videos of that name; of a name with folders those in these folders, just below root first."""
    folder, _, base = name.rpartition("/")
    found = by_stem.get(without_suffix(base), [])
    exactly = [path for path in found if path.name == base]
    if exactly or without_suffix(base) != base:
        found = exactly
    if not folder:
        return found
    exactly = [path for path in found if path.parent == root / folder]
    return exactly or [
        path for path in found if f"/{path.parent.as_posix()}".endswith(f"/{folder}")
    ]


def _probe(
    rows: pd.DataFrame,
    probes: dict[str, str],
    clips_per_class: int | None,
    seed: int,
    workers: int | None,
    problems: list[tuple[str, str, str, str]],
) -> pd.DataFrame:
    """Opens the videos; at most `clips_per_class` readable ones of each class and split stay."""
    columns = ("num_frames", "fps", "height", "width", "probe")
    rows = rows.assign(**{name: None for name in columns})
    waiting = [i for i in rows.index if rows.at[i, "status"] == ""]
    random.Random(seed).shuffle(waiting)
    good, tried = Counter(), set()
    with (
        ThreadPoolExecutor(workers or 4 * (os.cpu_count() or 1)) as pool,
        tqdm(total=len(waiting), desc="opening videos", unit="video") as bar,
    ):
        while waiting:
            now, later = [], []
            planned = good.copy()
            for i in waiting:
                group = (rows.at[i, "class_name"], rows.at[i, "split"])
                planned[group] += 1
                full = clips_per_class is not None and planned[group] > clips_per_class
                (later if full else now).append(i)
            if not now:
                break
            found = pool.map(lambda i: _best(rows.at[i, "path"], rows.at[i, "others"], probes), now)
            for i, (path, status, detail, values) in zip(now, found, strict=True):
                if path != rows.at[i, "path"]:
                    split = rows.at[i, "split"]
                    problems.append(("replaced video", split, rows.at[i, "path"], f"by {path}"))
                rows.at[i, "path"], rows.at[i, "status"] = path, status
                tried.add(i)
                bar.update()
                for name, value in values.items():
                    rows.at[i, name] = value
                if status == "ok":
                    good[rows.at[i, "class_name"], rows.at[i, "split"]] += 1
                else:
                    problems.append((status, rows.at[i, "split"], rows.at[i, "path"], detail))
            waiting = later
    if clips_per_class is None:
        return rows
    lacking = rows.groupby(["class_name", "split"]).size().index
    for name, split in lacking:
        if good[name, split] < clips_per_class:
            detail = f"{good[name, split]} of {clips_per_class}"
            problems.append(("class with fewer clips", split, name, detail))
    return rows[rows.index.isin(tried)]


def _best(path: str, others: list[Path], probes: dict[str, str]) -> tuple[str, str, str, dict]:
    """The first of a row's videos that is well, or else the first, and what `_look` says of it."""
    found = [(path, *_look(path, probes.get(path, "")))]
    for other in map(str, others):
        if found[0][1] == "ok":
            break
        found.append((other, *_look(other, probes.get(other, ""))))
        if found[-1][1] == "ok":
            return found[-1]
    return found[0]


def _look(path: str, packed: str) -> tuple[str, str, dict]:
    """A video's status, what is wrong with it, and what it holds."""
    try:
        # Pictures may have come to a folder since, or gone from it: it is looked at each time.
        info = known_video(path, packed if os.path.isfile(path) else "")
    except VideoReadError as error:
        return "unreadable", str(error), {}
    values = {
        "num_frames": info.num_frames,
        "fps": info.fps or None,
        "height": info.size[0],
        "width": info.size[1],
        "probe": pack_info(info),
    }
    return ("damaged" if info.damage else "ok"), info.damage, values
