"""The checks of the exercises: every wrong answer is named, every right one accepted."""

import ast
import importlib
import inspect
import re
from collections import Counter

import nbformat
import pytest
import torch

from blvnet_lab import exercises, paths
from blvnet_lab.exercises import checking, solutions
from blvnet_lab.exercises.checking import NotAttempted, Wrong, ask, check, same
from notebooks import of_exercise

CHECKS = [getattr(exercises, name) for name in exercises.__all__]
NUMBERS = sorted({check.__module__.rpartition(".")[2] for check in CHECKS})  # nb01, nb02, ...
BANK = [importlib.import_module(f"answers.{number}") for number in NUMBERS]
WRONG = [entry for answers in BANK for entry in answers.WRONG]
RIGHT = [entry for answers in BANK for entry in answers.RIGHT]
NOTEBOOKS = {
    f"nb{path.name[:2]}": nbformat.read(path, as_version=4)
    for path in sorted(paths.notebooks().glob("*.ipynb"))
}
STUBS = {
    number: [cell.source for cell in nb.cells if "exercise" in cell.metadata.get("tags", [])]
    for number, nb in NOTEBOOKS.items()
}


def name_of(check):
    return check.__name__.removeprefix("check_")


# ---------------------------------------------------------------- the bank


@pytest.mark.parametrize("check, answer, words", WRONG, ids=lambda x: getattr(x, "__name__", ""))
def test_a_wrong_answer_is_named(check, answer, words):
    verdict = check(answer)
    assert verdict.passed is False
    assert words in verdict.lines["must hold"]
    assert all(verdict.lines[line].strip() for line in ("for", "found", "hint"))
    assert len(repr(verdict)) < 1500


@pytest.mark.parametrize("check, answer", RIGHT, ids=lambda x: getattr(x, "__name__", ""))
def test_a_right_answer_is_accepted(check, answer):
    verdict = check(answer)
    assert verdict, verdict
    assert verdict.lines["checked"].strip()


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_the_solution_is_accepted(check):
    assert (verdict := check(getattr(solutions, name_of(check)))), verdict


@pytest.mark.parametrize("check, answer", RIGHT, ids=lambda x: getattr(x, "__name__", ""))
def test_a_check_leaves_the_notebooks_chance_alone(check, answer):
    before = checking.state_of_chance()
    check(answer)
    assert checking.state_of_chance() == before


def test_every_check_has_its_answers():
    wrong, right = (Counter(entry[0] for entry in entries) for entries in (WRONG, RIGHT))
    assert len(CHECKS) >= 24 and len(WRONG) >= 90
    for asked in CHECKS:
        assert wrong[asked] >= 3 and right[asked] >= 2, name_of(asked)
    answers = [entry[1] for entry in [*WRONG, *RIGHT]]
    assert len(set(answers)) == len(answers)  # nothing counted twice


# ---------------------------------------------------------------- the notebooks' exercises


def function_of(source):
    """The one function that a stub defines."""
    (node,) = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    return node


def test_each_notebook_has_two_to_four_exercises():
    assert STUBS["nb00"] == []
    for number, stubs in STUBS.items():
        assert number == "nb00" or 2 <= len(stubs) <= 4, number
    assert sum(map(len, STUBS.values())) == len(CHECKS)


