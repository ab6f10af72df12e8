"""What clips of one's own were cut from: clips of one source belong in one split.

A network that was trained on one part of a recording knows the place, the light and the people of
the next part. Public data sets name their sources. For others `find_sources` goes by a pattern, or
by the folder between class and clip (run/holiday/1.mp4 is of "holiday"), and by names that differ
in numbers only (holiday_001 and holiday_007, name and name (1)); and by files that are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from blvnet_lab.datasets.layouts import NUMBERED_PICTURE, SPLITS, Finding, without_suffix
from blvnet_lab.progress import tqdm

# Of the clips of a class, at most this share is taken for one source because of their names.
MAX_SHARE = 0.9
# A number, perhaps with its unit, or a letter in the place of one; not one within a word: "a1b".
NUMBER = re.compile(
    r"\d+(?:s|secs?|ms|min|m|h|p|k|fps)?(?![^\W_])"
    r"|(?<=[\s_.\-(\[])(?:[a-z]|[ivx]{2,4})(?=[)\]]?$)",
    re.IGNORECASE,
)
PART = r"(?:clip|part|pt|segment|seg|scene|shot|take|cut|chunk|piece|copy)"
# What goes with a number (*) at the end: "_c*", " (*)", "-part*"; and " - Copy".
ENDING = re.compile(
    r"(?:[\s_.\-]*(?:[(\[]?copy[)\]]?"
    rf"|(?:(?<![^\W\d_])(?:{PART}|[a-z])[\s_.\-]*)?[(\[]?\*[)\]]?))+$",
    re.IGNORECASE,
)
# So cameras and programs call all their recordings.
OF_DEVICES = re.compile(
    rf"{PART}|vid(?:eo)?|v|img|mov(?:ie)?|mvi|dsc[nf]?|gopr|g[hx]|pxl|dji|win|file|recording|rec"
    r"|sample|output|(?:whatsapp ?video|screen ?recording)(?: at)?"
)


def find_sources(
    rows: pd.DataFrame, root: Path, pattern: str, findings: list[Finding], *, in_folders: bool
) -> pd.DataFrame:
    """Find which rows belong together; add source_id, and findings.

    A row whose video is in another split, too, gets the status "duplicate".

    Args:
        rows: class_name, split ("" where it is still to be drawn) and names, of which the first
            leads from `root` to the video.
        root: the data set's folder.
        pattern: a regular expression that is searched in that path; its first group, or the whole
            match, is the source. Without it, folders and names tell.
        findings: to which what was found is added.
        in_folders: whether paths are [split/]class/[source/]clip.
    """
    names = [names[0] for names in rows["names"]]
    classes, splits = rows["class_name"].tolist(), rows["split"].tolist()
    if pattern:
        sources = _by_pattern(names, pattern, findings)
    else:
        sources = _by_name(names, classes, 1 + any(splits) if in_folders else None)
        clips_of = pd.Series(names).groupby(sources).agg(["size", "first"])
        findings += [
            ("recognised source", "", source, f"{number} clips, such as {name}")
            for source, number, name in clips_of.itertuples(name=None)
            if number > 1
        ]
    status = [""] * len(rows)
    for group in equal_files([root / name for name in names]):
        first, *others = sorted(
            group, key=lambda i: list(SPLITS).index(splits[i]) if splits[i] else 0, reverse=True
        )
        for i in others:
            old, new = sources[i], sources[first]
            sources = [new if source == old else source for source in sources]
            detail = f"equal to {root / names[first]}, of {classes[first]}"
            if splits[i] != splits[first]:
                status[i] = "duplicate"
                detail += f" in {splits[first]}: left out here"
            findings.append(("equal files", splits[i], str(root / names[i]), detail))
    return rows.assign(source_id=sources, status=status)


def _by_pattern(names: Sequence[str], pattern: str, findings: list[Finding]) -> list[str]:
    try:
        found = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise ValueError(
            f"expected a regular expression for the source, got {pattern!r} ({error})"
        ) from error
    if not any(found):
        raise ValueError(
            f"expected a pattern for the source that is in the paths of clips, such as {names[0]}, "
            f"got {pattern!r}, which is in none"
        )
    sources = []
    for name, match in zip(names, found, strict=True):
        if match is None:
            findings.append(("clip without source", "", name, "taken for a source of its own"))
            sources.append(without_suffix(name))
        else:
            sources.append(next(filter(None, match.groups()), match[0]))
    return sources


def _by_name(names: Sequence[str], classes: Sequence[str], skipped: int | None) -> list[str]:
    """Choose for each clip the first sign of a source that says something, or its own path.

    Signs are the folders after the first `skipped` ones, then the clip's name without its numbers,
    unless it is that of one clip only. One that (nearly) a whole class has says nothing.
    """
    stems = [_without_numbers(name) for name in names]
    general = {sign for of_clip in stems for sign in of_clip[:-1]}  # of more than equal names
    signs = []  # (whether it is a folder, its name)
    for name, stem, class_name in zip(names, stems, classes, strict=True):
        folders = name.split("/")[skipped:-1] if skipped else []
        of_clip = [sign for sign in stem if sign in general and not _of_device(sign, class_name)]
        signs.append([(True, folder) for folder in folders] + [(False, sign) for sign in of_clip])
    sizes, uses, in_class = Counter(classes), Counter(), Counter()
    for of_clip, class_name in zip(signs, classes, strict=True):
        uses.update(of_clip)
        in_class.update((sign, class_name) for sign in of_clip)

    chosen = []
    for of_clip, name, class_name in zip(signs, names, classes, strict=True):
        limit = max(1, MAX_SHARE * sizes[class_name])
        telling = (
            sign[1]
            for sign in of_clip
            if in_class[sign, class_name] <= limit and (sign[0] or uses[sign] > 1)
        )
        chosen.append(next(telling, without_suffix(name)))
    return chosen


def _without_numbers(path: str) -> list[str]:
    """Give a clip's name without its numbers, with the first of them, and so on; last as it is."""
    name, found = without_suffix(path.rpartition("/")[2]), []
    for begin in [0, *(match.end() for match in NUMBER.finditer(name))]:
        left = name[:begin] + NUMBER.sub("*", name[begin:])
        found.append(ENDING.sub("", left) or left.strip(" _.-()[]*"))
    return list(dict.fromkeys(key.casefold() for key in (*found, name)))


