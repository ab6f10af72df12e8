"""Pictures (H, W, 4) and texts (HTML) for `TamExplorer`, from the network to the arithmetic.

A TAM sums over *positions*, of one of four kinds:

    frames   in a ResNet: every frame has a map of its own
    routed   in the stem: the same, and the frame goes to the little or the big branch
    twins    in stages 1 to 3: frames again, but the two frames of a pair have the same map
    pairs    in stage 4: one map for every pair
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Literal

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from blvnet_lab.models.tam import weighted_sum
from blvnet_lab.viz import images
from blvnet_lab.viz.images import LABEL_GREY, LABEL_PX, Sheet, digits_for, number
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY, ROLE_COLOURS, branch_of, coloured

Kind = Literal["frames", "routed", "twins", "pairs"]
WIDTH = 824  # of the widest pictures, in pixels: a notebook beside JupyterLab's side bar
LABELS = 64  # left of strips and tiles, in pixels
MAP_PX = 58  # largest width of a map among all positions
FEW_TAMS = 10  # up to which there is room for words beside each other
MAX_POSITIONS = 16  # more would be too small to see
Pair = tuple[int, int]  # of pixels: x and y, width and height
Roles = Mapping[str, Sequence[str]]  # of each TAM's channels
Scores = Sequence[float] | None
NOT_RUN = "No clip, or taps alone: nothing is run, no class is named, and the maps are an example."
RANKS = list(ROLE_COLOURS)  # the order in which roles are shown
ROLE_WORDS = {
    "looks_back": "mainly earlier maps",
    "looks_ahead": "mainly later maps",
    "differences": "takes maps from one another",
    "averages": "earlier and later alike",
    "keeps": "mainly the map itself",
    "silent": "nothing gets through the ReLU",
    "mixed": "none of the others",
}


def network_picture(
    roles: Roles, branched: Collection[str], chosen: str, edited: Collection[str], what: str
) -> np.ndarray:
    """Draw the stages from left to right with their TAMs, each over its channels' roles.

    `branched` are the places ("stem", "stage1") where two branches follow the TAM; a ResNet has
    none, but a shortcut around each TAM.
    """
    sheet, step = Sheet(WIDTH, 92), WIDTH / len(roles)
    wide = len(roles) <= FEW_TAMS  # with room for words
    left, right, rim = (15, 53, 12) if wide else (step / 5, step * 4 / 5, 2)
    places = [name.partition(".")[0] for name in roles]
    for place, count in Counter(places).items():
        x = places.index(place) * step
        box = (x + rim // 3, 1, x + count * step - rim // 3 - 1, 90)
        sheet.pen.rounded_rectangle(box, radius=8, outline=LABEL_GREY)
        sheet.text(x + max(rim, 5), 12, place, "lm", size=13 if wide else 11)
    for i, (name, of_channels) in enumerate(roles.items()):
        x, y, after, end = i * step, 38, i * step + right, (i + 1) * step - 14
        sheet.pen.line((x, y, x + step, y), fill=GREY, width=2)
        if not branched:
            near, far = x + left / 2, x + step - left / 2
            sheet.pen.line((near, y, near, 22, far, 22, far, y), fill=GREY, width=2)
        if places[i] in branched:
            sheet.pen.rectangle((after + 10, y - 2, end - 8, y + 2), fill=(0, 0, 0, 0))
            for colour, dy in zip(BRANCH_COLOURS.values(), (-9, 9), strict=True):
                lane = [(after, y), (after + 10, y), (after + 18, y + dy)]
                lane += [(end - 16, y + dy), (end - 8, y), (end, y)]
                sheet.pen.line(lane, fill=colour, width=4, joint="curve")
        edge = {"outline": BLUE, "width": 4} if name == chosen else {"outline": LABEL_GREY}
        box = (x + left, y - 12, after, y + 12)
        sheet.pen.rounded_rectangle(box, radius=5, fill=(0, 0, 0, 0), **edge)
        colours = _role_colours(sorted(of_channels, key=RANKS.index))
        sheet.paste(colours[None], round(x) + rim, 60, (round(step) - 2 * rim, 9))
        if wide:
            sheet.text(x + 34, y, what)
            sheet.text(x + step / 2, 80, f"{len(of_channels)} channels")
        if name in edited:
            words, y = ("changed", 12 if branched else 54) if wide else ("*", 80)
            sheet.text(x + step - rim, y, words, "rm", size=10)
    return sheet.array()


def channel_order(taps: Tensor, roles: Sequence[str]) -> list[int]:
    """Order the channels of taps (r, C) by role, within a role by the sum of absolute taps."""
    sizes = taps.abs().sum(0).tolist()
    return sorted(range(len(roles)), key=lambda c: (RANKS.index(roles[c]), -sizes[c]))


def role_legend(roles: Sequence[str]) -> str:
    """List the roles that occur, with colour, name, number of channels and meaning."""
    shown = "".join(
        "<span style='white-space:nowrap;margin-right:18px'><span style='color:"
        f"{ROLE_COLOURS[role]}'>■</span> <b>{role}</b> {roles.count(role)}: {words}</span> "
        for role, words in ROLE_WORDS.items()
        if role in roles
    )
    taps = "Taps: white is 0, red positive, blue negative; full colour at 1 and −1."
    return small(f"{shown}<br>{taps}")


def strip(
    taps: Tensor, names: Sequence[str], roles: Sequence[str], order: Sequence[int], chosen: int
) -> np.ndarray:
    """Draw the taps (r, C) of all channels in the given order, and their roles.

    Colours are full at 1 and -1. If there are many channels, some are left out; the chosen one is
    always wide enough to be seen.
    """
    count, place, top, step = len(order), list(order).index(chosen), LABEL_PX + 8, 17
    width = min(WIDTH - LABELS - 4, 28 * count)
    places = np.arange(width) * count // width  # of the channel that each column of pixels shows
    cell = max(9, width / count)
    left = round(min(max(0, (place + 0.5) * width / count - cell / 2), width - cell))
    right = left + round(cell)
    places[left:right] = place
    shown = [order[i] for i in places]
    cells = [*coloured(taps[:, shown], limit=1), _role_colours([roles[c] for c in shown])]
    bottom = top + len(cells) * step
    sheet = Sheet(WIDTH, bottom + 2)
    for i, (label, line) in enumerate(zip((*names, "role"), cells, strict=True)):
        sheet.text(LABELS - 10, top + i * step + 7.5, label, "rm")
        sheet.paste(line[None], LABELS, top + i * step, (width, step - 2))
    box = (LABELS + left - 3, top - 3, LABELS + right + 2, bottom)
    sheet.pen.rectangle(box, outline=BLUE, width=2)
    sheet.text(LABELS + max((left + right) / 2, 40), 0, f"channel {chosen}", "ma")
    return sheet.array()


def _role_colours(roles: Sequence[str]) -> np.ndarray:
    """Return the colours (n, 3), uint8, of n roles."""
    return np.array([ImageColor.getrgb(ROLE_COLOURS[role]) for role in roles], np.uint8)


class Arithmetic:
    """A TAM's computation for one channel at one position, step by step; maps are (H, W).

    `into` are the channel's maps at all positions, (T or P, H, W); the first of the taps (r,)
    weighs the map at `first_offset` from the position.
    """

    def __init__(
        self, into: Tensor, taps: Tensor, first_offset: int, position: int, kind: Kind
    ) -> None:
        self.into, self.taps, self.first_offset = into, taps, first_offset
        self.position, self.kind = position, kind
        self.unit = "pair" if kind == "pairs" else "frame"
        self.branched = kind in ("routed", "twins")
        first = position + first_offset
        self.places = range(first, first + len(taps))  # the positions that the taps reach
        # None: beyond the ends of the clip, which counts as 0.
        self.maps = [into[i] if 0 <= i < len(into) else None for i in self.places]
        pairs = zip(taps, self.maps, strict=True)
        self.products = [None if x is None else tap * x for tap, x in pairs]
        self.total = torch.stack([x for x in self.products if x is not None]).sum(0)
        self.result = self.total.relu()
        # Row and column where the result is largest (or the sum's size, if the result is all 0).
        strongest = int((self.result if self.result.any() else self.total.abs()).argmax())
        self.pixel = divmod(strongest, into.shape[2])
        self.limit = into.nan_to_num(0, 0, 0).abs().max().item() or 1.0  # shown in full colour

    def after(self, taps: Tensor) -> Tensor:
        """Aggregate the channel's maps with taps (r,): (T or P, H, W)."""
        x = self.into[None, :, None]  # (1, T, 1, H, W)
        return weighted_sum(x, taps[:, None], self.first_offset).relu()[0, :, 0]


