"""The checks of the exercises: every wrong answer is named, every right one accepted."""

import ast
import html
import importlib
import inspect
import itertools
import re
from contextlib import contextmanager
from operator import attrgetter

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from blvnet_lab import paths
from blvnet_lab.course import checking, exercises, solutions
from blvnet_lab.course.checking import Answer, Check, cases, deterministic, gradients, never_seeds
from blvnet_lab.course.inputs import rand
from blvnet_lab.course.instructor import find_exercises
from blvnet_lab.course.verdicts import Wrong, require, same, show_value
from notebooks import of_exercise

CHECKS = {name: check for name, check in vars(exercises).items() if name.startswith("check_")}
PATHS = sorted(paths.notebooks().glob("*.ipynb"))
NOTEBOOKS = {f"nb{path.name[:2]}": nbformat.read(path, as_version=4) for path in PATHS}
EXERCISES = {number: find_exercises(nb) for number, nb in NOTEBOOKS.items()}
NUMBERS = [number for number, found in EXERCISES.items() if found]  # nb01, nb02, ...
BANK = [importlib.import_module(f"answers.{number}") for number in NUMBERS]
WRONG = [
    pytest.param(name, words, answer, id=f"{name}-{words[:20]}-{i}")
    for bank in BANK
    for name, groups in bank.WRONG.items()
    for words, answers in groups.items()
    for i, answer in enumerate(answers)
]
RIGHT = [
    pytest.param(name, answer, id=f"{name}-{i}")
    for bank in BANK
    for name, answers in bank.RIGHT.items()
    for i, answer in enumerate(answers)
]
every_check = pytest.mark.parametrize("name", [name.removeprefix("check_") for name in CHECKS])


@pytest.mark.parametrize("name, words, answer", WRONG)
def test_a_wrong_answer_is_named(name, words, answer):
    verdict = CHECKS[f"check_{name}"](answer)
    assert verdict.passed is False
    assert words in verdict.lines["must hold"]
    assert all(verdict.lines[line].strip() for line in ("for", "found", "hint"))
    assert len(repr(verdict)) < 1500


@pytest.mark.parametrize("name, answer", RIGHT)
def test_a_right_answer_is_accepted_and_the_notebooks_rng_left_alone(name, answer):
    verdicts = []
    drawn = checking._drawn_after(1, lambda: verdicts.append(CHECKS[f"check_{name}"](answer)))
    assert drawn == checking._drawn_after(1, lambda: None)
    assert verdicts[0] and verdicts[0].lines["checked"].strip(), verdicts[0]


def test_every_check_has_its_answers():
    assert len(CHECKS) == sum(map(len, EXERCISES.values())) >= 24
    assert len(WRONG) >= 300 and len(RIGHT) >= 70
    for full_name, check in CHECKS.items():
        name = full_name.removeprefix("check_")
        assert 1 <= len(check.rules) <= 6, name
        wrong = [words for bank in BANK for words in bank.WRONG.get(name, ())]
        for rule in map(checking.property_of, check.rules):
            assert any(words in rule for words in wrong), f"no answer breaks {name}: {rule}"
        assert sum(len(bank.RIGHT.get(name, ())) for bank in BANK) >= 2, name
        if check.by is not None:  # an answer that is not the library's own
            assert check.by.__module__.startswith("blvnet_lab.course")
            assert not {"shift", "tsm_taps", "partner_accuracy"} & {*check.by.__code__.co_names}
    answers = [parameter.values[-1] for parameter in [*WRONG, *RIGHT]]
    assert len(set(answers)) > 0.95 * len(answers)  # hardly anything is counted twice


@pytest.mark.parametrize(
    "exercise", [*itertools.chain(*EXERCISES.values())], ids=attrgetter("name")
)
def test_a_stub_says_that_it_is_not_attempted(exercise):
    """It runs, its check takes it for unattempted, and it asks for what the solution takes."""
    scope = {"contextmanager": contextmanager}
    exec(exercise.stub.source, scope)
    stub, solution = scope[exercise.name], getattr(solutions, exercise.name)
    verdict = CHECKS[f"check_{exercise.name}"](stub)
    assert verdict.passed is None and "not attempted" in repr(verdict)
    assert [*inspect.signature(stub).parameters] == [*inspect.signature(solution).parameters]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exercise_is_complete(number):
    """Numbers in order; two hints; stub; check; a solution to go on."""
    assert 2 <= len(EXERCISES[number]) <= 6
    cells, module = NOTEBOOKS[number].cells, importlib.import_module(f"blvnet_lab.course.{number}")
    for count, exercise in enumerate(EXERCISES[number], start=1):
        name, place = exercise.name, cells.index(exercise.stub)
        assert exercise.number == f"{int(number[2:])}.{count}" and hasattr(module, f"check_{name}")
        assert cells[place - 1].source.count("<details><summary>Hint") >= 2
        assert exercise.check.source == f"exercises.check_{name}({name})"
        assert "check" in exercise.check.metadata.tags
        later = [c for c in cells[place + 2 :] if c.cell_type == "code" and not of_exercise(c)]
        first_use = next(c for c in later if re.search(rf"\b{name}\b", c.source))
        first = first_use.source.splitlines()[0]
        assert first.startswith("from blvnet_lab.course.solutions import") and name in first


