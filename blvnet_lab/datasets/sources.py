"""What your own clips were cut from: clips of one source belong in one split.

A network that was trained on one part of a recording knows the place, the light and the people of
the next part, so validation clips from sources it has seen say nothing about new ones. Public data
sets name their sources. For others `find_sources` goes by what there is:

- a pattern, if one is given;
- the folder between class and clip: run/holiday/1.mp4 is of "holiday";
- names that differ only in numbers: holiday_001 and holiday_007, v_Run_g01_c02 and v_Run_g01_c03,
  name and name (1). Numbers are removed from the last to the first, as long as that does not turn
  (nearly) the whole class into one source: clip_001 to clip_500 are merely numbered;
- files that are equal, byte by byte.
"""

import contextlib
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from blvnet_lab.data import DataSet
from blvnet_lab.data.dataset_files import by_class
from blvnet_lab.datasets.layouts import NUMBERED_PICTURE, SPLIT_OF, SPLITS, Finding, without_suffix
from blvnet_lab.progress import tqdm

# At most this share of a class's clips is taken for one source because of their names.
MAX_SHARE = 0.9
# A number, perhaps with its unit, or a letter in its place; not a number within a word: "a1b".
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
# HMDB51's names end with the visible body parts, camera motion, people, viewpoint and quality.
HMDB51 = re.compile(r"_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+$")
# What cameras and programs call all their recordings.
OF_DEVICES = re.compile(
    rf"{PART}|vid(?:eo)?|v|img|mov(?:ie)?|mvi|dsc[nf]?|gopr|g[hx]|pxl|dji|win|file|recording|rec"
    r"|sample|output|(?:whatsapp ?video|screen ?recording)(?: at)?"
)


def find_sources(
    rows: pd.DataFrame, root: Path, pattern: str, findings: list[Finding], *, in_folders: bool
) -> pd.DataFrame:
    """Find which rows belong together; add source_id to them, and report it in the findings.

    A row whose video is also in another split gets the status "duplicate".

    Args:
        rows: class_name, split ("" if it is still to be drawn) and names, of which the first leads
            from `root` to the video.
        pattern: a regular expression to search for in that path; its first group, or the whole
            match, is the source. Without it, folders and names decide.
        in_folders: whether paths are [split/]class/[source/]clip.
    """
    clips, rows = rows, rows[~rows.duplicated(["names", "split"])]  # one row for parts of a video
    names = [names[0] for names in rows["names"]]
    classes, splits = rows["class_name"].tolist(), rows["split"].tolist()
    if pattern:
        sources = _by_pattern(names, pattern, findings)
    else:
        sources = _by_folder(names, classes, 1 + any(splits)) if in_folders else [None] * len(names)
        findings += _by_name(sources, names, classes, splits)
    if not any(splits) and not pattern:
        of_source = pd.Series(names).groupby(sources, sort=False).agg(list).items()
        findings += [("recognised source", "", s, _some(few)) for s, few in of_source if few[1:]]
    status, order, joined = [""] * len(rows), ["", *SPLITS], {}

    def source_of(i: int) -> str:
        source = sources[i]
        while source in joined:
            source = joined[source]
        return source

    for group in equal_files([root / name for name in names]):
        first, *others = sorted(group, key=lambda i: order.index(splits[i]), reverse=True)
        for i in others:
            if (old := source_of(i)) != (new := source_of(first)):
                joined[old] = new
            detail = f"equal to {root / names[first]}, of {classes[first]}"
            if splits[i] != splits[first]:
                status[i] = "duplicate"
                detail += f" in {splits[first]}: left out here"
            findings.append(("equal files", splits[i], str(root / names[i]), detail))
    sources = [*map(source_of, range(len(rows)))]
    found = rows[["names", "split"]].assign(source_id=sources, status=status)
    return clips.drop(columns="source_id", errors="ignore").merge(found, "left", ["names", "split"])


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} clips ({', '.join(names[:3])}{', ...' if names[3:] else ''})"


def _by_pattern(names: Sequence[str], pattern: str, findings: list[Finding]) -> list[str]:
    try:
        found = [(name, re.search(pattern, name)) for name in names]
    except re.error as error:
        wanted = "expected a regular expression for the source"
        raise ValueError(f"{wanted}, got {pattern!r} ({error})") from error
    if not any(match for _, match in found):
        wanted = f"a pattern for the source that is in the paths of clips, such as {names[0]}"
        raise ValueError(f"expected {wanted}, got {pattern!r}, which is in none")
    own = [name for name, match in found if not match]
    findings += [("clip without source", "", name, "taken for a source of its own") for name in own]
    return [
        next(filter(None, match.groups()), match[0]) if match else without_suffix(name)
        for name, match in found
    ]


def _by_folder(names: Sequence[str], classes: Sequence[str], skipped: int) -> list[str | None]:
    """Take the first folder between class and clip, unless it says nothing about sources.

    It does not if all clips are in it, or nearly all of one class and none of another.
    """
    between = [name.split("/")[skipped:-1] for name in names]
    shared = 0
    while len({tuple(folders[: shared + 1]) for folders in between}) == 1 and between[0][shared:]:
        shared += 1
    found = [folders[shared] if folders[shared:] else None for folders in between]
    most = {name: max(1, MAX_SHARE * count) for name, count in Counter(classes).items()}
    in_class = Counter(zip(found, classes, strict=True))
    num_classes = Counter(folder for folder, _ in in_class)
    return [
        folder if num_classes[folder] > 1 or in_class[folder, name] <= most[name] else None
        for folder, name in zip(found, classes, strict=True)
    ]


