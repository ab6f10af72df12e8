"""The chart of `LiveView`: a row per class, and time runs to the left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from blvnet_lab.viz.images import LABEL_GREY, font
from blvnet_lab.viz.theme import BLUE, GREY

WIDTH = 524  # in pixels: with the frame beside it, the page of a notebook
MOST_ROWS = 10
ROW_PX, BAR_PX = 25, 21  # of them, so many stand for 100 %
NAMES_PX, NUMBERS_PX = 170, 50  # at most for the names; for the numbers at the right
TOP_PX, AXIS_PX = 18, 34
MOST_TICKS = 6


def score_chart(
    times: Sequence[float],
    scores: np.ndarray,
    names: Sequence[str],
    *,
    now: float,
    span: float,
    unit: str,
) -> np.ndarray:
    """What was thought when: (H, W, 4) uint8 on a transparent ground.

    The bars of the class that was the most probable are blue. Of many classes those are shown that
    came highest in this chart.

    Args:
        times: since when each row of scores holds, ascending, the last of them until now.
        scores: (n, num_classes), from 0 to 1; n may be 0.
        names: of the classes.
        now: the time at the right edge.
        span: from the left edge to the right one.
        unit: of all times.
    """
    highest = scores.max(0) if len(scores) else np.zeros(len(names))
    shown = sorted(np.argsort(-highest, kind="stable")[:MOST_ROWS].tolist())
    labels = [_shortened(names[i]) for i in shown]
    left = 12 + max(round(font().getlength(label)) for label in labels)
    right, bottom = WIDTH - NUMBERS_PX, TOP_PX + len(shown) * ROW_PX
    canvas = Image.new("RGBA", (WIDTH, bottom + AXIS_PX))
    pen = ImageDraw.Draw(canvas)

    def x(time: float) -> float:
        return left + (right - left) * max(0.0, 1 - (now - time) / span)

    def text(place: tuple[float, float], words: str, anchor: str) -> None:
        pen.text(place, words, fill=LABEL_GREY, font=font(), anchor=anchor)

    text((left, 1), "probability; a full row is 100 %", "la")
    text((WIDTH - 4, 1), "now", "ra")
    best = scores.argmax(1) if len(scores) else []
    edges = [round(x(time)) for time in [*times, now]]
    for row, (i, label) in enumerate(zip(shown, labels, strict=True)):
        floor = TOP_PX + (row + 1) * ROW_PX - 2
        text((left - 8, floor - BAR_PX / 2), label, "rm")
        pen.line((left, floor, right, floor), fill=GREY)
        for k, (start, end) in enumerate(pairwise(edges)):
            last = end - (2 if end - start > 3 else 1)  # a pixel between two bars, if there is room
            high = round(BAR_PX * float(np.nan_to_num(scores[k, i])))
            if last >= start and high:
                box = (start, floor - high, last, floor - 1)
                pen.rectangle(box, fill=BLUE if i == best[k] else GREY)
        if len(scores):
            text((WIDTH - 4, floor - BAR_PX / 2), f"{100 * scores[-1, i]:.0f} %", "rm")
    for tick in _ticks(max(0.0, now - span), now, span):
        pen.line((x(tick), bottom, x(tick), bottom + 4), fill=LABEL_GREY)
        text((x(tick), bottom + 6), f"{tick:g}", "ma")
    text(((left + right) / 2, bottom + 20), f"time in the video / {unit}", "ma")
    return np.asarray(canvas)


def _shortened(name: str) -> str:
    """As much of a name as there is room for."""
    if font().getlength(name) <= NAMES_PX:
        return name
    while font().getlength(f"{name}…") > NAMES_PX:
        name = name[:-1]
    return f"{name}…"


def _ticks(begin: float, end: float, span: float) -> list[float]:
    """Round numbers from begin to end; their distance depends on the span only."""
    power = 10.0 ** np.floor(np.log10(span / MOST_TICKS))
    step = next(power * m for m in (1, 2, 5, 10) if span <= MOST_TICKS * power * m)
    first, last = int(np.ceil(begin / step - 1e-9)), int(np.floor(end / step + 1e-9))
    return [round(i * step, 9) for i in range(first, last + 1)]
