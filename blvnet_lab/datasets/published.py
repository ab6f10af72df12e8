"""Lists of clips as they were published, or as one writes them: of parts of videos, and others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from blvnet_lab.data.dataset_files import PART

# What splits are called in the names of folders and files.
SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test",)}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
EPIC_CLASSES = {"verb": 97, "noun": 300}
Find = Callable[..., Path | None]


class ListedClip(NamedTuple):
    """Describe a clip as a list does; class and split are empty if it does not say."""

    class_name: str
    split: str
    source_id: str
    # What the video may be called, the surest first, with or without folders and suffix.
    names: tuple[str, ...]
    start: int | None = None  # in its source, in seconds
    end: int | None = None
    part_start: float | None = None  # in the video, if the clip is only a part of it, in seconds
    part_end: float | None = None


Listed = tuple[list[ListedClip], list[str] | None]  # and the classes in the order of their labels


def read_lines(path: Path | None) -> Iterator[str]:
    """Read the lines that say something, without the marks that some editors leave."""
    return filter(None, map(str.strip, path.read_text("utf-8-sig").splitlines() if path else ()))


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError if it is none."""
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error


def read_annotations(dataset: str, find: Find, fold: int) -> Listed:
    """Read the lists of a data set that have labels.

    Raises ValueError if they are not there, or not as published.
    """
    readers = {
        "hmdb51": partial(_hmdb51, fold=fold),
        "jester": _jester,
        "diving48": _diving48,
        "epic-kitchens-100": partial(_epic_kitchens, kind="verb"),
        "epic-kitchens-100-nouns": partial(_epic_kitchens, kind="noun"),
        "charades": _charades,
        "hacs": _hacs,
        "activitynet": partial(_activitynet, name="activity_net.v1-3.min.json"),
        "finegym": _finegym,
    }
    try:
        return readers[dataset](find)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"expected lists of {dataset} as published, got {error!r}") from error


def _clip(label: str, split: str, video: str, *part: float, source: str = "") -> ListedClip:
    names = (video, video.rpartition("/")[2])
    return ListedClip(label, split, source or video, names, None, None, *part)


def _table(find: Find, *names: str) -> pd.DataFrame:
    """Read a table for training, and one for validation; the column split says which."""
    options = {"dtype": "str", "keep_default_na": False, "encoding": "utf-8-sig"}
    splits = zip(("train", "val"), names, strict=False)
    tables = [pd.read_csv(find(name), **options).assign(split=split) for split, name in splits]
    return pd.concat(tables, ignore_index=True)


def _hmdb51(find: Find, fold: int) -> Listed:
    """Read one of the three divisions: 1 is train, 2 test (the split "val"), 0 unused."""
    rows, ending = [], f"_test_split{fold}.txt"
    for path in sorted(find(f"*{ending}").parent.glob(f"*{ending}")):
        label = path.name.removesuffix(ending)
        for name, number in (line.rsplit(maxsplit=1) for line in read_lines(path)):
            source = name.partition(f"_{label}_")[0]  # clips of one video begin alike
            if split := {"1": "train", "2": "val"}.get(number):
                rows.append(_clip(label, split, f"{label}/{name}", source=source))
    return rows, None


def _jester(find: Find) -> Listed:
    """Read the second generation, of which every split has a folder of its own."""
    table = _table(find, "Train.csv", "Validation.csv")
    videos = table["split"].map({"train": "Train/", "val": "Validation/"}) + table["video_id"]
    rows = map(_clip, table["label"], table["split"], videos)
    classes = table.drop_duplicates("label").sort_values("label_id", key=pd.to_numeric)
    return [*rows], classes["label"].tolist()


def _diving48(find: Find) -> Listed:
    if find("Diving48_V2_train.json", needed=False) is None:
        why = "version 1 is not read, since some of its labels are wrong"
        raise ValueError(f"expected Diving48_V2_train.json, of version 2, found none: {why}")
    classes = [" ".join(words) for words in read_json(find("Diving48_vocab.json"))]
    rows = [
        _clip(classes[dive["label"]], split, dive["vid_name"], source=dive["vid_name"][:11])
        for split, part in (("train", "train"), ("val", "test"))
        for dive in read_json(find(f"Diving48_V2_{part}.json"))
    ]
    return rows, classes


