"""One table for every data set: the manifest, a CSV file with one row a clip, and its class list.

    manifest.csv                                    classes.csv
    path,label,class_name,split,source_id,...       label,class_name,mirror
    train/run/a.mp4,1,run,train,a,...               0,jump left,2

Everything downstream (data sets, training, evaluation, the explorers) reads only these two, so a
new data set needs nothing but them. `python -m blvnet_lab manifest` writes them for the public data
sets' own layouts, and for a folder of one's own videos.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from blvnet_lab.paths import written_whole

# Column -> its type; "Int64" and "Float64" may be empty. The first four must be there.
COLUMNS = {
    "path": "str",  # of the video (or the folder of JPEGs), relative to the manifest's folder
    "label": "int64",  # number of the class, from 0
    "class_name": "str",
    "split": "str",  # "train", "val", "test"
    "source_id": "str",  # what the clip was cut from: clips of one source belong in one split
    "start": "Float64",  # where in its source the clip begins and ends, in seconds; the file
    "end": "Float64",  # itself holds just that part
    "num_frames": "Int64",
    "fps": "Float64",
    "height": "Int64",  # in pixels, as shown
    "width": "Int64",
    "status": "str",  # "ok", or why the row is of no use: "missing", "unreadable", "duplicate"
    "probe": "str",  # what reading.pack_info keeps of the file, so that it is not looked for again
}
REQUIRED = tuple(COLUMNS)[:4]
CLASS_LIST = "classes.csv"


def read_manifest(path: str | os.PathLike) -> pd.DataFrame:
    """The table of a data set's clips, one row each, with all of `COLUMNS` and any others it has.

    Paths come back in full. What the file does not say is empty, and its status "ok".

    Raises:
        ValueError: there is no such file, it is no table, a column or a cell is missing or of
            another kind; one video is in two rows that are "ok"; a label has two names, or another
            one than in the class list.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise ValueError(f"expected a manifest (CSV), but there is no file {path}")
    # Only an empty cell is empty: a class may well be called "NA" or "null".
    table = _read_csv(path, COLUMNS, REQUIRED)
    table["status"] = table["status"].replace("", "ok")
    check_rows(table, path)
    table["path"] = [str(path.parent / name) for name in table["path"]]
    return table


def check_rows(table: pd.DataFrame, path: Path, classes: pd.DataFrame | None = None) -> None:
    """Raises ValueError if `read_manifest` would refuse these rows in a file `path`.

    That is so for a row that says no path, class or split; numbers below 0; two good rows of one
    video, unless both are of one label in "train" (a rare class may be repeated there); and a label
    with two names, or another name than in the class list (`classes`, or the one that lies beside
    `path`).
    """
    for column in ("path", "class_name", "split"):  # also of rows that have too few cells
        if (table[column].astype("str").str.strip() == "").any():
            raise ValueError(f"{path}: expected a {column} in every row, got a row without one")
    for column in (name for name, kind in COLUMNS.items() if kind != "str" and name in table):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if (numbers < 0).any():
            raise ValueError(
                f"{path}: expected numbers from 0 on in the column {column}, got {numbers.min():g}"
            )
    good = table[table["status"].isin(["ok", ""])] if "status" in table else table
    places = [os.path.normpath(os.path.join(path.parent, name)) for name in good["path"]]
    again = good.assign(path=places).duplicated("path")
    as_before = good.assign(path=places).duplicated(["path", "label", "split"])
    twice = good["path"][again & ~(as_before & (good["split"] == "train"))]
    if not twice.empty:
        raise ValueError(
            f"{path}: expected every video in one row, got two of {twice.iloc[0]}: take one out, "
            'or give it another status than "ok" (only "train" may repeat one, with the same label)'
        )
    found = table[["label", "class_name"]].drop_duplicates()
    unclear = found[found["label"].duplicated(keep=False)].sort_values("label")
    if not unclear.empty:
        first, second = unclear["class_name"].iloc[:2]
        raise ValueError(
            f"{path}: expected one class_name for each label, got {first} and {second} for label "
            f"{unclear['label'].iloc[0]}"
        )
    if classes is None and (path.parent / CLASS_LIST).is_file():
        classes = read_classes(path)
    if classes is not None:
        names = classes.set_index("label")["class_name"]
        for label, name in found.itertuples(index=False):
            if names.get(label) != name:
                raise ValueError(
                    f"{path}: expected label {label} to be {names.get(label, 'no class')}, as in "
                    f"{path.parent / CLASS_LIST}, got {name}: write both files anew"
                )


