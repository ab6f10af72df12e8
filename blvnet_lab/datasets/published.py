"""Lists of clips as they were published, and tables you write yourself: of videos or of parts."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pandas as pd

from blvnet_lab.data.dataset_files import PART, SEPARATOR

# What splits are called in the names of folders and files.
SPLITS = ("train", "val", "test")
SPLIT_OF = {name: name for name in SPLITS} | {"training": "train", "testing": "test"}
SPLIT_OF |= {"validation": "val", "valid": "val"}
EPIC_CLASSES = {"verb": 97, "noun": 300}
Find = Callable[..., Path | None]


class ListsError(ValueError):
    """Report lists of labels that are missing or not as published."""


class ListedClip(NamedTuple):
    """Describe a clip as a list does; class and split are empty if it does not say."""

    class_name: str  # if a clip has several labels, all names, separated
    split: str
    source_id: str
    # What the video may be called, the most certain first, with or without folders and suffix.
    names: tuple[str, ...]
    start: int | None = None  # in its source, in seconds
    end: int | None = None
    part_start: float | None = None  # in its file, in seconds, if the clip is only a part of it
    part_end: float | None = None


# The clips, or a table of them, and the classes in the order of their labels.
Listed = tuple[list[ListedClip] | pd.DataFrame, list[str] | None]


def read_lines(path: Path | None) -> Iterator[str]:
    """Read the lines that are not empty, without the byte-order mark that some editors write."""
    try:
        text = path.read_text("utf-8-sig") if path else ""
    except UnicodeDecodeError as error:
        raise ListsError(f"{path}: expected text in UTF-8, got {error}: save it as that") from error
    return filter(None, map(str.strip, text.splitlines()))


def read_json(path: Path) -> Any:
    """Read a JSON file; raise ListsError if it is not one."""
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise ListsError(f"{path}: expected JSON, got {error}") from error


def read_annotations(dataset: str, find: Find, fold: int) -> Listed:
    """Read a data set's lists of labels; raise ListsError if they are not as published."""
    try:
        return READERS[dataset](find, fold) if dataset in FOLDED else READERS[dataset](find)
    except ListsError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        got = f"got {error!r}: take them as they were released"
        raise ListsError(f"expected lists of {dataset} as published, {got}") from error


def _clip(label: str, split: str, video: str, *part: float, source: str = "") -> ListedClip:
    names = (video, video.rpartition("/")[2])
    return ListedClip(label, split, source or video, names, None, None, *part)


def _table(find: Find, *names: str) -> pd.DataFrame:
    """Read a table for training and one for validation; the column split says which is which."""
    splits = zip(("train", "val"), names, strict=False)
    return pd.concat([_read_csv(find(name)).assign(split=split) for split, name in splits])


def _read_csv(file: Path | TextIO) -> pd.DataFrame:
    how = {"dtype": "str", "keep_default_na": False, "encoding": "utf-8-sig"}
    return pd.read_csv(file, skipinitialspace=True, **how)


def _hmdb51(find: Find, fold: int) -> Listed:
    """Read one of three divisions: 1 is for training, 2 for testing (the split "val"), 0 unused."""
    rows, ending = [], f"_test_split{fold}.txt"
    for path in sorted(find(f"*{ending}").parent.glob(f"*{ending}")):
        label = path.name.removesuffix(ending)
        for name, number in (line.rsplit(maxsplit=1) for line in read_lines(path)):
            source = name.partition(f"_{label}_")[0]  # clips of one video begin alike
            if split := {"1": "train", "2": "val"}.get(number):
                rows.append(_clip(label, split, f"{label}/{name}", source=source))
    return rows, None


def _jester(find: Find) -> Listed:
    """Read either release; in the second every split has its own folder and numbers."""
    if find("jester-v1-labels.csv", needed=False):
        return _something(find, "jester-v1")
    table = _table(find, "Train.csv", "Validation.csv")
    videos = table["split"].map({"train": "Train/", "val": "Validation/"}) + table["video_id"]
    rows = map(_clip, table["label"], table["split"], videos)
    rows = [row._replace(names=row.names[:1]) for row in rows]
    classes = table.drop_duplicates("label").sort_values("label_id", key=pd.to_numeric)
    return rows, classes["label"].tolist()


def _diving48(find: Find) -> Listed:
    if find("Diving48_V2_train.json", needed=False) is None:
        why = "version 1 is not read, since some of its labels are wrong"
        raise ListsError(f"expected Diving48_V2_train.json, of version 2, found none: {why}")
    classes = [" ".join(words) for words in read_json(find("Diving48_vocab.json"))]
    rows = [
        _clip(classes[dive["label"]], split, dive["vid_name"], source=dive["vid_name"][:11])
        for split, part in (("train", "train"), ("val", "test"))
        for dive in read_json(find(f"Diving48_V2_{part}.json"))
    ]
    return rows, classes


def _epic_kitchens(find: Find, kind: str) -> Listed:
    """Read verbs or nouns; a class is named as most of its clips are."""
    table = _table(find, "EPIC_100_train.csv", "EPIC_100_validation.csv")
    numbers = pd.to_numeric(table[f"{kind}_class"])
    names = table[kind].groupby(numbers).agg(lambda words: words.mode()[0])
    times = (pd.to_timedelta(table[f"{end}_timestamp"]) for end in ("start", "stop"))
    times = [time.dt.total_seconds() for time in times]
    rows = map(_clip, numbers.map(names), table["split"], table["video_id"], *times)
    return [*rows], [names.get(k, f"{kind} {k}") for k in range(EPIC_CLASSES[kind])]


def _charades(find: Find, whole: bool) -> Listed:
    """Read every action as a clip, or whole videos with all their labels; test is "val"."""
    classes = [line.partition(" ")[2] for line in read_lines(find("Charades_v1_classes.txt"))]
    table = _table(find, "Charades_v1_train.csv", "Charades_v1_test.csv")
    if whole:
        numbers = [sorted({*re.findall(r"c(\d+) ", text)}) for text in table["actions"]]
        names = ["".join(f"{classes[int(k)]}{SEPARATOR}" for k in few) for few in numbers]
        return [*map(_clip, names, table["split"], table["id"])], classes
    rows = [
        _clip(classes[int(number[1:])], row.split, row.id, *map(float, times))
        for row in table.itertuples()
        for number, *times in map(str.split, filter(None, row.actions.split(";")))
    ]
    return rows, classes


def _hacs(find: Find) -> Listed:
    """Read the clips that show their class or, if there is no list of these, the segments."""
    if find("HACS_clips_v1.1.1.csv", needed=False) is None:
        return _activitynet(find, "HACS_segments_v1.1.1.json")
    table = _table(find, "HACS_clips_v1.1.1.csv").query("label == '1'")
    times = (pd.to_numeric(table[end]) for end in ("start", "end"))
    splits = table["subset"].map(SPLIT_OF.__getitem__)
    return [*map(_clip, table["classname"], splits, "v_" + table["youtube_id"], *times)], None


def _activitynet(find: Find, name: str) -> Listed:
    rows = [
        _clip(found["label"], SPLIT_OF[video["subset"]], f"v_{key}", *found["segment"])
        for key, video in read_json(find(name))["database"].items()
        for found in video.get("annotations", ())
    ]
    return rows, None


def _finegym(find: Find) -> Listed:
    """Read Gym99: the event's seconds in the video and the action's seconds in the event."""
    form = re.compile(r"(.+)_E_(\d+)_\d+_A_(\d+)_(\d+) (\d+)")
    rows = [
        _clip(label, split, video, int(event) + int(start), int(event) + int(end))
        for split in ("train", "val")
        for line in read_lines(find(f"gym99_{split}_element.txt"))
        for video, event, start, end, label in [form.fullmatch(line).groups()]
    ]
    return rows, [str(label) for label in range(99)]


def read_kinetics_rows(file: Path | TextIO, split: str, name: str = "") -> pd.DataFrame:
    """Read a Kinetics annotation file: label (test rows may lack it), id, start and end (s).

    Raises ListsError, with the file's `name`, if a column is missing or a time is not a number.
    """
    table = _read_csv(file)
    table.columns = [column.strip().lower() for column in table.columns]
    if split == "test" and "label" not in table:
        table["label"] = ""
    columns = ["label", "youtube_id", "time_start", "time_end"]
    try:
        table = table[columns].assign(split=split)
        for column in columns[2:]:
            table[column] = pd.to_numeric(table[column]).round().astype("int64")
    except (KeyError, ValueError) as error:
        wanted = "the columns label, youtube_id, time_start and time_end (in seconds)"
        got = f"got {', '.join(table.columns)} ({error})"
        raise ListsError(f"{name or file}: expected {wanted}, {got}") from error
    return table


def kinetics_name(youtube_id: str, start: int, end: int) -> str:
    """Give a clip's official file name, without suffix."""
    return f"{youtube_id}_{start:06d}_{end:06d}"


def _kinetics(find: Find) -> Listed:
    names = {split: [f"{split}.csv"] for split in SPLITS} | {"val": ["val.csv", "validate.csv"]}
    files = {split: find(*names[split], needed=False) for split in names}
    if not any(files.values()):
        find("train.csv", "val.csv")
    tables = [read_kinetics_rows(path, split) for split, path in files.items() if path]
    rows = pd.concat(tables, ignore_index=True)
    rows.columns = ["class_name", "source_id", "start", "end", "split"]
    clips = map(kinetics_name, rows["source_id"], rows["start"], rows["end"])
    return rows.assign(names=[*zip(clips, rows["source_id"], strict=True)]), None


