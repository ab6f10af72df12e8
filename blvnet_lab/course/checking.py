"""What the checks are made of: call the learner's function, and say which property it breaks.

    @check
    def check_double(double):
        x = torch.tensor([1.0, 2.0])
        y = ask(double, x, of="x = [1, 2]")
        same(y, x + x, "every number is doubled", of="x = [1, 2]", hint="add x to itself")
        return "numbers of either sign"

A check goes from small inputs to large ones and stops at the first that fails, so the input it
shows is the smallest. It compares with PyTorch or with what must hold, never with this library:
otherwise a mistake of the library would be taken for right.
"""

from __future__ import annotations

import contextlib
import functools
import html
import inspect
import io
import math
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_NUMBERS = 24  # of a value are shown; of a larger one its size
MOST_LETTERS = 300  # of the text of an error
MOST_PRINTED = 1000  # letters that a learner's function may print while it is checked
RUN_IT = "call your function on this input in a cell of its own, and print what it sees"
STAY = "what is learned stays in PyTorch: no NumPy, .tolist(), .detach(), .data, torch.no_grad()"
_answered: list[str] = []  # the inputs that the check going on has had an answer to
TOLERANCE = 1e-5  # relative and absolute: enough for float32, which the checks give as notebooks do


class NotAttempted(Exception):
    """The stub is as it was shipped."""


class Wrong(Exception):
    """The answer breaks a property; its lines say which, on what input, and what to look at."""

    def __init__(self, broken: str, *, of: str, found: str, hint: str) -> None:
        super().__init__(broken)
        self.lines = {"must hold": broken, "for": of, "found": found, "hint": hint}


@dataclass(frozen=True)
class Verdict:
    """What a check found, shown as a box in a notebook; true if the answer is right."""

    name: str
    passed: bool | None  # None: not attempted
    lines: dict[str, str]

    def __bool__(self) -> bool:
        return self.passed is True

    @property
    def headline(self) -> str:
        if self.passed is None:
            return f"{self.name}: not attempted yet"
        return f"{self.name}: {'right' if self.passed else 'not right yet'}"

    def __repr__(self) -> str:
        width = max(map(len, self.lines), default=0)
        rows = [f"  {word:{width}}  {text}" for word, text in self.lines.items()]
        return "\n".join([self.headline, *rows])

    def _repr_html_(self) -> str:
        colour = {True: "#2e7d32", False: "#c62828", None: "#757575"}[self.passed]
        sign = {True: "✓", False: "✗", None: "○"}[self.passed]
        rows = "".join(
            f'<div style="display:flex"><span style="opacity:.65;flex:0 0 6em">{word}</span>'
            f'<span style="white-space:pre-wrap">{html.escape(text)}</span></div>'
            for word, text in self.lines.items()
        )
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:.4em .8em">'
            f'<strong style="color:{colour}">{sign} {html.escape(self.headline)}</strong>'
            f"{rows}</div>"
        )


def check(function: Callable[..., str]) -> Callable[..., Verdict]:
    """Makes a check of a function that asks, raises `Wrong`, or returns what it has checked."""

    @functools.wraps(function)
    def judged(*answers: Any) -> Verdict:
        name = function.__name__.removeprefix("check_")
        _answered.clear()
        try:
            with state_put_back(), contextlib.redirect_stdout(_Brief(sys.stdout)):
                checked = function(*answers)
        except NotAttempted:
            remedy = "replace the line with NotImplementedError by your code, and run both cells"
            return Verdict(name, None, {"to do": remedy})
        except Wrong as wrong:
            return Verdict(name, False, wrong.lines)
        return Verdict(name, True, {"checked": checked})

    return judged


