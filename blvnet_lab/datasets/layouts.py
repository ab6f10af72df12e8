"""The layouts of public data sets: from their own lists of labels to rows of a manifest.

One function a family. Each reads the labels as they were published and says for every row by which
names its video may be found; `inventory.py` looks for it, for all alike.

    read_lists("kinetics400", Path("/data/kinetics400"))    # class_name, split, ..., names
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pandas as pd

from blvnet_lab.datasets.finding import (
    VIDEO_SUFFIXES,
    Finding,
    Found,
    find_videos,
    without_suffix,
)
from blvnet_lab.datasets.selection import mirrored_names

Layout = Literal[
    "kinetics400",
    "kinetics600",
    "kinetics700-2020",
    "something-something-v1",
    "something-something-v2",
    "moments-in-time",
    "ucf101",
    "folder",
    "list",
]
SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
    "test": "test",
}
# The split in the names of Something-Something's files, which need not all be there.
SOMETHING_SPLITS = {"train": "train", "validation": "val", "test": "test"}
# Something-Something's classes whose mirror images are each other's, by label.
MIRRORED_LABELS = {
    "something-something-v1": ((2, 4), (30, 41), (52, 66)),
    "something-something-v2": ((86, 87), (93, 94), (166, 167)),
}


class ListedClip(NamedTuple):
    """Describe a clip as a list does."""

    class_name: str  # empty if the list does not say
    split: str  # empty if the lists do not say
    source_id: str
    # What the video may be called, the surest first, with or without folders and suffix
    # ("Run/v_Run_g01").
    names: tuple[str, ...]
    start: int | None = None  # in its source, in seconds
    end: int | None = None


@dataclass(frozen=True)
class Lists:
    """Hold what a data set's own lists say."""

    rows: pd.DataFrame  # a `ListedClip` each
    classes: list[str]  # in the order of their labels
    mirrored: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    found: Found | None = None  # the videos, where the lists are the folders themselves


def read_lists(
    dataset: Layout, root: Path, *, annotations: Path | None = None, fold: int = 1
) -> Lists:
    """Read the lists of a data set in its official layout.

    Args:
        dataset: which layout.
        root: the data set's folder.
        annotations: the folder (or, for "list", the file) of the labels; None looks in `root`, and
            in the folders `annotations`, `labels` and `ucfTrainTestlist` in it.
        fold: of UCF101's three divisions into training and test.

    Raises:
        ValueError: no such data set; the lists are not there, or not as published.
    """
    if dataset not in get_args(Layout):
        raise ValueError(
            f"expected one of the data sets {', '.join(get_args(Layout))}, got {dataset}"
        )
    if not root.is_dir():
        raise ValueError(f"expected the folder of {dataset}, but there is no folder {root}")
    if dataset == "folder":
        return _folders(root)
    if dataset == "list":
        if annotations is None:
            raise ValueError("expected the file of lines `path label` as annotations, got none")
        return _list_file(annotations)
    places = [root, *(root / name for name in ("annotations", "labels", "ucfTrainTestlist"))]
    find = _Finder([annotations] if annotations is not None else places)
    if dataset.startswith("kinetics"):
        return _labelled(_kinetics(find, dataset))
    if dataset == "something-something-v1":
        return _with_mirrors(_something_v1(find), dataset)
    if dataset == "something-something-v2":
        return _with_mirrors(_something_v2(find), dataset)
    return _moments(find) if dataset == "moments-in-time" else _ucf101(find, fold)


class _Finder:
    """Find files of labels in the folders where they may lie."""

    def __init__(self, places: Sequence[Path]):
        self.places = places

    def __call__(self, *names: str, needed: bool = True) -> Path | None:
        for path in (place / name for place in self.places for name in names):
            if path.is_file():
                return path
        if needed:
            raise ValueError(
                f"expected the file {' or '.join(names)} in {self.places[0]}, found none: put it "
                "there, or say where the annotations are"
            )
        return None


def _lines(path: Path) -> Iterator[str]:
    """Read the lines that say something, without the marks that some editors leave."""
    return filter(None, map(str.strip, path.read_text("utf-8-sig").splitlines()))


def _labelled(rows: Iterable[ListedClip], classes: Sequence[str] | None = None) -> Lists:
    """Leave out rows without a label; without a list of classes they are sorted by name."""
    rows = list(rows)
    labelled = [row for row in rows if row.class_name]
    used = {row.class_name for row in labelled}
    strangers = sorted(used - set(classes)) if classes else []
    if strangers:
        raise ValueError(
            f"expected classes of the list of labels, got {strangers[0]!r} and {len(strangers) - 1}"
            " others that are not in it: take lists of the same release"
        )
    unlabelled = [
        ("row without label", "", row.names[0], "no label") for row in rows if not row.class_name
    ]
    table = pd.DataFrame(labelled, columns=list(ListedClip._fields))
    return Lists(table, list(classes or sorted(used)), findings=unlabelled)