USED = ("checking", "inputs", "verdicts")  # by the checks, and by themselves


@pytest.mark.parametrize("number", [*NUMBERS, *USED])
def test_checks_use_nothing_of_the_library(number):
    """Otherwise a mistake of the library would be right by definition."""
    module = importlib.import_module(f"blvnet_lab.course.{number}")
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blvnet_lab"):
            names = {alias.name for alias in node.names}
            assert node.module.removeprefix("blvnet_lab.course.") in USED or names == {"solutions"}
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("blvnet_lab") for alias in node.names)


X = torch.tensor([1.0, 2.0])
check_double = Check(cases("it is doubled", "add x to itself", (X,)), by=lambda x: x + x)


def stub_double(x):
    raise NotImplementedError


def silent_error(x):
    raise ValueError


def shows_html(x):
    raise ValueError("<b>" + "long " * 1000)


def not_for_this_kind(x):
    """PyTorch's own error of that name: an attempt."""
    return x.int().softmax(0)


def test_what_a_verdict_says():
    for answer, words in (
        (lambda x: x + 1, ["not right yet", "it is doubled", "x = [1, 2]", "[2, 3] instead of"]),
        (lambda x: None, ["it returns something", "return"]),
        (lambda x: [2.0, 4.0], ["it is doubled", "type list", "return a tensor"]),
        (lambda x: (2 * x)[:1], ["it is doubled", "(1,) instead of (2,)", "axis"]),
        (lambda x: (2 * x).int(), ["it is doubled", "torch.int32 instead of torch.float32"]),
        (lambda x: x.add_(x), ["left unchanged", "the call has changed"]),
        (lambda x: x[7], ["runs without an error", "IndexError", "line 1 of the function"]),
        (7, ["runs without an error", "'int' object is not callable"]),
        (stub_double, ["not attempted yet", "NotImplementedError"]),
        (not_for_this_kind, ["runs without an error", "not implemented for 'Int'"]),
        (silent_error, ["ValueError (line 2 of the function)"]),
        (shows_html, ["<b>"]),
        (lambda x: stub_double(x), ["runs without an error", "stub_double, which it calls"]),
    ):
        verdict = check_double(answer)
        assert not verdict and len(repr(verdict)) < 1000
        for word in words:
            assert word in repr(verdict)
        assert html.escape(verdict.headline) in verdict._repr_html_()
        assert "<b>" not in verdict._repr_html_()
        assert torch.equal(X, torch.tensor([1.0, 2.0])), "examples cannot be spoiled"


def test_a_right_answer_is_told_what_holds():
    verdict = check_double(lambda x: 2 * x)
    assert verdict and ": right" in repr(verdict) and "it is doubled" in repr(verdict)
    assert "✓" in verdict._repr_html_()


def test_rules_go_on_until_one_is_broken():
    calls = []

    def rule(double):
        """it comes second"""
        calls.append(1)
        require(double(X)[0] > 5, X, "more")

    check = Check(cases("it is more", "add", (1, 2)), rule, rule)
    assert check(lambda x: x + 1).lines["must hold"] == "it comes second" and calls == [1]
    assert check(lambda x: x).lines["must hold"] == "it is more" and calls == [1]


TWO = (torch.ones(1), torch.zeros(1))


def test_values_that_are_the_same_and_values_that_differ():
    for got, wanted in (
        ([1, 2], [1.0, 2.0]), (pd.DataFrame({"a": [1]}), [{"a": 1}]), (True, True),
        ({"a": torch.ones(1)}, {"a": [1.0 + 1e-9]}), (torch.tensor([[1.0], [0.0]]), TWO),
        (map(torch.tensor, ([1.0], [0.0])), TWO),
        (torch.tensor([1.0], dtype=torch.float64) + 1e-7, torch.tensor([1.0])),
        (torch.tensor([1], dtype=torch.int32), torch.tensor([1])),
    ):  # fmt: skip
        assert same(got, wanted, "x") is None  # no `Wrong`
    for got, wanted in (
        ([1, 2], [2, 1]), ("1", 1), ({"a": 1}, {"b": 1}), ([1], 1), (1.001, 1), (True, None),
        (TWO[::-1], TWO), ("ab", TWO), ({"a": 1, "b": 2}, TWO), ((1, 2, 3), TWO), (7, TWO),
        (torch.tensor(1.0), TWO), (torch.ones(2).long(), torch.ones(2)),
        (torch.ones(2).long(), torch.ones(2).byte()), ("long " * 1000, "other " * 1000),
    ):  # fmt: skip
        with pytest.raises(Wrong) as info:
            same(got, wanted, "the hint")
        assert 0 < len(info.value.found) < 1000 and info.value.hint