def ask(
    answer: Callable, *given: Any, of: str, hint: str = RUN_IT, changes: Sequence[Any] = ()
) -> Any:
    """Call the learner's function; what it is given, and PyTorch, must be left as they were.

    Args:
        of: the input in words, for the message.
        hint: if it raises an error.
        changes: what of the given it is meant to change.

    Raises:
        NotAttempted: it is still the stub.
        Wrong: it is no function, raises an error, returns nothing, or leaves something changed.
    """
    if not callable(answer):
        raise Wrong(
            "the answer is a function",
            of=of,
            found=kind(answer),
            hint="give the check the function itself, without calling it",
        )
    to_keep = [thing for thing in given if not any(thing is changed for changed in changes)]
    kept = [_picture(thing) for thing in to_keep]
    settings = _settings()
    try:
        result = answer(*given)
    except (Exception, SystemExit) as error:  # whatever a learner's code may raise
        code = getattr(inspect.unwrap(answer), "__code__", None)
        *_, (raised_in, _) = traceback.walk_tb(error.__traceback__)
        # A stub's error says nothing; PyTorch has errors of that name, too, which say something.
        if isinstance(error, NotImplementedError) and not error.args:
            if code and raised_in.f_code is not code:
                hint = f"{raised_in.f_code.co_name}, which it calls, has still to be written"
            elif _answered:
                hint = "this input reaches a line of yours that still raises NotImplementedError"
            else:
                raise NotAttempted from error
        broken = "it runs without an error"
        raise Wrong(broken, of=of, found=_where(error, code), hint=hint) from error
    _answered.append(of)
    for thing, before in zip(to_keep, kept, strict=True):
        found = "an input that is changed after the call"
        remedy = "make something new (torch.zeros_like, a copy of the list) and write into that"
        if isinstance(thing, nn.Module):
            found = f"a network that is changed after the call: {', '.join(changed(thing, before))}"
            remedy = "leave it as it is, or undo in `finally` what you have changed"
        require(
            _alike(_picture(thing), before),
            "what it is given is left as it was",
            of=of,
            found=found,
            hint=remedy,
        )
    for name, before in settings.items():
        require(
            _settings()[name] == before,
            "PyTorch's settings are left as they were",
            of=of,
            found=f"{name} is {_settings()[name]} after the call",
            hint="change it inside a `with` (torch.no_grad(), torch.enable_grad()), or not at all",
        )
    if result is None:
        found = "None: is there a `return` at its end?"
        raise Wrong("it returns something", of=of, found=found, hint="end with `return ...`")
    return result


def require(holds: bool, broken: str, *, of: str, found: str, hint: str) -> None:
    """Raises `Wrong` unless something holds."""
    if not holds:
        raise Wrong(broken, of=of, found=found, hint=hint)


def same(got: Any, wanted: Any, broken: str, *, of: str, hint: str) -> None:
    """Raises `Wrong` unless `got` is what is wanted, floats up to rounding.

    Where a tensor is wanted it must be one, of the same shape and kind of number. Where numbers,
    strings, or lists, tuples and dictionaries of them are wanted, lists and tuples count as the
    same, and so do arrays and tensors with the same numbers.
    """
    if not isinstance(wanted, Tensor):
        if not _equal(plain(got), plain(wanted)):
            raise Wrong(broken, of=of, found=_differ(got, wanted), hint=hint)
        return
    if not isinstance(got, Tensor):
        raise Wrong(f"it is a tensor ({broken})", of=of, found=kind(got), hint="return a tensor")
    if got.shape != wanted.shape:
        raise Wrong(
            f"the shape is right ({broken})",
            of=of,
            found=f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}",
            hint="which axis does an index, a sum or a mean of yours take away, or leave too many?",
        )
    if _family(got.dtype) != _family(wanted.dtype):
        raise Wrong(
            f"the kind of number is right ({broken})",
            of=of,
            found=f"{got.dtype} instead of {wanted.dtype}",
            hint="new tensors get the dtype of the old by torch.zeros_like(x), x.new_zeros(shape)",
        )
    if not _close(got, wanted).all():
        raise Wrong(broken, of=of, found=_differ(got, wanted), hint=hint)


def two(got: Any, names: str, *, of: str, tensors: Sequence[int] = ()) -> tuple[Any, Any]:
    """The two things that an answer returned, in whatever gives two. Raises `Wrong` otherwise.

    Args:
        names: of the two, as they stand behind `return`.
        tensors: which of them (0, 1) must be tensors.
    """
    no_axis = isinstance(got, (Tensor, np.ndarray)) and got.ndim == 0
    in_order = hasattr(got, "__iter__") and not isinstance(got, (str, dict, set)) and not no_axis
    things = ask(list, got, of=of) if in_order else None  # a generator may fail only now
    if things is None or len(things) != 2:
        found = kind(got) if things is None or isinstance(got, Tensor) else f"{len(things)} things"
        broken = f"it returns two things: {names}"
        raise Wrong(broken, of=of, found=found, hint=f"end with return {names}")
    for i in tensors:
        if not isinstance(things[i], Tensor):
            place, name = ("first", "second")[i], names.split(", ")[i]
            broken = f"the {place} of the two things that it returns, {name}, is a tensor"
            hint = f"end with return {names}, in this order"
            if isinstance(things[i], (list, tuple)):
                hint += "; torch.stack makes one tensor of several"
            raise Wrong(broken, of=of, found=kind(things[i]), hint=hint)
    return things[0], things[1]


