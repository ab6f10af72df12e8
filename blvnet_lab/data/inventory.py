"""From a data set's lists and its folder of videos to a manifest one can trust, and a report.

python -m blvnet_lab manifest kinetics400 --root /data/kinetics400 --out /data/kinetics400
"""

from __future__ import annotations

import csv
import hashlib
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

from blvnet_lab.data.formats import (
    Dataset,
    Expected,
    expected,
    find_videos,
    named_classes,
    without_suffix,
)
from blvnet_lab.data.manifest import (
    check_class_list,
    read_manifest,
    write_manifest,
)
from blvnet_lab.data.reading import VideoReadError, known_video, pack_info
from blvnet_lab.paths import written_whole

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
            class goes to "val" (`divide`).
        workers: threads that open videos; None for four a core.

    Raises:
        ValueError: what `formats.expected` raises; not one of the rows has a video; no class or
            split of that name; or less than one clip a class.
    """
    if clips_per_class is not None and clips_per_class < 1:
        raise ValueError(f"expected at least one clip a class, got {clips_per_class}")
    # As paths are in a manifest, without "..": what is known of a video is found again by its path.
    root, out = Path(os.path.abspath(root)), Path(os.path.abspath(out))
    lists = expected(
        dataset, root, annotations=None if annotations is None else Path(annotations), fold=fold
    )
    rows, kept = _wanted(lists, splits, classes, val_share, seed)
    problems = [("row without label", "", name, why) for name, why in lists.left_out]
    videos, closed = find_videos(root, jpeg_folders=dataset == "something-something-v1")
    problems += [(kind, "", name, why) for kind, name, why in closed]
    # Videos of classes and splits that are not wanted now are no finding.
    of_others = _stems(lists.rows) - _stems(rows)
    rows = _match(rows, root, videos, of_others, problems)
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
    table = named_classes(kept, mirrored)
    check_class_list(table, out / "manifest.csv")  # now, and not after hours of looking
    path = out / "manifest.csv"
    old = _read_old(path)
    known = [] if old is None else zip(old["path"], old["probe"], strict=True)
    probes = {path: probe for path, probe in known if probe}  # duplicate rows have none
    rows = _probe(rows, probes, clips_per_class, seed, workers, problems)
    label_of = {name: label for label, name in enumerate(kept)}
    rows = rows.assign(label=rows["class_name"].map(label_of)).drop(columns=["names", "others"])
    if (lists.rows["split"] == "").all():
        problems += one_sided_classes(rows, splits or ("train", "val"))
    aside = set_aside(out, rows)
    write_manifest(rows, path, table)
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
        return read_manifest(path)
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
    """ "train" or "val" for each row; all clips of one source are on one side.

    Of the sources of each class the given share is "val", at least one of two or more: those with
    the smallest hash, so that the clips of a class that is fetched later change little. A source
    with clips of several classes is decided with the first of them, which may leave another class
    without a clip on one side (`one_sided_classes`).

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    check_val_share(val_share)
    side: dict[str, str] = {}
    for _, of_class in rows.sort_values("class_name").groupby("class_name"):
        sources = sorted(set(of_class["source_id"]), key=lambda name: _hash(f"{seed} {name}"))
        # At least one, but not the only one: without training clips there is nothing to learn.
        count = min(max(1, round(val_share * len(sources))), len(sources) - 1)
        count -= sum(side.get(source) == "val" for source in sources)
        for source in sources:
            if source not in side:
                side[source] = "val" if count > 0 else "train"
                count -= 1
    return [side[source] for source in rows["source_id"]]


def one_sided_classes(rows: pd.DataFrame, splits: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Findings about a table that was divided: classes without a good clip in one of `splits`."""
    good = set(rows.loc[rows["status"] == "ok", ["class_name", "split"]].itertuples(index=False))
    return [
        (f"class without {split}", split, name, "too few videos, or other classes share them")
        for name in sorted(set(rows["class_name"]))
        for split in splits
        if (name, split) not in good
    ]


def check_val_share(val_share: float) -> None:
    """Raises ValueError if a share of validation clips is not between 0 and 1."""
    if not 0 < val_share < 1:
        raise ValueError(f"expected a share of validation clips between 0 and 1, got {val_share}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    in_splits = rows[rows["status"] == ""].groupby("source_id")["split"].agg(set)
    for source, names in in_splits.items():
        if len(names) > 1:
            detail = ", ".join(sorted(names))
            problems.append(("source in several splits", "", str(source), detail))
    return rows


def _named(name: str, root: Path, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Videos of that name; of a name with folders those in these folders, just below root first."""
    folder, _, base = name.rpartition("/")
    found = by_stem.get(without_suffix(base), [])
    if without_suffix(base) != base:
        found = [path for path in found if path.name == base]
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
