"""What teachers need besides the notebooks: the solved ones, for nbgrader, and a marking sheet.

    python -m blvnet_lab instructor --out teaching

Nothing stands twice: the solutions are the source of `blvnet_lab.course.solutions`, and what a
check looks at is what it says when it has judged that solution.
"""

from __future__ import annotations

import ast
import csv
import dis
import inspect
import io
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

import nbformat
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
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader empties what is in between
SCHEMA = 3  # of nbgrader's metadata
CELL_SECONDS = 600  # nbgrader's own limit of 30 is too short for a cell that trains
CONFIG_NAME = "nbgrader_config.py"
CONFIG = rf"""c = get_config()
c.CourseDirectory.course_id = "blvnet_lab"
c.Execute.timeout = {CELL_SECONDS}  # seconds a cell; some of them train
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
    name: str  # of the function: `check_<name>` judges it, `solutions.<name>` answers it
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
    """The exercises of a notebook, each a text, a cell tagged `exercise` and one tagged `check`.

    Raises:
        ValueError: one of the three is missing, or the check is not a single call.
    """
    found = []
    heading, stub = None, None
    for index, cell in enumerate(nb.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown" and "✎ Exercise" in cell.source:
            if heading is not None:
                raise _malformed(notebook, index, f"a check of exercise {heading['number']} first")
            heading = HEADING.search(cell.source)
            if heading is None:
                raise _malformed(notebook, index, "### ✎ Exercise 2.1 · Title · ●○○ · 8 minutes")
        elif "exercise" in tags:
            if heading is None or stub is not None:
                raise _malformed(notebook, index, "a text that begins ### ✎ Exercise before it")
            stub = index
        elif "check" in tags:
            call = re.fullmatch(r"exercises\.check_(\w+)\((.+)\)", cell.source.strip())
            if heading is None or stub is None or call is None:
                raise _malformed(notebook, index, "exercises.check_name(name), after its stub")
            found.append(
                Exercise(
                    notebook=notebook,
                    number=heading["number"],
                    title=heading["title"],
                    points=heading["dots"].count("●"),
                    minutes=int(heading["minutes"]),
                    name=call[1],
                    stub=stub,
                    check=index,
                )
            )
            heading, stub = None, None
    if heading is not None:
        raise _malformed(notebook, len(nb.cells) - 1, f"a check of exercise {heading['number']}")
    return found


def _malformed(notebook: str, index: int, expected: str) -> ValueError:
    return ValueError(
        f"{notebook}, cell {index}: expected {expected}, got something else: an exercise is a "
        "text, a cell tagged exercise and a cell tagged check, in this order"
    )


def solve(nb: NotebookNode, exercise: Exercise) -> None:
    """Write the solution into the stub, make a test of the check, and give both to nbgrader."""
    stub, check = nb.cells[exercise.stub], nb.cells[exercise.check]
    stub.source = _solved(stub.source, exercise, _names_before(nb, exercise.stub))
    call = check.source.strip()
    # The verdict is seen, right or wrong, and what follows still runs. nbgrader takes the value of
    # the last line for the points.
    check.source = f"verdict = {call}\ndisplay(verdict)\n{exercise.points} if verdict else 0"
    stub.metadata["nbgrader"] = _metadata(exercise.solution_id, solution=True)
    check.metadata["nbgrader"] = _metadata(exercise.grade_id, points=exercise.points)
    for cell in (stub, check):
        # What is shown there is said of the stub, and both will be run anew.
        cell.outputs, cell.execution_count = [], None


def _metadata(grade_id: str, *, solution: bool = False, points: int | None = None) -> dict:
    """nbgrader's, of a cell to fill in (`solution`), or of a test that gives points."""
    graded = {} if points is None else {"points": points}
    return {
        "schema_version": SCHEMA,
        "grade_id": grade_id,
        "grade": points is not None,
        "solution": solution,
        "locked": points is not None,
        "task": False,
        **graded,
    }


def _solved(source: str, exercise: Exercise, known: set[str]) -> str:
    """The stub with the solution's body, between nbgrader's marks, in the place of its `raise`.

    Args:
        known: names that the notebook has defined before.
    """
    answer = getattr(solutions, exercise.name, None)
    where = f"{exercise.notebook}, exercise {exercise.number}"
    if answer is None:
        raise ValueError(
            f"{where}: expected blvnet_lab.course.solutions to have {exercise.name}, got "
            "nothing of that name: write the solution there"
        )
    function = _function(ast.parse(source), exercise.name, where)
    text = textwrap.dedent(inspect.getsource(answer))
    solution = _function(ast.parse(text), inspect.unwrap(answer).__name__, where)
    names = [[arg.arg for arg in ast.walk(f.args) if isinstance(arg, ast.arg)]
             for f in (function, solution)]  # fmt: skip
    if names[0] != names[1]:
        raise ValueError(
            f"{where}: expected the stub to take what the solution takes, "
            f"({', '.join(names[1])}), got ({', '.join(names[0])}): give them the same names"
        )
    given = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if len(given) != 1 or not isinstance(given[0], ast.Raise):
        raise ValueError(
            f"{where}: expected a stub of a docstring and `raise NotImplementedError`, got "
            f"{len(given)} statements: a solution replaces all of it, so give code in other cells"
        )
    lines = source.splitlines()
    indent = " " * given[0].col_offset
    body = [*_imports(answer, known), *_body(text.splitlines(), solution)]
    lines[given[0].lineno - 1 : given[0].end_lineno] = [
        indent + BEGIN,
        *textwrap.indent("\n".join(body), indent).splitlines(),
        indent + END,
    ]
    return "\n".join(lines)