def same_gradients(
    got: Tensor | Sequence[Tensor],
    wanted: Tensor | Sequence[Tensor],
    leaves: Mapping[str, Tensor],
    *,
    of: str,
) -> None:
    """Raises `Wrong` unless the leaves learn from `got` what they would learn from `wanted`.

    Args:
        got, wanted: a tensor or several; their loss is a sum of mean squares.
        leaves: each under what it is, and why it needs a gradient.
    """

    def gradients(result: Tensor | Sequence[Tensor]) -> Sequence[Tensor | None]:
        loss = sum(part.square().mean() for part in result)
        if not loss.requires_grad:
            return [None] * len(leaves)
        return torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)

    of = f"{of}: gradients of the mean squares of the result"
    for what, mine, right in zip(leaves, gradients(got), gradients(wanted), strict=True):
        broken = f"gradients reach {what}"
        require(mine is not None, broken, of=of, found="no gradient", hint=STAY)
        same(mine, right, broken, of=of, hint=STAY)


def clip_of(*numbers: float) -> Tensor:
    """One clip of one channel and one pixel, a number for each frame: (1, T, 1, 1, 1)."""
    return torch.tensor(numbers, dtype=torch.float32)[None, :, None, None, None]


def taps_of(*numbers: float) -> Tensor:
    """Taps of a single channel, earliest first: (r, 1)."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def depthwise_conv3d(x: Tensor, taps: Tensor) -> Tensor:
    """Equation 3 without its ReLU, by PyTorch: x (B, T, C, H, W), taps (r, C), r odd."""
    num_taps, channels = taps.shape
    kernel = taps.t().reshape(channels, 1, num_taps, 1, 1)
    padding = (num_taps // 2, 0, 0)
    return F.conv3d(x.transpose(1, 2), kernel, padding=padding, groups=channels).transpose(1, 2)


def state_of(network: nn.Module) -> dict[str, list[Any]]:
    """What somebody may leave behind in a network, by the words of a message."""
    modules, weights = list(network.modules()), list(network.parameters())
    hooks = [[*module._forward_pre_hooks, *module._forward_hooks] for module in modules]
    # One that was replaced and put back is the same function.
    forwards = [id(getattr(module.forward, "__func__", module.forward)) for module in modules]
    return {
        "a weight": _picture([*network.state_dict().values()]),
        "the requires_grad of a weight": [weight.requires_grad for weight in weights],
        "the .grad of a weight": _picture([weight.grad for weight in weights]),
        "the mode, train() or eval(), of a module": [module.training for module in modules],
        "the hooks of a module": hooks,
        "the forward of a module": forwards,
    }


def changed(network: nn.Module, before: Mapping[str, list[Any]]) -> list[str]:
    """What of a network is another than in its `state_of` before."""
    return [what for what, now in state_of(network).items() if not _alike(now, before[what])]


def require_chance_kept(before: tuple[Any, ...], broken: str, *, of: str, hint: str) -> None:
    """Raises `Wrong` unless the `state_of_chance` is what it was before."""
    found = "the dice of PyTorch, NumPy or Python are in another state after the call"
    require(state_of_chance() == before, broken, of=of, found=found, hint=hint)


def require_not_seeded(call: Callable[[], object], broken: str, *, of: str) -> None:
    """Raises `Wrong` if the call begins the chance that all share anew. It may draw from it."""
    chances = []
    for seed in (1, 2):
        for begin in (torch.manual_seed, random.seed, np.random.seed):
            begin(seed)
        call()
        chances.append(state_of_chance()[:3])
    require(
        all(one != other for one, other in zip(*chances, strict=True)),
        broken,
        of=of,
        found="the same random numbers after the call, whatever was drawn before",
        hint="no torch.manual_seed in a function; a torch.Generator() of your own, if you need one",
    )


def state_of_chance() -> tuple[Any, ...]:
    """Of the generators that everybody shares (on the CPU); equal if nobody has used them."""
    of_torch = torch.get_rng_state().numpy().tobytes()
    of_numpy = np.random.get_state(legacy=False)["state"]
    return of_torch, random.getstate(), of_numpy["key"].tobytes(), of_numpy["pos"]


@contextmanager
def state_put_back() -> Iterator[None]:
    """What the notebook draws and computes after a check must not depend on it."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(gradients)


def told(value: Any) -> str:
    """A value in a message: its numbers if they are few, otherwise what it is."""
    if isinstance(value, (Tensor, np.ndarray)):
        if math.prod(value.shape) > MOST_NUMBERS:
            return f"other values (shape {tuple(value.shape)})"
        return _numbers(plain(value.squeeze()))
    if isinstance(value, (list, tuple)) and len(value) > MOST_NUMBERS:
        return f"{_numbers(plain(value[:3]))[:-1]}, ...], {len(value)} in all"
    return _shortened(_numbers(plain(value)))


