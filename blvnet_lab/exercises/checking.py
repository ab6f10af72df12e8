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

import copy
import functools
import html
import inspect
import math
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MOST_NUMBERS = 24  # of a tensor are shown; of a longer one its shape
RUN_IT = "call your function on this input in a cell of its own, and print what it sees"
TOLERANCE = 1e-6  # relative and absolute: enough for float32, while the checks give float64


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
        try:
            with chance_put_back():
                checked = function(*answers)
        except NotAttempted:
            remedy = "replace the line with NotImplementedError by your code, and run both cells"
            return Verdict(name, None, {"to do": remedy})
        except Wrong as wrong:
            return Verdict(name, False, wrong.lines)
        return Verdict(name, True, {"checked": checked})

    return judged


def ask(answer: Callable, *given: Any, of: str, hint: str = RUN_IT) -> Any:
    """Call the learner's function; what it is given must be left as it was.

    Args:
        of: the input in words, for the message.
        hint: if it raises an error.

    Raises:
        NotAttempted: it is still the stub.
        Wrong: it is no function, raises an error, or changes what it was given.
    """
    if not callable(answer):
        raise Wrong(
            "the answer is a function",
            of=of,
            found=kind(answer),
            hint="give the check the function itself, without calling it",
        )
    kept = copy.deepcopy(given)
    try:
        result = answer(*given)
    except Exception as error:  # whatever a learner's code may raise
        if isinstance(error, NotImplementedError) and not error.args:
            raise NotAttempted from error  # PyTorch's own errors of this kind say something
        raise Wrong(
            "it runs without an error",
            of=of,
            found=_where(error, answer),
            hint=hint,
        ) from error
    if not _alike(given, kept):
        raise Wrong(
            "what it is given is left as it was",
            of=of,
            found="an input that is changed after the call",
            hint="make something new (torch.zeros_like, a copy of the list) and write into that",
        )
    return result


def require(holds: bool, broken: str, *, of: str, found: str, hint: str) -> None:
    """Raises `Wrong` unless something holds."""
    if not holds:
        raise Wrong(broken, of=of, found=found, hint=hint)


def same(got: Any, wanted: Any, broken: str, *, of: str, hint: str) -> None:
    """Raises `Wrong` unless `got` is what is wanted, floats up to rounding.

    Where a tensor is wanted it must be one, of the same shape. Where numbers, strings, or lists,
    tuples and dictionaries of them are wanted, lists and tuples count as the same, and so do
    arrays and tensors with the same numbers.
    """
    if got is None and wanted is not None:
        found = "None: is there a `return` at its end?"
        raise Wrong("it returns something", of=of, found=found, hint="end with `return ...`")
    if not isinstance(wanted, Tensor):
        if not _equal(plain(got), plain(wanted)):
            raise Wrong(broken, of=of, found=f"{told(got)} instead of {told(wanted)}", hint=hint)
        return
    if not isinstance(got, Tensor):
        raise Wrong("it returns a tensor", of=of, found=kind(got), hint="return one tensor")
    if got.shape != wanted.shape:
        found = f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
        raise Wrong(f"the shape is right ({broken})", of=of, found=found, hint=hint)
    if not torch.allclose(got.double(), wanted.double(), TOLERANCE, TOLERANCE, equal_nan=True):
        raise Wrong(broken, of=of, found=f"{told(got)} instead of {told(wanted)}", hint=hint)


def two(got: Any, names: str, *, of: str) -> tuple[Any, Any]:
    """The two things that an answer returned. Raises `Wrong` if it did not."""
    if isinstance(got, (tuple, list)) and len(got) == 2:
        return got[0], got[1]
    found = f"{len(got)} things" if isinstance(got, (tuple, list)) else kind(got)
    broken = f"it returns two things: {names}"
    raise Wrong(broken, of=of, found=found, hint=f"end with return {names}")


def clip_of(*numbers: float) -> Tensor:
    """One clip of one channel and one pixel, a number for each frame: (1, T, 1, 1, 1)."""
    return torch.tensor(numbers, dtype=torch.float64)[None, :, None, None, None]


def taps_of(*numbers: float) -> Tensor:
    """Taps of a single channel, earliest first: (r, 1)."""
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def depthwise_conv3d(x: Tensor, taps: Tensor) -> Tensor:
    """Equation 3 without its ReLU, by PyTorch: x (B, T, C, H, W), taps (r, C), r odd."""
    num_taps, channels = taps.shape
    kernel = taps.t().reshape(channels, 1, num_taps, 1, 1)
    padding = (num_taps // 2, 0, 0)
    return F.conv3d(x.transpose(1, 2), kernel, padding=padding, groups=channels).transpose(1, 2)


def state_of_chance() -> tuple[Any, ...]:
    """Of the generators that everybody shares (on the CPU); equal if nobody has used them."""
    of_torch = torch.get_rng_state().numpy().tobytes()
    of_numpy = np.random.get_state(legacy=False)["state"]
    return of_torch, random.getstate(), of_numpy["key"].tobytes(), of_numpy["pos"]


@contextmanager
def chance_put_back() -> Iterator[None]:
    """A check may draw what it likes: what the notebook draws afterwards must not depend on it."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


def told(value: Any) -> str:
    """A value in a message: its numbers if they are few, otherwise what it is."""
    if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) > MOST_NUMBERS:
        return f"other values (shape {tuple(value.shape)})"
    return _numbers(plain(value.squeeze() if isinstance(value, Tensor) else value))


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


def _where(error: Exception, answer: Callable) -> str:
    """The error, and the line of the learner's function that it comes from."""
    code = getattr(inspect.unwrap(answer), "__code__", None)
    lines = [
        frame.lineno - code.co_firstlineno + 1
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename and frame.name == code.co_name
    ]
    place = f" (line {lines[-1]} of the function)" if lines else ""
    return f"{type(error).__name__}: {error}{place}"


def _alike(now: Any, before: Any) -> bool:
    """Whether tensors, arrays and plain values are as they were; of other objects: yes."""
    if isinstance(now, Tensor):
        return now.shape == before.shape and torch.equal(now, before)
    if isinstance(now, np.ndarray):
        return np.array_equal(now, before)
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(_alike(now[k], before[k]) for k in now)
    if isinstance(now, (list, tuple)):
        return len(now) == len(before) and all(map(_alike, now, before))
    if isinstance(now, (str, int, float, bool, bytes, type(None))):
        return now == before
    return True
