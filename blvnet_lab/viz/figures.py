"""Pictures for print and for static pages: each function takes plain data, gives a Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from blvnet_lab.viz.images import as_images
from blvnet_lab.viz.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, ink


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that a notebook shows when it is the last line of a cell."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)  # else the notebook would show it a second time, on its own account
    return figure


def contact_sheet(
    frames: Tensor | np.ndarray,
    titles: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """The frames of a clip in rows, (T, 3, H, W) uint8, each with a title and a coloured edge.

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
    inches = 9 / columns  # per frame
    figure = new_figure(9, rows * (inches * height / width + 0.27))
    grid = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(grid.flat):
        axes.set(xticks=[], yticks=[])
        if i >= count:
            axes.axis("off")
            continue
        axes.imshow(images[i], interpolation="nearest")
        axes.set_title(titles[i] if titles is not None else str(i), fontsize=8, pad=4)
        for edge in axes.spines.values():
            edge.set(linewidth=3 if colours is not None else 0.5)
            edge.set_color(colours[i] if colours is not None else GREY)
    return figure


def staircase_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy between partners of each model, beside the coin toss.

    Args:
        table: one row per model: "model", "direction %", "order %".
    """
    figure = new_figure(8, 3.6)
    axes = figure.subplots()
    places = np.arange(len(table))
    for offset, kind, colour in ((-0.2, "direction", ORANGE), (0.2, "order", BLUE)):
        bars = axes.bar(places + offset, table[f"{kind} %"], 0.36, color=colour, label=kind)
        axes.bar_label(bars, fmt="%.0f", fontsize=9, padding=2)
    axes.axhline(50, color=ink(), linestyle="--", linewidth=1)
    axes.annotate("coin toss", (len(table) - 0.55, 51), fontsize=9, va="bottom")
    axes.set_xticks(places, table["model"])
    axes.set(
        xlim=(-0.5, len(table) - 0.15),
        ylim=(0, 115),
        yticks=range(0, 101, 25),
        ylabel="accuracy between partners / %",
    )
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", ncols=2, frameon=False, title="classes that differ in")
    return figure


def training_figure(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """A run, epoch by epoch: loss; accuracy; clips a second and how much of the time it waited.

    Args:
        history: lines of a run's log: "epoch", "train_loss", and any of "top_1", "top_5",
            "mean_class", "direction", "order", in 0..1. Where "clips_per_second" is in them, and
            "wait_share" (of the time, for clips), they are drawn, too. Lines that lack "train_loss"
            (an epoch 0) are left out; none at all give empty axes.
    """
    lines = [line for line in history if "train_loss" in line]
    epochs = [line["epoch"] for line in lines]
    timed = not lines or "clips_per_second" in lines[0]
    figure = new_figure(10 if timed else 6.7, 3.7)
    panels = figure.subplots(1, 3 if timed else 2)
    loss, accuracy = panels[:2]
    losses = [line["train_loss"] for line in lines]
    loss.plot(epochs, losses, "o-", color=ORANGE, markersize=4, clip_on=False)  # the highest, too
    loss.set(title="loss in training", ylabel="cross-entropy", ylim=(0, None))
    styles = {
        "top_1": (BLUE, "o-"),
        "top_5": (GREY, "s--"),
        "mean_class": (PURPLE, "v:"),
        "direction": (ORANGE, "D-."),
        "order": (GREEN, "^-."),
    }
    for name, (colour, style) in styles.items():
        values = [100 * line[name] for line in lines if name in line]
        if values:
            accuracy.plot(epochs, values, style, color=colour, markersize=4, label=name)
    accuracy.set(title="accuracy on validation clips", ylabel="accuracy / %", ylim=(0, 103))
    if timed:
        rates = [line["clips_per_second"] for line in lines]
        waits = [rate * line["wait_share"] for rate, line in zip(rates, lines, strict=True)]
        speed = panels[2]
        speed.bar(epochs, rates, color=GREY, label="clips a second")
        speed.bar(epochs, waits, color=VERMILLION, hatch="//", label="share that waited for clips")
        speed.set(title="throughput", ylabel="clips / s")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}  # no curve has its place there
    if accuracy.lines:
        accuracy.legend(frameon=False, fontsize=8, ncols=3, **below)
    if lines and timed:
        speed.legend(frameon=False, fontsize=8, ncols=2, **below)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


def class_bars(probabilities: dict[str, Sequence[float]], class_names: Sequence[str]) -> Figure:
    """The class probabilities of one or more predictions side by side, one panel each.

    Args:
        probabilities: by the prediction's name, one value in 0..1 per class.

    Raises:
        ValueError: no predictions.
    """
    if not probabilities:
        raise ValueError(
            "expected the probabilities of at least one prediction, got none; for example "
            '{"bLVNet-TAM": model(clips).softmax(1)[0]}'
        )
    figure = new_figure(1.8 + 2.4 * len(probabilities), 0.9 + 0.24 * len(class_names))
    panels = figure.subplots(1, len(probabilities), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, probabilities.items(), strict=True):
        values = [100 * float(value) for value in values]
        best = int(np.argmax(values))
        colours = [BLUE if i == best else GREY for i in range(len(values))]
        axes.barh(range(len(values)), values, color=colours)
        axes.set(title=name, xlim=(0, 100), xlabel="probability / %")
        axes.set_yticks(range(len(class_names)), class_names)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()  # class 0 on top
    return figure


def confusion_figure(matrices: dict[str, Tensor], class_names: Sequence[str]) -> Figure:
    """Confusion matrices side by side, each row in percent of its true class.

    Args:
        matrices: by model name, (num_classes, num_classes) counts, rows are true classes.
    """
    figure = new_figure(1.5 + 3.6 * len(matrices), 4.9)
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    ticks = range(len(class_names))
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(matrix, dtype=float)
        percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(percent):
            if value >= 5:
                colour = "white" if value < 47 else "black"  # where both contrast 4.5 to 1
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
        axes.set(title=name, xlabel="predicted class")
        axes.set_xticks(ticks, class_names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(ticks, class_names, fontsize=8)
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="clips of the true class / %", shrink=0.7)
    return figure


def probe_figure(accuracies: dict[str, dict[str, float]], title: str = "") -> Figure:
    """What can be read off at each place in a network: a line per network or control.

    Args:
        accuracies: by the line's name, at most five, then by capture point, values in 0..1. The
            lines may lack points; the first one gives the points' order, and points that it lacks
            follow at the end.

    Raises:
        ValueError: more than five lines.
    """
    styles = (
        (BLUE, "o", "-"),
        (GREEN, "D", "-"),
        (ORANGE, "s", "-"),
        (PURPLE, "v", "--"),
        (GREY, "^", "--"),
    )
    if len(accuracies) > len(styles):
        raise ValueError(
            f"expected at most {len(styles)} lines, got {len(accuracies)}; draw them in two figures"
        )
    points = list(dict.fromkeys(point for line in accuracies.values() for point in line))
    figure = new_figure(9, 4)
    axes = figure.subplots()
    for (name, line), (colour, marker, dash) in zip(accuracies.items(), styles, strict=False):
        places = [place for place, point in enumerate(points) if point in line]
        values = [100 * line[points[place]] for place in places]
        axes.plot(places, values, dash, color=colour, marker=marker, markersize=4, label=name)
    axes.axhline(50, color=ink(), linestyle=":", linewidth=1)
    beside = axes.get_yaxis_transform()  # the lines leave no place for it among them
    axes.text(1.01, 50, "coin toss", transform=beside, fontsize=9, va="center")
    axes.set_xticks(range(len(points)), points, rotation=60, ha="right", fontsize=8)
    axes.set(ylim=(-4, 105), ylabel="accuracy between partners / %")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure
