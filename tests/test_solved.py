"""The exercises with our solutions in them, run in a kernel as the instructor's notebooks are.

The cells between them are left out: `pytest --nbval notebooks` runs those. Left are imports and
definitions, which a solution may use, the solved stubs, and the checks as tests.
"""

import ast

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from blvnet_lab.instructor import find_exercises, solve
from notebooks import all_notebooks, kernel_environment

SOME = [path for path in all_notebooks() if not path.name.startswith("00")]


def without_the_work(source):
    """The imports and definitions of a cell."""
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return "\n".join(ast.unparse(node) for node in ast.parse(source).body if isinstance(node, kept))


def exercises_alone(path):
    """The notebook's imports, definitions, solved stubs and checks; and its exercises."""
    nb = nbformat.read(path, as_version=4)
    found = find_exercises(nb, path.name)
    for exercise in found:
        solve(nb, exercise)
    of_exercises = {place for exercise in found for place in (exercise.stub, exercise.check)}
    for place, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and place not in of_exercises:
            cell.source = without_the_work(cell.source)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source]
    return nb, found


def run(nb, tmp_path):
    NotebookClient(nb, timeout=120, kernel_name="python3").execute(
        env=kernel_environment(str(tmp_path))
    )


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.stem)
def test_solutions_run_in_their_notebook(path, tmp_path):
    nb, found = exercises_alone(path)
    run(nb, tmp_path)
    tests = [cell for cell in nb.cells if cell.source.startswith("assert (found := exercises.")]
    assert len(tests) == len(found) >= 2
    assert all(cell.execution_count for cell in tests)


def test_a_wrong_solution_fails_with_its_reason(tmp_path):
    (path,) = (path for path in SOME if path.name.startswith("02"))
    nb, _ = exercises_alone(path)
    (stub,) = (cell for cell in nb.cells if cell.source.startswith("def shift("))
    stub.source = "def shift(x, offset):\n    return torch.roll(x, -offset, 1)"
    with pytest.raises(CellExecutionError, match="before the first there are zeros"):
        run(nb, tmp_path)
