"""One table for every data set: the manifest, a CSV file with one row a clip, and its class list.

    manifest.csv                                    classes.csv
    path,label,class_name,split,source_id,...       label,class_name,mirror
    train/run/a.mp4,1,run,train,a,...               0,jump left,2

Everything downstream reads only these two; `python -m blvnet_lab manifest` writes them. If a label
has a ";", clips may have several, and as many names: "0;2;" and "run;jump left".
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from blvnet_lab.paths import atomic_write

# Column -> its type; "Int64" and "Float64" may be empty. The first four must be there.
COLUMNS = {
    "path": "str",  # of the video (or the folder of JPEGs), relative to the manifest's folder
    "label": "int64",  # number of the class, from 0; text if clips have several
    "class_name": "str",
    "split": "str",  # "train", "val", "test"
    "source_id": "str",  # what the clip was cut from: clips of one source belong in one split
    "start": "Float64",  # where in its source the clip was cut out, in seconds
    "end": "Float64",
    "part_start": "Float64",  # if the clip is only a part of its file, where in it, in seconds
    "part_end": "Float64",
    "num_frames": "Int64",
    "fps": "Float64",
    "height": "Int64",  # in pixels, as shown
    "width": "Int64",
    "status": "str",  # "ok", or why the row cannot be used: "missing", "unreadable", "duplicate"
    "probe": "str",  # what `probing.pack_info` notes about the file, to save probing it again
}
REQUIRED = tuple(COLUMNS)[:4]
PART = ["part_start", "part_end"]
CLASS_LIST = "classes.csv"
AT_ONCE = 8192  # rows that are written together
SEPARATOR = ";"  # between the labels of a clip that has several, and between their classes' names
Pairs = Sequence[int | None]  # for each class the label of another
CLASS_COLUMNS = {"label": "int64", "class_name": "str", "mirror": "Int64", "reversal": "Int64"}


class DataSet:
    """Hold a data set: the rows of its manifest and, for each class, its name and mirror image.

    One video may hold many clips, each with its own label: a row with `part_start` and `part_end`
    stands for the frames that a player shows between them. All parts of a video are in one split.

    Args:
        rows: a table with one row per clip and at least the first four of `COLUMNS`.
        classes: the classes' names in the order of their labels; None takes those in `rows`.
        mirror: for each class the label of a clip's mirror image: the label itself for most, the
            partner's for "to the left" and "to the right", None where it belongs to no class. None
            as a whole for a data set without a class list.
        path: of the manifest that the rows were read from.
        reversal: likewise the label of a clip played backwards; None as a whole if none is known.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        classes: Sequence[str] | None = None,
        mirror: Pairs | None = None,
        path: Path | None = None,
        reversal: Pairs | None = None,
    ):
        self.rows, self.path = rows, path
        self.mirror = None if mirror is None else tuple(mirror)
        self.reversal = None if set(reversal or ()) <= {None} else tuple(reversal)
        self.multi_label = has_several(rows)  # whether clips may have several labels
        # (label, name) of each class, in the order of labels
        self.names = tuple(sorted(_names(rows)) if classes is None else enumerate(classes))

    @classmethod
    def read(cls, manifest: str | os.PathLike[str]) -> DataSet:
        """Read a manifest, and the class list beside it if there is one.

        The rows have all `COLUMNS` and any others in the file, with absolute paths. What the file
        does not say is empty; the status is then "ok".

        Raises ValueError if one of the two is not a table or contradicts itself, if a clip is in
        two rows that are "ok", or if a video is in two splits.
        """
        path = Path(manifest).absolute()
        if not path.is_file():
            raise ValueError(f"expected a manifest (manifest.csv), but there is no file {path}")
        rows = _read_csv(path, COLUMNS, REQUIRED)
        rows["status"] = rows["status"].replace("", "ok")
        classes, mirror, reversal = _read_class_list(path)
        _check_rows(rows, path, classes)
        rows["path"] = [str(path.parent / name) for name in rows["path"]]
        return cls(rows, classes, mirror, path, reversal)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of their labels; ValueError if these are not 0, 1, ..."""
        if [label for label, _ in self.names] != list(range(len(self.names))):
            found = ", ".join(f"{label} {name}" for label, name in self.names[:8])
            raise ValueError(f"expected the labels 0, 1, ... with one class name each, got {found}")
        return tuple(name for _, name in self.names)

    def class_list(self) -> pd.DataFrame:
        """Make the class list: label, class_name, mirror and, if there are any, reversal."""
        columns = {"label": range(len(self.names)), "class_name": self.classes}
        columns["mirror"] = self.mirror or [None] * len(self.names)
        columns |= {"reversal": self.reversal} if self.reversal else {}
        return pd.DataFrame(columns).astype({name: CLASS_COLUMNS[name] for name in columns})

    def with_rows(self, rows: pd.DataFrame) -> DataSet:
        """Return a data set with the same classes but other rows, for example some of these."""
        chosen = copy.copy(self)
        chosen.rows = rows
        return chosen

    def one_label(self, use: str, is_used: bool = True) -> DataSet:
        """Return this data set; raise ValueError if its clips may have several labels."""
        if self.multi_label and is_used:
            wanted = f"clips with one label each, for {use}"
            raise ValueError(f"expected {wanted}, but those of {self.path} may have several")
        return self

    def split(self, name: str) -> DataSet:
        """Select the rows of one split, such as "val"; raise ValueError if there are none."""
        rows = self.rows[self.rows["split"] == name]
        if rows.empty:
            there = f"there are {sorted(set(self.rows['split']))}; report.csv beside it may say why"
            raise ValueError(f'expected clips of split "{name}", got none; {there}')
        return self.with_rows(rows)

    def save(self, manifest: str | os.PathLike[str]) -> Path:
        """Write the manifest and, if there is a mirror table, the class list; return the path.

        Paths below the manifest's folder are written relative to it, so that the folder can be
        moved. Empty columns are left out.

        Raises ValueError for rows that `read` would refuse, or if a different class list is there.
        """
        path = Path(manifest)
        self.check(path)
        folder, rows = os.path.join(os.path.abspath(path.parent), ""), self.rows
        if self.multi_label:  # which every row is to say, also that of a clip with one
            rows = rows.assign(label=rows["label"].str.rstrip(SEPARATOR) + SEPARATOR)
        is_filled = {name: (cells.notna() & (cells != "")).any() for name, cells in rows.items()}
        order = [name for name in COLUMNS if name in rows and (name in REQUIRED or is_filled[name])]
        order += [name for name in rows if name not in COLUMNS and is_filled[name]]
        if self.mirror is not None:
            with atomic_write(path.parent / CLASS_LIST) as partial:
                self.class_list().to_csv(partial, index=False, lineterminator="\n")
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            for first in range(0, len(rows) or 1, AT_ONCE):  # relative paths take memory, too
                some = rows.iloc[first : first + AT_ONCE][order]
                below = (_in_full(name, folder).removeprefix(folder) for name in some["path"])
                some = some.assign(path=[name.replace(os.sep, "/") for name in below])
                # "%.9g" writes 12 frames per second as 12, and 30000/1001 as 29.97002997
                how = {"index": False, "lineterminator": "\n", "float_format": "%.9g"}
                some.to_csv(file, header=not first, **how)
        return path

    def check(self, manifest: str | os.PathLike[str]) -> None:
        """Raise ValueError if `save` would, to know it before hours of work."""
        classes = _read_class_list(manifest)[0] if self.mirror is None else self.classes
        path = Path(manifest).parent / CLASS_LIST
        if self.mirror is not None and path.exists():
            table = self.class_list()  # the one that is there may lack reversals
            few = (table, table.iloc[:, :3])
            texts = [columns.to_csv(index=False, lineterminator="\n") for columns in few]
            if path.read_text("utf-8") not in texts:
                found = f"{path} is there and differs"
                remedy = "write the manifest to another folder, or delete that file first"
                raise ValueError(f"expected no other list of classes, but {found}: {remedy}")
        _check_rows(self.rows, Path(manifest), classes)


def split_labels(text: str) -> list[str]:
    """Split the text of several labels, or of several class names."""
    return [*filter(None, map(str.strip, text.split(SEPARATOR)))]


def has_several(rows: pd.DataFrame) -> bool:
    """Tell whether the labels of clips are written as text, of one or several each."""
    return any(isinstance(label, str) for label in rows.get("label", ()))


def by_class(rows: pd.DataFrame) -> pd.DataFrame:
    """List clips once for each of their labels; raise ValueError unless names and labels match."""
    if not has_several(rows):
        return rows
    cells = {name: rows[name].map(split_labels) for name in ("label", "class_name")}
    return rows.assign(**cells).explode([*cells]).astype({"label": "int64"})


def _names(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """List the different (label, class name) in rows."""
    rows = by_class(rows)
    return [*dict.fromkeys(zip(rows["label"], rows["class_name"], strict=True))]


def clip_parts(rows: pd.DataFrame) -> np.ndarray:
    """Return each clip's start and end in its file, (N, 2) seconds; NaN means the whole file."""
    return rows.reindex(columns=PART).astype("Float64").to_numpy("float64", na_value=np.nan)


