"""The parts of a check: rules that call the learner's function, and one loop over the rules.

    def keeps_signs(double: Answer) -> None:
        \"""A negative number stays negative.\"""
        require(double(torch.tensor([-1.0])) < 0, "a number of the other sign", "no .abs()")

    check_double = Check(cases("every number is doubled", "x + x", ...), keeps_signs)

A rule's docstring states its property. Rules go from small inputs to large ones, and the check
stops at the first that fails, so the input it shows is the smallest. Rules compare with PyTorch,
with invariants, or with the answer in `solutions` where there is nothing else; never with the rest
of this library, whose mistakes would then count as right.
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

MAX_PRINTED = 1000  # characters shown of what a learner's function prints while it is checked
RUN_IT = "call your function on this input in a cell of its own, and print what it sees"
Rule = Callable[["Answer"], None]
STAY = "compute in PyTorch all the way: no NumPy, .tolist(), .detach(), .data or torch.no_grad()"


class NotAttempted(Exception):
    """The stub is still as shipped."""


class Check:
    """A list of rules, applied to the learner's function from the smallest input up.

    Args:
        by: computes the right answer from the input; rules made by `cases` and `gradients` use it.
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
        finally:  # random numbers drawn later in the notebook do not depend on checks
            random.setstate(python)
            np.random.set_state(numpy)
            sys.stdout.write(shortened(printed.getvalue(), MAX_PRINTED))  # in one piece
        return Verdict(name, True, {"checked": "\n".join(map(property_of, self.rules))})


def property_of(rule: Rule) -> str:
    return " ".join(rule.__doc__.split())


class Answer:
    """The learner's function, wrapped so that whatever goes wrong in a call becomes a verdict."""

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
        """Call the function, by way of `use`; it may change only the inputs listed in `changes`.

        The `hint` is shown for an error; the docstring of `use`, if any, follows the input.
        """
        kept = [(x, _picture(x)) for x in given if not any(x is other for other in changes)]
        self.given = "; ".join(filter(None, [_named(self.function, given), use.__doc__]))
        result = self.ask(lambda: use(self.function, *given), hint)
        for thing, before in kept:
            if (after := _picture(thing)) != before:
                found, hint = "an input that the call has changed", "write into a copy of it"
                if isinstance(thing, nn.Module):
                    changed = ", ".join(what for what in before if after[what] != before[what])
                    found = f"a network that the call has changed: {changed}"
                    hint = "leave it as it is, or undo in `finally` what you have changed"
                raise Wrong(found, hint, broken="its inputs are left unchanged")
        if result is None:
            found, hint = "None: is there a `return` at its end?", "end with `return ...`"
            raise Wrong(found, hint, broken="it returns something")
        return result

    def ask(self, call: Callable[[], Any], hint: str) -> Any:
        """Run the learner's code; any error becomes a verdict."""
        try:
            return call()
        except (Wrong, NotAttempted):  # from a call inside this one
            raise
        except Exception as error:  # a learner's code may raise anything
            code = getattr(inspect.unwrap(self.function), "__code__", None)
            frames = list(traceback.walk_tb(error.__traceback__))
            # A stub's error has no message; PyTorch's own errors of that name have one.
            if isinstance(error, NotImplementedError) and not error.args:
                raised_in = frames[-1][0].f_code
                if code and raised_in is not code:
                    hint = f"{raised_in.co_name}, which it calls, still has to be written"
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
    """Describe the input, under the names of the learner's parameters."""
    try:
        values = inspect.signature(function).bind(*given).arguments
    except (TypeError, ValueError):  # not a function, or it takes other arguments
        return shortened(", ".join(map(show_value, given)))
    return shortened(", ".join(f"{name} = {show_value(x)}" for name, x in values.items()))


def cases(broken: str, hint: str, *examples: Sequence[Any]) -> Rule:
    """Make a rule of examples: inputs and, unless the check has `by`, the right answer last."""

    def rule(answer: Answer) -> None:
        for example in examples:
            *given, wanted = (*example, answer.by(*example)) if answer.by else example
            same(answer(*copy.deepcopy(given)), wanted, hint)

    rule.__doc__ = broken
    return rule


def gradients(*others: Any, **inputs: Tensor) -> Rule:
    """Make a rule: gradients reach the inputs, and are right; `others` are further arguments."""

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

    rule.__doc__ = f"gradients reach {' and '.join(inputs)}, and are right"
    return rule


def deterministic(call: Callable[[Answer], Any]) -> Rule:
    """Make a rule: `call` is repeatable, and leaves the global random generators alone."""

    def rule(answer: Answer) -> None:
        """the same call gives the same result, and leaves the global random generators alone"""
        results = []
        for seed in (1, 2):
            untouched = _drawn_after(seed, lambda: None)
            found = "it changes the state of the global generator of PyTorch, NumPy or Python"
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
    """Take a snapshot of a thing, to be compared with it after a call."""
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