def test_small_values_are_shown_squeezed_large_ones_by_their_first_differing_place():
    wanted = torch.zeros(4, 10)
    got = wanted.clone()
    got[2, 3] = got[3, 1] = 7
    for pair, words in (
        ((got, wanted), "2 of 40 numbers differ, the first at [2, 3]: 7 not 0"),
        ((got[:, None, :2], wanted[:, None, :2]), "[[0, 0], [0, 0], [0, 0], [0, 7]] instead of ["),
        ((["a"] * 30 + ["b"], ["a"] * 31), "the first that differs is number 30: 'b' instead of"),
    ):
        with pytest.raises(Wrong) as info:
            same(*pair, "x")
        assert info.value.found.startswith(words)


def test_values_are_shown_in_short():
    assert "1000 in all" in show_value(list(range(1000)))
    for value in (list(range(1000)), "long " * 1000, [["long " * 1000]], nn.Linear(1, 1), object()):
        assert len(show_value(value)) < 400 and "\n" not in show_value(value)


@every_check
def test_an_unwritten_branch_is_wrong_and_not_unattempted(name):
    calls = []

    def answer(*given):
        calls.append(1)
        if len(calls) > 1:
            raise NotImplementedError
        return getattr(solutions, name)(*given)

    verdict = CHECKS[f"check_{name}"](answer)
    assert verdict.passed is False
    assert "still raises it" in verdict.lines["hint"]
    verdict = CHECKS[f"check_{name}"](lambda *given: None)  # nor is one without a result
    assert verdict.passed is False
    assert any(word in verdict.lines["found"] for word in ("`return`", "context manager"))


def test_what_is_given_is_left_as_it_was():
    for given, change, what in (
        (nn.Linear(2, 1).eval(), lambda net: net.weight.data.add_(1), "a weight"),
        (nn.Linear(2, 1).eval(), lambda net: net.train(), "the mode"),
        (nn.Linear(2, 1), lambda net: net.requires_grad_(False), "requires_grad"),
        (nn.Linear(2, 1), lambda net: setattr(net.weight, "grad", torch.ones(1, 2)), ".grad"),
        (torch.zeros(2), lambda x: x.add_(1), "an input"),
        (torch.zeros(2), lambda x: x.requires_grad_(), "an input"),
        ([1, [2]], lambda x: x[1].append(3), "an input"),
        ({"a": torch.zeros(1)}, lambda x: x["a"].add_(1), "an input"),
    ):
        answer = Answer(lambda thing, numbers, change=change: [change(thing)])
        with pytest.raises(Wrong) as info:
            answer(given, [1])
        assert info.value.broken == "its inputs are left unchanged" and what in info.value.found
        Answer(lambda thing, numbers: [thing])(given, [1])
        Answer(lambda thing: [thing.train()])(net := nn.ReLU().eval(), changes=[net])


def test_what_an_answer_prints_is_cut(capsys):
    """Some are called thousands of times."""

    def answer(*given):
        print("here I am")
        return solutions.crop_clip(*given)

    assert exercises.check_crop_clip(answer)
    shown = capsys.readouterr().out
    assert shown.startswith("here I am") and 500 < len(shown) < 1200 and shown.endswith("...")


def test_gradients_that_do_not_arrive():
    check = Check(gradients(x=rand(1, 2)), by=lambda x: x * x)
    assert check(lambda x: x * x)
    for y, words in (
        (lambda x: x.detach() * x.detach(), "no gradient"),
        (lambda x: x * x.detach(), "the gradient of x is"),
    ):
        verdict = check(y)
        assert "gradients reach" in verdict.lines["must hold"] and words in verdict.lines["found"]


def test_the_global_generators():
    def draws(x):
        return torch.rand(()) + np.random.rand()

    def seeds(x):
        np.random.seed(0)
        return x

    alone = Check(deterministic(lambda answer: answer(1)))
    unseeded = Check(never_seeds(lambda answer: answer(1)))
    assert "changes the state" in alone(draws).lines["found"]
    assert "the same random numbers" in unseeded(seeds).lines["found"]
    assert alone(lambda x: x)
    numbers = itertools.count()
    assert "instead of 0" in alone(lambda x: next(numbers)).lines["found"]
