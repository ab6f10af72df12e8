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
from lab import LIMIT_S
from nbclient import NotebookClient

from blvnet_lab.course.instructor import find_exercises, solve
from notebooks import all_notebooks, kernel_environment

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


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.stem)
def test_solutions_run_in_their_notebook(path, shell):
    nb, found = exercises_alone(path)
    shell.reset()
    checks = {}
    for cell in nb.cells:
        with capture_output() as said:
            done = shell.run_cell(cell.source)
        done.raise_error()
        if name := check_of(cell):
            (output,) = said.outputs
            checks[name] = output.data["text/plain"], done.result
            assert said.stderr == "", "it would be no points"
    assert len(checks) == len(found) >= 2
    for exercise in found:
        shown, value = checks[exercise.name]
        assert shown.startswith(f"{exercise.name}: right") and value == exercise.points


def check_of(cell):
    """The name of the exercise that a cell checks."""
    found = re.match(r"verdict = exercises\.check_(\w+)", cell.source)
    return found and found[1]


def verdicts(nb):
    """Of each check the name, and what nbgrader and the learner see: the verdict and the points."""
    for cell in filter(check_of, nb.cells):
        # More would be no points (stderr, an error), or other ones (another result).
        kinds = [output.output_type for output in cell.outputs]
        assert kinds == ["display_data", "execute_result"], cell.outputs
        yield check_of(cell), tuple(output.data["text/plain"] for output in cell.outputs)


def test_after_a_wrong_solution_the_rest_is_still_judged(tmp_path):
    """In a kernel of its own, as nbgrader runs it."""
    (path,) = (path for path in SOME if path.name.startswith("02"))
    nb, found = exercises_alone(path)
    answers = {
        "shift": "def shift(x, offset):\n    return torch.roll(x, -offset, 1)",
        "tsm_taps": "def tsm_taps(channels, fold):\n    raise NotImplementedError()",
    }
    for cell in nb.cells:
        name = cell.source.partition("def ")[2].partition("(")[0]
        cell.source = answers.get(name, cell.source)
    NotebookClient(nb, timeout=LIMIT_S, startup_timeout=LIMIT_S, kernel_name="python3").execute(
        env=kernel_environment(str(tmp_path))
    )
    checks = dict(verdicts(nb))
    shown, value = checks.pop("shift")
    assert "after the last there are zeros" in shown and value == "0"
    shown, value = checks.pop("tsm_taps")
    assert "not attempted" in shown and value == "0"
    points = {exercise.name: str(exercise.points) for exercise in found}
    assert {name: value for name, (_, value) in checks.items()} == {
        name: points[name] for name in ("tam", "tams_needed")
    }
