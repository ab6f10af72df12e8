"""Draw a network from the table of its parts: stages from top to bottom, two branches, costs."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from blvnet_lab.viz.figures import new_figure
from blvnet_lab.viz.theme import BRANCH_COLOURS, GREEN, GREY

COLOURS = {"tam": GREEN, "shift": GREEN, **BRANCH_COLOURS}  # all other parts are GREY

# In inches: the axes cover the whole figure, and one of their units is one inch.
WIDTH, HEAD, LEFT = 9.0, 0.95, 1.0
ROW, ROW_OF_BRANCHES = 0.9, 1.2  # heights
BOX, LANE, PLUS, GAP = 0.86, 1.6, 0.26, 0.17  # widths
BOX_HEIGHT, LANE_HEIGHT, APART = 0.64, 0.42, 0.26  # APART: from a row's middle to a lane
BIG_TEXT, TEXT, SMALL_TEXT = 10, 8.5, 7.5  # points


def architecture_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw the network described by a table of parts: each part's output and cost, and cost shares.

    The table is that of `introspect.layer_table`. Consecutive blocks share a box; so do the TAMs of
    a ResNet's stage, drawn before its blocks. TAMs without parameters are TSM's shifts.
    """
    is_shift = (table["part"] == "tam") & (table["parameters"] == 0)
    table = table.assign(part=table["part"].mask(is_shift, "shift"))
    if "big" not in set(table["part"]):  # a ResNet's: one box for the TAMs of a stage's blocks
        stages = pd.factorize(table["stage"])[0]
        table = table.iloc[(2 * stages + (table["part"] == "block")).argsort(kind="stable")]
    names = table[["stage", "part"]]
    boxes = table.assign(count=1).groupby((names != names.shift()).any(axis=1).cumsum())
    boxes = boxes.agg({name: "last" for name in table} | {"macs": "sum", "count": "sum"})
    stages = {name: list(rows.itertuples()) for name, rows in boxes.groupby("stage", sort=False)}
    branched = boxes.loc[boxes["part"] == "big", "stage"].tolist()
    heights = [ROW_OF_BRANCHES if name in branched else ROW for name in stages]
    figure, [axes] = new_figure(WIDTH, HEAD + sum(heights))
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEAD + sum(heights)))
    axes.axis("off")
    top, middles, ends = sum(heights), [], []
    for (name, parts), height in zip(stages.items(), heights, strict=True):
        middles.append(top - height / 2)
        axes.text(0.1, middles[-1], name, fontsize=TEXT, fontweight="bold", va="center")
        if ends:  # a line from the end of the stage above around to the beginning of this one
            path_x = (ends[-1], ends[-1] + 0.1, ends[-1] + 0.1, LEFT - GAP, LEFT - GAP)
            path_y = (middles[-2], middles[-2], top, top, middles[-1])
            axes.plot(path_x, path_y, color=GREY, linewidth=1)
        ends.append(_draw_stage(axes, parts, middles[-1]))
        top -= height
    _draw_bars(axes, list(stages.values()), middles, left=max(ends) + 0.25)
    _draw_head(axes, table, title)
    return figure


def _draw_stage(axes: Axes, parts: list[Any], middle: float) -> float:
    """Draw a stage's parts from left to right; return the x where the last one ends."""
    x, lanes = LEFT, {}
    for part in parts:
        if part.part in BRANCH_COLOURS:  # both begin at the same x
            y = middle + (APART if part.part == "little" else -APART)
            lanes[part.part] = part
            _draw_arrow(axes, (x - GAP, middle), (x, y))
            _draw_box(axes, part, (x, y), LANE, LANE_HEIGHT)
        elif part.part == "merged":
            x += LANE + GAP
            for up in (APART, -APART):
                _draw_arrow(axes, (x - GAP, middle + up), (x + PLUS / 4, middle + up / 4))
            centre = x + PLUS / 2
            axes.text(centre, middle, "+", fontsize=14, ha="center", va="center")
            if lanes["big"].height != part.height:
                axes.text(centre, middle - APART, "enlarged", fontsize=6.5, ha="center", va="top")
            x += PLUS + GAP
        else:
            _draw_arrow(axes, (x - GAP, middle), (x, middle))
            _draw_box(axes, part, (x, middle), BOX, BOX_HEIGHT)
            x += BOX + GAP
    return x - GAP


