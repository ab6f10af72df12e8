"""What the checks are made of: rules that call the learner's function, and one loop over them.

    def keeps_signs(double: Answer) -> None:
        \"""A negative number stays negative.\"""
        require(double(torch.tensor([-1.0])) < 0, "a number of the other sign", "no .abs()")

    check_double = Check(cases("every number is doubled", "x + x", ...), keeps_signs)

The docstring of a rule is the property. Rules go from small inputs to large ones and the check
stops at the first that fails, so the input it shows is the smallest. Rules compare with PyTorch,
with what must hold, or with the answer in `solutions` where that is all our own; never with this
library: its own mistakes would be taken for right.
"""

import contextlib
import copy
import inspect
import io
import random
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blvnet_lab.course.verdicts import (
    Verdict,
    Wrong,
    is_close,
    require,
    same,
    say_difference,
    shortened,
    show_value,
    two,
)

MAX_PRINTED = 1000  # letters that a learner's function may print while it is checked
RUN_IT = "call your function on this input in a cell of its own, and print what it sees"
Rule = Callable[["Answer"], None]
STAY = "what is learned stays in PyTorch: no NumPy, .tolist(), .detach(), .data, torch.no_grad()"


class NotAttempted(Exception):
    """The stub is as it was shipped."""


class Check:
    """Call it with the learner's function: it applies its rules, from the smallest input up.

    Args:
        by: gives what is wanted, of the input; rules made by `cases` and `gradients` use it.
    """

    def __init__(self, *rules: Rule, by: Callable[..., Any] | None = None) -> None:
        self.rules, self.by = rules, by

    def __call__(self, function: Callable) -> Verdict:
        name = getattr(function, "__name__", "your function")
        answer, printed = Answer(function, self.by), io.StringIO()
        python, numpy = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(printed):
                for rule in self.rules:
                    rule(answer)
        except NotAttempted:
            remedy = "replace the line with NotImplementedError by your code, and run both cells"
            return Verdict(name, None, {"to do": remedy})
        except Wrong as wrong:
            lines = {"must hold": wrong.broken or property_of(rule), "for": answer.given}
            return Verdict(name, False, lines | {"found": wrong.found, "hint": wrong.hint})
        finally:  # what the notebook draws afterwards is independent of a check
            random.setstate(python)
            np.random.set_state(numpy)
            sys.stdout.write(shortened(printed.getvalue(), MAX_PRINTED))  # in one piece
        return Verdict(name, True, {"checked": "\n".join(map(property_of, self.rules))})


def property_of(rule: Rule) -> str:
    return " ".join(rule.__doc__.split())


class Answer:
    """The learner's function as rules call it: what goes wrong in a call becomes a verdict."""

    def __init__(self, function: Callable, by: Callable[..., Any] | None = None) -> None:
        self.function, self.by = function, by
        self.given = "the function itself"  # the last input, in words
        self.has_answered = False

    def __call__(
        self,
        *given: Any,
        hint: str = RUN_IT,
        changes: Sequence[Any] = (),
        use: Callable[..., Any] = lambda function, *given: function(*given),
    ) -> Any:
        """Call the function, as `use` does; it must leave all it is given but `changes` alone.

        The `hint` is for an error; the docstring of `use`, if any, is said behind the input.
        """
        kept = [(x, _picture(x)) for x in given if not any(x is other for other in changes)]
        self.given = "; ".join(filter(None, [_named(self.function, given), use.__doc__]))
        result = self.ask(lambda: use(self.function, *given), hint)
        for thing, before in kept:
            if (after := _picture(thing)) != before:
                found, hint = "an input that is changed after the call", "write into a copy of it"
                if isinstance(thing, nn.Module):
                    changed = ", ".join(what for what in before if after[what] != before[what])
                    found = f"a network that is changed after the call: {changed}"
                    hint = "leave it as it is, or undo in `finally` what you have changed"
                raise Wrong(found, hint, broken="what it is given is left as it was")
        if result is None:
            found, hint = "None: is there a `return` at its end?", "end with `return ...`"
            raise Wrong(found, hint, broken="it returns something")
        return result

    def ask(self, call: Callable[[], Any], hint: str) -> Any:
        """Run code of the learner; any error is a verdict."""
        try:
            return call()
        except (Wrong, NotAttempted):  # of a call inside this one
            raise
        except Exception as error:  # whatever a learner's code may raise
            code = getattr(inspect.unwrap(self.function), "__code__", None)
            frames = list(traceback.walk_tb(error.__traceback__))
            # A stub's error says nothing; PyTorch's own errors of that name do.
            if isinstance(error, NotImplementedError) and not error.args:
                raised_in = frames[-1][0].f_code
                if code and raised_in is not code:
                    hint = f"{raised_in.co_name}, which it calls, has still to be written"
                elif self.has_answered:
                    hint = "this input reaches a line of yours that still raises it"
                else:
                    raise NotAttempted from error
            lines = [line - code.co_firstlineno + 1 for f, line in frames if f.f_code is code]
            found = type(error).__name__ + (f": {shortened(str(error))}" if str(error) else "")
            found += f" (line {lines[-1]} of the function)" if lines else ""
            raise Wrong(found, hint, broken="it runs without an error") from error
        finally:
            self.has_answered = True