def _read_csv(path: Path, kinds: dict[str, str], required: Sequence[str]) -> pd.DataFrame:
    expected = f"{path}: expected a CSV file with the columns {', '.join(required)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are too long
            table = pd.read_csv(path, dtype="str", keep_default_na=False, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:  # errors of encoding are among these
        raise ValueError(f"{expected}, got one that cannot be read as a table: {error}") from error
    missing = [column for column in required if column not in table]
    if missing:
        raise ValueError(f"{expected}; missing: {', '.join(missing)}")
    for column, kind in kinds.items():
        if column not in table:
            table[column] = ""
        if kind != "str":
            table[column] = _as_numbers(table[column], kind, path)
    others = [column for column in table if column not in kinds]
    return table[[*kinds, *others]]


def _as_numbers(cells: pd.Series, kind: str, path: Path) -> pd.Series:
    is_whole = "nt" in kind
    numbers = pd.to_numeric(cells, errors="coerce")
    bad = numbers.isna() | (numbers.abs() > 2**53)  # above, not every whole number is exact
    if is_whole:
        bad |= numbers % 1 != 0
    if kind != "int64":
        bad &= cells != ""
    if bad.any():
        cell = cells[bad].iloc[0]
        raise ValueError(
            f"{path}: expected {'whole ' * is_whole}numbers in the column {cells.name}, got "
            + (f"{cell!r}" if cell else "a row without one")
        )
    return numbers.astype(kind)


def read_classes(manifest: str | os.PathLike) -> pd.DataFrame:
    """The class list that lies beside a manifest: label (0, 1, ...), class_name and mirror.

    `mirror` is the label of a clip's mirror image: the label itself for most classes, the partner's
    for "to the left" and "to the right", empty where a mirror image belongs to no class.

    Raises:
        ValueError: there is no such file or no such columns; labels are not 0, 1, ...; a mirror is
            no label, or not the mirror's mirror.
    """
    path = Path(manifest).parent / CLASS_LIST
    if not path.is_file():
        raise ValueError(f"expected the list of classes beside the manifest, but found no {path}")
    kinds = {"label": "int64", "class_name": "str", "mirror": "Int64"}
    table = _read_csv(path, kinds, ("label", "class_name"))
    class_names(table)
    table = table.sort_values("label", ignore_index=True)
    mirrors = [None if pd.isna(mirror) else int(mirror) for mirror in table["mirror"]]
    for label, mirror in enumerate(mirrors):
        if mirror is not None and mirrors[mirror : mirror + 1] != [label]:
            raise ValueError(
                f"{path}: expected classes to be each other's mirror image, or their own; label "
                f"{label} has the mirror {mirror}, but not the other way round"
            )
    return table


def class_table(names: Sequence[str], mirrored: Sequence[tuple[str, str]] = ()) -> pd.DataFrame:
    """A class list for `write_manifest`: every class its own mirror image but for the given pairs.

    Raises:
        ValueError: a pair names a class that is not there.
    """
    names = list(names)
    mirror = list(range(len(names)))
    for pair in mirrored:
        strangers = [name for name in pair if name not in names]
        if strangers:
            raise ValueError(f"expected pairs of classes among {names}, got {', '.join(strangers)}")
        first, second = map(names.index, pair)
        mirror[first], mirror[second] = second, first
    columns = {"label": range(len(names)), "class_name": names, "mirror": mirror}
    return pd.DataFrame(columns).astype({"label": "int64", "mirror": "Int64"})


def write_manifest(
    table: pd.DataFrame, path: str | os.PathLike, classes: pd.DataFrame | None = None
) -> Path:
    """Writes a manifest and its class list; each file appears only when it is whole.

    Args:
        table: at least the columns `REQUIRED`. Paths are full ones, or relative to the manifest's
            folder; those below it are written so, that the folder can be moved as a whole. Columns
            that are empty throughout are left out.
        classes: as `class_table` makes it, or `read_classes` reads it; None writes no list.

    Raises:
        ValueError: a column is missing; a row that `read_manifest` would refuse; or another class
            list is there already, which a manifest beside it may need.
    """
    path = Path(path)
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise ValueError(
            f"expected a table with the columns {', '.join(REQUIRED)}; missing: "
            f"{', '.join(missing)}"
        )
    folder = Path(os.path.abspath(path.parent))
    table = table.copy()
    table["path"] = [_relative(Path(name), folder) for name in table["path"]]
    order = [name for name in COLUMNS if name in table]
    order += [name for name in table if name not in COLUMNS]
    told = [name for name in order if name in REQUIRED or _says_something(table[name])]
    if classes is not None:
        check_class_list(classes, path)
    check_rows(table, path, classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if classes is not None:
        with written_whole(path.parent / CLASS_LIST) as unfinished:
            classes.to_csv(unfinished, index=False, lineterminator="\n")
    with written_whole(path) as unfinished:
        # "%.9g" writes 12 frames per second as 12, and 30000/1001 as 29.97002997
        table[told].to_csv(unfinished, index=False, lineterminator="\n", float_format="%.9g")
    return path


def _relative(path: Path, folder: Path) -> str:
    path = Path(os.path.abspath(folder / path))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _says_something(column: pd.Series) -> bool:
    return bool((column.notna() & (column.astype("str") != "")).any())


def check_class_list(classes: pd.DataFrame, manifest: str | os.PathLike) -> None:
    """Raises ValueError if beside the manifest lies a class list that differs from `classes`."""
    path = Path(manifest).parent / CLASS_LIST
    if path.exists() and path.read_text("utf-8") != classes.to_csv(
        index=False, lineterminator="\n"
    ):
        raise ValueError(
            f"expected no other list of classes, but {path} is there and differs: write the "
            "manifest to another folder, or delete that file first"
        )


def class_names(manifest: pd.DataFrame) -> list[str]:
    """Class names in the order of their labels.

    Raises:
        ValueError: the labels are not 0..n-1 with one name each.
    """
    pairs = manifest[["label", "class_name"]].drop_duplicates().sort_values("label")
    if pairs["label"].tolist() != list(range(len(pairs))):
        raise ValueError(
            "expected the labels 0, 1, ... with one class name each, got "
            + ", ".join(f"{row.label} {row.class_name}" for row in pairs.itertuples())
        )
    return pairs["class_name"].tolist()
