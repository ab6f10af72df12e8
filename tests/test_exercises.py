"""The checks of the exercises: every wrong answer is named, every right one accepted."""

import ast
import importlib
import inspect
import re
import sys
from collections import Counter

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from blvnet_lab import paths
from blvnet_lab.course import checking, exercises, solutions
from blvnet_lab.course.checking import (
    NotAttempted,
    Wrong,
    ask,
    check,
    same,
    same_gradients,
    told,
    two,
)
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
        assert first.startswith("from blvnet_lab.course.solutions import") and name in first


# ---------------------------------------------------------------- what checks are made of


def test_checks_use_nothing_of_the_library():
    """Otherwise a mistake of the library would be right by definition."""
    for number in NUMBERS:
        module = importlib.import_module(f"blvnet_lab.course.{number}")
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


def silent_error(x):
    raise ValueError


def not_for_this_kind(x):
    """PyTorch's own error of that name: an attempt."""
    return x.int().softmax(0)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: x + 1, ["not right yet", "doubled", "[2, 3] instead of [2, 4]", "x + x"]),
        (lambda x: None, ["it returns something", "return"]),
        (lambda x: [2.0, 4.0], ["it is a tensor (doubled)", "type list", "return a tensor"]),
        (lambda x: (2 * x)[:1], ["the shape is right (doubled)", "(1,) instead of (2,)", "axis"]),
        (lambda x: (2 * x).int(), ["the kind of number is right", "int32 instead of torch.float"]),
        (lambda x: x.add_(x), ["left as it was", "changed after the call"]),
        (lambda x: x[7], ["runs without an error", "IndexError", "line 1 of the function"]),
        (7, ["the answer is a function", "type int"]),
        (stub_double, ["not attempted yet", "NotImplementedError"]),
        (not_for_this_kind, ["runs without an error", "not implemented for 'Int'"]),
        (silent_error, ["ValueError (line 2 of the function)"]),
        (lambda x: stub_double(x), ["runs without an error", "stub_double, which it calls"]),
        (lambda x: sys.exit("away"), ["runs without an error", "SystemExit: away"]),
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
    checking._answered.clear()  # what checks have asked before
    with pytest.raises(NotAttempted):
        ask(stub_double, 1, of="1")


def found(answer, *given, **more):
    """What `ask` finds; an error of its own if it finds nothing."""
    with pytest.raises(Wrong) as info:
        ask(answer, *given, of="it", **more)
    return info.value.lines


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_an_answer_that_returns_nothing_is_wrong(check):
    verdict = check(lambda *given: None)
    assert verdict.passed is False and "`return`" in verdict.lines["found"]


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_an_unwritten_branch_is_wrong_and_not_unattempted(check):
    calls = []

    def answer(*given):
        calls.append(1)
        if len(calls) > 1:
            raise NotImplementedError
        return getattr(solutions, name_of(check))(*given)

    verdict = check(answer)
    assert verdict.passed is False
    assert "still raises NotImplementedError" in verdict.lines["hint"]


def test_asking_leaves_pytorch_as_it_was():
    @check
    def check_settings(answer):
        ask(answer, of="nothing")
        return "settings"

    def to_double():
        torch.set_default_dtype(torch.float64)
        return 1

    def without_gradients():
        torch.set_grad_enabled(False)
        return 1

    for answer, name in ((to_double, "default_dtype"), (without_gradients, "is_grad_enabled")):
        verdict = check_settings(answer)
        assert "settings are left" in verdict.lines["must hold"] and name in verdict.lines["found"]
        assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.weight.data.add_(1),
        lambda net: net.train(),
        lambda net: net.requires_grad_(False),
        lambda net: setattr(net.weight, "grad", torch.ones(1, 2)),
        lambda net: net.register_forward_hook(print),
        lambda net: net.register_forward_pre_hook(print),
        lambda net: setattr(net, "forward", len),
    ],
)
def test_a_network_is_left_as_it_was(change):
    def answer(network, numbers):
        change(network)
        return 1

    lines = found(answer, nn.Linear(2, 1).eval(), [1])
    assert lines["must hold"] == "what it is given is left as it was"
    network = nn.Linear(2, 1).eval()
    assert ask(answer, network, [1], of="it", changes=[network]) == 1


@pytest.mark.parametrize(
    "given, change",
    [
        (torch.zeros(2), lambda x: x.add_(1)),
        (torch.zeros(2), lambda x: x.resize_(1)),
        (np.zeros(2), lambda x: x.fill(1)),
        ([1, [2]], lambda x: x[1].append(3)),
        ({"a": torch.zeros(1)}, lambda x: x["a"].add_(1)),
        ({"a": 1}, lambda x: x.pop("a")),
    ],
)
def test_what_is_given_is_left_as_it_was(given, change):
    def answer(x):
        change(x)
        return 1

    assert "changed after the call" in found(answer, given)["found"]


def test_what_is_not_changed_is_no_change():
    odd = (torch.tensor([float("nan"), 1]), np.array([np.nan]), torch.ones(1).requires_grad_() * 2)
    assert ask(len, [*odd, *odd], of="it") == 6
    assert ask(lambda *given: 1, *odd, object(), {1}, of="it") == 1