def _named(function: Any, given: Sequence[Any]) -> str:
    """The input in words, under the names that the learner's function gives it."""
    try:
        values = inspect.signature(function).bind(*given).arguments
    except (TypeError, ValueError):  # no function, or it takes something else
        return shortened(", ".join(map(show_value, given)))
    return shortened(", ".join(f"{name} = {show_value(x)}" for name, x in values.items()))


def cases(broken: str, hint: str, *examples: Sequence[Any]) -> Rule:
    """Make a rule of examples, each what is given; and last what is wanted, where the check has no
    function that says so.
    """

    def rule(answer: Answer) -> None:
        for example in examples:
            *given, wanted = (*example, answer.by(*example)) if answer.by else example
            same(answer(*copy.deepcopy(given)), wanted, hint)

    rule.__doc__ = broken
    return rule


def gradients(*others: Any, **inputs: Tensor) -> Rule:
    """Make a rule: the inputs get the gradients that they should; others follow them."""

    def rule(answer: Answer) -> None:
        leaves, found = [x.clone().requires_grad_() for x in inputs.values()], []
        wanted = answer.by(*leaves, *others)
        for result in (answer(*leaves, *others, hint=STAY), wanted):
            parts = two(result) if isinstance(wanted, tuple) else [result]
            loss = sum(part.square().mean() for part in parts)
            has_graph = loss.requires_grad
            found.append(torch.autograd.grad(loss, leaves, allow_unused=True) if has_graph else ())
        for name, mine, right in zip_longest(inputs, *found):
            require(mine is not None, f"no gradient reaches {name}", STAY)
            if not is_close(mine, right).all():
                raise Wrong(f"the gradient of {name} is {say_difference(mine, right)}", STAY)

    rule.__doc__ = f"gradients reach what is learned, by way of {' and '.join(inputs)}"
    return rule


def deterministic(call: Callable[[Answer], Any]) -> Rule:
    """Make a rule: `call` gets the same again, and the global random generators are left alone."""

    def rule(answer: Answer) -> None:
        """asked again it says the same, and the global random generators are left as they were"""
        results = []
        for seed in (1, 2):
            untouched = _drawn_after(seed, lambda: None)
            found = "the global generator of PyTorch, NumPy or Python is in another state after it"
            hint = "draw from a generator of your own: torch.Generator().manual_seed(seed)"
            drawn = _drawn_after(seed, lambda: results.append(call(answer)))
            require(drawn == untouched, found, hint)
        same(results[1], results[0], hint)

    return rule


def never_seeds(call: Callable[[Answer], Any]) -> Rule:
    """Make a rule: `call` may draw from the global random generators, but not seed them."""

    def rule(answer: Answer) -> None:
        """the global random generators are not seeded"""
        drawn = [_drawn_after(seed, lambda: call(answer)) for seed in (1, 2)]
        found = "the same random numbers after the call, whatever was drawn before"
        hint = "no torch.manual_seed in a function, nor random.seed or np.random.seed"
        require(all(a != b for a, b in zip(*drawn, strict=True)), found, hint)

    return rule


def _drawn_after(seed: int, call: Callable[[], Any]) -> tuple[float, ...]:
    """Seed the global generators, call, and draw from each."""
    for set_seed in (torch.default_generator.manual_seed, random.seed, np.random.seed):
        set_seed(seed)
    call()
    return torch.rand(()).item(), random.random(), np.random.random()


def _picture(thing: Any) -> Any:
    """Return what can be compared later, also after the thing itself has been changed."""
    if isinstance(thing, nn.Module):
        weights = list(thing.parameters())
        return {
            "a weight": _picture([*thing.state_dict().values()]),
            "the requires_grad of a weight": [weight.requires_grad for weight in weights],
            "the .grad of a weight": _picture([weight.grad for weight in weights]),
            "the mode, train() or eval(), of a module": [m.training for m in thing.modules()],
        }
    if isinstance(thing, Tensor):
        return thing.dtype, thing.shape, thing.requires_grad, thing.detach().numpy().tobytes()
    if isinstance(thing, dict):
        return {key: _picture(item) for key, item in thing.items()}
    return [_picture(item) for item in thing] if isinstance(thing, (list, tuple)) else thing
