"""The course in a folder of one's own: what you edited is never overwritten, the rest kept new.

    python -m blvnet_lab course my_course                # copies and updates what you did not edit
    python -m blvnet_lab course my_course --reset 02     # notebook 02 as shipped; yours stays too

The sample videos are not copied: the notebooks find them through `paths.data_samples()`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro

from blvnet_lab.paths import atomic_write, notebooks

FIRST = "00_start_here.ipynb"
# In the folder of a course: the digest of each file as it was copied. Without it, an old copy could
# not be told from one that was edited.
RECORD = ".blvnet_lab.json"
# How the notebooks are written; the tests hold them to it. The text of an exercise begins so, and
# its code has one of these tags:
EXERCISE = "### ✎ Exercise"
EXERCISE_TAGS = {"exercise", "check"}
# The text below a figure begins with its caption.
CAPTION = re.compile(r"\*Figure (?P<number>\d+\.\d+): (?P<text>.+)\*(?:\n\n|$)")


@dataclass(frozen=True)
class Copied:
    """Names of the files, by what became of them."""

    new: list[str]  # copied
    same: list[str]  # there already, as shipped
    updated: list[str]  # not edited since they were copied, so replaced by the newer ones
    edited: list[str]  # kept
    unknown: list[str]  # kept: they differ, and no record says what was copied


def shipped() -> list[Path]:
    """List the notebooks, and the pages that they link to (glossary, references)."""
    return sorted([*notebooks().glob("*.ipynb"), *notebooks().glob("*.md")])


def copy_course(folder: str | os.PathLike) -> Copied:
    """Copy the course into `folder`; what was edited there is never touched.

    Run again after an update of the package, it adds what is new and replaces what was not edited.

    Raises:
        ValueError: `folder` is the one that the package ships, a file, or no name at all.
    """
    folder = _own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copied, record = Copied([], [], [], [], []), read_record(folder)
    for source in shipped():
        name, target = source.name, folder / source.name
        newest, there = digest(source.read_bytes()), digest_of_file(target)
        if not os.path.lexists(target):  # a broken link is something of yours, too
            copied.new.append(name)
        elif there == newest:
            copied.same.append(name)
        elif there is not None and there == record.get(name):
            copied.updated.append(name)
        else:
            (copied.edited if name in record else copied.unknown).append(name)
            continue
        if there != newest:
            _write(source, target)
        record[name] = newest
    write_record(folder, record)
    return copied


def reset_notebook(name: str, folder: str | os.PathLike) -> tuple[Path, Path | None]:
    """Put a notebook (or page) back as shipped; an edited one is kept beside it under a new name.

    Returns:
        The notebook, and where the edited one is now; None if there was none.

    Raises:
        ValueError: there is no such notebook, or `folder` is the one that the package ships.
        NotADirectoryError: there is no such folder.
    """
    source = find_notebook(name)
    folder = _own(folder)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"expected the folder of a course, got {folder}, which is none: "
            f"make it with `python -m blvnet_lab course {folder}`"
        )
    target, record = folder / source.name, read_record(folder)
    newest, kept = digest(source.read_bytes()), None
    as_copied = (newest, record.get(source.name, newest))
    if os.path.lexists(target) and digest_of_file(target) not in as_copied:
        kept = free_name(target)
        target.rename(kept)
    _write(source, target)
    write_record(folder, record | {source.name: newest})
    return target, kept


def digest(content: bytes) -> str:
    """Digest what somebody wrote into a file: equal if nothing was edited.

    Of a notebook only the kind, source and nbgrader's marks of each cell count: JupyterLab changes
    the rest when it saves, and adds an empty cell where the last one is run.
    """
    try:
        cells = [
            [cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("nbgrader")]
            for cell in json.loads(content)["cells"]
        ]
        content = json.dumps([cell for cell in cells if cell[1].strip()]).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # no notebook: every byte counts
    return hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str | None:
    """Digest a file, if there is one."""
    return digest(path.read_bytes()) if path.is_file() else None


def read_record(folder: Path) -> dict[str, str]:
    """Read the digests of what was copied; none if the folder was made by an older version."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(folder: Path, record: dict[str, str]) -> None:
    """Write the digests of what was copied into a folder."""
    with atomic_write(folder / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def find_notebook(name: str) -> Path:
    """Find the shipped file of a name: "2", "02", "02_why_time_matters", "glossary" or its path."""
    known = {path.stem: path for path in shipped()}
    wanted = Path(name).name.removesuffix(".ipynb").removesuffix(".md")
    wanted = wanted.zfill(2) if wanted.isdecimal() else wanted
    found = [stem for stem in known if wanted in (stem, stem.partition("_")[0])]
    if not found:
        numbers = {stem.partition("_")[0]: stem for stem in known}
        near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
        near += [numbers[n] for n in difflib.get_close_matches(wanted, numbers, cutoff=0.4)]
        raise ValueError(
            f'expected the name or number of a notebook, got "{name}", which is none; '
            f"near it are {', '.join(sorted(set(near))[:4] or known)}"
        )
    return known[found[0]]


def _own(folder: str | os.PathLike) -> Path:
    if not os.fspath(folder).strip():
        raise ValueError('expected a folder, got an empty name: "." is the folder you are in')
    folder = Path(folder)
    if folder.exists() and folder.resolve() == notebooks().resolve():
        raise ValueError(
            f"expected a folder of your own, got {folder}, where the package keeps the course as "
            "shipped: choose another"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder, got the file {folder}: choose another name")
    return folder


def _write(source: Path, target: Path) -> None:
    with atomic_write(target) as partial:
        partial.write_bytes(source.read_bytes())


def free_name(path: Path) -> Path:
    """Return `02_why.mine-1.ipynb` for `02_why.ipynb`, or the next number that nobody has."""
    names = (path.with_name(f"{path.stem}.mine-{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


# --- The command --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """What became of a course's folder."""

    folder: str
    copied: Copied | None  # None where notebooks were reset
    reset: list[tuple[Path, Path | None]]  # each notebook, and where the edited one is now
    open: bool  # whether JupyterLab is to start on it

    @property
    def start(self) -> Path:
        """The notebook to begin with."""
        return self.reset[0][0] if self.reset else Path(self.folder) / FIRST

    def __str__(self) -> str:
        lines = [
            f"{notebook} is as shipped" + (f", yours is {kept.name}" if kept else "")
            for notebook, kept in self.reset
        ]
        if self.copied is not None:
            lines += self._copied()
        if self.copied is None or self.copied.updated:
            lines.append("open in JupyterLab? then choose File > Reload Notebook from Disk there")
        if not self.open:
            lines.append(f"open it:  {shlex.join(['jupyter', 'lab', str(self.start)])}")
        return "\n".join(lines)

    def _copied(self) -> list[str]:
        copied, kept = self.copied, sorted(self.copied.edited + self.copied.unknown)
        lines = [
            f"{self.folder}: {len(copied.new)} new, {len(copied.same)} unchanged, "
            f"{len(copied.updated)} updated, {len(kept)} kept"
        ]
        for words, names in (
            ("updated, you had not edited it", copied.updated),
            ("kept, you have edited it", copied.edited),
            ("kept, it differs from the one shipped, and you may have edited it", copied.unknown),
        ):
            lines += [f"  {words}: {name}" for name in names]
        if kept:
            stems = [Path(name).stem for name in kept]
            short = [stem[:2] if stem[:2].isdecimal() else stem for stem in stems]
            again = ["python", "-m", "blvnet_lab", "course", self.folder, "--reset", *short]
            lines.append(f"as shipped, with yours beside it:  {shlex.join(again)}")
        return lines


def update_course(
    folder: str,  # not a Path: that of "" is the folder one is in
    /,
    *,
    reset: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME ...")
    ] = (),
    open: bool = False,
) -> Course:
    """Copy the course into a folder of your own; what you edited there is never overwritten.

    Run again after an update, it adds what is new and replaces what you did not edit.

    Args:
        folder: for the notebooks; your answers stay in it.
        reset: put these notebooks back as shipped, their numbers are enough (--reset 02 03); yours
            are kept beside them.
        open: start JupyterLab on it.
    """
    names = dict.fromkeys(find_notebook(name).name for given in reset for name in given or [""])
    done = [reset_notebook(name, folder) for name in names]
    return Course(folder, None if names else copy_course(folder), done, open)