def clip_name(path: str, part: Sequence[float] = ()) -> str:
    """Name a clip by its path and, if it is a part of the file, its times: a.mp4#t=3,9.5."""
    times = ",".join(f"{time:.9g}" for time in part if time == time)  # NaN means no times
    return f"{path}#t={times}" if times else str(path)


def clip_names(rows: pd.DataFrame) -> pd.Series:
    """Name the clip of each row."""
    names = map(clip_name, rows["path"], clip_parts(rows))
    return pd.Series([*names], rows.index, dtype="object")


def mirror_labels(classes: Sequence[str], pairs: Sequence[tuple[str, str]] = ()) -> list[int]:
    """Make the mirror table of classes that, except for some pairs, are their own mirror images."""
    mirror = list(range(len(classes)))
    for first, second in pairs:
        one, other = classes.index(first), classes.index(second)
        mirror[one], mirror[other] = other, one
    return mirror


def _read_class_list(manifest: str | os.PathLike[str]) -> tuple[list | None, ...]:
    """Read (classes, mirror, reversal) from the class list beside a manifest; None without one."""
    path = Path(manifest).parent / CLASS_LIST
    if not path.is_file():
        return None, None, None
    table = _read_csv(path, CLASS_COLUMNS, ("label", "class_name")).sort_values("label")
    if (labels := table["label"].tolist()) != list(range(len(table))):
        raise ValueError(f"{path}: expected the labels 0, 1, ..., each once, got {labels}")
    pairs = {}  # by column: for each class the label of another
    for column, what in (("mirror", "mirror image"), ("reversal", "reversal")):
        pairs[column] = found = [None if pd.isna(k) else int(k) for k in table[column]]
        for label, other in enumerate(found):
            if other is not None and found[other : other + 1] != [label]:
                wanted = f"classes to be each other's {what}, or their own"
                got = f"label {label} has the {column} {other}, but not the other way round"
                raise ValueError(f"{path}: expected {wanted}; {got}")
    return table["class_name"].tolist(), *pairs.values()