def _draw_box(axes: Axes, part: Any, place: tuple[float, ...], width: float, height: float) -> None:
    """Write a part's name, output and cost into a box; `place` is the middle of its left edge."""
    x, y = place
    shape = f"round,pad=0,rounding_size={0.2 if COLOURS.get(part.part) == GREEN else 0.03}"
    corner = x, y - height / 2
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, **_look(part.part)))
    name = {"tam": "TAM"}.get(part.part, part.part)
    if part.count > 1:
        name = f"{part.count} {name}s"
    words = [name, f"{part.positions} × {part.channels}"]
    if part.height * part.width > 1:
        words.append(f"× {part.height} × {part.width}")
    text = (" " if width == LANE else "\n").join(words)
    if part.macs:
        text += f"\n{_cost(part.macs)}"
    axes.text(x + width / 2, y, text, fontsize=SMALL_TEXT, ha="center", va="center")


def _draw_bars(axes: Axes, stages: list[list[Any]], middles: list[float], left: float) -> None:
    """Draw each stage's cost as a bar in the colours of its parts, with its percentage."""
    costs = [sum(part.macs for part in parts) for parts in stages]
    scale = (WIDTH - 0.6 - left) / max(costs)
    for parts, middle, cost in zip(stages, middles, costs, strict=True):
        x = left
        for part in parts:
            axes.barh(middle, part.macs * scale, 0.3, left=x, **_look(part.part))
            x += part.macs * scale
        axes.text(x + 0.06, middle, _percent(cost, sum(costs)), fontsize=TEXT, va="center")
    axes.text(left, middles[0] + 0.3, "share of the MACs", fontsize=TEXT, va="center")


def _draw_head(axes: Axes, table: pd.DataFrame, title: str) -> None:
    """Write title, totals and legend."""
    top = axes.get_ylim()[1]
    positions = table.groupby("part")["positions"].max()
    parameters = f"{table['parameters'].sum() / 1e6:.3g} M parameters"
    totals = f"{_cost(table['macs'].sum())} a clip of {positions['conv']} frames, {parameters}"
    heading = f"{title}: {totals}" if title else totals
    axes.text(0.1, top - 0.17, heading, fontsize=BIG_TEXT, va="center")
    shape = "in every box: positions × channels × height × width of its output, and its cost"
    axes.text(0.1, top - 0.43, shape, fontsize=TEXT, va="center")
    others = "other layers" if "big" in positions else "layers"
    labels = {"other": others, "tam": "TAM", "shift": "shift"}
    pairs = positions.get("big", 0) < positions["conv"]
    for branch, first in (("little", 0), ("big", 1)):
        seen = f"frames {first}, {first + 2}, ..." if pairs else "every frame"
        labels[branch] = f"{branch} branch ({seen})"
    kinds = table["part"].where(table["part"].isin(COLOURS), "other")
    costs = table.groupby(kinds)["macs"].sum()
    shares = {kind: f"{labels[kind]}: {_percent(costs[kind], costs.sum())}" for kind in costs.index}
    handles = [Patch(**_look(kind), label=shares[kind]) for kind in labels if kind in shares]
    place = {"loc": "center left", "bbox_to_anchor": (0.1, top - 0.7), "ncols": len(handles)}
    place |= {"columnspacing": 1.2, "borderpad": 0, "borderaxespad": 0, "frameon": False}
    axes.legend(handles=handles, bbox_transform=axes.transData, fontsize=TEXT, **place)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = "-|>,head_width=0.12,head_length=0.2"
    arrow = {"arrowstyle": style, "color": GREY, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=arrow)


def _look(part: str) -> dict:
    colour = COLOURS.get(part, GREY)
    return {"facecolor": to_rgba(colour, 0.3), "edgecolor": colour, "linewidth": 1}


def _cost(macs: float) -> str:
    factor, unit = (1e9, "G") if macs >= 999.5e6 else (1e6, "M") if macs >= 1e5 else (1e3, "k")
    return f"{macs / factor:.3g} {unit}MACs"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g} %"
