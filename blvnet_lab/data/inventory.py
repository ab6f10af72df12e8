"""From a data set's lists and its folder of videos to a manifest one can trust, and a report.

python -m blvnet_lab manifest kinetics400 --root /data/kinetics400 --out /data/kinetics400
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from tqdm.auto import tqdm

from blvnet_lab.data.formats import VIDEO_SUFFIXES, Dataset, Expected, expected, named_classes
from blvnet_lab.data.manifest import (
    check_class_list,
    read_manifest,
    write_manifest,
)
from blvnet_lab.data.reading import VideoReadError, known_video, pack_info, probe_video
from blvnet_lab.paths import written_whole

REPORT = "report.csv"
FINDINGS = ["kind", "split", "name", "detail"]  # the report's columns


@dataclass(frozen=True)
class Inventory:
    """What `build_manifest` found and wrote."""

    manifest: Path
    report: Path
    counts: pd.DataFrame  # a row a split; columns are the rows of the manifest, by their status
    problems: pd.DataFrame  # as in the report: kind, split, name, detail


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
    workers: int | None = None,
) -> Inventory:
    """Writes manifest.csv, classes.csv and report.csv for the videos that are there.

    Every video is opened (not decoded), which takes some milliseconds each; when the manifest is
    there already, only those that have changed since. Nothing else is touched.

    Args:
        dataset, root, annotations, fold: as in `formats.expected`. With "list", paths are relative
            to `root`.
        out: folder for the three files.
        splits: only these of "train", "val" and "test"; None for all.
        classes: only these; the labels then number these alone. None for all.
        clips_per_class: at most so many readable clips of each class and split, drawn by `seed`.
        val_share: where the data set has no splits of its own, this share of the sources of each
            class goes to "val".
        workers: threads that open videos; None for four a core.

    Raises:
        ValueError: what `formats.expected` raises; not one of the rows has a video; or no class or
            split of that name.
    """
    root, out = Path(root).absolute(), Path(out).absolute()
    lists = expected(
        dataset, root, annotations=None if annotations is None else Path(annotations), fold=fold
    )
    rows, kept = _wanted(lists, splits, classes, val_share, seed)
    problems = [("row without label", "", name, why) for name, why in lists.left_out]
    videos = _videos(root, dataset)
    # Videos of classes and splits that are not wanted now are no finding.
    known = {_stem(name) for names in lists.rows["names"] for name in names}
    _match(
        rows, videos, known - {_stem(name) for names in rows["names"] for name in names}, problems
    )
    if rows.empty:
        raise ValueError(
            f"expected rows with a label for these classes and splits in the lists of {dataset}, "
            "found none"
        )
    if not (rows["status"] == "").any():
        names = rows["names"].iloc[0]
        raise ValueError(
            f"expected videos of {dataset} in {root}, such as {names[0]}.mp4, but none of the "
            f"{len(rows)} rows has one; found there: {_some(videos) or 'no videos'}"
        )
    mirrored = [pair for pair in lists.mirrored if set(pair) <= set(kept)]
    table = named_classes(kept, mirrored)
    check_class_list(table, out / "manifest.csv")  # now, and not after hours of looking
    old = _old_probes(out / "manifest.csv")
    rows = _probe(rows, old, clips_per_class, seed, workers, problems)
    label_of = {name: label for label, name in enumerate(kept)}
    rows = rows.assign(label=rows["class_name"].map(label_of)).drop(columns="names")
    path = write_manifest(rows, out / "manifest.csv", table)
    report = pd.DataFrame(problems, columns=FINDINGS)
    with written_whole(out / REPORT) as unfinished:
        report.to_csv(unfinished, index=False, lineterminator="\n")
    counts = rows.groupby(["split", "status"]).size().unstack(fill_value=0)
    return Inventory(path, out / REPORT, counts, report)


def _wanted(
    lists: Expected,
    splits: Sequence[str] | None,
    classes: Sequence[str] | None,
    val_share: float,
    seed: int,
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the chosen splits and classes, and the names of those classes."""
    rows = lists.rows
    if classes is not None:
        unknown = [name for name in classes if name not in lists.classes]
        if unknown:
            raise ValueError(f"expected classes of the data set, got {', '.join(unknown)}")
        rows = rows[rows["class_name"].isin(classes)]
    if (rows["split"] == "").all():
        rows = rows.assign(split=divide(rows, val_share, seed))
    if splits is not None:
        unknown = [name for name in splits if name not in set(rows["split"])]
        if unknown:
            raise ValueError(
                f"expected splits among {', '.join(sorted(set(rows['split'])))}, got "
                f"{', '.join(unknown)}"
            )
        rows = rows[rows["split"].isin(splits)]
    kept = lists.classes if classes is None else [n for n in lists.classes if n in set(classes)]
    return rows.reset_index(drop=True), kept