# --- Kinetics -----------------------------------------------------------------------------------


def read_kinetics_rows(path: Path, split: str) -> pd.DataFrame:
    """Read a Kinetics annotation file: label, youtube_id, time_start, time_end (s), split.

    The file's own column says "validate" for "val" in Kinetics-700. Test rows without a label have
    an empty one. Raises ValueError if a column is missing or a time is no number.
    """
    table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    table.columns = [column.strip().lower() for column in table.columns]
    if split == "test" and "label" not in table:
        table["label"] = ""
    columns = ["label", "youtube_id", "time_start", "time_end"]
    if not set(columns) <= set(table):
        raise ValueError(
            f"{path}: expected the columns label, youtube_id, time_start and time_end, got "
            f"{', '.join(table.columns)}"
        )
    table = table[columns].assign(split=split)
    for name in ("time_start", "time_end"):
        seconds = pd.to_numeric(table[name], errors="coerce")
        bad = table[seconds.isna()]
        if not bad.empty:
            raise ValueError(
                f"{path}: expected seconds in the column {name}, got {bad[name].iloc[0]!r} for the "
                f"video {bad['youtube_id'].iloc[0]}"
            )
        table[name] = seconds.round().astype("int64")
    return table


def kinetics_name(youtube_id: str, start: int, end: int) -> str:
    """Give a clip's official file name, without suffix."""
    return f"{youtube_id}_{start:06d}_{end:06d}"


def _kinetics(find: _Finder, dataset: str) -> Iterator[ListedClip]:
    files = {}
    for split, names in {"train": ["train"], "val": ["val", "validate"], "test": ["test"]}.items():
        places = [f"{folder}{name}.csv" for name in names for folder in ("", f"{dataset}/")]
        if path := find(*places, needed=False):
            files[split] = path
    if not files:
        find("train.csv", "val.csv", "validate.csv", "test.csv")
    for split, path in files.items():
        for label, youtube_id, *times, _ in read_kinetics_rows(path, split).itertuples(index=False):
            names = (kinetics_name(youtube_id, *times), youtube_id)
            yield ListedClip(label, split, youtube_id, names, *times)


# --- Something-Something ------------------------------------------------------------------------


def _with_mirrors(lists: Lists, dataset: str) -> Lists:
    pairs, classes = MIRRORED_LABELS[dataset], lists.classes
    if max(map(max, pairs)) >= len(classes):  # somebody's own part of it
        return lists
    return replace(lists, mirrored=[(classes[a], classes[b]) for a, b in pairs])


def _something_v1(find: _Finder) -> Lists:
    name, rows = "something-something-v1-{}.csv", []
    classes = list(_lines(find(name.format("labels"))))
    for part, split in SOMETHING_SPLITS.items():
        path = find(name.format(part), needed=split == "train")
        for line in _lines(path) if path else ():
            source, _, label = map(str.strip, line.partition(";"))
            rows.append(ListedClip(label, split, source, (source,)))
    return _labelled(rows, classes)


def _something_v2(find: _Finder) -> Lists:
    def read(name: str, needed: bool = True) -> list | dict:
        path = find(f"something-something-v2-{name}.json", f"{name}.json", needed=needed)
        try:
            return json.loads(path.read_text("utf-8-sig")) if path else []
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got {error}") from error

    labels, rows = read("labels"), []
    if not isinstance(labels, dict):
        raise ValueError("expected labels.json to map class names to numbers, got a list")
    classes = sorted(labels, key=lambda name: int(labels[name]))
    if [int(labels[name]) for name in classes] != list(range(len(classes))):
        raise ValueError("expected labels.json to number its classes 0, 1, ..., got other numbers")
    for part, split in SOMETHING_SPLITS.items():
        for entry in read(part, needed=split == "train"):
            template = re.sub(r"[\[\]]", "", entry.get("template", ""))
            source = str(entry["id"])
            rows.append(ListedClip(template, split, source, (source,)))
    return _labelled(rows, classes)


# --- Moments in Time, UCF101 --------------------------------------------------------------------


def _moments(find: _Finder) -> Lists:
    lines = [line.rpartition(",") for line in _lines(find("moments_categories.txt"))]
    classes, rows = [name for name, _, number in sorted(lines, key=lambda x: int(x[2]))], []
    for split, part in (("train", "training"), ("val", "validation")):
        table = pd.read_csv(find(f"{part}Set.csv"), header=None, dtype="str", keep_default_na=False)
        for path, label in zip(table[0], table[1], strict=True):
            rows.append(ListedClip(label, split, path, (f"{part}/{without_suffix(path)}",)))
    return _labelled(rows, classes)