def test_messages_are_short():
    def long_error(x):
        raise ValueError("long " * 1000)

    def at_length(x):
        print("word " * 1000)
        return x

    assert len(found(long_error, 1)["found"]) < 400
    assert len(told(list(range(1000)))) < 100 and "1000 in all" in told(list(range(1000)))
    assert len(told("long " * 1000)) < 400 and len(told([["long " * 1000]])) < 400
    with pytest.raises(Wrong) as info:
        same("long " * 1000, "other " * 1000, "x", of="x", hint="x")
    assert len(info.value.lines["found"]) < 1000


@pytest.mark.parametrize("name", ["crop_clip", "sample_uniform"])
def test_what_an_answer_prints_is_cut(name, capsys):
    """Some are called thousands of times."""
    solution = getattr(solutions, name)

    def answer(*given):
        print("here I am", given)
        return solution(*given)

    assert getattr(exercises, f"check_{name}")(answer)
    shown = capsys.readouterr().out
    assert shown.startswith("here I am") and len(shown) < 1200
    assert "prints more than is shown" in shown


def test_a_large_tensor_is_told_by_its_first_differing_place():
    wanted = torch.zeros(4, 10)
    got = wanted.clone()
    got[2, 3] = got[3, 1] = 7
    with pytest.raises(Wrong) as info:
        same(got, wanted, "x", of="x", hint="x")
    assert info.value.lines["found"] == "2 of 40 numbers differ, the first at [2, 3]: 7 not 0"


def test_a_long_list_is_told_by_its_first_differing_place():
    with pytest.raises(Wrong) as info:
        same(["a"] * 30 + ["b"], ["a"] * 31, "x", of="x", hint="x")
    assert info.value.lines["found"] == "the first that differs is number 30: 'b' instead of 'a'"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_floats_of_either_size_are_the_same(dtype):
    got = torch.tensor([1.0, 2.0], dtype=dtype)
    assert same(got + 1e-7, torch.tensor([1.0, 2.0]), "x", of="x", hint="x") is None


@pytest.mark.parametrize(
    "got, wanted",
    [
        (torch.int64, torch.float32),
        (torch.float32, torch.int64),
        (torch.int64, torch.uint8),
        (torch.uint8, torch.bool),
        (torch.float16, torch.float32),
    ],
)
def test_another_kind_of_number_is_wrong(got, wanted):
    with pytest.raises(Wrong, match="the kind of number is right"):
        same(torch.ones(2, dtype=got), torch.ones(2, dtype=wanted), "x", of="x", hint="x")


def test_inputs_are_of_the_kind_that_notebooks_give():
    assert checking.clip_of(1, 2).dtype == checking.taps_of(1, 2).dtype == torch.float32


@pytest.mark.parametrize(
    "got",
    [
        (torch.ones(1), torch.zeros(1)),
        [torch.ones(1), torch.zeros(1)],
        torch.tensor([[1.0], [0.0]]),
        map(torch.tensor, ([1.0], [0.0])),
        {"a": torch.ones(1), "b": torch.zeros(1)}.values(),
    ],
)
def test_whatever_gives_two_is_two(got):
    first, second = two(got, "first, second", of="it", tensors=[0, 1])
    assert first.tolist() == [1] and second.tolist() == [0]


@pytest.mark.parametrize(
    "got, words",
    [
        ("ab", "two things: first, second"),
        ({"a": 1, "b": 2}, "two things: first, second"),
        ((1, 2, 3), "two things: first, second"),
        (torch.tensor(1.0), "two things: first, second"),
        (torch.ones(3), "two things: first, second"),
        ((torch.ones(1), 1), "the second of the two things that it returns, second, is a tensor"),
        (([1], torch.ones(1)), "the first of the two things that it returns, first, is a tensor"),
    ],
)
def test_what_is_not_two(got, words):
    with pytest.raises(Wrong, match=words) as info:
        two(got, "first, second", of="it", tensors=[0, 1])
    assert "return first, second" in info.value.lines["hint"]
    if isinstance(got, torch.Tensor):
        assert f"shape {tuple(got.shape)}" in info.value.lines["found"]
    assert ("torch.stack" in info.value.lines["hint"]) == (isinstance(got, tuple) and got[0] == [1])


def test_a_generator_that_fails_only_when_it_is_asked():
    with pytest.raises(Wrong, match="it runs without an error") as info:
        two(map(int, "ab"), "first, second", of="it")
    assert "ValueError: invalid literal" in info.value.lines["found"]


@pytest.mark.parametrize(
    "y, found",
    [
        (lambda x: x.detach() * x.detach(), "no gradient"),
        (lambda x: x * x.detach(), "[1, 1] instead of [2, 2]"),
    ],
)
def test_gradients_that_do_not_arrive(y, found):
    x, z = torch.ones(1, 2).requires_grad_(), torch.ones(1, 2)
    assert same_gradients(x * x, x * x, {"x": x}, of="it") is None
    assert same_gradients((x * x, x), (x * x, x), {"x": x}, of="it") is None
    with pytest.raises(Wrong, match="gradients reach x") as info:
        same_gradients((z, y(x)), (z, x * x), {"x": x}, of="it")
    assert info.value.lines["found"] == found
