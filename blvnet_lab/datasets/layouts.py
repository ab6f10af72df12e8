"""The layouts of public data sets: from their own lists of labels to rows of a manifest.

`published.py` reads labels as they were published, this file those you wrote yourself. Every row
gets the names under which its video may be found; `inventory.py` matches these with the files.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from blvnet_lab.data.dataset_files import PART, SEPARATOR, split_labels
from blvnet_lab.datasets import published
from blvnet_lab.datasets.published import SPLIT_OF, SPLITS, ListedClip, ListsError, read_annotations
from blvnet_lab.datasets.selection import mirrored_names
from blvnet_lab.progress import tqdm
from blvnet_lab.training.recipe import near

Layout = Literal[(*published.READERS, "folder", "list")]
# Something-Something's classes whose mirror images are each other's, by label.
MIRRORED_LABELS = {
    "something-something-v1": ((2, 4), (30, 41), (52, 66)),
    "something-something-v2": ((86, 87), (93, 94), (166, 167)),
}
VIDEO_SUFFIXES = frozenset(
    ".mp4 .mkv .webm .avi .mov .m4v .mpg .mpeg .ts .3gp .flv .wmv .264 .265 .3g2 .amv .asf .divx "
    ".dv .f4v .gif .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .mj2 .mjpeg .mjpg .mod .mp4v .mpe "
    ".mpv .mts .mxf .nut .ogg .ogm .ogv .qt .rm .rmvb .tod .vob .wtv .xvid .y4m".split()
)
NUMBERED_PICTURE = re.compile(r"[0-9]\.(?:jpe?g|png)$", re.IGNORECASE)
Finding = tuple[str, str, str, str]  # kind, split, name, detail: a row of the report


@dataclass(frozen=True)
class Lists:
    """Hold what a data set's own lists say, and which videos exist."""

    rows: pd.DataFrame  # each a `published.ListedClip`
    classes: list[str]  # in the order of their labels
    mirrored: list[tuple[str, str]]  # classes that are each other's mirror image
    videos: list[str]  # the paths of all that exist
    findings: list[Finding]
    multi_label: bool  # whether a clip may have several labels

    def with_labels(self, rows: pd.DataFrame, kept: list[str]) -> pd.DataFrame:
        """Give rows the numbers of their classes (label); keep only clips and labels of `kept`."""
        numbers = {name: str(label) for label, name in enumerate(kept)}
        names, labels = {}, {}  # by class_name, since there are many clips but few classes
        for text in rows["class_name"].unique():
            few = split_labels(text) if self.multi_label else [text]
            few = [name for name in few if name in numbers]
            names[text], labels[text] = SEPARATOR.join(few), SEPARATOR.join(map(numbers.get, few))
        texts = rows["class_name"]
        rows = rows.assign(class_name=texts.map(names), label=texts.map(labels))
        rows = rows[rows["label"] != ""].reset_index(drop=True)
        return rows if self.multi_label else rows.astype({"label": "int64"})


def read_lists(
    dataset: Layout, root: Path, *, annotations: Path | None = None, fold: int = 1
) -> Lists:
    """Read the lists of a data set that lies in `root`, in its official layout.

    annotations: the labels' folder (for "list", the file); None looks in the usual ones of `root`.
    fold: which of UCF101's or HMDB51's three divisions into training and test.

    Raises ValueError: no such data set; the lists are missing, or not as published.
    """
    if dataset not in (known := get_args(Layout)):
        raise ValueError(f"expected one of the data sets {', '.join(known)}, got {dataset}")
    if not root.is_dir():
        raise ValueError(f"expected the root folder of {dataset}, but there is no folder {root}")
    folders = ("", "annotations", "labels", "ucfTrainTestlist", "testTrainMulti_7030_splits")
    places = [root / name for name in folders] if annotations is None else [annotations]
    find = partial(_find, [*places, *(place / dataset for place in places)])
    if dataset == "folder":
        classes, (rows, videos, findings) = None, _folders(root)
    else:
        is_own = dataset == "list"
        rows, classes = _own_list(annotations) if is_own else read_annotations(dataset, find, fold)
        in_pictures = dataset in ("something-something-v1", "jester")
        videos, findings, _ = find_videos(root, frames_from=1 if in_pictures else None)
    table = pd.DataFrame(rows, columns=list(ListedClip._fields))
    table[PART] = table[PART].astype("float64").round(4)
    without = table[(table["class_name"] == "") & (table["split"] != "test")]
    table = table[table["class_name"] != ""]
    texts = table["class_name"].unique()
    several = dataset != "folder" and any(SEPARATOR in text for text in texts)
    named = {name for text in texts for name in (split_labels(text) if several else [text])}
    classes = classes or sorted(named)
    if strangers := sorted(named - set(classes)):
        remedy = f"take lists of the same release{near(strangers[0], classes)}"
        raise ValueError(f"expected classes of the list of labels, got {strangers[0]!r}: {remedy}")
    findings += [("row without label", row.split, row.names[0], "") for row in without.itertuples()]
    mirrored = mirrored_names(classes) if dataset in ("folder", "list", "jester") else []
    pairs = MIRRORED_LABELS.get(dataset, ())
    if pairs and max(map(max, pairs)) < len(classes):  # else somebody's own part of it
        mirrored = [(classes[a], classes[b]) for a, b in pairs]
    return Lists(table, classes, mirrored, videos, findings, several)


