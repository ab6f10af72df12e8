"""Pictures for print and for static pages: each function takes plain data, gives a Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from blvnet_lab.viz.images import as_images
from blvnet_lab.viz.theme import (
    BLUE,
    GREEN,
    GREY,
    KIND_COLOURS,
    ORANGE,
    PURPLE,
    SIGNED,
    VERMILLION,
    ink,
)

ACCURACY = "accuracy between partners / %"


def new_figure(
    width: float,
    height: float,
    title: str | None = None,
    *,
    rows: int = 1,
    columns: int = 1,
    framed: bool = False,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Make a figure, in inches, that a notebook shows as the last line of a cell; and its panels.

    Args:
        framed: whether panels have lines on all four sides, not only on the left and below.
        options: of matplotlib's `subplots`.
    """
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)  # else the notebook would show it a second time, on its own account
    with mpl.rc_context({"axes.spines.top": framed, "axes.spines.right": framed}):
        panels = figure.subplots(rows, columns, squeeze=False, **options)
    if title is not None:
        figure.suptitle(title, fontsize=10)
    return figure, list(panels.flat)


def whole_numbers(axes: Axes) -> None:
    """Put ticks of the x axis at whole numbers only."""
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw_signed(axes: Axes, values: Any, limit: float, **options: Any) -> AxesImage:
    """Draw numbers (H, W) from -limit to limit as cells: white is zero, red positive.

    Frames (H, W, 3) keep their own colours.
    """
    colours = {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    return axes.imshow(values, interpolation="nearest", **colours, **options)  # none run together


def contact_sheet(
    frames: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Draw the frames of a clip in rows, (T, 3, H, W) uint8, each with a title and a coloured edge.

    Args:
        titles: T short texts; the frames' numbers if None.
        colours: T colours of the edges; none if None.
        columns: frames in a row.

    Raises:
        ValueError: frames of another shape or type, or none.
    """
    images = as_images(frames)
    count, height, width = images.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    tile = 9 / columns  # inches
    figure, panels = new_figure(
        9, rows * (tile * height / width + 0.27), rows=rows, columns=columns, framed=True
    )
    for axes in panels[count:]:
        axes.axis("off")
    for i, (axes, image) in enumerate(zip(panels, images, strict=False)):
        axes.set(xticks=[], yticks=[])
        axes.imshow(image, interpolation="nearest")
        axes.set_title(titles[i] if titles is not None else str(i), fontsize=8, pad=4)
        thin = {"color": GREY, "linewidth": 0.5}
        axes.spines[:].set(**thin if colours is None else {"color": colours[i], "linewidth": 3})
    return figure


def staircase_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw the accuracy between partners of each model, beside the coin toss.

    Args:
        table: one row per model: "model", "direction %", "order %".
    """
    figure, [axes] = new_figure(8, 3.6)
    places = np.arange(len(table))
    for offset, (kind, colour) in zip((-0.2, 0.2), KIND_COLOURS.items(), strict=True):
        bars = axes.bar(places + offset, table[f"{kind} %"], 0.36, color=colour, label=kind)
        axes.bar_label(bars, fmt="%.0f", fontsize=9, padding=2)
    axes.axhline(50, color=ink(), linestyle="--", linewidth=1)
    axes.annotate("coin toss", (len(table) - 0.55, 51), fontsize=9, va="bottom")
    axes.set_xticks(places, table["model"])
    axes.set(
        xlim=(-0.5, len(table) - 0.15), ylim=(0, 115), yticks=range(0, 101, 25), ylabel=ACCURACY
    )
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper left", ncols=2, frameon=False, title="classes that differ in")
    return figure


def training_figure(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Draw a run, epoch by epoch: loss; accuracy; clips a second, and how much of it was waiting.

    Args:
        history: lines of a run's log: "epoch", "train_loss", and any of "top_1", "top_5",
            "mean_class", "direction", "order", in 0..1. Where "clips_per_second" is in them, and
            "wait_share" (of the time, for clips), they are drawn, too. Lines that lack "train_loss"
            (an epoch 0) are left out; none at all give empty axes.
    """
    styles = {
        "top_1": (BLUE, "o-"),
        "top_5": (GREY, "s--"),
        "mean_class": (PURPLE, "v:"),
        "direction": (ORANGE, "D-."),
        "order": (GREEN, "^-."),
    }
    lines = [line for line in history if "train_loss" in line]
    names = ["epoch", "train_loss", "clips_per_second", "wait_share", *styles]
    table = pd.DataFrame(lines, columns=names)
    timed = table.empty or table["clips_per_second"].notna().any()
    figure, panels = new_figure(10 if timed else 6.7, 3.7, title, columns=3 if timed else 2)
    loss, accuracy = panels[:2]
    # The highest point is not cut off, either.
    loss.plot("epoch", "train_loss", "o-", data=table, color=ORANGE, markersize=4, clip_on=False)
    loss.set(title="loss in training", ylabel="cross-entropy", ylim=(0, None))
    for name, (colour, style) in styles.items():
        scores = table.dropna(subset=name)
        if not scores.empty:
            percent = 100 * scores[name]
            accuracy.plot(scores["epoch"], percent, style, color=colour, markersize=4, label=name)
    accuracy.set(title="accuracy on validation clips", ylabel="accuracy / %", ylim=(0, 103))
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}  # no curve has its place there
    if accuracy.lines:
        accuracy.legend(frameon=False, fontsize=8, ncols=3, **below)
    if timed:
        speed, rates = panels[2], table["clips_per_second"]
        waits = rates * table["wait_share"]
        label = "share that waited for clips"
        speed.bar(table["epoch"], rates, color=GREY, label="clips a second")
        speed.bar(table["epoch"], waits, color=VERMILLION, hatch="//", label=label)
        speed.set(title="throughput", ylabel="clips / s")
        if lines:
            speed.legend(frameon=False, fontsize=8, ncols=2, **below)
    for axes in panels:
        axes.set_xlabel("epoch")
        whole_numbers(axes)
    return figure


def class_bars(probabilities: dict[str, Sequence[float]], class_names: Sequence[str]) -> Figure:
    """Draw the class probabilities of one or more predictions side by side, one panel each.

    Args:
        probabilities: by the prediction's name, one value in 0..1 per class.
    """
    count = len(probabilities)
    figure, panels = new_figure(
        1.8 + 2.4 * count, 0.9 + 0.24 * len(class_names), columns=count, sharey=True
    )
    for axes, (name, values) in zip(panels, probabilities.items(), strict=True):
        percent = 100 * np.array([float(value) for value in values])
        colours = [BLUE if i == percent.argmax() else GREY for i in range(len(percent))]
        axes.barh(range(len(percent)), percent, color=colours)
        axes.set(title=name, xlim=(0, 100), xlabel="probability / %")
        axes.set_yticks(range(len(class_names)), class_names)
    panels[0].invert_yaxis()  # class 0 on top
    return figure


def confusion_figure(matrices: dict[str, Tensor], class_names: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side, each row in percent of its true class.

    Args:
        matrices: by model name, (num_classes, num_classes) counts, rows are true classes.
    """
    count = len(matrices)
    figure, panels = new_figure(1.5 + 3.6 * count, 4.9, columns=count, framed=True, sharey=True)
    ticks = range(len(class_names))
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(matrix, dtype=float)
        percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100)
        for row, column in np.argwhere(percent >= 5):
            value = percent[row, column]
            colour = "white" if value < 47 else "black"  # where both contrast 4.5 to 1
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
        axes.set(title=name, xlabel="predicted class")
        axes.set_xticks(ticks, class_names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(ticks, class_names, fontsize=8)
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="clips of the true class / %", shrink=0.7)
    return figure


def probe_figure(accuracies: dict[str, dict[str, float]], title: str = "") -> Figure:
    """Draw what can be read off at each place in a network: a line per network or control.

    Args:
        accuracies: by the line's name, then by capture point, values in 0..1. The lines may lack
            points; the first one gives the points' order, and points that it lacks follow at the
            end. More than five lines share looks.
    """
    styles = ((BLUE, "o-"), (GREEN, "D-"), (ORANGE, "s-"), (PURPLE, "v--"), (GREY, "^--"))
    points = list(dict.fromkeys(point for line in accuracies.values() for point in line))
    figure, [axes] = new_figure(9, 4)
    for (name, line), (colour, style) in zip(accuracies.items(), cycle(styles), strict=False):
        places = [place for place, point in enumerate(points) if point in line]
        values = [100 * line[points[place]] for place in places]
        axes.plot(places, values, style, color=colour, markersize=4, label=name)
    axes.axhline(50, color=ink(), linestyle=":", linewidth=1)
    beside = axes.get_yaxis_transform()  # the lines leave no place for it among them
    axes.text(1.01, 50, "coin toss", transform=beside, fontsize=9, va="center")
    axes.set_xticks(range(len(points)), points, rotation=60, ha="right", fontsize=8)
    axes.set(ylim=(-4, 105), ylabel=ACCURACY)
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure
