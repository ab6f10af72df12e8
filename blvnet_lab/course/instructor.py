"""What teachers need besides the notebooks: the solved ones, for nbgrader, and a marking sheet.

    python -m blvnet_lab instructor --out teaching

Nothing stands twice: the solutions are the source of `blvnet_lab.course.solutions`, and what a
check looks at is what it says of that solution.
"""

from __future__ import annotations

import ast
import dis
import inspect
import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

import nbformat
import pandas as pd
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from blvnet_lab.course import exercises, solutions
from blvnet_lab.course.copies import (
    EXERCISE,
    digest,
    digest_of_file,
    free_name,
    read_record,
    write_record,
)
from blvnet_lab.paths import notebooks, write_files

HEADING = re.compile(
    rf"^{EXERCISE} (?P<number>\d+\.\d+) · (?P<title>.+) · (?P<dots>●○○|●●○|●●●)"
    r" · (?P<minutes>\d+) minutes$",
    re.MULTILINE,
)
CHECK = re.compile(r"exercises\.check_(\w+)\((.+)\)")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader empties what is in between
CONFIG_NAME = "nbgrader_config.py"
CONFIG = r"""c = get_config()
c.CourseDirectory.course_id = "blvnet_lab"
# Seconds a cell: nbgrader's own limit of 30 is too short for one that trains.
c.Execute.timeout = 600
# A warning or a progress bar in a test cell would cost an answer all its points.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = "."
# A test that is gone is put back; where its exercise is gone too, grading stops with an error.
c.OverwriteCells.add_missing_cells = True
# For zip_collect: anna_02_hand_in.ipynb, or 02_hand_in.ipynb in a folder anna or in anna.zip.
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\]extracted[/\\](?P<student_id>[^/\\_]+)[/\\_]"
    r"(?:.*[/\\])?(?P<file_id>\d\d_\w+)\.ipynb$"
)
"""
# To another notebook, which is in a folder of another assignment, or in none.
LINK = re.compile(r"\[([^\]]+)\]\(\d\d_\w+\.ipynb[^)]*\)")
HAND_IN = """\
> **To hand in: this file, under this name, `{name}`.** Where a cell says `# YOUR CODE HERE`, your \
answer goes in the place of the line below that. Then run the cell and the next one, which says \
what holds and what does not yet, and last your points. Add cells wherever you like, but do not \
delete any. The notebook of the course (`{course}`) looks the same and cannot be marked.\
"""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook, and the cells that belong to it."""

    notebook: str
    number: str  # "2.1"
    title: str
    points: int  # one for each dot of difficulty
    minutes: int
    name: str  # of the function: `check_<name>` checks it, `solutions.<name>` answers it
    stub: int  # indices of its cells
    check: int

    @property
    def grade_id(self) -> str:
        """Of the check's cell, the same in every release: answers handed in stay markable."""
        return f"check-{self.number.replace('.', '-')}-{self.name}"

    @property
    def solution_id(self) -> str:
        return f"ex-{self.number.replace('.', '-')}-{self.name}"


def find_exercises(nb: NotebookNode, notebook: str) -> list[Exercise]:
    """Find the exercises, each a text, a cell tagged `exercise` and one tagged `check`.

    Raises:
        ValueError: one of the three is missing, or the check is not a single call.
    """
    parts = []  # of each exercise in turn: the heading, the place of the stub, the check
    for index, cell in enumerate(nb.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown" and "✎ Exercise" in cell.source:
            kind, part = 0, HEADING.search(cell.source)
        elif "exercise" in tags:
            kind, part = 1, index
        elif "check" in tags:
            kind, part = 2, CHECK.fullmatch(cell.source.strip())
        else:
            continue
        if kind != len(parts) % 3 or part is None:
            raise _malformed(notebook, index)
        parts.append(part if kind < 2 else (part[1], index))
    if len(parts) % 3:
        raise _malformed(notebook, len(nb.cells))
    return [
        Exercise(
            notebook=notebook,
            number=heading["number"],
            title=heading["title"],
            points=heading["dots"].count("●"),
            minutes=int(heading["minutes"]),
            name=name,
            stub=stub,
            check=check,
        )
        for heading, stub, (name, check) in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def _malformed(notebook: str, index: int) -> ValueError:
    return ValueError(
        f"{notebook}, cell {index}: expected exercises of a text with `### ✎ Exercise 2.1 · Title "
        "· ●○○ · 8 minutes`, a cell tagged exercise and one tagged check that holds "
        "`exercises.check_name(name)`, in this order; got something else"
    )


def solve(nb: NotebookNode, exercise: Exercise) -> None:
    """Write the solution into the stub, make a test of the check, and give both to nbgrader."""
    stub, check = nb.cells[exercise.stub], nb.cells[exercise.check]
    stub.source = _solved(stub.source, exercise)
    call = check.source.strip()
    # The verdict is seen, right or wrong, and what follows still runs. nbgrader takes the value of
    # the last line for the points.
    check.source = f"verdict = {call}\ndisplay(verdict)\n{exercise.points} if verdict else 0"
    marks = {"schema_version": 3, "task": False}
    stub.metadata["nbgrader"] = marks | {
        "grade_id": exercise.solution_id, "grade": False, "solution": True, "locked": False,
    }  # fmt: skip
    check.metadata["nbgrader"] = marks | {
        "grade_id": exercise.grade_id, "grade": True, "solution": False, "locked": True,
        "points": exercise.points,
    }  # fmt: skip
    for cell in (stub, check):
        # What is shown there is said of the stub, and both will be run again.
        cell.outputs, cell.execution_count = [], None


def _solved(source: str, exercise: Exercise) -> str:
    """The stub with the solution's body, between nbgrader's marks, in the place of its `raise`."""
    answer = getattr(solutions, exercise.name)
    text = textwrap.dedent(inspect.getsource(answer))
    stub, solution = (_function(code) for code in (source, text))
    names = [[arg.arg for arg in ast.walk(f.args) if isinstance(arg, ast.arg)]
             for f in (stub, solution)]  # fmt: skip
    given = stub.body[1:] if ast.get_docstring(stub) is not None else stub.body
    if names[0] != names[1] or len(given) != 1 or not isinstance(given[0], ast.Raise):
        raise ValueError(
            f"{exercise.notebook}, exercise {exercise.number}: expected a stub that takes what the "
            f"solution takes, ({', '.join(names[1])}), with a docstring and `raise "
            f"NotImplementedError`, got ({', '.join(names[0])}) and {len(given)} statements"
        )
    start = solution.body[0].end_lineno  # of the docstring; comments behind it are copied, too
    body = textwrap.dedent("\n".join(text.splitlines()[start : solution.end_lineno]))
    body = "\n".join([BEGIN, *_imports(answer), body.strip("\n"), END])
    lines, indent = source.splitlines(), " " * given[0].col_offset
    lines[given[0].lineno - 1 : given[0].end_lineno] = textwrap.indent(body, indent).splitlines()
    return "\n".join(lines)


def _function(source: str) -> ast.FunctionDef:
    (function,) = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    return function


def _imports(answer: object) -> Iterator[str]:
    """What a solution needs of its own module."""
    function = inspect.unwrap(answer)
    module = inspect.getmodule(function)
    for name in sorted(_globals(function.__code__) & vars(module).keys()):
        value = vars(module)[name]
        if isinstance(value, ModuleType):
            yield f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")
        else:
            yield f"from {module.__name__} import {name}"


def _globals(code: CodeType) -> set[str]:
    """Names that a function, or one inside it, looks up in its module."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return found.union(*map(_globals, inner))


def marking_sheet(found: list[Exercise]) -> pd.DataFrame:
    """Make a row for every exercise; each check looks at its solution first.

    Raises:
        ValueError: a solution does not pass its own check.
    """
    rows = []
    for exercise in found:
        verdict = getattr(exercises, f"check_{exercise.name}")(getattr(solutions, exercise.name))
        if not verdict:
            raise ValueError(
                f"exercise {exercise.number}: expected the solution to pass its check, got\n"
                f"{verdict}\nmend blvnet_lab.course before you teach it"
            )
        rows.append(
            {
                "exercise": exercise.number,
                "title": exercise.title,
                "notebook": exercise.notebook,
                "difficulty": "●" * exercise.points + "○" * (3 - exercise.points),
                "minutes": exercise.minutes,
                "points": exercise.points,
                "the check looks at": verdict.lines["checked"].replace("\n", "; "),
                "check": f"exercises.check_{exercise.name}",
                "grade_id": exercise.grade_id,
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Written:
    """What `write_instructor` wrote, and where what had been edited is now."""

    out: Path
    files: list[Path]
    kept: dict[Path, Path]  # the configuration stays where it is
    replaced: bool = field(compare=False)

    def __str__(self) -> str:
        pages = [path for path in self.files if path.suffix != ".md" or path.parent == self.out]
        lines = [str(path) for path in pages]
        for path, place in self.kept.items():
            where = f" is now {place}" if place != path else ""
            lines.append(f"kept as you edited it: {path}{where}")
        name = next(path.parent.name for path in self.files if path.suffix == ".ipynb")
        return "\n".join(
            [
                *lines,
                "next, with nbgrader installed, for each assignment:  "
                f"cd {shlex.quote(str(self.out))}",
                f"  nbgrader generate_assignment {name}" + " --force" * self.replaced,
            ]
        )


def write_instructor(out: Path, *, replace: bool = False) -> Written:
    """Write the solved notebooks, as the source of an nbgrader course, and a marking sheet.

    Each notebook with exercises is an assignment: `source/02_why_time_matters/02_hand_in.ipynb`,
    with the pages that it links to. It has another name than the notebook of the course: the two
    look alike, but nbgrader finds no points in that one.

    Args:
        out: folder for source/, marking_sheet.csv and .md, and nbgrader_config.py.
        replace: write over files that are there already; those you edited are kept in OUT/kept,
            and an edited nbgrader_config.py stays in its place.

    Raises:
        FileExistsError: files are there, and `replace` does not say what to do with them.
        ValueError: an exercise lacks a part, or a solution does not fit or does not pass.
    """
    out = Path(out)
    found, files = [], {out / CONFIG_NAME: CONFIG}
    pages = {page.name: LINK.sub(r"\1", page.read_text("utf-8")) for page in _all("*.md")}
    for path in _all("*.ipynb"):
        nb = nbformat.read(path, as_version=4)
        if not (its := find_exercises(nb, path.name)):
            continue
        for exercise in its:
            solve(nb, exercise)
        for cell in nb.cells:
            if cell.cell_type == "markdown":  # links to other notebooks become plain text
                cell.source = LINK.sub(r"\1", cell.source)
        name = f"{path.stem.partition('_')[0]}_hand_in.ipynb"
        banner = HAND_IN.format(name=name, course=path.name)
        nb.cells.insert(0, new_markdown_cell(banner, id="to-hand-in"))
        nbformat.validate(nb)
        folder = out / "source" / path.stem
        files |= {folder / page: text for page, text in pages.items()}
        files[folder / name] = nbformat.writes(nb) + "\n"
        found += its
    sheet = marking_sheet(found)
    files[out / "marking_sheet.csv"] = sheet.to_csv(index=False)
    files[out / "marking_sheet.md"] = _as_markdown(sheet)
    kept = _set_aside(files, out) if replace else {}
    write_files(files, replace=replace)
    digests = {_within(path, out): digest(text.encode()) for path, text in files.items()}
    write_record(out, read_record(out) | digests)
    return Written(out, sorted(files), kept, replace)


def _all(pattern: str) -> list[Path]:
    return sorted(notebooks().glob(pattern))


def _within(path: Path, out: Path) -> str:
    return path.relative_to(out).as_posix()


def _set_aside(files: dict[Path, str], out: Path) -> dict[Path, Path]:
    """Move what was edited out of the way of the new files; where each is now.

    Not beside the new ones: nbgrader hands out whatever lies in the folder of an assignment. An
    edited configuration stays in force, and is taken out of `files`.
    """
    record, kept = read_record(out), {}
    # In older versions a notebook had the name of its folder, and would be handed out too.
    named = [path for path in files if path.suffix == ".ipynb"]
    older = [path.with_name(f"{path.parent.name}.ipynb") for path in named]
    for path in [*files, *older]:
        as_written = (digest(files.get(path, "").encode()), record.get(_within(path, out)))
        there = digest_of_file(path)
        if not os.path.lexists(path) or (there is not None and there in as_written):
            continue
        kept[path] = path
        if path.name != CONFIG_NAME:
            kept[path] = free_name(out / "kept" / _within(path, out))
            kept[path].parent.mkdir(parents=True, exist_ok=True)
            path.rename(kept[path])
    if out / CONFIG_NAME in kept:
        del files[out / CONFIG_NAME]
    return kept


def _as_markdown(sheet: pd.DataFrame) -> str:
    cells = sheet.astype(str).replace(r"\|", r"\\|", regex=True).to_numpy()
    rows = [sheet.columns, ["---"] * len(sheet.columns), *cells]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"# Marking sheet\n\n{len(sheet)} exercises, {sheet.points.sum()} points, "
        f"{sheet.minutes.sum()} minutes. A point for each dot of difficulty; a check gives all of "
        "its points or none. An exercise that was not attempted says so, and gives none.\n\n"
        f"{table}\n"
    )