def _function(tree: ast.Module, name: str, where: str) -> ast.FunctionDef:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise ValueError(
        f"{where}: expected a function {name}, found none: stub, check and solution share its name"
    )


def _body(lines: list[str], function: ast.FunctionDef) -> list[str]:
    """What stands below the docstring, comments too, without its indentation."""
    if ast.get_docstring(function) is not None:
        start = function.body[0].end_lineno
    else:
        start = function.body[0].lineno - 1
    return textwrap.dedent("\n".join(lines[start : function.end_lineno])).strip("\n").splitlines()


def _imports(answer: object, known: set[str]) -> Iterator[str]:
    """What a solution needs of its own module and the notebook has not got."""
    function = inspect.unwrap(answer)
    module = inspect.getmodule(function)
    for name in sorted(_globals(function.__code__) & vars(module).keys() - known):
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


def _names_before(nb: NotebookNode, index: int) -> set[str]:
    """Names that the code above a cell defines at the top level of the notebook."""
    names = set()
    for cell in nb.cells[:index]:
        if cell.cell_type != "code":
            continue
        # Magics are no Python; no course cell defines a name on a line with one.
        lines = [line for line in cell.source.splitlines() if not line.startswith(("%", "!"))]
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
                continue
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    names.add(part.id)
                elif isinstance(part, ast.alias):
                    names.add((part.asname or part.name).partition(".")[0])
    return names


def marking_sheet(found: list[Exercise]) -> list[dict[str, object]]:
    """A row for every exercise; each check judges its solution first.

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
    return rows


@dataclass(frozen=True)
class Written:
    """What `write_instructor` wrote, and where what had been edited is now."""

    files: list[Path]
    kept: dict[Path, Path]  # the configuration stays where it is


def write_instructor(out: str | os.PathLike, *, replace: bool = False) -> Written:
    """Write the solved notebooks, as nbgrader's source of a course, and the marking sheet.

    Each notebook with exercises is an assignment: `source/02_why_time_matters/02_hand_in.ipynb`,
    with the pages that it links to. It has another name than the notebook of the course: the two
    look alike, but nbgrader finds no points in that one.

    Args:
        out: a folder, which becomes that of an nbgrader course.
        replace: write over files that are there already; what was edited is kept in `out/kept`.

    Raises:
        FileExistsError: files are there, and `replace` does not say what to do with them.
        ValueError: an exercise lacks a part, or a solution does not fit or does not pass.
    """
    out = Path(out)
    found, files = [], {out / CONFIG_NAME: CONFIG}
    pages = {
        page.name: _without_links(page.read_text("utf-8")) for page in notebooks().glob("*.md")
    }
    for path in sorted(notebooks().glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        its = find_exercises(nb, path.name)
        if not its:
            continue
        for exercise in its:
            solve(nb, exercise)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = _without_links(cell.source)
        name = f"{path.stem.partition('_')[0]}_hand_in.ipynb"
        banner = HAND_IN.format(name=name, course=path.name)
        nb.cells.insert(0, new_markdown_cell(banner, id="to-hand-in"))
        nbformat.validate(nb)
        folder = out / "source" / path.stem
        files |= {folder / page: text for page, text in pages.items()}
        files[folder / name] = nbformat.writes(nb) + "\n"
        found += its
    rows = marking_sheet(found)
    files[out / "marking_sheet.csv"] = _as_csv(rows)
    files[out / "marking_sheet.md"] = _as_markdown(rows)
    kept = _set_aside(files, out) if replace else {}
    write_files(files, replace=replace)
    digests = {_within(path, out): digest(text.encode()) for path, text in files.items()}
    write_record(out, read_record(out) | digests)
    return Written(sorted(files), kept)


def _without_links(text: str) -> str:
    """Links to other notebooks as plain text."""
    return LINK.sub(r"\1", text)


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
        if path.name == CONFIG_NAME:
            kept[path] = path
            continue
        kept[path] = free_name(out / "kept" / _within(path, out))
        kept[path].parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept[path])
    if out / CONFIG_NAME in kept:
        del files[out / CONFIG_NAME]
    return kept


def _as_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_markdown(rows: list[dict[str, object]]) -> str:
    columns = list(rows[0])
    cells = [columns, ["---"] * len(columns)]
    cells += [[str(row[column]).replace("|", r"\|") for column in columns] for row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    points, minutes = (sum(row[name] for row in rows) for name in ("points", "minutes"))
    return (
        f"# Marking sheet\n\n{len(rows)} exercises, {points} points, {minutes} minutes. A point "
        "for each dot of difficulty; a check gives all of its points or none. An exercise that "
        f"was not attempted says so, and gives none.\n\n{table}\n"
    )