def _something(find: Find, name: str) -> Listed:
    """Read lines `id;label`, as in version 1 of Something-Something, or the JSON of version 2."""

    def read(part: str, needed: bool = True) -> list | dict:
        if name.endswith("v1"):
            path = find(f"{name}-{part}.csv", needed=needed)
            lines = [line.partition(";") for line in read_lines(path)]
            return [{"id": source.strip(), "template": label.strip()} for source, _, label in lines]
        path = find(f"{name}-{part}.json", f"{part}.json", needed=needed)
        return read_json(path) if path else []

    labels, rows = read("labels"), []
    if name.endswith("v1"):
        labels = {entry["id"]: number for number, entry in enumerate(labels)}
    if not isinstance(labels, dict) or set(map(int, labels.values())) != set(range(len(labels))):
        raise ListsError("expected labels.json to number its classes 0, 1, ..., got another list")
    for part in ("train", "validation", "test"):
        for entry in read(part, needed=part == "train"):
            template, source = re.sub(r"[\[\]]", "", entry.get("template", "")), str(entry["id"])
            rows.append(ListedClip(template, SPLIT_OF[part], source, (source,)))
    return rows, sorted(labels, key=lambda label: int(labels[label]))


def _moments(find: Find, is_multi: bool) -> Listed:
    """Read lines of a path with its class (and votes), or with the numbers of its classes."""
    lines = [line.rpartition(",") for line in read_lines(find("moments_categories.txt"))]
    names = [name for name, _, number in sorted(lines, key=lambda line: int(line[2]))]
    rows = []
    for split, part in (("train", "training"), ("val", "validation")):
        for path, *labels in csv.reader(read_lines(find(f"{part}Set.csv"))):
            several = [f"{names[int(k)]}{SEPARATOR}" for k in labels if is_multi]
            label = "".join(several) or labels[0]
            video = os.path.splitext(path)[0]
            rows.append(ListedClip(label, split, path, (f"{part}/{video}", video)[: 1 + is_multi]))
    return rows, names


def _ucf101(find: Find, fold: int) -> Listed:
    """Read UCF101's lists; the published test list is the split "val", as there is no other."""
    classes, rows = [line.partition(" ")[2] for line in read_lines(find("classInd.txt"))], []
    for split, part in (("train", "train"), ("val", "test")):
        for line in read_lines(find(f"{part}list0{fold}.txt")):
            path = Path(line.split(" ")[0])
            group = re.match(r"v_(.+_g\d+)_c\d+", path.stem)  # clips of one video share it
            name = path.with_suffix("").as_posix()
            rows.append(_clip(path.parts[0], split, name, source=group[1] if group else path.stem))
    return rows, classes


READERS: dict[str, Callable[..., Listed]] = {
    **dict.fromkeys(("kinetics400", "kinetics600", "kinetics700-2020"), _kinetics),
    "something-something-v1": partial(_something, name="something-something-v1"),
    "something-something-v2": partial(_something, name="something-something-v2"),
    "moments-in-time": partial(_moments, is_multi=False),
    "multi-moments-in-time": partial(_moments, is_multi=True),
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "jester": _jester,
    "diving48": _diving48,
    "epic-kitchens-100": partial(_epic_kitchens, kind="verb"),
    "epic-kitchens-100-nouns": partial(_epic_kitchens, kind="noun"),
    "charades": partial(_charades, whole=False),
    "charades-videos": partial(_charades, whole=True),
    "hacs": _hacs,
    "activitynet": partial(_activitynet, name="activity_net.v1-3.min.json"),
    "finegym": _finegym,
}
FOLDED = ("ucf101", "hmdb51")  # which have three divisions into training and test


def read_table(file: Path, split: str) -> Iterator[tuple]:
    """Read path, label, split, start and end (s) of your own table; it must have the first two.

    From a manifest, whose start and end mean something else, read class_name, part_start and
    part_end instead. `split` is for rows that do not name one. Raises ValueError for other splits
    and times.
    """
    try:
        table = _read_csv(file)
        if not isinstance(table.index, pd.RangeIndex):  # the first column was taken for an index
            raise ValueError("rows with more cells than the first line has")
        columns = ["label", "start", "end"] if "class_name" not in table else ["class_name", *PART]
        table = table.reindex(columns=["path", "split", *columns], fill_value="")
        times = table[columns[1:]].apply(pd.to_numeric).astype("float64")
        is_part = (times.iloc[:, 0] >= 0) & (times.iloc[:, 0] < times.iloc[:, 1])
        if not (is_part | times.isna().all(axis=1)).all():
            begin, end = times[~is_part].dropna(how="all").iloc[0]
            raise ValueError(f"a row from {begin:g} to {end:g}")
        splits = [SPLIT_OF[name.lower()] if name else split for name in table["split"]]
    except (ValueError, KeyError) as error:
        wanted = "start and end in seconds, in this order, or neither"
        splits = "and the splits train, val and test"
        raise ValueError(f"{file}: expected {wanted}, {splits}, got {error}") from error
    return zip(table["path"], table[columns[0]], splits, *times.values.T.tolist(), strict=True)