@pytest.mark.parametrize(
    "number, source",
    [(number, stub) for number, stubs in STUBS.items() for stub in stubs],
    ids=lambda x: x.partition("def ")[2].partition("(")[0] or x,
)
def test_a_stub_says_that_it_is_not_attempted(number, source):
    """It runs, its check takes it for unattempted, and it asks for what the solution takes."""
    stub = function_of(source)
    check = getattr(exercises, f"check_{stub.name}")
    assert check.__module__.endswith(number)
    scope = {}
    exec("from contextlib import contextmanager\n" + source, scope)
    verdict = check(scope[stub.name])
    assert verdict.passed is None and "not attempted" in repr(verdict)
    wanted = inspect.signature(getattr(solutions, stub.name)).parameters
    assert [parameter.arg for parameter in (*stub.args.args, *stub.args.kwonlyargs)] == [*wanted]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exercise_is_complete(number):
    """Heading with number, difficulty and minutes; two hints; stub; check; a solution to go on."""
    cells = NOTEBOOKS[number].cells
    places = [i for i, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    for count, place in enumerate(places, start=1):
        name = function_of(cells[place].source).name
        text = cells[place - 1].source
        heading = text.splitlines()[0]
        words = [word.strip() for word in heading.split("·")]
        assert words[0] == f"### ✎ Exercise {int(number[2:])}.{count}" and len(words) == 4
        assert words[2] in ("●○○", "●●○", "●●●") and words[3].endswith(" minutes")
        assert text.count("<details><summary>Hint") >= 2
        assert cells[place + 1].source == f"exercises.check_{name}({name})"
        assert "check" in cells[place + 1].metadata.tags
        later = [c for c in cells[place + 2 :] if c.cell_type == "code" and not of_exercise(c)]
        first_use = next(c for c in later if re.search(rf"\b{name}\b", c.source))
        first = first_use.source.splitlines()[0]
        assert first.startswith("from blvnet_lab.exercises.solutions import") and name in first


# ---------------------------------------------------------------- what checks are made of


def test_checks_use_nothing_of_the_library():
    """Otherwise a mistake of the library would be right by definition."""
    for number in NUMBERS:
        module = importlib.import_module(f"blvnet_lab.exercises.{number}")
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blvnet_lab"):
                assert node.module == checking.__name__
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("blvnet_lab") for alias in node.names)


@check
def check_double(double):
    x = torch.tensor([1.0, 2.0])
    same(ask(double, x, of="x = [1, 2]"), x + x, "doubled", of="x = [1, 2]", hint="x + x")
    return "two numbers"


def stub_double(x):
    raise NotImplementedError


def not_for_this_kind(x):
    """PyTorch's own error of that name: an attempt."""
    return x.int().softmax(0)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: x + 1, ["not right yet", "doubled", "[2, 3] instead of [2, 4]", "x + x"]),
        (lambda x: None, ["it returns something", "return"]),
        (lambda x: [2.0, 4.0], ["it returns a tensor", "type list"]),
        (lambda x: (2 * x)[:1], ["the shape is right", "(1,) instead of (2,)"]),
        (lambda x: x.add_(x), ["left as it was", "changed after the call"]),
        (lambda x: x[7], ["runs without an error", "IndexError", "line 1 of the function"]),
        (7, ["the answer is a function", "type int"]),
        (stub_double, ["not attempted yet", "NotImplementedError"]),
        (not_for_this_kind, ["runs without an error", "not implemented for 'Int'"]),
    ],
)
def test_what_a_verdict_says(answer, words):
    verdict = check_double(answer)
    assert not verdict
    for word in words:
        assert word in repr(verdict)
    assert verdict.headline in verdict._repr_html_()


def test_a_right_answer_says_what_was_checked():
    verdict = check_double(lambda x: 2 * x)
    assert verdict and "double: right" in repr(verdict) and "two numbers" in repr(verdict)
    assert "✓" in verdict._repr_html_()


def test_html_of_a_verdict_is_escaped():
    def shown(x):
        raise ValueError("<b>")

    assert "<b>" not in check_double(shown)._repr_html_()


@pytest.mark.parametrize(
    "got, wanted",
    [([1, 2], (1, 2)), (torch.tensor([1.0]), [1.0]), ({"a": 1}, {"a": 1.0 + 1e-9}), (True, True)],
)
def test_plain_values_that_are_the_same(got, wanted):
    assert same(got, wanted, "x", of="x", hint="x") is None  # no `Wrong`


@pytest.mark.parametrize(
    "got, wanted", [([1, 2], [2, 1]), ("1", 1), ({"a": 1}, {"b": 1}), ([1], 1), (1.001, 1)]
)
def test_plain_values_that_differ(got, wanted):
    with pytest.raises(Wrong, match="the property"):
        same(got, wanted, "the property", of="x", hint="x")


def test_asking_a_stub():
    with pytest.raises(NotAttempted):
        ask(stub_double, 1, of="1")