def arithmetic_picture(steps: Arithmetic, names: Sequence[str]) -> np.ndarray:
    """Draw the maps as tiles, below them tap x map, their sum and what the ReLU leaves."""
    r, (high, wide), gap = len(steps.taps), steps.total.shape, 36
    side = min(84, (WIDTH - LABELS - 6 + gap) // (r + 2) - gap)
    size, above = (side, round(side * high / wide)), 40
    below = above + size[1] + 30
    sheet = Sheet(LABELS + (r + 2) * (side + gap) - gap + 6, below + size[1] + 6)
    lefts = [LABELS + i * (side + gap) for i in range(r + 2)]
    sheet.text(LABELS - 12, above + size[1] / 2, "map", "rm")
    sheet.text(LABELS - 12, below + size[1] / 2, "tap ×\nmap", "rm")
    for left, place, x in zip(lefts, steps.places, steps.maps, strict=False):
        edge = BRANCH_COLOURS[branch_of(place)] if steps.branched else ""
        _tile(sheet, (left, above), size, x, steps, edge)
        label = "beyond the clip" if x is None else f"{steps.unit} {place}"
        sheet.text(left + side / 2, 28, label)
    taps = zip(map(number, steps.taps.tolist()), names, strict=True)
    titles = [f"× {tap} ({name.replace('-', '−')})" for tap, name in taps] + ["sum", "ReLU(sum)"]
    signs, maps = ["", *"+" * (r - 1), "=", "→"], [*steps.products, steps.total, steps.result]
    for left, title, sign, x in zip(lefts, titles, signs, maps, strict=True):
        _tile(sheet, (left, below), size, x, steps)
        sheet.text(left + side / 2, below - 15, title, size=13)
        sheet.text(left - gap / 2, below + size[1] / 2, sign, size=20)
    if steps.kind == "twins":
        shown = zip(lefts, steps.places, steps.maps, strict=False)
        known = {place: left for left, place, x in shown if x is not None}
        for pair in sorted({place // 2 for place in known}):
            columns = [left for place, left in known.items() if place // 2 == pair]
            first, last = columns[0], columns[-1] + side - 1
            sheet.pen.line((first, 18, last, 18), fill=LABEL_GREY)
            sheet.text((first + last) / 2, 9, f"{'one map: ' if columns[1:] else ''}pair {pair}")
    limit = number(steps.limit, digits_for(steps.limit))
    key = f"white 0, full red {limit},\nfull blue −{limit}"
    sheet.text(lefts[-1] + side, above + size[1] / 2, key, "rm")
    return sheet.array()


def _tile(
    sheet: Sheet, at: Pair, size: Pair, x: Tensor | None, steps: Arithmetic, edge: str = ""
) -> None:
    """Draw a map with a box around the marked pixel, or a plain 0 where there is no map."""
    (left, top), (width, height) = at, size
    if x is None:
        sheet.pen.rectangle((left, top, left + width, top + height), outline=LABEL_GREY)
        sheet.text(left + width / 2, top + height / 2, "0", size=20)
        return
    sheet.paste(coloured(x, steps.limit), left, top, size, edge or None)
    row, column = steps.pixel
    wide, high = width / x.shape[1], height / x.shape[0]
    away, x0, y0 = max(0, 6 - wide) / 2, left + column * wide, top + row * high  # at least 6 pixels
    box = [round(at) for at in (x0 - away, y0 - away, x0 + wide + away, y0 + high + away)]
    # Two lines, since the maps' colours range from very dark to white.
    sheet.pen.rectangle(box, outline="white", width=2)
    sheet.pen.rectangle(box, outline="black", width=1)


def in_numbers(steps: Arithmetic) -> str:
    """Write out the arithmetic at the marked pixel."""
    digits, (row, column) = digits_for(steps.limit), steps.pixel
    *values, total, result = (
        number(0.0 if x is None else x[row, column].item(), digits)
        for x in (*steps.maps, steps.total, steps.result)
    )
    terms = [f"{number(t)} × {x}" for t, x in zip(steps.taps.tolist(), values, strict=True)]
    return (
        f"<div style='font-size:13px;line-height:20px'>Marked pixel, row {row}, column {column}: "
        f"<b>{images.sum_of(terms, total)}</b> → ReLU <b>{result}</b> "
        "<span style='opacity:.7'>(rounded)</span></div>"
    )


def maps_picture(
    steps: Arithmetic, learned: Tensor, frames: Sequence[np.ndarray] | None
) -> np.ndarray:
    """Draw one channel's maps before and after the TAM, at all positions or around the chosen one.

    `learned` are the model's own taps (r,), `frames` the clip's pictures (T, H, W, 3), if any.
    """
    total = len(steps.into)
    count = min(total, MAX_POSITIONS)
    first = min(max(0, steps.position - count // 2), total - count)
    maps = {"in": steps.into, "out, with\nown taps": steps.after(learned)}
    maps["out, with\ntaps as set"] = steps.after(steps.taps)
    rows = {label: list(coloured(x, steps.limit)) for label, x in maps.items()}
    if frames is not None:
        label = "clip\n(1st of pair)" if steps.kind == "pairs" else "clip"
        rows = {label: list(frames)[:: len(frames) // total]} | rows
    shown, gap = range(first, first + count), 10 if count <= 8 else 8
    return images.mosaic(
        {label: row[first : first + count] for label, row in rows.items()},
        column_labels=[f"{steps.unit} {t}" if count <= 8 else str(t) for t in shown],
        edges=[[BRANCH_COLOURS[branch_of(t)] for t in shown]] * len(rows) if steps.branched else (),
        chosen=steps.position - first,
        tile_px=min(MAP_PX, (WIDTH - 110) // count - gap),
        gap_px=gap,
    )


def heading(number: int, text: str) -> str:
    style = "font-size:14px;margin-top:8px;line-height:20px"
    return f"<div style='{style}'><b>{number}</b>&ensp;{text}</div>"


def small(text: str) -> str:
    return f"<div style='font-size:12px;line-height:17px'>{text}</div>"


def score_text(scores: Scores, before: Scores, names: Sequence[str], label: int | None) -> str:
    """Show the class probabilities, and those `before`, with the model's own taps."""
    if scores is None:
        return small(NOT_RUN)
    line = "Class probabilities"
    if label is not None:
        line = f"True class <b>{escape(names[label])}</b>: {100 * scores[label]:.1f} %"
        if before is not None:
            change = f"{100 * (scores[label] - before[label]):+z.1f}".replace("-", "−")
            line += f", <b>{change} points</b>"
    thin = small("Thin bars, and changes in points: with its own taps.") if before else ""
    table = images.score_tables({"": scores}, names, before and {"": before}, label)
    return f"{small(line)}{table}{thin}"


def message_text(note: str, changed: Mapping[str, int], roles: Roles) -> str:
    """Say what a button did, and how many channels of which TAMs have been changed."""
    every = {name: "all " for name, count in changed.items() if count == len(roles[name])}
    parts = [f"{every.get(name, '')}{count} of {name}" for name, count in changed.items()]
    edits = f"Changed channels: {', '.join(parts)}." if parts else "All taps are the model's own."
    return small(f"{note} {edits}".strip())
