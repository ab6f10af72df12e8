"""The verdicts of checks: how they look, how they show values, and when values count as equal."""

import html
import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

MAX_NUMBERS = 24  # larger values are shown by their size alone
MAX_LETTERS = 300  # characters of an error or a value
TOLERANCE = 1e-5  # relative and absolute: enough for float32, which checks use as notebooks do
ALIKE = {torch.float32, torch.float64}, {torch.int32, torch.int64}  # either one will do

LOOKS = {
    True: ("right", "✓", "#2e7d32"),
    False: ("not right yet", "✗", "#c62828"),
    None: ("not attempted yet", "○", "#757575"),
}


class Wrong(Exception):
    """The answer breaks a rule, or `broken`, a property that all rules demand."""

    def __init__(self, found: str, hint: str, *, broken: str | None = None) -> None:
        super().__init__(found)
        self.found, self.hint, self.broken = found, hint, broken


@dataclass(frozen=True)
class Verdict:
    """The result of a check, shown as a box in a notebook; true if the answer is right."""

    name: str
    passed: bool | None  # None: not attempted
    lines: dict[str, str]

    def __bool__(self) -> bool:
        return self.passed is True

    @property
    def headline(self) -> str:
        return f"{self.name}: {LOOKS[self.passed][0]}"

    def __repr__(self) -> str:
        width = max(map(len, self.lines), default=0)
        rows = [f"  {word:{width}}  {text}" for word, text in self.lines.items()]
        return "\n".join([self.headline, *rows])

    def _repr_html_(self) -> str:
        _, sign, colour = LOOKS[self.passed]
        rows = "".join(
            f'<div style="display:flex"><span style="opacity:.65;flex:0 0 6em">{word}</span>'
            f'<span style="white-space:pre-wrap">{html.escape(text)}</span></div>'
            for word, text in self.lines.items()
        )
        head = f'<strong style="color:{colour}">{sign} {html.escape(self.headline)}</strong>'
        style = f"border-left:4px solid {colour};padding:.4em .8em"
        return f'<div role="status" style="{style}">{head}{rows}</div>'


def show_value(value: Any) -> str:
    """Describe a value in a message: by its numbers if they are few, otherwise by its kind."""
    if isinstance(value, (Tensor, np.ndarray)):
        if math.prod(value.shape) > MAX_NUMBERS:
            return f"values of shape {tuple(value.shape)}"
        return _numbers(value.squeeze().tolist())
    if isinstance(value, (list, tuple)) and len(value) > MAX_NUMBERS:
        return f"{_numbers(plain(value[:3]))[:-1]}, ...], {len(value)} in all"
    text = value.__name__ if inspect.isfunction(value) else _numbers(plain(value))
    return kind(value) if "\n" in text or " at 0x" in text else shortened(text)


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_numbers, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def shortened(text: str, letters: int = MAX_LETTERS) -> str:
    return text if len(text) <= letters else f"{text[:letters]} ..."


def kind(value: Any) -> str:
    """Describe the kind of a value, where another kind was expected."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    length = f" and length {len(value)}" if isinstance(value, (list, tuple)) else ""
    return f"an object of type {type(value).__name__}{length}"


def plain(value: Any) -> Any:
    """Turn tensors, arrays and tables into lists and numbers, tuples into lists."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    if isinstance(value, (Tensor, np.ndarray, np.generic, pd.Series)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def are_equal(a: Any, b: Any) -> bool:
    """Compare plain values."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(are_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(are_equal(a[key], b[key]) for key in a)
    if isinstance(a, Real) and isinstance(b, Real):
        return a == b or math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(a) is type(b) and a == b


def is_close(got: Tensor, wanted: Tensor) -> Tensor:
    """Find where two tensors of the same shape are equal up to rounding."""
    got, wanted = got.detach().double(), wanted.detach().double()
    return torch.isclose(got, wanted, TOLERANCE, TOLERANCE, equal_nan=True)


def say_difference(got: Any, wanted: Any) -> str:
    """Describe a difference: both values if they are small, otherwise the first that differs."""
    if isinstance(got, Tensor) and isinstance(wanted, Tensor) and got.numel() > MAX_NUMBERS:
        apart = ~is_close(got, wanted)
        place = tuple(apart.nonzero()[0].tolist())
        share = f"{int(apart.sum())} of {got.numel()} numbers differ"
        a, b = show_value(got[place]), show_value(wanted[place])
        return f"{share}, the first at {list(place)}: {a} not {b}"
    a, b = plain(got), plain(wanted)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) > MAX_NUMBERS:
        place = next(i for i in range(len(a)) if not are_equal(a[i], b[i]))
        return f"the first that differs is number {place}: {say_difference(a[place], b[place])}"
    shown = [show_value(got), show_value(wanted)]
    if shown[0] == shown[1]:
        shown = [shortened(repr(a)), shortened(repr(b))]
    return " instead of ".join(shown)


def require(holds: Any, found: Any, hint: str) -> None:
    """Raise `Wrong` unless a condition holds; `found` is a text, or a value to be shown."""
    if not holds:
        raise Wrong(found if isinstance(found, str) else show_value(found), hint)


def same(got: Any, wanted: Any, hint: str) -> None:
    """Raise `Wrong` unless `got` is `wanted`, floats up to rounding.

    If a tensor is wanted, it must be one, of the same shape and kind of number; if a tuple is
    wanted, two such things. Otherwise lists, tuples, arrays and tensors are interchangeable.
    """
    if isinstance(wanted, tuple):
        for place, part, right in zip(("first", "second"), two(got), wanted, strict=True):
            try:
                same(part, right, hint)
            except Wrong as wrong:
                raise Wrong(f"{wrong.found} (the {place} of the two)", wrong.hint) from None
    elif not isinstance(wanted, Tensor):
        if not are_equal(plain(got), plain(wanted)):
            raise Wrong(say_difference(got, wanted), hint)
    elif not isinstance(got, Tensor):
        raise Wrong(kind(got), "return a tensor; torch.stack makes one of several")
    elif got.shape != wanted.shape:
        found = f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
        raise Wrong(found, "which axis does an index, a sum or a mean of yours drop, or keep?")
    elif (got.dtype != wanted.dtype) and {got.dtype, wanted.dtype} not in ALIKE:
        hint = "new tensors get the dtype of the old by torch.zeros_like(x), x.new_zeros(shape)"
        raise Wrong(f"numbers of {got.dtype} instead of {wanted.dtype}", hint)
    elif not is_close(got, wanted).all():
        raise Wrong(say_difference(got, wanted), hint)


def two(got: Any) -> tuple[Any, Any]:
    """Unpack the two things that an answer returned; raise `Wrong` unless there are two."""
    gives = isinstance(got, Iterable) and not isinstance(got, (str, dict))
    things = list(got) if gives and getattr(got, "ndim", 1) else [got]
    if len(things) != 2:
        hint = "end with `return first, second`, in the order in which they are asked for"
        raise Wrong(kind(got), hint, broken="it returns two things")
    return things[0], things[1]