def divide(rows: pd.DataFrame, val_share: float, seed: int) -> list[str]:
    """ "train" or "val" for each row; the clips of one source stay together."""
    if not 0 < val_share < 1:
        raise ValueError(f"expected a share of validation clips between 0 and 1, got {val_share}")
    chosen: set[tuple[str, str]] = set()
    for name, of_class in rows.groupby("class_name"):
        sources = sorted(set(of_class["source_id"]))
        random.Random(f"{seed} {name}").shuffle(sources)
        # At least one, but not the only one: without training clips there is nothing to learn.
        count = min(max(1, round(val_share * len(sources))), len(sources) - 1)
        chosen |= {(name, source) for source in sources[:count]}
    keys = zip(rows["class_name"], rows["source_id"], strict=True)
    return ["val" if key in chosen else "train" for key in keys]


def _videos(root: Path, dataset: Dataset) -> dict[str, list[Path]]:
    """All videos (or folders of JPEGs) below `root`, by their names without folder and suffix."""
    found = defaultdict(list)
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if dataset == "something-something-v1" and "00001.jpg" in files:
            found[os.path.basename(folder)].append(Path(folder))
            folders.clear()
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                found[stem].append(Path(folder, name))
    return found


def _some(videos: dict[str, list[Path]]) -> str:
    paths = [path for several in videos.values() for path in several]
    return ", ".join(path.name for path in paths[:3]) + (", ..." if paths[3:] else "")


def _stem(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _match(
    rows: pd.DataFrame,
    videos: dict[str, list[Path]],
    of_others: set[str],
    problems: list[tuple[str, str, str, str]],
) -> None:
    """Gives every row its path and a status: "" if there is a video, "missing", "duplicate"."""
    paths, statuses, row_of, taken = [], [], {}, set()
    for row in rows.itertuples():
        matches = next(filter(None, (_named(name, videos) for name in row.names)), [])
        # Of several, the one in the folder of its split, if there is such a folder.
        matches = sorted(matches, key=lambda path: row.split not in path.parts)
        taken |= set(matches)
        path, status = (matches[0] if matches else None), "" if matches else "missing"
        others = ", ".join(map(str, matches[1:]))
        if others:
            problems.append(("duplicate video", row.split, str(path), f"also {others}"))
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
        statuses.append(status)
    rows["path"], rows["status"] = paths, statuses
    unknown = {p for stem, several in videos.items() if stem not in of_others for p in several}
    for path in sorted(unknown - taken):
        problems.append(("video without row", "", str(path), ""))
    in_splits = rows[rows["status"] == ""].groupby("source_id")["split"].agg(set)
    for source, names in in_splits.items():
        if len(names) > 1:
            detail = ", ".join(sorted(names))
            problems.append(("source in several splits", "", str(source), detail))


def _named(name: str, videos: dict[str, list[Path]]) -> list[Path]:
    """Videos of that name; of a name with folders, those in these folders."""
    folder, _, stem = name.replace("\\", "/").rpartition("/")
    found = videos.get(stem, [])
    if not folder:
        return found
    return [path for path in found if f"/{path.parent.as_posix()}".endswith(f"/{folder}")]


def _old_probes(manifest: Path) -> dict[str, str]:
    if not manifest.is_file():
        return {}
    old = read_manifest(manifest)
    return dict(zip(old["path"], old["probe"], strict=True))


def _probe(
    rows: pd.DataFrame,
    old: dict[str, str],
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
            found = pool.map(lambda path: _look(path, old.get(path, "")), rows.loc[now, "path"])
            for i, (status, detail, values) in zip(now, found, strict=True):
                rows.at[i, "status"] = status
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


def _look(path: str, packed: str) -> tuple[str, str, dict]:
    """A video's status, what is wrong with it, and what it holds."""
    try:
        # Pictures may have come to a folder since, or gone from it.
        info = known_video(path, packed) if packed and os.path.isfile(path) else probe_video(path)
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
