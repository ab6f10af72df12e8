"""Figures for print and static pages: each function takes plain data and returns a Figure."""

import math
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

from blvnet_lab.viz import theme
from blvnet_lab.viz.images import abridged, as_images
from blvnet_lab.viz.theme import BLUE, GREEN, GREY, KIND_COLOURS, ORANGE, PURPLE, SKY, VERMILLION

ACCURACY = "accuracy between partners / %"
METHOD_COLOURS = (GREEN, PURPLE, VERMILLION, SKY)  # of importances, in the order given
LETTERS = 40  # of a class name in a picture, at most
COST_TITLE, TOP_1_TITLE = "one clip, measured / ms", "published top-1 / %"
COST_TICKS = [m * 10**e for e in range(-1, 5) for m in (1, 2, 3, 5, 7)]  # of a logarithmic axis
NAME_HEIGHT = 0.06  # of a model's name, as a share of the panel's height
ASIDE = 1.12  # ratio of the ms where a name stands to the ms of its point


def new_figure(
    width: float, height: float, title: str = "", *, framed: bool = False, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure (sizes in inches) and its panels; a cell's last line shows it in a notebook.

    Framed panels have lines on all four sides; `options` (nrows, ...) are `subplots`'s.
    """
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)  # or the notebook would show it a second time by itself
    with mpl.rc_context({"axes.spines.top": framed, "axes.spines.right": framed}):
        panels = figure.subplots(squeeze=False, **options)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, list(panels.flat)


def number_frames(axes: Axes, count: int, most: int = 32, first: float = 0.0) -> None:
    """Put a tick at every frame, from `first` on, and a number at no more than `most` of them."""
    step = -(-count // most)
    numbers = ["" if t % step else t for t in range(count)]
    axes.set_xticks(np.arange(count) + first, numbers)


def as_label(name: str) -> str:
    """Cut a long name; keep $...$ from being read as a formula, _... from being left out."""
    return " " * name.startswith("_") + abridged(name, LETTERS).replace("$", r"\$")


def room_for(labels: Sequence[str]) -> float:
    """Estimate the inches that labels need beyond those for 22 letters."""
    return 0.075 * max(0, max(map(len, labels)) - 22)


def draw_coin_toss(axes: Axes) -> None:
    """Draw a line at 50 %, with its name on the right, away from the curves."""
    axes.axhline(50, color=theme.ink(), linestyle="--", linewidth=1)
    beside = axes.get_yaxis_transform()
    axes.text(1.01, 50, "coin toss", transform=beside, fontsize=9, va="center")


def draw_signed(axes: Axes, values: Any, limit: float, **options: Any) -> AxesImage:
    """Draw numbers (H, W) as cells, white zero and red positive; frames (H, W, 3) as they are."""
    colours = {"cmap": theme.SIGNED, "vmin": -limit, "vmax": limit}
    return axes.imshow(values, interpolation="nearest", **colours, **options)  # crisp cells


def contact_sheet(
    frames: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Draw the frames (T, 3, H, W) uint8 of a clip in rows, each with a title and a coloured edge.

    The default titles are the frames' numbers.
    """
    images = as_images(frames)
    count, height, width = images.shape[:3]
    columns = min(columns, count)
    rows, tile = -(-count // columns), 9 / columns  # inches
    tall = rows * (tile * height / width + 0.27)
    figure, panels = new_figure(9, tall, nrows=rows, ncols=columns, framed=True)
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
    """Draw each model's accuracy between partners, with the line of the coin toss.

    The table has a row per model: "model", "direction %", "order %", or a column per other kind.
    """
    figure, [axes] = new_figure(8, 3.6)
    kinds = [name[:-2] for name in table if name.endswith(" %") and name != "top_1 %"]
    places, width = np.arange(len(table)), 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        label = f"classes that differ in {kind}" if kind in KIND_COLOURS else kind
        look = {"color": KIND_COLOURS.get(kind, METHOD_COLOURS[place % 4]), "label": label}
        left = places + (place + 0.5) * width - 0.4
        bars = axes.bar(left, table[f"{kind} %"], 0.9 * width, **look)
        axes.bar_label(bars, fmt="%.0f", fontsize=9, padding=2)
    draw_coin_toss(axes)
    axes.set_xticks(places, table["model"])
    axes.set(xlim=(-0.5, len(table) - 0.5), ylim=(0, 120), yticks=range(0, 101, 25))
    axes.set_ylabel(ACCURACY)
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper left", ncols=2, frameon=False)  # above the bars and their numbers
    return figure


def training_figure(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Draw a run, epoch by epoch: loss; accuracy; clips per second, with the share spent waiting.

    The history is the lines of a run's log: "epoch", "train_loss" and, if present, the scores below
    and "largest_class" (the accuracy of always naming the largest class), in 0..1,
    "clips_per_second" and "wait_share" (share of the time spent waiting for clips). Lines without
    "train_loss" (an epoch 0) are left out.
    """
    styles = {
        "top_1": (BLUE, "o-"),
        "map": (BLUE, "o-"),
        "top_5": (GREY, "s--"),
        "mean_class": (PURPLE, "v:"),
        "direction": (ORANGE, "D-."),
        "order": (GREEN, "^-."),
    }
    names = ["epoch", "train_loss", "clips_per_second", "wait_share", "largest_class", *styles]
    table = pd.DataFrame([line for line in history if "train_loss" in line], columns=names)
    rates, below = table["clips_per_second"], {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    timed = table.empty or rates.notna().any()
    figure, panels = new_figure(10 if timed else 6.7, 3.7, title, ncols=3 if timed else 2)
    loss, accuracy, *speed = panels
    # Without clipping, the highest point is drawn whole.
    loss.plot("epoch", "train_loss", "o-", data=table, color=ORANGE, markersize=4, clip_on=False)
    loss.set(title="loss in training", ylabel="cross-entropy", ylim=(0, None))
    for name, (colour, style) in styles.items():
        scores = 100 * table.set_index("epoch")[name].dropna()
        if not scores.empty:
            accuracy.plot(scores, style, color=colour, markersize=4, label=name)
    for level in 100 * table["largest_class"].dropna()[-1:]:
        accuracy.axhline(level, color=theme.ink(), ls="--", lw=1, label="always the largest class")
    accuracy.set(title="accuracy on validation clips", ylabel="accuracy / %", ylim=(0, 103))
    for axes in speed:
        axes.bar(table["epoch"], rates, color=GREY, label="clips a second")
        waits = {"color": VERMILLION, "hatch": "//", "label": "share that waited for clips"}
        axes.bar(table["epoch"], rates * table["wait_share"], **waits)
        axes.set(title="throughput", ylabel="clips / s")
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.locator_params("x", integer=True, min_n_ticks=1)
        if axes is not loss and axes.has_data():  # the legend goes below, away from the curves
            axes.legend(frameon=False, fontsize=8, ncols=2, **below)
    return figure


def timeline_figure(table: pd.DataFrame, top: int = 5, title: str = "") -> Figure:
    """Draw the probabilities, over a video, of the `top` classes that reach the highest values.

    The table has a row per time, indexed by seconds, and a column per class, in 0..1.
    """
    figure, [axes] = new_figure(9, 3.2)
    colours, marks = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, GREY), "osD^vx"
    highest = table.max().sort_values(ascending=False, kind="stable").index[:top]
    for name, colour, mark in zip(highest, cycle(colours), cycle(marks), strict=False):
        axes.plot(table.index, 100 * table[name], mark + "-", c=colour, ms=3, label=as_label(name))
    axes.set(xlabel="time in the video / s", ylabel="probability / %", ylim=(-2, 102))
    axes.set_xlim(left=max(0, axes.get_xlim()[0]))
    axes.set_title(title, fontsize=10)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    return figure


def class_bars(probabilities: dict[str, Sequence[float]], class_names: Sequence[str]) -> Figure:
    """Draw the class probabilities of one or more predictions side by side, one panel each.

    `probabilities` maps a prediction's name to one value in 0..1 per class.
    """
    count, labels = len(probabilities), [*map(as_label, class_names)]
    width, height = 1.8 + 2.4 * count + room_for(labels), 0.9 + 0.24 * len(labels)
    figure, panels = new_figure(width, height, ncols=count, sharey=True)
    for axes, (name, values) in zip(panels, probabilities.items(), strict=True):
        percent = 100 * np.array([float(value) for value in values])
        colours = [BLUE if i == percent.argmax() else GREY for i in range(len(percent))]
        axes.barh(range(len(percent)), percent, color=colours)
        axes.set(title=name, xlim=(0, 100), xlabel="probability / %")
        axes.set_yticks(range(len(labels)), labels)
    panels[0].invert_yaxis()  # class 0 on top
    return figure


def confusion_figure(matrices: dict[str, Tensor], class_names: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side, each row in percent of its true class.

    `matrices` maps a model's name to counts (num_classes, num_classes); rows are true classes.
    Of more than 50 classes, names and numbers are so small that one has to zoom in.
    """
    count, labels = len(matrices), [*map(as_label, class_names)]
    scale, tiny = max(1, min(50, len(labels)) / 16), min(1, 50 / len(labels))
    width, height = (scale * side + room_for(labels) for side in (1.5 + 3.6 * count, 4.9))
    figure, panels = new_figure(width, height, ncols=count, framed=True, sharey=True)
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(matrix, dtype=float)
        percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100)
        for row, column in np.argwhere(percent >= 5):
            value = percent[row, column]
            colour = "white" if value < 47 else "black"  # where both contrast 4.5 to 1
            look = {"ha": "center", "va": "center", "color": colour, "fontsize": 10 * tiny}
            axes.text(column, row, f"{value:.0f}", **look)
        axes.set(title=name, xlabel="predicted class")
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8 * tiny)
        axes.set_yticks(range(len(labels)), labels, fontsize=8 * tiny)
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="clips of the true class / %", shrink=0.7)
    return figure