def kind(value: Any) -> str:
    """What a value is, in a message that expected something else."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"an object of type {type(value).__name__}"


def plain(value: Any) -> Any:
    """Tensors and arrays as lists and numbers, tuples as lists."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _equal(a: Any, b: Any) -> bool:
    """Of plain values."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, int) and isinstance(b, int):  # of any size; as floats they may not fit
        return a == b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a) < 1e300 and math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(a) is type(b) and a == b


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_numbers, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _close(got: Tensor, wanted: Tensor) -> Tensor:
    """Where two tensors of a shape are the same up to rounding, whatever device they are on."""
    got, wanted = got.detach().cpu().double(), wanted.detach().cpu().double()
    return torch.isclose(got, wanted, TOLERANCE, TOLERANCE, equal_nan=True)


def _differ(got: Any, wanted: Any) -> str:
    """What differs: both if they are small, otherwise the first place where they do."""
    if isinstance(got, Tensor) and isinstance(wanted, Tensor) and got.numel() > MOST_NUMBERS:
        apart = ~_close(got, wanted)
        place = tuple(apart.nonzero()[0].tolist())
        share = f"{int(apart.sum())} of {got.numel()} numbers differ"
        return f"{share}, the first at {list(place)}: {told(got[place])} not {told(wanted[place])}"
    a, b = plain(got), plain(wanted)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) > MOST_NUMBERS:
        place = next(i for i in range(len(a)) if not _equal(a[i], b[i]))
        return f"the first that differs is number {place}: {_differ(a[place], b[place])}"
    if told(got) != told(wanted):
        return f"{told(got)} instead of {told(wanted)}"
    shapes = [tuple(x.shape) if isinstance(x, (Tensor, np.ndarray)) else () for x in (got, wanted)]
    if shapes[0] != shapes[1]:
        return f"{told(got)} in the shape {shapes[0]} instead of {shapes[1]}"
    return _shortened(f"{a!r} instead of {b!r}")


def _family(dtype: torch.dtype) -> str:
    """Of float32 and float64 one is as good as the other, and so are whole numbers for places."""
    if dtype in (torch.float32, torch.float64):
        return "float"
    return "whole" if dtype in (torch.int16, torch.int32, torch.int64) else str(dtype)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} ..."


class _Brief(io.TextIOBase):
    """Passes on what is printed, until it is enough: checks call a function many times."""

    def __init__(self, shown: Any) -> None:
        self.shown, self.left = shown, MOST_PRINTED

    def write(self, text: str) -> int:
        if self.left > 0:
            self.shown.write(text[: self.left])
            self.left -= len(text)
            if self.left <= 0:
                self.shown.write("\n... your function prints more than is shown here\n")
        return len(text)

    def flush(self) -> None:
        self.shown.flush()


def _where(error: BaseException, code: Any) -> str:
    """The error, and the line of the learner's function (by its code) that it comes from."""
    lines = [
        line - code.co_firstlineno + 1
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code is code
    ]
    place = f" (line {lines[-1]} of the function)" if lines else ""
    said = f": {_shortened(str(error))}" if str(error) else ""
    return f"{type(error).__name__}{said}{place}"


def _settings() -> dict[str, Any]:
    """What concerns all code that runs afterwards."""
    return {
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
    }


def _picture(thing: Any) -> Any:
    """What can be compared later, also after the thing itself has been changed."""
    if isinstance(thing, nn.Module):
        return state_of(thing)
    if isinstance(thing, Tensor):
        return thing.detach().clone()
    if isinstance(thing, np.ndarray):
        return thing.copy()
    if isinstance(thing, dict):
        return {key: _picture(item) for key, item in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_picture(item) for item in thing]
    return thing


def _alike(now: Any, before: Any) -> bool:
    """Whether tensors, arrays and plain values are as they were; of other objects: yes."""
    if type(now) is not type(before):
        return False
    if isinstance(now, Tensor):
        same_kind = (now.dtype, now.shape) == (before.dtype, before.shape)
        return same_kind and bool(((now == before) | (now != now) & (before != before)).all())
    if isinstance(now, np.ndarray):
        return repr(now.dtype) == repr(before.dtype) and now.tobytes() == before.tobytes()
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(_alike(now[k], before[k]) for k in now)
    if isinstance(now, list):  # tuples, too, are lists in a picture
        return len(now) == len(before) and all(map(_alike, now, before))
    if isinstance(now, (str, int, float, bool, bytes, type(None))):
        return now == before
    return True
