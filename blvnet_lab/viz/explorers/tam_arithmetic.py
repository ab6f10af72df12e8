"""View 3 of `TamExplorer`: what a TAM computes for one channel at one position, step by step.

*Positions* are what a TAM sums over: frames, or in stage 4 pairs of frames. `kind` says which:

    frames   the stem's: every frame has a map of its own
    twins    stages 1 to 3: frames again, but the two of a pair hold the same map
    pairs    stage 4: one map for every pair
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from blvnet_lab.models.tam import weighted_sum
from blvnet_lab.viz.explorers.tam_views import LABELS, WIDTH, number, small, tap_names
from blvnet_lab.viz.images import LABEL_GREY, font
from blvnet_lab.viz.theme import BRANCH_COLOURS, branch_of, coloured

Kind = Literal["frames", "twins", "pairs"]
KEY_STEPS = 101  # colours in the colour key


class Arithmetic(NamedTuple):
    """One channel at one position; maps are (H, W). None: beyond the clip's ends, counts as 0."""

    taps: Tensor  # (r,)
    first_offset: int  # of the first tap: its map stands so many positions from this one
    maps: list[Tensor | None]  # r of them, the earliest first
    products: list[Tensor | None]  # tap x map
    total: Tensor
    result: Tensor  # after ReLU
    pixel: tuple[int, int]  # where the result is largest (the sum's size, if it is 0 all over)


def arithmetic(maps: Tensor, taps: Tensor, first_offset: int, position: int) -> Arithmetic:
    """The equation of the TAM at one position of one channel.

    Args:
        maps: (T or P, H, W).
        taps: (r,), the first of them at `first_offset` from the position.
    """
    places = range(position + first_offset, position + first_offset + len(taps))
    near = [maps[place] if 0 <= place < len(maps) else None for place in places]
    products = [None if x is None else tap * x for tap, x in zip(taps, near, strict=True)]
    total = torch.stack([x for x in products if x is not None]).sum(0)
    result = total.relu()
    strongest = int((result if result.any() else total.abs()).argmax())
    pixel = divmod(strongest, total.shape[1])
    return Arithmetic(taps, first_offset, near, products, total, result, pixel)


def aggregated(maps: Tensor, taps: Tensor, first_offset: int) -> Tensor:
    """One channel's maps (T or P, H, W) after a TAM with taps (r,): same shape."""
    x = maps[None, :, None]  # (1, T, 1, H, W)
    return torch.relu(weighted_sum(x, taps[:, None], first_offset))[0, :, 0]


def position_name(position: int, kind: Kind) -> str:
    """Such as "frame 3 (big, pair 1)"."""
    if kind == "pairs":
        return f"pair {position}"
    return f"frame {position} ({branch_of(position)}, pair {position // 2})"


def digits_for(limit: float) -> int:
    """Decimals that tell maps apart whose largest value is `limit`: 2, or more below 1."""
    return 2 + max(0, -math.floor(math.log10(limit)))


def in_numbers(steps: Arithmetic, limit: float) -> str:
    """The arithmetic at the marked pixel, as HTML; `limit`: the largest value in the maps."""
    digits = digits_for(limit)
    terms = ""
    for i, (tap, x) in enumerate(zip(steps.taps.tolist(), steps.maps, strict=True)):
        value = 0.0 if x is None else x[steps.pixel].item()
        terms += f"{_term(tap, leads=not i)} × {number(value, digits)}"
    total, result = steps.total[steps.pixel].item(), steps.result[steps.pixel].item()
    row, column = steps.pixel
    dead = "" if any(x is not None and x.any() for x in steps.maps) else " All maps here are 0."
    return (
        f"<div style='font-size:13px;line-height:20px'>Marked pixel, row {row}, column {column}: "
        f"<b>{terms} = {number(total, digits)}</b> → ReLU <b>{number(result, digits)}</b> "
        f"<span style='opacity:.7'>(rounded){dead}</span></div>"
    )


def _term(tap: float, leads: bool) -> str:
    """A tap in a sum: "−0.02" where it leads, else " − 0.02" or " + 0.02"."""
    if leads:
        return number(tap)
    return f" − {number(-tap)}" if number(tap).startswith("−") else f" + {number(tap)}"