def _ucf101(find: _Finder, fold: int) -> Lists:
    """Read UCF101's lists; the published test list is the split "val", as there is no other."""
    classes = [line.partition(" ")[2] for line in _lines(find("classInd.txt"))]
    rows = []
    for split, part in (("train", "train"), ("val", "test")):
        for line in _lines(find(f"{part}list0{fold}.txt")):
            path = Path(line.split(" ")[0])
            group = re.match(r"v_(.+_g\d+)_c\d+", path.stem)
            source = group[1] if group else path.stem  # clips of a group are of one video
            names = (path.with_suffix("").as_posix(), path.stem)
            rows.append(ListedClip(path.parts[0], split, source, names))
    return _labelled(rows, classes)


# --- One's own ----------------------------------------------------------------------------------


def _folders(root: Path) -> Lists:
    """Read `class/video`, or `train/class/video` and `val/class/video`, with folders in between.

    A folder of numbered pictures is a video, too, if it lies where a video would.
    """
    divided = any(path.is_dir() and path.name.lower() in SPLIT_FOLDERS for path in root.iterdir())
    found = find_videos(root, frames_from=2 + divided)
    used = {path.relative_to(root).parts[0] for path in found.videos if path.parent != root}
    named = {name for name in used if name.lower() in SPLIT_FOLDERS}
    if named and named != used:
        raise ValueError(
            f"expected folders of splits or of classes in {root}, got both: "
            f"{', '.join(sorted(named))} and {', '.join(sorted(used - named))}: move one kind away"
        )
    rows = []
    for path in found.videos:
        name = path.relative_to(root)
        if len(name.parts) >= 2 + bool(named):  # else beside the classes' folders: without a class
            split = SPLIT_FOLDERS[name.parts[0].lower()] if named else ""
            source = without_suffix(name.as_posix())
            rows.append(ListedClip(name.parts[bool(named)], split, source, (name.as_posix(),)))
    if not rows:
        raise ValueError(
            f"expected a folder for each class in {root}, with videos in it, found none"
        )
    passed_over = []
    for kind, paths in sorted(found.passed_over.items()):
        some = ", ".join(path.relative_to(root).as_posix() for path in paths[:3])
        details = f"{len(paths)}: {some}{', ...' if paths[3:] else ''}"
        passed_over.append(("files passed over", "", kind, details))
    lists = _labelled(rows)
    return replace(lists, mirrored=mirrored_names(lists.classes), findings=passed_over, found=found)


def _list_file(path: Path) -> Lists:
    """Read lines `path label`, with a path that may hold spaces, of a file or of train.txt etc."""
    files = [("", path)]
    if path.is_dir():
        files = [
            (split, file)
            for split in SPLITS
            for file in sorted(path.glob(f"{split}*"))
            if file.suffix in (".txt", ".csv", ".list")
        ]
        if len(dict(files)) < len(files):
            names = ", ".join(file.name for _, file in files)
            raise ValueError(f"expected one list for each split in {path}, got {names}")
    if not files or not all(file.is_file() for _, file in files):
        raise ValueError(
            f"expected a file of lines `path label`, or a folder with such files train.txt and "
            f"val.txt, found none at {path}"
        )
    rows = [row for split, file in files for row in _list_rows(file, split)]
    if not rows:
        raise ValueError(f"expected lines `path label` in {path}, found none")
    if all(re.search(r" \d+ \d+$", f"{row.names[0]} {row.class_name}") for row in rows):
        raise ValueError(
            f"{path}: expected lines `path label`, got lines with two numbers such as `path frames "
            "label`: take the number of frames out"
        )
    uses = Counter(row.names[-1] for row in rows)  # the name alone does not tell these apart
    rows = [row._replace(names=row.names[:2]) if uses[row.names[-1]] > 1 else row for row in rows]
    classes = sorted(
        {row.class_name for row in rows},
        key=lambda name: (False, int(name), "") if name.isdigit() else (True, 0, name),
    )
    if classes[0].isdigit() and classes != [str(k) for k in range(len(classes))]:
        raise ValueError(
            f"{path}: expected labels that are names, or the numbers 0 to n - 1 without a gap, got "
            f"{', '.join(classes[:8])}, ...: number them again, or write names"
        )
    return replace(_labelled(rows, classes), mirrored=mirrored_names(classes))


def _list_rows(file: Path, split: str) -> Iterator[ListedClip]:
    suffixes = "|".join(map(re.escape, VIDEO_SUFFIXES))
    for number, line in enumerate(_lines(file), 1):
        # Both may hold spaces: the path ends with the suffix of a video, if it has one.
        parts = re.fullmatch(rf"(.+(?:{suffixes}))\s+(.+)|(.+)\s+(\S+)", line, re.IGNORECASE)
        if parts is None:
            raise ValueError(f"{file}, line {number}: expected `path label`, got {line!r}")
        name, label = (part for part in parts.groups() if part is not None)
        name = name.replace("\\", "/")  # some lists were written on Windows
        stem = without_suffix(name)
        yield ListedClip(label, split, stem, (name, stem, stem.rpartition("/")[2]))