def _epic_kitchens(find: Find, kind: str) -> Listed:
    """Read verbs or nouns; a class is called what its clips mostly are."""
    table = _table(find, "EPIC_100_train.csv", "EPIC_100_validation.csv")
    numbers = pd.to_numeric(table[f"{kind}_class"])
    names = table[kind].groupby(numbers).agg(lambda words: words.mode()[0])
    times = (pd.to_timedelta(table[f"{end}_timestamp"]) for end in ("start", "stop"))
    times = [time.dt.total_seconds() for time in times]
    rows = map(_clip, numbers.map(names), table["split"], table["video_id"], *times)
    return [*rows], [names.get(k, f"{kind} {k}") for k in range(EPIC_CLASSES[kind])]


def _charades(find: Find) -> Listed:
    """Read every action as a clip of its own; the published test list is the split "val"."""
    classes = [line.partition(" ")[2] for line in read_lines(find("Charades_v1_classes.txt"))]
    table = _table(find, "Charades_v1_train.csv", "Charades_v1_test.csv")
    rows = [
        _clip(classes[int(number[1:])], row.split, row.id, *map(float, times))
        for row in table.itertuples()
        for number, *times in map(str.split, filter(None, row.actions.split(";")))
    ]
    return rows, classes


def _hacs(find: Find) -> Listed:
    """Read the clips that show what their class says; or, where their list is not, the segments."""
    if find("HACS_clips_v1.1.1.csv", needed=False) is None:
        return _activitynet(find, "HACS_segments_v1.1.1.json")
    table = _table(find, "HACS_clips_v1.1.1.csv").query("label == '1'")
    times = (pd.to_numeric(table[end]) for end in ("start", "end"))
    splits = table["subset"].map(_split)
    return [*map(_clip, table["classname"], splits, "v_" + table["youtube_id"], *times)], None


def _activitynet(find: Find, name: str) -> Listed:
    rows = [
        _clip(found["label"], _split(video["subset"]), f"v_{key}", *found["segment"])
        for key, video in read_json(find(name))["database"].items()
        for found in video.get("annotations", ())
    ]
    return rows, None


def _split(subset: str) -> str:
    return SPLIT_OF[subset.lower().removesuffix("ing")]  # "training", "validation", "testing"


def _finegym(find: Find) -> Listed:
    """Read Gym99: the event's seconds in the video, and the action's in the event."""
    form = re.compile(r"(.+)_E_(\d+)_\d+_A_(\d+)_(\d+) (\d+)")
    rows = [
        _clip(label, split, video, int(event) + int(start), int(event) + int(end))
        for split in ("train", "val")
        for line in read_lines(find(f"gym99_{split}_element.txt"))
        for video, event, start, end, label in [form.fullmatch(line).groups()]
    ]
    return rows, [str(label) for label in range(99)]


def read_table(file: Path, split: str) -> Iterator[tuple]:
    """Read path, label, split, start and end (s) from a table of one's own that has the first two.

    Of a manifest, whose start and end mean something else, class_name, part_start and part_end.
    `split` is that of rows that do not say theirs. Raises ValueError for other splits and times.
    """
    table = pd.read_csv(file, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    columns = ["label", "start", "end"] if "class_name" not in table else ["class_name", *PART]
    table = table.reindex(columns=["path", "split", *columns], fill_value="")
    try:
        times = [pd.to_numeric(table[end]).astype("float64") for end in columns[1:]]
        splits = [SPLIT_OF[name.lower()] if name else split for name in table["split"]]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{file}: expected start and end in seconds, or empty, and the splits train, val and "
            f"test, got {error}"
        ) from error
    return zip(table["path"], table[columns[0]], splits, *times, strict=True)