def _find(places: Sequence[Path], *names: str, needed: bool = True) -> Path | None:
    """Find a file of labels in one of the folders where it may be."""
    for path in (path for place in places for name in names for path in sorted(place.glob(name))):
        if path.is_file():
            return path
    if needed:
        wanted = f"expected the file {' or '.join(names)} in {places[0]}"
        raise ListsError(f"{wanted}, found none: put it there, or say where the annotations are")
    return None


def _folders(root: Path) -> tuple[list[ListedClip], list[str], list[Finding]]:
    """Read `class/video`, or `train/class/video` and `val/class/video`, with folders in between."""
    splits = any(path.name.lower() in SPLIT_OF for path in root.iterdir() if path.is_dir())
    videos, findings, others = find_videos(root, frames_from=2 + splits)
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path in videos]
    used = {folder for folder, within, _ in (name.partition("/") for name in names) if within}
    named = {name for name in used if name.lower() in SPLIT_OF}
    if named and named != used:
        both = " and ".join(", ".join(sorted(some)) for some in (named, used - named))
        wanted = f"expected folders of splits or of classes in {root}"
        raise ValueError(f"{wanted}, got both: {both}: move one kind away")
    rows = []
    for name in names:
        folders = name.split("/")[:-1]
        if folders[bool(named) :]:  # else it lies beside the folders of classes, and has none
            split = SPLIT_OF[folders[0].lower()] if named else ""
            rows.append(ListedClip(folders[bool(named)], split, "", (name,)))
    if not rows:
        raise ValueError(f"expected a root with a folder of videos for each class, got {root}")
    return rows, videos, findings + passed_over(others, root)


def passed_over(others: dict[str, list[str]], root: Path) -> list[Finding]:
    """Report the files that `find_videos` took for no videos, by suffix."""
    found = []
    for kind, paths in sorted(others.items()):
        some = ", ".join(Path(path).relative_to(root).as_posix() for path in paths[:3])
        detail = f"{len(paths)}: {some}{', ...' if paths[3:] else ''}"
        found.append(("files passed over", "", kind, detail))
    return found


LIST_SUFFIXES = (".txt", ".csv", ".list")
MOST_CLASSES = 100_000  # numbers above are no classes, but slips, dates or ids
_SUFFIX = f"(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})"
# Path and label may both hold spaces: the path ends with a video's suffix, if it has one.
LINE = re.compile(rf"(.+{_SUFFIX})\s+(.+)|(.+)\s+(?!\S*{_SUFFIX}$)(\S+)", re.IGNORECASE)