def _by_name(
    sources: list[str | None], names: Sequence[str], classes: Sequence[str], splits: Sequence[str]
) -> list[Finding]:
    """Fill in what a clip's name shares with others, apart from numbers; or else its own path."""
    keys = {i: _names_without_numbers(names[i]) for i, known in enumerate(sources) if not known}
    families = {key for of_clip in keys.values() for key in of_clip[:-1]}
    uses = Counter(key for of_clip in keys.values() for key in of_clip)
    in_class = Counter((key, classes[i]) for i, of_clip in keys.items() for key in of_clip)
    sizes, numbered = Counter(classes), defaultdict(list)
    for i, of_clip in keys.items():
        limit = max(1, MAX_SHARE * sizes[classes[i]])
        shared = [key for key in of_clip if key in families and uses[key] > 1]
        telling = [key for key in shared if not _says_nothing(key, classes[i])]
        sources[i] = next((key for key in telling if in_class[key, classes[i]] <= limit), None)
        if splits[i] and telling:  # somebody divided the clips: report what was torn apart
            sources[i] = sources[i] or telling[-1]
        if sources[i] is None:
            sources[i] = without_suffix(names[i])
            folder, _, rest = sources[i].partition("/")
            if folder.lower() in SPLIT_OF and not _says_nothing(of_clip[0], classes[i]):
                sources[i] = rest  # the same name in another split means the same source
            if not splits[i] and shared and shared[-1]:
                numbered[shared[-1]].append(names[i])
    kind = "numbered clips, perhaps of one source"
    what = "each taken for a source of its own, unless --source says otherwise"
    return [(kind, "", key, f"{_some(of_key)}: {what}") for key, of_key in numbered.items()]


def _names_without_numbers(path: str) -> list[str]:
    """List a clip's name without numbers, with the first only, and so on up to the whole name."""
    name = without_suffix(path.rpartition("/")[2])
    stem, found = HMDB51.sub("", name), []
    for begin in [0, *(match.end() for match in NUMBER.finditer(stem))]:
        left = stem[:begin] + NUMBER.sub("*", stem[begin:])
        found.append(ENDING.sub("", left) or left.strip(" _.-()[]*"))
    return list(dict.fromkeys(key.casefold() for key in (*found, name)))


def _says_nothing(key: str, class_name: str) -> bool:
    words, own = (re.sub(r"[\W_]+", " ", text).strip().casefold() for text in (key, class_name))
    words = words.replace(own, "").strip()
    return not words or OF_DEVICES.fullmatch(words) is not None


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """Find groups of equal files (or folders of pictures) that are not empty, by their indices."""

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


def divide(rows: pd.DataFrame, val_share: float, seed: int) -> list[str]:
    """Draw "train" or "val" for each row; all clips of one source stay on one side.

    About the given share of each class becomes "val", but at least one source of two or more: those
    with the smallest hash, so that little changes if a class is added later. Sources that are too
    large are passed over; if all are, the smallest is taken.
    """
    side = {}
    for _, of_class in by_class(rows).sort_values("class_name").groupby("class_name"):
        sizes = Counter(of_class["source_id"])
        sources = sorted(sizes, key=lambda s: hashlib.sha256(f"{seed} {s}".encode()).hexdigest())
        # At least one clip, but not the only one: without training clips nothing can be learned.
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
    """Find the classes that have no good clip in one of `splits`."""
    rows = by_class(rows)
    good = set(rows.loc[rows["status"] == "ok", ["class_name", "split"]].itertuples(index=False))
    lacking = sorted(set(product(rows["class_name"].unique(), splits)) - good)
    why = "too few readable sources, or other classes share them"
    return [(f"class without {split}", split, name, why) for name, split in lacking]


def times_in_source(rows: pd.DataFrame) -> pd.DataFrame:
    """Set start and end (s), the time in the source, also for clips that are a part of a file."""
    begin, is_part = rows["start"].fillna(0), rows["part_start"].notna()
    for end in ("start", "end"):
        rows = rows.assign(**{end: (begin + rows[f"part_{end}"]).where(is_part, rows[end])})
    return rows


def count_shared(trained: Path, evaluated: Path, /) -> pd.DataFrame:
    """Count the clips that two manifests share: from one source (YouTube id), at overlapping times.

    Args:
        trained: the manifest that was trained on.
        evaluated: the manifest to evaluate on, of the same data set or another.

    Returns a row for each split of the second manifest: its clips, and how many of them are in each
    split of the first. A clip without times counts as its whole source.
    """
    tables = (times_in_source(DataSet.read(path).rows) for path in (trained, evaluated))
    first, second = (rows[rows["status"] == "ok"].reset_index() for rows in tables)
    pairs = first.merge(second[second["source_id"] != ""], on="source_id", suffixes=("", "_of"))
    apart = (pairs["end"] <= pairs["start_of"]) | (pairs["end_of"] <= pairs["start"])
    pairs = pairs[~apart.fillna(False)]
    table = second.groupby("split").size().to_frame("clips")
    for split in sorted(set(first["split"])):
        shared = pairs[pairs["split"] == split].groupby("split_of")["index_of"].nunique()
        table[f"in {split} of the first"] = shared.reindex(table.index, fill_value=0)
    return table.rename_axis(None)