def pair_taps_html(
    pair_taps: tuple[Tensor, Tensor, int, int] | None, channel: int, position: int, kind: Kind
) -> str:
    """What the taps of a channel amount to on pairs, with the line of the chosen frame in bold.

    Args:
        pair_taps: as `PairTAM.pair_taps` gives them; None where maps are no twins.
    """
    if kind == "frames":
        return small("Every frame has a map of its own here: the taps are what they do.")
    if kind == "pairs":
        return small(
            "There is one map a pair here: taps reach other pairs, as they reach other frames "
            "elsewhere, and are what they do."
        )
    little, big, first_little, first_big = pair_taps
    lines = []
    for branch, taps, first in (("little", little, first_little), ("big", big, first_big)):
        weight = "bold" if branch_of(position) == branch else "normal"
        terms = ""
        for i, tap in enumerate(taps[:, channel].tolist()):
            offset = f"{first + i:+d}".replace("-", "−") if first + i else ""
            terms += f"{_term(tap, leads=not i)} × pair k{offset}"
        lines.append(
            f"<div style='font-weight:{weight}'><span style='color:{BRANCH_COLOURS[branch]}'>■"
            f"</span> {branch} frame of pair k: {terms}</div>"
        )
    return small(
        "Both frames of a pair hold the same map here. Taps that reach the same pair add up; "
        f"<i>effective pair taps</i> of this channel:{''.join(lines)}"
    )


# ---------------------------------------------------------------- the arithmetic as pictures


class _Sheet:
    """A transparent picture with places for tiles in columns."""

    def __init__(self, columns: int, shape: tuple[int, int], tile_px: int, gap_px: int):
        self.side, self.gap = tile_px, gap_px
        self.high = round(tile_px * shape[0] / shape[1])
        self.rows = (40, 40 + self.high + 30)  # y of the maps and of their products
        width = LABELS + columns * (tile_px + gap_px) - gap_px + 6
        self.canvas = Image.new("RGBA", (width, self.rows[1] + self.high + 6))
        self.pen = ImageDraw.Draw(self.canvas)

    def x(self, column: int) -> int:
        return LABELS + column * (self.side + self.gap)

    def middle(self, column: int) -> float:
        return self.x(column) + self.side / 2

    def text(self, x: float, y: float, words: str, size: int = 12, anchor: str = "mm") -> None:
        self.pen.text((x, y), words, fill=LABEL_GREY, font=font(size), anchor=anchor)

    def tile(
        self, column: int, y: int, x: Tensor | None, limit: float, pixel: tuple[int, int]
    ) -> None:
        """A map in colours with a box around a pixel; an empty 0 where there is none."""
        left, box = self.x(column), (self.x(column), y, self.x(column) + self.side, y + self.high)
        if x is None:
            self.pen.rectangle(box, outline=LABEL_GREY)
            self.text(self.middle(column), y + self.high / 2, "0", size=20)
            return
        shown = Image.fromarray(coloured(x, limit))
        way = Image.Resampling.BOX if x.shape[1] > self.side else Image.Resampling.NEAREST
        self.canvas.paste(shown.resize((self.side, self.high), way), (left, y))
        wide, high = self.side / x.shape[1], self.high / x.shape[0]
        grow = max(0, 6 - wide) / 2  # a box of at least 6 pixels
        edges = (
            round(left + pixel[1] * wide - grow),
            round(y + pixel[0] * high - grow),
            round(left + (pixel[1] + 1) * wide + grow),
            round(y + (pixel[0] + 1) * high + grow),
        )
        # Two lines, for the maps' colours go from very dark to white.
        self.pen.rectangle(edges, outline="white", width=2)
        self.pen.rectangle(edges, outline="black", width=1)