def _own_list(path: Path | None) -> tuple[list[ListedClip], list[str]]:
    """Read lines `path label` (a path may hold spaces) from a file, or from train.txt and so on."""
    files = [("", path)] if path is not None and path.is_file() else []
    if path is not None and path.is_dir():
        for split in SPLITS:
            found = [f for f in sorted(path.glob(f"{split}*")) if f.suffix in LIST_SUFFIXES]
            if found[1:]:
                got = f"got {' and '.join(file.name for file in found)}: take one away"
                raise ValueError(f"expected one list of each split in {path}, {got}")
            files += [(split, file) for file in found]
    rows = [row for split, file in files for row in _read_list(file, split)]
    names = {name for row in rows for name in split_labels(row.class_name)}
    if not names:
        wanted = "a file of lines `path label`, or a folder with such files train.txt and val.txt"
        raise ValueError(f"expected as annotations {wanted}, found none at {path}")
    if all(re.search(r" \d+ \d+$", f"{row.names[0]} {row.class_name}") for row in rows):
        got = "lines with two numbers such as `path frames label`: take the number of frames out"
        raise ValueError(f"{path}: expected lines `path label`, got {got}")
    # A bare name that several videos have does not identify one; parts of one video may share it.
    uses = Counter(names[-1] for names in {row.names for row in rows})
    rows = [row._replace(names=row.names[:2]) if uses[row.names[-1]] > 1 else row for row in rows]
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(numbers) < len(names):
        return rows, sorted(names)
    if max(numbers) >= MOST_CLASSES:
        wanted = f"{path}: expected labels that are names, or numbers below {MOST_CLASSES:,}"
        raise ValueError(f"{wanted}, got {max(numbers)}: number them from 0 on, or write names")
    return rows, [str(k) for k in range(1 + max(numbers))]  # some may have no clip


def _read_list(file: Path, split: str) -> Iterator[ListedClip]:
    lines, clips = [*published.read_lines(file)], []
    if lines and {"path", "label"} <= set(lines[0].replace('"', "").replace(", ", ",").split(",")):
        lines, clips = [], [*published.read_table(file, split)]
    for line in lines:
        parts = LINE.fullmatch(line)
        if parts is None:
            raise ValueError(f"{file}: expected `path label` in every line, got {line!r}")
        clips.append((*filter(None, parts.groups()), split))
    for name, label, own, *part in clips:
        name = name.replace("\\", "/")  # some lists were written on Windows
        names = (name, stem := without_suffix(name), stem.rpartition("/")[2])
        yield ListedClip(label, own, stem, names, None, None, *part)


def find_videos(
    root: Path, *, frames_from: int | None = None
) -> tuple[list[str], list[Finding], dict[str, list[str]]]:
    """Find all videos below `root`, unreadable folders, and by suffix what is passed over.

    Links to folders are followed, but not back to a folder that holds them. Hidden files and
    folders are skipped. A folder of numbered pictures without videos counts as one video, in which
    nothing else is looked for, from `frames_from` folders deep (None: nowhere). Raises OSError if
    `root` itself cannot be read.
    """
    videos, findings, others = [], [], defaultdict(list)

    def refuse(error: OSError) -> None:
        if error.filename == str(root):
            raise error
        findings.append(("folder that cannot be read", "", error.filename, error.strerror))

    above = {str(root): {os.path.realpath(root)}}  # the real folders above each folder to visit
    walk = os.walk(root, onerror=refuse, followlinks=True)
    for place, folders, names in tqdm(walk, "listing", leave=False, unit="folder"):
        full, through = partial(os.path.join, place), above.pop(place)
        hidden = {name for name in (*folders, *names) if name[0] == "."}
        odd = {name for name in (*folders, *names) if re.search(r"[\ud800-\udfff]", name)}
        files = set(names) - odd - hidden
        found = {n for n in files if _suffix(n) in VIDEO_SUFFIXES and os.path.isfile(full(n))}
        pictures = {name for name in files if NUMBERED_PICTURE.search(name)}
        depth = len(Path(place).relative_to(root).parts)
        if frames_from is not None and depth >= frames_from and pictures and not found:
            videos.append(place)
            others["folders beside pictures"] += map(full, folders)
            folders.clear()
            files -= pictures
        videos += map(full, found)
        for name in files - found:
            others[_suffix(name) or "without suffix"].append(full(name))
        others["hidden"] += map(full, hidden)
        for name in sorted(odd):  # a table cannot hold such a name
            shown = full(name).encode(errors="backslashreplace").decode()
            findings.append(("name that is not UTF-8", "", shown, "give it another name"))
        real = {name: os.path.realpath(full(name)) for name in set(folders) - odd - hidden}
        folders[:] = [name for name in real if real[name] not in through]
        others["empty folders"] += [place] * (not (files or pictures or real))
        above |= {full(name): through | {real[name]} for name in folders}
    for paths in (videos, *others.values()):
        paths.sort(key=lambda path: path.replace(os.sep, "\0"))  # folder by folder
    return videos, findings, {kind: paths for kind, paths in others.items() if paths}


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def without_suffix(name: str) -> str:
    """Remove .mp4 and the like from a video's name; other dots belong to the name."""
    return os.path.splitext(name)[0] if _suffix(name) in VIDEO_SUFFIXES else name