def probe_figure(accuracies: dict[str, dict[str, float]], title: str = "") -> Figure:
    """Draw the accuracy of probes at each place in a network: a line per network or control.

    `accuracies` maps line name to capture point to accuracy, in 0..1. Lines may lack points; the
    first line sets their order. More than five lines share styles.
    """
    styles = ((BLUE, "o-"), (GREEN, "D-"), (ORANGE, "s-"), (PURPLE, "v--"), (GREY, "^--"))
    table = 100 * pd.DataFrame(accuracies)
    figure, [axes] = new_figure(9, 4)
    for name, (colour, style) in zip(table, cycle(styles), strict=False):
        line = table[name].reset_index(drop=True).dropna()
        axes.plot(line, style, color=colour, markersize=4, label=name)
    draw_coin_toss(axes)
    axes.set_xticks(range(len(table)), table.index, rotation=60, ha="right", fontsize=8)
    axes.set(ylim=(-4, 105), ylabel=ACCURACY)
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def ablation_figure(table: pd.DataFrame) -> Figure:
    """Draw a model's accuracy between partners with and without each of its parts.

    The table is that of `introspect.ablation_table`. Its first row, "nothing", is the control: thin
    lines in the bars' colours continue the ends of its bars downwards.
    """
    figure, [axes] = new_figure(8, 1.1 + 0.38 * len(table))
    places = np.arange(len(table))
    for offset, (kind, colour) in zip((-0.2, 0.2), KIND_COLOURS.items(), strict=True):
        percent = 100 * table[kind].to_numpy()
        bars = axes.barh(places + offset, percent, 0.36, color=colour, label=kind)
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
        axes.axvline(percent[0], color=colour, linewidth=0.8)
    axes.axvline(50, color=theme.ink(), linestyle="--", linewidth=1)
    axes.set_yticks(places, table["ablation"])
    axes.invert_yaxis()  # the control on top
    axes.text(50, 1.01, "coin toss", transform=axes.get_xaxis_transform(), ha="center", fontsize=9)
    axes.set(xlim=(0, 108), xticks=range(0, 101, 25), xlabel=ACCURACY)
    axes.set_ylabel("left out or changed")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.04), ncols=2, frameon=False, borderaxespad=0)
    return figure


def importance_figure(
    frames: Tensor | np.ndarray, importances: Mapping[str, Tensor], title: str = ""
) -> Figure:
    """Draw a clip's frames (T, 3, H, W) uint8, and under each its importance by every method.

    `importances` maps the method's name with its unit ("occlusion / nats") to (T,) values. Units
    differ, so each method has its own axis.
    """
    images = as_images(frames)
    count, height, width = images.shape[:3]
    heights = [7.8 / count * height / width, *[1.1] * len(importances)]  # inches
    shape = {"nrows": len(heights), "sharex": True, "height_ratios": heights}
    figure, [top, *panels] = new_figure(9, sum(heights) + 0.8, title, **shape)
    for t, image in enumerate(images):
        top.imshow(image, extent=(t - 0.48, t + 0.48, height / width * 0.96, 0), aspect="auto")
    top.set(xlim=(-0.5, count - 0.5), ylim=(height / width * 0.96, 0))
    top.axis("off")
    rows = zip(panels, importances.items(), cycle(METHOD_COLOURS), strict=False)
    for axes, (name, values), colour in rows:
        axes.bar(range(count), np.asarray(values, dtype=float), 0.7, color=colour)
        axes.axhline(0, color=theme.ink(), linewidth=0.8)
        axes.set_ylabel(name.replace(" / ", "\n/ "), fontsize=9)
        panels[-1].set_xlabel("frame")
        number_frames(panels[-1], count)
    figure.align_ylabels(panels)
    return figure