def arithmetic_picture(steps: Arithmetic, position: int, kind: Kind, limit: float) -> np.ndarray:
    """The maps, below them tap x map, their sum and what the ReLU leaves, as tiles.

    Args:
        limit: what is shown in full red; -limit is full blue.
    """
    r = len(steps.taps)
    gap = 36 if r <= 3 else 30
    side = min(84, (WIDTH - LABELS - 6 + gap) // (r + 2) - gap)
    beyond, tap_px = ("beyond the clip", 13) if r <= 5 else ("beyond", 10)  # as there is room
    sheet = _Sheet(columns=r + 2, shape=tuple(steps.total.shape), tile_px=side, gap_px=gap)
    above, below = sheet.rows
    sheet.text(LABELS - 12, above + sheet.high / 2, "map", anchor="rm")
    sheet.text(LABELS - 12, below + sheet.high / 2, "tap ×\nmap", anchor="rm")
    for i, name in enumerate(tap_names(r, steps.first_offset)):
        place, x = position + steps.first_offset + i, sheet.x(i)
        if kind != "pairs" and steps.maps[i] is not None:
            edge = (x - 3, above - 3, x + side + 2, above + sheet.high + 2)
            sheet.pen.rectangle(edge, fill=BRANCH_COLOURS[branch_of(place)])
        sheet.tile(i, above, steps.maps[i], limit, steps.pixel)
        sheet.tile(i, below, steps.products[i], limit, steps.pixel)
        caption = f"pair {place}" if kind == "pairs" else f"frame {place}"
        caption = beyond if steps.maps[i] is None else caption
        sheet.text(sheet.middle(i), 28, caption)
        tap = f"× {number(steps.taps[i].item())} ({name.replace('-', '−')})"
        sheet.text(sheet.middle(i), below - 15, tap, tap_px)
        sheet.text(x - gap / 2, below + sheet.high / 2, "+" if i else "", 20)
    if kind == "twins":
        for pair, first, last in _pairs(steps, position):
            left, right = sheet.x(first), sheet.x(last) + side - 1
            sheet.pen.line((left, 18, right, 18), fill=LABEL_GREY)
            words = f"one map: pair {pair}" if first < last else f"pair {pair}"
            sheet.text((left + right) / 2, 9, words)
    y, after_sum, arrow = below + sheet.high / 2, sheet.x(r) + side, sheet.x(r + 1) - 5
    sheet.text(sheet.x(r) - gap / 2, y, "=", 20)
    sheet.text(after_sum + gap / 2, y - 10, "ReLU", 11)
    sheet.pen.line((after_sum + 5, y, arrow - 6, y), fill=LABEL_GREY, width=2)
    sheet.pen.polygon([(arrow, y), (arrow - 7, y - 4), (arrow - 7, y + 4)], fill=LABEL_GREY)
    for column, (title, x) in enumerate((("sum", steps.total), ("result", steps.result)), start=r):
        sheet.text(sheet.middle(column), below - 15, title, 13)
        sheet.tile(column, below, x, limit, steps.pixel)
    _colour_key(sheet, column=r, limit=limit)
    return np.asarray(sheet.canvas)


def _pairs(steps: Arithmetic, position: int) -> Iterator[tuple[int, int, int]]:
    """(pair, first, last) of the columns whose frames belong to the same pair."""
    start = position + steps.first_offset
    columns = [i for i, x in enumerate(steps.maps) if x is not None]
    for pair in sorted({(start + i) // 2 for i in columns}):
        of_pair = [i for i in columns if (start + i) // 2 == pair]
        yield pair, of_pair[0], of_pair[-1]


def _colour_key(sheet: _Sheet, column: int, limit: float) -> None:
    """What the colours mean, in the free place over the sum and the result."""
    left, width, y = sheet.x(column), 2 * sheet.side + sheet.gap, sheet.rows[0] + sheet.high // 2
    ramp = coloured(np.linspace(-limit, limit, KEY_STEPS, dtype=np.float32)[None], limit)
    sheet.canvas.paste(Image.fromarray(ramp).resize((width, 10)), (left, y - 14))
    end = number(limit, digits_for(limit))
    for share, words, anchor in ((0, f"−{end}", "lm"), (0.5, "0", "mm"), (1, end, "rm")):
        sheet.text(left + share * width, y + 6, words, 11, anchor)