def _in_full(name: str | os.PathLike[str], folder: str) -> str:
    """Return an absolute path: the same object if it is one already, since there may be many."""
    full = os.path.abspath(os.path.join(folder, name))
    return name if name == full else full


def _check_rows(rows: pd.DataFrame, path: Path, classes: Sequence[str] | None) -> None:
    """Raise ValueError if these rows are wrong in a manifest `path` with these classes, if any."""
    for column in ("path", "class_name", "split"):  # empty, too, in rows with too few cells
        if (rows[column].astype("str").str.strip() == "").any():
            raise ValueError(f"{path}: expected a {column} in every row, got a row without one")
    columns = ("path", "label", "class_name") if has_several(rows) else ()
    for name, label, classes_of in zip(*(rows[column] for column in columns), strict=True):
        few = split_labels(label)
        if not all(map(str.isdecimal, few)) or len(few) != len(split_labels(classes_of)) or not few:
            wanted = f'"{SEPARATOR}" between whole numbers from 0 on in the column label'
            got = f"as many class names, got {label!r} and {classes_of!r} of {name}"
            raise ValueError(f"{path}: expected {wanted}, and {got}")
    numbers = {name for name, kind in COLUMNS.items() if kind != "str"} & {*rows}
    for column in sorted(numbers - {*columns}):
        if (pd.to_numeric(rows[column]) < 0).any():
            raise ValueError(f"{path}: expected numbers from 0 on in the column {column}")
    good = rows.filter(["path", "label", "split", *PART])
    good = good[rows["status"].fillna("ok").isin(["ok", ""])] if "status" in rows else good
    folder = os.path.abspath(path.parent)
    good = good.assign(path=[_in_full(name, folder) for name in good["path"]])
    clips = good[good["path"].duplicated(keep=False)]  # only the few that are in several rows
    clips = clips.assign(clip=clip_names(clips))
    is_repeated = clips.duplicated(["clip", "label", "split"]) & (clips["split"] == "train")
    is_torn = clips.groupby("path")["split"].transform("nunique") > 1
    twice = clips["path"][(clips.duplicated("clip") & ~is_repeated) | is_torn]
    if not twice.empty:
        name = twice.iloc[0].removeprefix(os.path.join(folder, ""))
        raise ValueError(
            f"{path}: expected every video in one row, got two of {name}: take one out, or give "
            'it another status than "ok" (only "train" may repeat one, with the same label; parts '
            "of one video may be in several rows, but all in one split)"
        )
    parts = clip_parts(good)
    if (~(parts[:, 0] < parts[:, 1]) & ~np.isnan(parts).all(1)).any():
        raise ValueError(f"{path}: expected a part_end after every part_start, or neither of them")
    found = _names(rows)
    names = dict(reversed(found) if classes is None else enumerate(classes))  # the first name wins
    for label, name in found:
        if names.get(label) != name:
            wanted = f"label {label} to be {names.get(label, 'no class')} in every row"
            wanted += f" (and in {CLASS_LIST})"
            raise ValueError(f"{path}: expected {wanted}, got {name}: write both files again")