def deletion_figure(table: pd.DataFrame) -> Figure:
    """Draw how the score falls as frames are deleted, most important first; the control as a band.

    The table is that of `introspect.deletion_table`. Its method "random" is the control: the mean,
    in a band from the smallest to the largest value over the seeds.
    """
    figure, [axes] = new_figure(7, 3.8)
    random = table[table["method"] == "random"].groupby("deleted")["log_probability"]
    spread = random.agg(["min", "mean", "max"])
    axes.fill_between(spread.index, spread["min"], spread["max"], color=GREY, alpha=0.3, lw=0)
    orders = random.size().max()
    label = f"random (control, {orders} {'order' if orders == 1 else 'orders'})"
    axes.plot(spread.index, spread["mean"], color=GREY, linestyle="--", label=label)
    methods = table[table["method"] != "random"].groupby("method", sort=False)
    looks = zip(cycle(METHOD_COLOURS), cycle("osD^"), strict=False)
    for (name, rows), (colour, marker) in zip(methods, looks, strict=False):
        axes.plot(rows["deleted"], rows["log_probability"], color=colour, marker=marker, label=name)
    axes.set(xlabel="frames deleted", ylabel="log-probability of the label / nats")
    axes.locator_params("x", integer=True, min_n_ticks=1)
    axes.legend(frameon=False, title="frames deleted in order of")
    return figure


def cost_figure(accuracies: pd.DataFrame, title: str = "") -> Figure:
    """Draw published accuracy against the measured time of one clip, a panel per data set.

    The table is the benchmark's: model, dataset, top-1 (percent), ms.
    """
    datasets = dict(list(accuracies.groupby("dataset", sort=False)))
    widths = [1 + len(rows) / 5 for rows in datasets.values()]
    figure, panels = new_figure(12, 4.2, title, ncols=len(datasets), width_ratios=widths)
    for axes, (dataset, rows) in zip(panels, datasets.items(), strict=True):
        rows = rows.sort_values("top-1")
        axes.set_xscale("log")
        limits = rows["ms"].min() / 2, rows["ms"].max() * 3  # room for names on both sides
        axes.set_xlim(limits)
        ticks = [t for t in COST_TICKS if limits[0] <= t <= limits[1]]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        low, high = rows["top-1"].min(), rows["top-1"].max()
        margin = 0.12 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.scatter(rows["ms"], rows["top-1"], c=rows["model"].map(model_colour), s=45, zorder=3)
        _name_points(axes, rows, NAME_HEIGHT * (high - low + 2 * margin))
        axes.set_title(dataset, fontsize=10)
        axes.set_xlabel(COST_TITLE)
        axes.grid(color=GREY, alpha=0.25)
    panels[0].set_ylabel(TOP_1_TITLE)
    return figure


def _name_points(axes: Axes, rows: pd.DataFrame, height: float) -> None:
    """Write the models' names, each `height` high, beside their points, from bottom to top."""
    points = list(zip(rows["ms"], rows["top-1"], strict=True))
    place = -math.inf
    for name, (ms, top_1) in zip(rows["model"], points, strict=True):
        place = max(top_1, place + height)  # moved up where names would overlap
        # The name stands on the right, unless another point is there.
        in_the_way = any(ms < x < 2 * ms and abs(y - place) < height for x, y in points)
        side, x = ("right", ms / ASIDE) if in_the_way else ("left", ms * ASIDE)
        look = {"ha": side, "va": "center", "fontsize": 8, "color": theme.ink()}
        look["arrowprops"] = {"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkB": 3}
        axes.annotate(name, (ms, top_1), xytext=(x, place), **look)


def model_colour(model: str) -> str:
    """Choose the colour of a model's points: bLVNets, other temporal networks, all others."""
    return BLUE if "bLVNet" in model else ORANGE if "TSM" in model or "TAM" in model else GREY
