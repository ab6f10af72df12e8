"""The exercises with our solutions in them, run as the instructor's notebooks are.

The cells between them are left out: `pytest --nbval notebooks` runs those. Left are imports and
definitions, which a solution may use, the solved stubs, and the checks, whose last line is what
nbgrader takes for the points.
"""

import ast
import re
import sys

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from blvnet_lab.course.instructor import find_exercises, solve
from notebooks import all_notebooks

SOME = [path for path in all_notebooks() if not path.name.startswith("00")]


def without_the_work(source):
    """The imports and definitions of a cell."""
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return "\n".join(ast.unparse(node) for node in ast.parse(source).body if isinstance(node, kept))


def exercises_alone(path):
    """The notebook's imports, definitions, solved stubs and checks; and its exercises."""
    nb = nbformat.read(path, as_version=4)
    found = find_exercises(nb)
    for exercise in found:
        solve(exercise)
    for cell in nb.cells:
        if cell.cell_type == "code" and "nbgrader" not in cell.metadata:
            cell.source = without_the_work(cell.source)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source]
    return nb, found


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """What runs the cells in a kernel; here in this process, where PyTorch is loaded already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # it puts its own there
        yield InteractiveShell.instance(ipython_dir=str(tmp_path_factory.mktemp("ipython")))
        InteractiveShell.clear_instance()


def run_checks(nb, shell):
    """Run all cells; of each check what the learner and nbgrader see: the verdict, the points."""
    shell.reset()
    checks = {}
    for cell in nb.cells:
        with capture_output() as said:
            done = shell.run_cell(cell.source)
        done.raise_error()
        if found := re.match(r"verdict = exercises\.check_(\w+)", cell.source):
            (output,) = said.outputs
            checks[found[1]] = output.data["text/plain"], done.result
            assert said.stderr == "", "it would be no points"
    return checks


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.stem)
def test_solutions_run_in_their_notebook(path, shell):
    nb, found = exercises_alone(path)
    checks = run_checks(nb, shell)
    assert len(checks) == len(found) >= 2
    for exercise in found:
        shown, value = checks[exercise.name]
        assert shown.startswith(f"{exercise.name}: right") and value == exercise.points


def test_after_a_wrong_solution_the_rest_is_still_judged(shell):
    (path,) = (path for path in SOME if path.name.startswith("02"))
    nb, found = exercises_alone(path)
    answers = {
        "shift": "def shift(x, offset):\n    return torch.roll(x, -offset, 1)",
        "tsm_taps": "def tsm_taps(channels, fold):\n    raise NotImplementedError()",
    }
    for cell in nb.cells:
        name = cell.source.partition("def ")[2].partition("(")[0]
        cell.source = answers.get(name, cell.source)
    checks = run_checks(nb, shell)
    for name, words in (("shift", "after the last there are zeros"), ("tsm_taps", "not attempted")):
        shown, value = checks.pop(name)
        assert words in shown and value == 0
    points = {exercise.name: exercise.points for exercise in found if exercise.name in checks}
    assert {name: value for name, (_, value) in checks.items()} == points and len(points) == 2
