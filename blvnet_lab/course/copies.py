"""Copy the course into a folder of your own: your edits are never overwritten, the rest is updated.

    python -m blvnet_lab course my_course                # copies and updates what you did not edit
    python -m blvnet_lab course my_course --reset 02     # notebook 02 as shipped, yours beside it

The sample videos are not copied: the notebooks find them through `paths.data_samples()`. At the
end is what the commands that write the course in another form share.
"""

import difflib
import hashlib
import json
import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blvnet_lab.paths import free_name, notebooks, write_files

FIRST = "00_start_here.ipynb"
# In a course's folder: the digest of each file as it was copied. Without it, an outdated copy could
# not be distinguished from an edited one.
RECORD = ".blvnet_lab.json"
# Conventions of the notebooks, which the tests enforce. The text of an exercise begins like this,
# and its code cells have these tags:
EXERCISE = "### ✎ Exercise"
EXERCISE_TAGS = {"exercise", "check"}
# The text below a figure starts with its caption.
CAPTION = re.compile(r"\*Figure (?P<number>\d+\.\d+): (?P<text>.+)\*(?:\n\n|$)")


@dataclass(frozen=True)
class Course:
    """What was done with the files in a course's folder."""

    folder: Path
    # File names by what was done: "new", "unchanged" (already there, as shipped), "updated" (not
    # edited since they were copied) or "kept" (edited, or copied before there was a record).
    files: dict[str, list[str]]
    reset: dict[Path, Path | None]  # each notebook that was reset, and where the edited one is now
    open: bool  # whether to start JupyterLab on it

    @property
    def start(self) -> Path:
        """The notebook to begin with."""
        return next(iter(self.reset), self.folder / FIRST)

    def __str__(self) -> str:
        kept, updated, lines = self.files["kept"], self.files["updated"], []
        for notebook, mine in self.reset.items():
            lines.append(f"{notebook} is as shipped" + (f", yours is {mine.name}" if mine else ""))
        counts = [f"{len(names)} {what}" for what, names in self.files.items()]
        lines.append(f"{self.folder}: {', '.join(counts)}")
        lines += [f"  updated, you had not edited it: {name}" for name in updated]
        lines += [f"  kept, you may have edited it: {name}" for name in kept]
        if kept:
            reset = ["course", str(self.folder), "--reset", *(Path(name).stem for name in kept)]
            command = shlex.join(["python", "-m", "blvnet_lab", *reset])
            lines.append(f"as shipped, with yours beside it:  {command}")
        if self.reset or updated:
            lines.append("open in JupyterLab? then choose File > Reload Notebook from Disk there")
        if not self.open:
            lines.append(f"open it:  {shlex.join(['jupyter', 'lab', str(self.start)])}")
        return "\n".join(lines)


def update_course(folder: Path, /, *, reset: tuple[str, ...] = (), open: bool = False) -> Course:
    """Copy the course into a folder of your own; your edits there are never overwritten.

    Run it again after an update to add what is new and replace what you have not edited.

    Args:
        folder: for the notebooks and your answers.
        reset: restore these notebooks as shipped; their numbers will do (--reset 02 03). Yours are
            kept beside them.
        open: start JupyterLab on it.

    Raises:
        ValueError: there is no such notebook, or `folder` is where the package keeps the course.
    """
    backups = {folder / find_notebook(name).name: None for name in reset}
    files, record = {"new": [], "unchanged": [], "updated": [], "kept": []}, read_record(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for source in shipped():
        name, target = source.name, folder / source.name
        newest, there = digest(source), digest(target)
        is_new = not os.path.lexists(target)  # a broken link may be yours, too
        is_mine = not is_new and there not in (newest, record.get(name, newest))
        if target in backups:
            backups[target] = target.rename(free_name(target, "mine-")) if is_mine else None
        elif is_mine:
            files["kept"].append(name)
            continue
        else:
            became = "new" if is_new else "unchanged" if there == newest else "updated"
            files[became].append(name)
        if target in backups or there != newest:
            write_files({target: source.read_bytes()})
        record[name] = newest
    write_record(folder, record)
    return Course(folder, files, backups, open)


def shipped() -> list[Path]:
    """List the notebooks and the pages that they link to (glossary, references)."""
    return sorted([*notebooks().glob("*.ipynb"), *notebooks().glob("*.md")])


def find_notebook(name: str) -> Path:
    """Find a shipped file by "2", "02", "02_why_time_matters", "glossary" or its path."""
    known = {path.stem: path for path in shipped()}
    wanted = Path(name).stem
    wanted = wanted.zfill(2) if wanted.isdecimal() else wanted
    for stem, path in known.items():
        if wanted in (stem, stem.partition("_")[0]):
            return path
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4) or known
    raise ValueError(
        f'expected the name or number of a notebook, got "{name}", which is none; '
        f"near it are {', '.join(near)}"
    )


def digest(path: Path) -> str | None:
    """Compute a file's digest, which stays the same until it is edited; None if there is no file.

    In a notebook only the kind, source and nbgrader metadata of each cell count: JupyterLab changes
    the rest when it saves, and adds an empty cell when the last one is run.
    """
    if not path.is_file():
        return None
    content = path.read_bytes()
    with suppress(ValueError, LookupError, TypeError):  # not a notebook: every byte counts
        cells = [
            [cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("nbgrader")]
            for cell in json.loads(content)["cells"]
        ]
        content = json.dumps([cell for cell in cells if cell[1].strip()]).encode()
    return hashlib.sha256(content).hexdigest()


def read_record(folder: Path) -> dict[str, str]:
    """Read the digests of the copied files; empty if an older version made the folder.

    Raises:
        ValueError: `folder` is where the package keeps the course.
    """
    if folder.resolve() == notebooks().resolve():
        raise ValueError(
            f"expected a folder of your own, got {folder}, where the package keeps the course as "
            "shipped: choose another"
        )
    try:
        return dict(json.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError):
        return {}


def write_record(folder: Path, record: dict[str, str]) -> None:
    """Write the digests of the files copied into a folder."""
    write_files({folder / RECORD: json.dumps(record, indent=1) + "\n"})


@dataclass(frozen=True)
class Written:
    """The files that a command wrote."""

    out: Path
    files: list[Path]
    advice: str  # what to do next

    def __str__(self) -> str:
        return "\n".join([*map(str, self.files), self.advice])


def internet_advice(out: Path, packages: str, *, offline: bool) -> str:
    """Say whether the pages in `out` need the internet, and how to do without."""
    if offline:
        return f"the pages in {out} need the folder node_modules there, but no internet"
    return (
        f"the pages in {out} need the internet; to do without, run there:  npm install {packages}\n"
        "and then this command again, with --replace"
    )
