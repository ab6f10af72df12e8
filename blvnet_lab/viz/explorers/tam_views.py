"""Views 1 and 2 of `TamExplorer`, the network and the channels of a TAM: functions of plain data.

A picture is an array (H, W, 4) uint8 on a transparent ground, a text is HTML with the colours of
the page it is on.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor

from blvnet_lab.introspect.taps import tap_name
from blvnet_lab.viz.images import LABEL_GREY, LABEL_PX, font, score_bars
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY, ROLE_COLOURS, coloured

WIDTH = 824  # of the widest pictures, in pixels: a notebook beside JupyterLab's side bar
LABELS = 64  # left of strips and tiles, in pixels
ROLE_WORDS = {
    "looks_back": "mainly earlier maps",
    "looks_ahead": "mainly later maps",
    "differences": "takes maps from one another",
    "averages": "earlier and later alike",
    "keeps": "mainly the map itself",
    "silent": "nothing gets through the ReLU",
    "mixed": "none of the others",
}


def tap_names(num_taps: int, first_offset: int) -> list[str]:
    """The names of a TAM's taps, the earliest first; `first_offset` is the first one's."""
    return [tap_name(j, num_taps) for j in range(first_offset, first_offset + num_taps)]


def number(value: float, digits: int = 2) -> str:
    """With a typographic minus, and without one where only zeros are left."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


# ---------------------------------------------------------------- 1 the network


def network_svg(
    roles: Mapping[str, Sequence[str]],
    branched: Collection[str],
    chosen: str,
    edited: Collection[str],
) -> str:
    """The stages from left to right with their TAMs, each over its channels' roles and number.

    Args:
        roles: name of a TAM to the roles of its channels.
        branched: the places ("stem", "stage1") where two branches follow the TAM.
        chosen: name of the TAM that is highlighted.
        edited: names of the TAMs that are marked.
    """
    step = WIDTH / len(roles)
    places = [name.partition(".")[0] for name in roles]
    parts = []
    for place, count in Counter(places).items():
        x = places.index(place) * step
        parts.append(
            f"<rect x='{x + 4:.1f}' y='1' width='{count * step - 8:.1f}' height='90' rx='8' "
            "fill='none' stroke='currentColor' opacity='.35'/>"
            f"<text x='{x + 12:.1f}' y='16' font-weight='bold'>{place}</text>"
        )
    for i, (name, of_channels) in enumerate(roles.items()):
        parts.append(_tam(i * step, step, places[i] in branched, name == chosen))
        parts.append(_role_bar(i * step + 12, step - 24, Counter(of_channels)))
        words = f"{len(of_channels)} channels"
        parts.append(f"<text x='{(i + 0.5) * step:.1f}' y='84' text-anchor='middle'>{words}</text>")
        if name in edited:
            place = f"x='{(i + 1) * step - 12:.1f}' y='16' text-anchor='end'"
            parts.append(f"<text {place} font-style='italic'>changed</text>")
    return (
        f"<svg width='{WIDTH}' height='92' font-size='12' font-family='sans-serif' "
        f"fill='currentColor' style='display:block'>{''.join(parts)}</svg>"
    )


def _tam(x: float, width: float, branches: bool, chosen: bool) -> str:
    """A TAM and what follows it, in the column of the drawing that begins at `x`."""
    y, tam, end = 38, x + 34, x + width - 16
    frame = f"stroke='{BLUE}' stroke-width='4'" if chosen else "stroke='currentColor'"
    paths = {GREY: f"M{tam:.0f} {y} H{end:.0f}"}
    if branches:
        paths = {
            BRANCH_COLOURS[branch]: f"M{tam + 16:.0f} {y} C{tam + 32:.0f} {y} {tam + 24:.0f} "
            f"{y + dy} {tam + 40:.0f} {y + dy} H{end - 24:.0f} C{end - 8:.0f} {y + dy} "
            f"{end - 16:.0f} {y} {end:.0f} {y}"
            for branch, dy in (("little", -9), ("big", 9))
        }
    after = "".join(
        f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='4'/>"
        for colour, path in paths.items()
    )
    return (
        f"<path d='M{x:.1f} {y} H{tam:.0f} M{end:.0f} {y} H{x + width:.1f}' stroke='{GREY}' "
        f"stroke-width='2'/>{after}<rect x='{tam - 19:.0f}' y='{y - 12}' width='38' height='24' "
        f"rx='5' style='fill:var(--jp-layout-color0, Canvas)' {frame}/>"
        f"<text x='{tam:.0f}' y='{y + 4}' text-anchor='middle'>TAM</text>"
    )


def _role_bar(x: float, width: float, counts: Mapping[str, int]) -> str:
    total, rects = sum(counts.values()), []
    for role, colour in ROLE_COLOURS.items():
        part = width * counts.get(role, 0) / total
        rects.append(f"<rect x='{x:.1f}' y='60' width='{part:.1f}' height='9' fill='{colour}'/>")
        x += part
    return "".join(rects)


def overview(taps: Mapping[str, Tensor], chosen: str) -> np.ndarray:
    """View 1 where no kernel runs: the taps (r, C) of every TAM as small strips, in their order."""
    side, gap, top = WIDTH // len(taps) - 8, 8, 36
    canvas = Image.new("RGBA", (WIDTH, top + 44))
    pen = ImageDraw.Draw(canvas)
    for i, (name, of_channels) in enumerate(taps.items()):
        x = i * (side + gap) + gap // 2
        for y, text in ((2, name), (17, f"{of_channels.shape[1]} channels")):
            pen.text((x + side / 2, y), text, fill=LABEL_GREY, font=font(), anchor="ma")
        canvas.paste(_stretched(coloured(of_channels, limit=1), side, 36), (x, top))
        if name == chosen:
            pen.rectangle((x - 3, top - 3, x + side + 2, top + 38), outline=BLUE, width=2)
    return np.asarray(canvas)


