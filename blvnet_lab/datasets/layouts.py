"""The layouts of public data sets: from their own lists of labels to rows of a manifest.

One function a family. Each reads the labels as they were published and says for every row by which
names its video may be found; `inventory.py` looks for it, for all alike.

    expected("kinetics400", "/data/kinetics400")    # class_name, split, source_id, ..., names
"""

from __future__ import annotations

import difflib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from blvnet_lab.data.dataset_files import mirror_labels
from blvnet_lab.datasets.finding import VIDEO_SUFFIXES, Found, find_videos, without_suffix

Dataset = Literal[
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
# Something-Something's classes whose mirror images are each other's, by label.
MIRRORED_LABELS = {
    "something-something-v1": ((2, 4), (30, 41), (52, 66)),
    "something-something-v2": ((86, 87), (93, 94), (166, 167)),
}
# Whole words, of names in the form of `_in_words`, that change places in a mirror.
OPPOSITES = {"left": "right", "right": "left"}
OPPOSITES |= {"clockwise": "counterclockwise", "counterclockwise": "clockwise"}
SIDES = re.compile(
    r"(?<![^\W\d_])((?:top|bottom|upper|lower|front|rear|back)?)"
    rf"({'|'.join(OPPOSITES)})((?:wards?|most|side|hand(?:ed)?)?)(?![^\W\d_])"
)


@dataclass(frozen=True)
class Expected:
    """What a data set's own lists say."""

    # class_name, split ("" if the lists do not say), source_id, start, end and `names`: what the
    # video may be called, the surest first, with or without folders and suffix ("Run/v_Run_g01").
    rows: pd.DataFrame
    classes: list[str]  # in the order of their labels
    mirrored: list[tuple[str, str]] = field(default_factory=list)
    findings: list[tuple[str, str, str]] = field(default_factory=list)  # (kind, name, details)
    found: Found | None = None  # the videos, where the lists are the folders themselves


def expected(
    dataset: Dataset, root: Path, *, annotations: Path | None = None, fold: Literal[1, 2, 3] = 1
) -> Expected:
    """The rows of a data set in its official layout.

    Args:
        dataset: which layout.
        root: the data set's folder.
        annotations: the folder (or, for "list", the file) of the labels; None looks in `root`, and
            in the folders `annotations`, `labels` and `ucfTrainTestlist` in it.
        fold: of UCF101's three divisions into training and test.

    Raises:
        ValueError: no such data set; the lists are not there, or not as published.
    """
    if dataset not in get_args(Dataset):
        raise ValueError(
            f"expected one of the data sets {', '.join(get_args(Dataset))}, got {dataset}"
        )
    if not root.is_dir():
        raise ValueError(f"expected the folder of {dataset}, but there is no folder {root}")
    if dataset == "list":
        if annotations is None:
            raise ValueError("expected the file of lines `path label` as annotations, got none")
        return _list_file(annotations)
    if dataset == "folder":
        return _folders(root)
    places = [root, *(root / name for name in ("annotations", "labels", "ucfTrainTestlist"))]
    find = _Finder([annotations] if annotations is not None else places)
    if dataset.startswith("kinetics"):
        return _kinetics(find, dataset)
    if dataset.startswith("something"):
        return _something(find, dataset)
    return _moments(find) if dataset == "moments-in-time" else _ucf101(find, fold)


class _Finder:
    """Finds files of labels in the folders where they may lie."""

    def __init__(self, places: Sequence[Path]):
        self.places = places

    def __call__(self, *names: str, needed: bool = True) -> Path | None:
        for place in self.places:
            for name in names:
                if (place / name).is_file():
                    return place / name
        if needed:
            raise ValueError(
                f"expected the file {' or '.join(names)} in {self.places[0]}, found none: put it "
                "there, or say where the annotations are"
            )
        return None


def _lines(path: Path) -> Iterator[str]:
    """Lines that say something, without the marks that some editors leave."""
    for line in path.read_text("utf-8-sig").splitlines():
        if line.strip():
            yield line.strip()


def _table(rows: list[dict]) -> pd.DataFrame:
    columns = ["class_name", "split", "source_id", "start", "end", "names"]
    return pd.DataFrame(rows, columns=columns)


# --- Kinetics -----------------------------------------------------------------------------------


def read_kinetics_rows(path: Path, split: str) -> pd.DataFrame:
    """A Kinetics annotation file: label, youtube_id, time_start, time_end (seconds), by column.

    `split`: of the rows; the file's own column says "validate" for "val" in Kinetics-700. Test
    rows without a label have an empty one.

    Raises ValueError if a column is missing.
    """
    table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    table.columns = [column.strip().lower() for column in table.columns]
    if "label" not in table and split == "test":
        table["label"] = ""
    missing = {"label", "youtube_id", "time_start", "time_end"} - set(table.columns)
    if missing:
        raise ValueError(
            f"{path}: expected the columns label, youtube_id, time_start and time_end, got "
            f"{', '.join(table.columns)}"
        )
    times = {}
    for name in ("time_start", "time_end"):
        seconds = pd.to_numeric(table[name], errors="coerce")
        if seconds.isna().any():
            row = int(seconds.isna().idxmax())
            raise ValueError(
                f"{path}: expected seconds in the column {name}, got {table[name][row]!r} for the "
                f"video {table['youtube_id'][row]}"
            )
        times[name] = seconds.round().astype("int64")
    return table[["label", "youtube_id"]].assign(**times, split=split)


def kinetics_name(youtube_id: str, start: int, end: int) -> str:
    """A clip's official file name, without suffix."""
    return f"{youtube_id}_{start:06d}_{end:06d}"


def _kinetics(find: _Finder, dataset: str) -> Expected:
    files = {
        split: find(
            *(f"{folder}{name}.csv" for name in names for folder in ("", f"{dataset}/")),
            needed=False,
        )
        for split, names in {
            "train": ["train"],
            "val": ["val", "validate"],
            "test": ["test"],
        }.items()
    }
    if not any(files.values()):
        find("train.csv", "val.csv", "validate.csv", "test.csv")
    found = [read_kinetics_rows(path, split) for split, path in files.items() if path is not None]
    table = pd.concat(found, ignore_index=True)
    rows = [
        {
            "class_name": row.label,
            "split": row.split,
            "source_id": row.youtube_id,
            "start": row.time_start,
            "end": row.time_end,
            "names": (
                kinetics_name(row.youtube_id, row.time_start, row.time_end),
                row.youtube_id,
            ),
        }
        for row in table.itertuples()
    ]
    return _labelled(rows)


def _labelled(rows: list[dict], classes: Sequence[str] | None = None) -> Expected:
    """Rows without a label are left out; labels number the classes in the order of their names."""
    unlabelled = [
        ("row without label", row["names"][0], "no label") for row in rows if not row["class_name"]
    ]
    rows = [row for row in rows if row["class_name"]]
    classes = classes or sorted({row["class_name"] for row in rows})
    return Expected(_table(rows), list(classes), findings=unlabelled)


# --- Something-Something ------------------------------------------------------------------------


def _something(find: _Finder, dataset: str) -> Expected:
    read = _something_v1 if dataset.endswith("v1") else _something_v2
    classes, rows = read(find, dataset)
    found = _labelled(rows, classes)
    pairs = MIRRORED_LABELS[dataset]
    if max(map(max, pairs)) < len(classes):  # fewer: somebody's own part of it
        mirrored = [(classes[a], classes[b]) for a, b in pairs]
        found = Expected(found.rows, found.classes, mirrored, found.findings)
    return found


def _something_v1(find: _Finder, dataset: str) -> tuple[list[str], list[dict]]:
    classes = list(_lines(find(f"{dataset}-labels.csv")))
    rows = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        path = find(f"{dataset}-{name}.csv", needed=split == "train")
        for line in _lines(path) if path else ():
            source, _, label = line.partition(";")
            rows.append(_row(label.strip(), split, source.strip()))
    return _all_known(classes, rows), rows


def _something_v2(find: _Finder, dataset: str) -> tuple[list[str], list[dict]]:
    def read(name: str, needed: bool = True) -> list | dict:
        path = find(f"{dataset}-{name}.json", f"{name}.json", needed=needed)
        try:
            return json.loads(path.read_text("utf-8-sig")) if path else []
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got {error}") from error

    labels = read("labels")
    if not isinstance(labels, dict):
        raise ValueError("expected labels.json to map class names to numbers, got a list")
    numbers = {name: int(number) for name, number in labels.items()}
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise ValueError("expected labels.json to number its classes 0, 1, ..., got other numbers")
    classes = sorted(numbers, key=numbers.__getitem__)
    rows = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        for entry in read(name, needed=split == "train"):
            template = entry.get("template", "").replace("[", "").replace("]", "")
            rows.append(_row(template, split, str(entry["id"])))
    return _all_known(classes, rows), rows


def _row(class_name: str, split: str, source_id: str, *names: str) -> dict:
    return {
        "class_name": class_name,
        "split": split,
        "source_id": source_id,
        "start": None,
        "end": None,
        "names": names or (source_id,),
    }


def _all_known(classes: list[str], rows: list[dict]) -> list[str]:
    strangers = sorted({row["class_name"] for row in rows if row["class_name"]} - set(classes))
    if strangers:
        raise ValueError(
            f"expected classes of the list of labels, got {strangers[0]!r} and {len(strangers) - 1}"
            " others that are not in it: take lists of one generation"
        )
    return classes


# --- Moments in Time, UCF101 --------------------------------------------------------------------


def _moments(find: _Finder) -> Expected:
    numbers = {}
    for line in _lines(find("moments_categories.txt")):
        label, _, number = line.rpartition(",")
        numbers[label] = int(number)
    classes = sorted(numbers, key=numbers.__getitem__)
    rows = []
    for split, name, folder in (
        ("train", "trainingSet.csv", "training"),
        ("val", "validationSet.csv", "validation"),
    ):
        table = pd.read_csv(find(name), header=None, dtype="str", keep_default_na=False)
        for path, label in zip(table[0], table[1], strict=True):
            rows.append(_row(label, split, path, f"{folder}/{without_suffix(path)}"))
    return _labelled(rows, _all_known(classes, rows))


def _ucf101(find: _Finder, fold: int) -> Expected:
    """The published test list is the split "val": UCF101 has no other."""
    classes = [line.partition(" ")[2] for line in _lines(find("classInd.txt"))]
    rows = []
    for split, name in (("train", f"trainlist0{fold}.txt"), ("val", f"testlist0{fold}.txt")):
        for line in _lines(find(name)):
            path = line.split(" ")[0]
            group = re.match(r"v_(.+_g\d+)_c\d+", Path(path).stem)
            source = group[1] if group else Path(path).stem  # clips of a group are of one film
            names = without_suffix(path), Path(path).stem
            rows.append(_row(path.partition("/")[0], split, source, *names))
    return _labelled(rows, _all_known(classes, rows))


# --- One's own ----------------------------------------------------------------------------------


def _folders(root: Path) -> Expected:
    """`class/video`, or `train/class/video` and `val/class/video`; of folders between, any number.

    A folder of numbered pictures is a video, too, if it lies where a video would.
    """
    tops = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    divided = any(name.lower() in SPLIT_FOLDERS for name in tops)
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
        parts = path.relative_to(root).parts
        if len(parts) < 2 + bool(named):
            continue  # beside the classes' folders: without a class
        split = SPLIT_FOLDERS[parts[0].lower()] if named else ""
        name = path.relative_to(root).as_posix()
        rows.append(_row(parts[bool(named)], split, without_suffix(name), name))
    classes = sorted({row["class_name"] for row in rows})
    if not classes:
        raise ValueError(
            f"expected a folder for each class in {root}, with videos in it, found none"
        )
    passed_over = []
    for kind, paths in sorted(found.passed_over.items()):
        some = ", ".join(path.relative_to(root).as_posix() for path in paths[:3])
        details = f"{len(paths)}: {some}{', ...' if paths[3:] else ''}"
        passed_over.append(("files passed over", kind, details))
    return Expected(_table(rows), classes, mirrored_names(classes), passed_over, found)


def _list_file(path: Path) -> Expected:
    """Lines `path label`, with a path that may hold spaces, in a file; or in train.txt, val.txt."""
    files = {"": path}
    if path.is_dir():
        found = [
            (split, file)
            for split in SPLITS
            for file in sorted(path.glob(f"{split}*"))
            if file.suffix in (".txt", ".csv", ".list")
        ]
        files = dict(found)
        if len(files) < len(found):
            names = ", ".join(file.name for _, file in found)
            raise ValueError(f"expected one list for each split in {path}, got {names}")
    if not files or not all(file.is_file() for file in files.values()):
        raise ValueError(
            f"expected a file of lines `path label`, or a folder with such files train.txt and "
            f"val.txt, found none at {path}"
        )
    rows, suffixes = [], "|".join(map(re.escape, VIDEO_SUFFIXES))
    for split, file in files.items():
        for number, line in enumerate(_lines(file), 1):
            # Both may hold spaces: the path ends with the suffix of a video, if it has one.
            parts = re.fullmatch(rf"(.+(?:{suffixes}))\s+(.+)|(.+)\s+(\S+)", line, re.IGNORECASE)
            if parts is None:
                raise ValueError(f"{file}, line {number}: expected `path label`, got {line!r}")
            name, label = (part for part in parts.groups() if part is not None)
            name = name.replace("\\", "/")  # some lists were written on Windows
            stem = without_suffix(name)
            rows.append(_row(label, split, stem, name, stem, stem.rpartition("/")[2]))
    if not rows:
        raise ValueError(f"expected lines `path label` in {path}, found none")
    if all(re.search(r" \d+ \d+$", f"{row['names'][0]} {row['class_name']}") for row in rows):
        raise ValueError(
            f"{path}: expected lines `path label`, got lines with two numbers such as `path frames "
            "label`: take the number of frames out"
        )
    uses = Counter(row["names"][-1] for row in rows)
    for row in rows:
        if uses[row["names"][-1]] > 1:  # the name alone would not tell these apart
            row["names"] = row["names"][:2]
    classes = sorted({row["class_name"] for row in rows}, key=_numbers_first)
    if classes[0].isdigit() and classes != [str(k) for k in range(len(classes))]:
        raise ValueError(
            f"{path}: expected labels that are names, or the numbers 0 to n - 1 without a gap, got "
            f"{', '.join(classes[:8])}, ...: number them anew, or write names"
        )
    return Expected(_table(rows), classes, mirrored_names(classes))


def _numbers_first(name: str) -> tuple[bool, int, str]:
    return (False, int(name), "") if name.isdigit() else (True, 0, name)


def mirrored_names(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Find classes that are each other's mirror image by their names, however these are written.

    "wave left" and "wave right", "SwipeLeft" and "SwipeRight", "TURN CCW" and "Turn cw"; but only
    where a name has one partner.
    """
    of_words: dict[str, list[str]] = {}
    for name in classes:
        of_words.setdefault(_in_words(name), []).append(name)
    pairs = []
    for words, names in of_words.items():
        others = of_words.get(SIDES.sub(lambda m: m[1] + OPPOSITES[m[2]] + m[3], words), [])
        if others != names and len(names) == len(others) == 1 and names < others:
            pairs.append((names[0], others[0]))
    return pairs


def _in_words(name: str) -> str:
    """A name in small letters, with a space from word to word: "swipe left" for "Swipe-Left"."""
    bounds = r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])|[\s_-]+"
    words = re.sub(bounds, " ", name).casefold()
    words = re.sub(r"\b(?:(?:counter|anti) ?clockwise|ccw)\b", "counterclockwise", words)
    return re.sub(r"\bcw\b", "clockwise", words)


def one_sided(classes: Sequence[str], mirrored: Sequence[tuple[str, str]]) -> list[str]:
    """Classes whose names tell left from right, though none is their mirror image."""
    paired = {name for pair in mirrored for name in pair}
    return [name for name in classes if name not in paired and SIDES.search(_in_words(name))]


def mirror_table(names: Sequence[str], mirrored: Sequence[tuple[str, str]]) -> list[int | None]:
    """Make the mirror table (`mirror_labels`), empty for classes that are `one_sided`."""
    without = one_sided(names, mirrored)
    labels = zip(names, mirror_labels(names, mirrored), strict=True)
    return [None if name in without else label for name, label in labels]


def choose_classes(
    available: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    class_list: Path | None = None,
    num_classes: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Some of the classes: by name, from a file of one name a line, or so many drawn by `seed`.

    Raises:
        ValueError: none or more than one of the three; an unknown name (near ones are offered); or
            more than there are.
    """
    if sum(choice is not None for choice in (classes, class_list, num_classes)) != 1:
        raise ValueError(
            "expected one way to choose classes: their names, a file of names, or how many"
        )
    if not available:
        raise ValueError("expected classes to choose from, but the lists of labels have no rows")
    if num_classes is not None:
        if not 1 <= num_classes <= len(available):
            raise ValueError(f"expected 1 to {len(available)} classes, got {num_classes}")
        return sorted(random.Random(seed).sample(sorted(available), num_classes))
    if class_list is not None:
        if class_list.is_dir() or not class_list.exists():  # it may be a pipe
            raise ValueError(f"expected a file of class names, but there is no file {class_list}")
        classes = [line.strip("\"'") for line in _lines(class_list) if line[0] != "#"]
        if not classes:
            raise ValueError(f"expected names of classes, one a line, in {class_list}, found none")
    unknown = [name for name in classes if name not in available]
    if unknown:
        near = difflib.get_close_matches(unknown[0], available, n=3)
        raise ValueError(
            f"expected names of classes, got {unknown[0]!r}, which is none"
            + (f" (and {len(unknown) - 1} others)" if unknown[1:] else "")
            + (
                f"; near it are {', '.join(near)}"
                if near
                else f": names are such as {', '.join(sorted(available)[:5])}"
            )
        )
    return sorted(set(classes))