def _read_csv(path: Path, kinds: Mapping[str, str], required: Sequence[str]) -> pd.DataFrame:
    """Read a table with the columns `kinds`, of these types, and any others in the file."""
    expected = f"{path}: expected a CSV file with the columns {', '.join(required)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # for rows that are too long
            # Only an empty cell is empty: a class may well be called "NA" or "null".
            table = pd.read_csv(path, dtype="str", keep_default_na=False, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:  # ValueError: also of encoding
        raise ValueError(f"{expected}, got one that cannot be read as a table: {error}") from error
    if missing := ", ".join(column for column in required if column not in table):
        raise ValueError(f"{expected}, got {', '.join(table)!r}; missing: {missing}")
    for column, kind in kinds.items():
        cells = table[column] if column in table else pd.Series("", table.index)
        if kind != "str" and not (column == "label" and cells.str.contains(SEPARATOR).any()):
            numbers, is_whole = pd.to_numeric(cells, errors="coerce"), "nt" in kind
            fits = numbers.between(0, 2**53)  # not every larger whole number is exact
            fits &= (numbers % 1 == 0) | (not is_whole)
            fits |= (cells == "") & (kind != "int64")
            if not fits.all():
                wanted = f"{'whole ' * is_whole}numbers from 0 on in the column {column}"
                raise ValueError(f"{path}: expected {wanted}, got {cells[~fits].iloc[0]!r}")
            cells = numbers.astype(kind)
        table[column] = cells
    return table[[*kinds, *(column for column in table if column not in kinds)]]
