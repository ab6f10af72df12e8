"""The course in a folder of one's own: copied once, never overwritten, put back on demand.

    python -m blvnet_lab course my_course                # copies what is not there yet
    python -m blvnet_lab course my_course --reset 02     # notebook 02 as shipped; yours stays too

Whoever works in the folder of the package loses their answers with the next update, or cannot
update. The sample videos are not copied: the notebooks find them through `paths.data_samples()`.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from blvnet_lab.paths import notebooks, written_whole

FIRST = "00_start_here.ipynb"
# How the notebooks are written; the tests hold them to it. The text of an exercise begins so, and
# its code has one of these tags:
EXERCISE = "### ✎ Exercise"
EXERCISE_TAGS = {"exercise", "check"}
# The text below a figure begins with its caption.
CAPTION = re.compile(r"\*Figure (?P<number>\d+\.\d+): (?P<text>.+)\*(?:\n\n|$)")


@dataclass(frozen=True)
class Copied:
    """Names of files: `new` were copied, `same` are as shipped, `yours` differ and were kept.

    They differ because you changed them, or because the package did in an update.
    """

    new: list[str]
    same: list[str]
    yours: list[str]


def shipped() -> list[Path]:
    """The notebooks, and the pages that they link to (glossary, references)."""
    return sorted([*notebooks().glob("*.ipynb"), *notebooks().glob("*.md")])


def copy_course(folder: str | os.PathLike) -> Copied:
    """Copy the course into `folder`; what is there already is never touched.

    Run again after an update, it adds what is new.

    Raises:
        ValueError: `folder` is the one that the package ships, or a file.
    """
    folder = _own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copied = Copied([], [], [])
    for source in shipped():
        target = folder / source.name
        if not os.path.lexists(target):  # a broken link is something of yours, too
            _write(source, target)
            copied.new.append(source.name)
        elif _as_shipped(source, target):
            copied.same.append(source.name)
        else:
            copied.yours.append(source.name)
    return copied


def reset(name: str, folder: str | os.PathLike) -> tuple[Path, Path | None]:
    """Put a notebook (or page) back as shipped; a changed one is kept beside it under a new name.

    Args:
        name: of the file; the number of a notebook is enough.
        folder: of the course.

    Returns:
        The notebook, and where the changed one is now; None if there was none.

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
    target = folder / source.name
    kept = None
    if os.path.lexists(target) and not _as_shipped(source, target):
        kept = _free_name(target)
        target.rename(kept)
    if not target.exists():
        _write(source, target)
    return target, kept


def find_notebook(name: str) -> Path:
    """The shipped file of that name: "2", "02", "02_why_time_matters", "glossary" or its path."""
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
    folder = Path(folder)
    if folder.exists() and folder.resolve() == notebooks().resolve():
        raise ValueError(
            f"expected a folder of your own, got {folder}, where the package keeps the course as "
            "shipped: choose another"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder, got the file {folder}: choose another name")
    return folder


def _as_shipped(source: Path, target: Path) -> bool:
    return target.is_file() and target.read_bytes() == source.read_bytes()


def _write(source: Path, target: Path) -> None:
    with written_whole(target) as unfinished:
        unfinished.write_bytes(source.read_bytes())


def _free_name(path: Path) -> Path:
    """`02_why.mine-1.ipynb` for `02_why.ipynb`, or the next number that nobody has."""
    names = (path.with_name(f"{path.stem}.mine-{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))
