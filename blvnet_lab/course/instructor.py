"""Write what teachers need: solved notebooks for nbgrader, and a marking sheet.

    python -m blvnet_lab instructor --out teaching

Nothing is written twice: solutions are the source code of `blvnet_lab.course.solutions`, and the
sheet quotes what each check says about its solution.
"""

import ast
import inspect
import os
import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import nbformat
import pandas as pd
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from blvnet_lab.course import exercises, solutions
from blvnet_lab.course.copies import EXERCISE, Written, digest, read_record, write_record
from blvnet_lab.paths import check_absent, free_name, notebooks, write_files

HEADING = re.compile(
    rf"^{EXERCISE} (?P<number>\d+\.\d+) · (?P<title>.+) · (?P<dots>●○○|●●○|●●●)"
    r" · (?P<minutes>\d+) minutes$",
    re.MULTILINE,
)
CONFIG_NAME = "nbgrader_config.py"
CONFIG = r"""c = get_config()
c.CourseDirectory.course_id = "blvnet_lab"
# Seconds per cell: nbgrader's own limit of 30 is too short for cells that train.
c.Execute.timeout = 600
# Otherwise a warning or a progress bar in a test cell would cost an answer all its points.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = "."
# A deleted test is put back; if its exercise is gone, too, grading stops with an error.
c.OverwriteCells.add_missing_cells = True
# For zip_collect: anna_02_hand_in.ipynb, or 02_hand_in.ipynb in a folder anna or in anna.zip.
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\]extracted[/\\](?P<student_id>[^/\\_]+)[/\\_]"
    r"(?:.*[/\\])?(?P<file_id>\d\d_\w+)\.ipynb$"
)
"""
# A link to another notebook, which belongs to another assignment or to none.
LINK = re.compile(r"\[([^\[\]]+)\]\(\d\d_\w+\.ipynb[^)]*\)")
HAND_IN = """\
> **To hand in: this file, under this name, `{name}`.** Where a cell says `# YOUR CODE HERE`, your \
answer goes in the place of the line below that. Then run the cell and the next one, which says \
what holds and what does not yet, and last your points. Add cells wherever you like, but do not \
delete any. The notebook of the course (`{course}`) looks the same and cannot be marked.\
"""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook, and its cells."""

    number: str  # "2.1"
    title: str
    points: int  # one per dot of difficulty
    minutes: int
    name: str  # of the function; `check_<name>` checks it, `solutions.<name>` is the answer
    stub: NotebookNode
    check: NotebookNode

    @property
    def grade_id(self) -> str:
        """The id of its cells, stable across releases so that handed-in answers stay gradable."""
        return f"{self.number.replace('.', '-')}-{self.name}"


def find_exercises(nb: NotebookNode) -> list[Exercise]:
    """Find the exercises: each is a text, a cell tagged `exercise` and one tagged `check`."""
    found = []
    for text, stub, check in zip(nb.cells, nb.cells[1:], nb.cells[2:], strict=False):
        if "exercise" in stub.metadata.get("tags", []):
            number, title, dots, minutes = HEADING.search(text.source).groups()
            name = re.search(r"check_(\w+)", check.source)[1]
            parts = (number, title, dots.count("●"), int(minutes), name, stub, check)
            found.append(Exercise(*parts))
    return found


def solve(exercise: Exercise) -> None:
    """Fill the stub with the solution, turn the check into a test, and mark both for nbgrader."""
    stub, check, points = exercise.stub, exercise.check, exercise.points
    stub.source = _solved(stub.source, getattr(solutions, exercise.name))
    # The verdict is shown, right or wrong, and later cells still run. nbgrader takes the value of
    # the last line as the points.
    call = check.source.strip()
    check.source = f"verdict = {call}\ndisplay(verdict)\n{points} if verdict else 0"
    for cell, is_test in ((stub, False), (check, True)):
        marks = {"schema_version": 3, "grade": is_test, "solution": not is_test, "locked": is_test}
        marks |= {"grade_id": ("check-" if is_test else "ex-") + exercise.grade_id, "task": False}
        cell.metadata["nbgrader"] = marks | ({"points": points} if is_test else {})
        # The outputs are those of the stub; both cells will be run again.
        cell.outputs, cell.execution_count = [], None


def _solved(stub: str, answer: object) -> str:
    """Replace a stub's `raise` by the body of a solution, between nbgrader's marks."""
    text = textwrap.dedent(inspect.getsource(answer))
    module = inspect.getmodule(inspect.unwrap(answer))
    functions = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    docstring, *body = next(functions).body
    used = {n.id for line in body for n in ast.walk(line) if isinstance(n, ast.Name)}
    lines = ["### BEGIN SOLUTION"]  # nbgrader removes what is in between
    for name in sorted(used & vars(module).keys()):
        if isinstance(value := vars(module)[name], ModuleType):
            own_name = "" if value.__name__ == name else f" as {name}"
            lines.append(f"import {value.__name__}{own_name}")
        else:
            lines.append(f"from {module.__name__} import {name}")
    # Comments after the docstring are copied, too.
    source = textwrap.dedent("\n".join(text.splitlines()[docstring.end_lineno :])).strip("\n")
    solution = "\n".join([*lines, source, "### END SOLUTION"])
    head, _, _ = stub.partition("    raise NotImplementedError")
    return head + textwrap.indent(solution, "    ")


def marking_sheet(found: dict[str, list[Exercise]]) -> pd.DataFrame:
    """Tabulate all exercises; each check is run on its solution, to say what it looks at."""
    rows = []
    for notebook, exercise in ((name, one) for name, its in found.items() for one in its):
        verdict = getattr(exercises, f"check_{exercise.name}")(getattr(solutions, exercise.name))
        rows.append(
            {
                "exercise": exercise.number,
                "title": exercise.title,
                "notebook": notebook,
                "difficulty": "●" * exercise.points + "○" * (3 - exercise.points),
                "minutes": exercise.minutes,
                "points": exercise.points,
                "the check looks at": verdict.lines["checked"].replace("\n", "; "),
                "check": f"exercises.check_{exercise.name}",
                "grade_id": f"check-{exercise.grade_id}",
            }
        )
    return pd.DataFrame(rows)


def write_instructor(out: Path, *, replace: bool = False) -> Written:
    """Write the solved notebooks, as the source of an nbgrader course, and a marking sheet.

    Each notebook with exercises becomes an assignment, source/02_why_time_matters/02_hand_in.ipynb
    say, with the pages that it links to. Its name differs from that of the course's notebook, which
    looks alike, but in which nbgrader finds no points.

    Args:
        out: folder for source/, marking_sheet.csv and .md, and nbgrader_config.py.
        replace: overwrite existing files; those you edited are kept in OUT/kept, and an edited
            nbgrader_config.py stays in place.

    Raises:
        FileExistsError: files exist already, and `replace` is not set.
    """
    found, files = {}, {out / CONFIG_NAME: CONFIG}
    pages = {page.name: page.read_text("utf-8") for page in notebooks().glob("*.md")}
    for path in sorted(notebooks().glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        if not (its := find_exercises(nb)):
            continue
        for exercise in its:
            solve(exercise)
        name = f"{path.stem[:2]}_hand_in.ipynb"
        banner = HAND_IN.format(name=name, course=path.name)
        nb.cells.insert(0, new_markdown_cell(banner, id="to-hand-in"))
        folder = out / "source" / path.stem
        files |= {folder / page: text for page, text in pages.items()}
        files[folder / name] = nbformat.writes(nb) + "\n"
        found[path.name] = its
    files = {path: LINK.sub(r"\1", text) for path, text in files.items()}  # links become text
    as_table, as_page = out / "marking_sheet.csv", out / "marking_sheet.md"
    check_absent([*files, as_table, as_page], replace=replace)  # before all solutions are checked
    sheet = marking_sheet(found)
    files |= {as_table: sheet.to_csv(index=False), as_page: _as_markdown(sheet)}
    lines = _set_aside(files, out) if replace else []
    write_files(files, replace=replace)
    digests = {path.relative_to(out).as_posix(): digest(path) for path in files}
    write_record(out, read_record(out) | digests)
    lines.append("next, with nbgrader installed, for each assignment:")
    lines.append(f"  cd {shlex.quote(str(out))}")
    first = Path(min(found)).stem
    lines.append(f"  nbgrader generate_assignment {first}{' --force' * replace}")
    named = [path for path in sorted(files) if path.name not in pages]
    return Written(out, named, "\n".join(lines))


def _set_aside(files: dict[Path, str], out: Path) -> list[str]:
    """Move edited files out of the way of the new ones; say where each is now.

    They are not kept beside the new ones, since nbgrader hands out everything in an assignment's
    folder. An edited configuration stays in force, and is taken out of `files`.
    """
    record, lines = read_record(out), []
    for path in list(files):
        name = path.relative_to(out)
        if not os.path.lexists(path) or digest(path) == record.get(name.as_posix()):
            continue
        line = f"kept as you edited it: {path}"
        if path.name == CONFIG_NAME:
            del files[path]
        else:
            place = free_name(out / "kept" / name, "mine-")
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
            line += f" is now {place}"
        lines.append(line)
    return lines


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