def _of_device(sign: str, class_name: str) -> bool:
    """Check whether a name says no more than the class's, or than what cameras call all clips."""
    words, own = (re.sub(r"[\W_]+", " ", text).strip().casefold() for text in (sign, class_name))
    words = words.replace(own, "").strip()
    return not words or OF_DEVICES.fullmatch(words) is not None


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """Find files (or folders of pictures) of the same bytes, which are not empty: their places."""

    def files(i: int) -> list[Path]:
        pictures = sorted(paths[i].glob("*")) if paths[i].is_dir() else []
        return [file for file in pictures if NUMBERED_PICTURE.search(file.name)] or [paths[i]]

    def groups(places: Iterable[int], look: Callable[[Path], Any]) -> list[list[int]]:
        found = defaultdict(list)
        for i in places:
            with contextlib.suppress(OSError):
                found[tuple(map(look, files(i)))].append(i)
        return [group for key, group in found.items() if any(key) and group[1:]]

    by_size = groups(range(len(paths)), os.path.getsize)
    bar = tqdm(by_size, "comparing files", leave=False, delay=2, unit="size")
    return [equal for group in bar for equal in groups(group, _digest)]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


# --- Dividing -----------------------------------------------------------------------------------


def divide(rows: pd.DataFrame, val_share: float, seed: int) -> list[str]:
    """Draw "train" or "val" for each row; all clips of one source are on one side.

    Of each class about the given share of the clips is "val", at least one source of two or more:
    those with the smallest hash, so that little changes when a class is fetched later, passing over
    those that are too large; or the smallest, if all are.
    """
    side: dict[str, str] = {}
    for _, of_class in rows.sort_values("class_name").groupby("class_name"):
        sizes = Counter(of_class["source_id"])
        sources = sorted(sizes, key=lambda s: hashlib.sha256(f"{seed} {s}".encode()).hexdigest())
        # At least one, but not the only one: without training clips there is nothing to learn.
        count = min(max(1, round(val_share * len(of_class))), len(of_class) - 1)
        count -= sum(sizes[source] for source in sources if side.get(source) == "val")
        undecided = [source for source in sources if source not in side]
        for source in undecided:
            side[source] = "val" if sizes[source] <= count else "train"
            count -= sizes[source] if side[source] == "val" else 0
        if sources[1:] and undecided and all(side[source] == "train" for source in sources):
            side[min(undecided, key=sizes.__getitem__)] = "val"
    return [side[source] for source in rows["source_id"]]


def one_sided_classes(rows: pd.DataFrame, splits: Sequence[str]) -> list[Finding]:
    """Find the classes of a divided table without a good clip in one of `splits`."""
    good = set(rows.loc[rows["status"] == "ok", ["class_name", "split"]].itertuples(index=False))
    why = "too few readable sources, or other classes share them"
    return [
        (f"class without {split}", split, name, why)
        for name in sorted(set(rows["class_name"]))
        for split in splits
        if (name, split) not in good
    ]