# ---------------------------------------------------------------- 2 the channels of a TAM


def channel_order(taps: Tensor, roles: Sequence[str]) -> list[int]:
    """The channels of taps (r, C) by role, within a role by the sum of their absolute taps."""
    ranks, sizes = list(ROLE_COLOURS), taps.abs().sum(0).tolist()
    return sorted(range(len(roles)), key=lambda c: (ranks.index(roles[c]), -sizes[c]))


def role_legend(roles: Sequence[str]) -> str:
    """The roles that occur: colour, name, number of channels, meaning."""
    counts = Counter(roles)
    shown = [
        "<span style='white-space:nowrap;margin-right:18px'><span style='display:inline-block;"
        f"width:10px;height:10px;background:{colour}'></span> <b>{role}</b> {counts[role]}: "
        f"{ROLE_WORDS[role]}</span>"
        for role, colour in ROLE_COLOURS.items()
        if counts[role]
    ]
    taps = "Taps: white is 0, red positive, blue negative; full colour at 1 and −1."
    return f"<div style='line-height:18px;font-size:12px'>{' '.join(shown)}<br>{taps}</div>"


def strip(
    taps: Tensor, names: Sequence[str], roles: Sequence[str], order: Sequence[int], chosen: int
) -> np.ndarray:
    """The taps (r, C) of all channels in the given order, full colour at 1 and -1, and the roles.

    Of many channels some share a pixel; the chosen one is always wide enough to be seen.

    Args:
        names: of the r taps.
    """
    row, step, top, least = 15, 17, LABEL_PX + 8, 9  # pixels
    cells = coloured(taps[:, list(order)], limit=1)  # (r, C, 3)
    of_roles = [ImageColor.getrgb(ROLE_COLOURS[roles[channel]]) for channel in order]
    cells = np.concatenate([cells, np.array([of_roles], np.uint8)])  # (r + 1, C, 3)
    count, place = len(order), list(order).index(chosen)
    width = min(WIDTH - LABELS - 4, 28 * count)
    cell = max(least, width / count)
    start = (place + 0.5) * width / count - cell / 2
    left = round(LABELS + min(max(0, start), width - cell))
    right = round(left + cell) - 1
    canvas = Image.new("RGBA", (WIDTH, top + len(cells) * step + 2))
    pen = ImageDraw.Draw(canvas)
    for i, (label, line) in enumerate(zip([*names, "role"], cells, strict=True)):
        y = top + i * step
        pen.text((LABELS - 10, y + row / 2), label, fill=LABEL_GREY, font=font(), anchor="rm")
        canvas.paste(_stretched(line[None], width, row), (LABELS, y))
        pen.rectangle((left, y, right, y + row - 1), fill=tuple(line[place].tolist()))
    bottom = top + len(cells) * step
    pen.rectangle((left - 3, top - 3, right + 3, bottom), outline=BLUE, width=2)
    text = f"channel {chosen}"
    half = font().getlength(text) / 2
    middle = min(max((left + right) / 2, LABELS + half), WIDTH - half)
    pen.text((middle, 0), text, fill=LABEL_GREY, font=font(), anchor="ma")
    return np.asarray(canvas)


def _stretched(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """Sharp boxes; or averages, where there are more pixels than there is room for."""
    way = Image.Resampling.NEAREST if picture.shape[1] <= width else Image.Resampling.BOX
    return Image.fromarray(picture).resize((width, height), way)


# ---------------------------------------------------------------- texts


def heading(number: int, text: str) -> str:
    return (
        f"<div style='font-size:14px;margin-top:8px;line-height:20px'><b>{number}</b>&ensp;{text}"
        "</div>"
    )


def scores_html(
    scores: Sequence[float],
    before: Sequence[float] | None,
    class_names: Sequence[str],
    label: int | None,
    note: str,
) -> str:
    """The class probabilities and the label's, with their changes.

    Args:
        before: with the learned taps; None while nothing is changed.
        label: the true class; None if unknown.
    """
    line = "Class probabilities"
    if label is not None:
        name = html.escape(class_names[label])
        line = f"True class <b>{name}</b>: {100 * scores[label]:.1f} %"
    if before is not None and label is not None:
        change = 100 * (scores[label] - before[label])
        line += (
            f", <b>{'' if number(change, 1).startswith('−') else '+'}{number(change, 1)} points</b>"
        )
    thin = "" if before is None else "Thin bars, and changes in points: with learned taps."
    bars = score_bars(scores, class_names, before=before, true_class=label)
    return f"{small(line)}{bars}{small(thin)}{small(note)}"


def message_html(note: str, changed: Mapping[str, int], channels: Mapping[str, int]) -> str:
    """What a button did, and which taps are not as learned.

    Args:
        changed: TAM to the number of its changed channels.
        channels: TAM to the number of its channels.
    """
    parts = [
        f"{'all ' if count == channels[name] else ''}{count} of {name}"
        for name, count in changed.items()
    ]
    edits = f"Changed channels: {', '.join(parts)}." if parts else "All taps are as learned."
    edits = "Changed: all channels of all TAMs." if changed == channels else edits
    return small(f"{note} {edits}".strip())


def small(text: str) -> str:
    return f"<div style='font-size:12px;line-height:17px'>{text}</div>" if text else ""
