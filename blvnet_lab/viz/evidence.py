"""What a prediction rests on: ablations, and which frames count. Each picture has its control."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from blvnet_lab.viz.figures import ACCURACY, new_figure, whole_numbers
from blvnet_lab.viz.images import as_images
from blvnet_lab.viz.theme import GREEN, GREY, KIND_COLOURS, PURPLE, SKY, VERMILLION, ink

METHOD_COLOURS = (GREEN, PURPLE, VERMILLION, SKY)  # of importances, in the order they are given


def ablation_figure(table: pd.DataFrame) -> Figure:
    """Draw how a model tells partners apart without each of its parts, and with all of them.

    Args:
        table: of `blvnet_lab.introspect.ablation_table`: ablation, direction and order, the scores
            in 0..1. The first row, "nothing", is the control: thin lines in the bars' colours, from
            the ends of its bars down.

    Raises:
        ValueError: the first row is not the control.
    """
    if table["ablation"].iloc[0] != "nothing":
        raise ValueError(
            f'expected the control "nothing" in the first row, got {table["ablation"].iloc[0]!r}; '
            "keep the order of ablation_table"
        )
    figure, [axes] = new_figure(8, 1.1 + 0.38 * len(table))
    places = np.arange(len(table))
    for offset, (kind, colour) in zip((-0.2, 0.2), KIND_COLOURS.items(), strict=True):
        percent = 100 * table[kind].to_numpy()
        bars = axes.barh(places + offset, percent, 0.36, color=colour, label=kind)
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
        axes.axvline(percent[0], color=colour, linewidth=0.8)
    axes.axvline(50, color=ink(), linestyle="--", linewidth=1)
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
    """Draw a clip's frames, and under each how important every method finds it.

    Args:
        frames: (T, 3, H, W) uint8.
        importances: the method's name, with its unit ("occlusion / nats"), to (T,) values. Methods
            have different units, so each has its own axis.

    Raises:
        ValueError: frames of another shape or type.
    """
    images = as_images(frames)
    count, height, width = images.shape[:3]
    tile = 7.8 / count  # inches
    heights = [tile * height / width, *[1.1] * len(importances)]
    figure, [top, *panels] = new_figure(
        9, sum(heights) + 0.8, title, rows=len(heights), sharex=True, height_ratios=heights
    )
    for t, image in enumerate(images):
        top.imshow(image, extent=(t - 0.48, t + 0.48, height / width * 0.96, 0), aspect="auto")
    top.set(xlim=(-0.5, count - 0.5), ylim=(height / width * 0.96, 0))
    top.axis("off")
    for axes, (name, values), colour in zip(
        panels, importances.items(), cycle(METHOD_COLOURS), strict=False
    ):
        axes.bar(range(count), np.asarray(values, dtype=float), 0.7, color=colour)
        axes.axhline(0, color=ink(), linewidth=0.8)
        axes.set_ylabel(name.replace(" / ", "\n/ "), fontsize=9)
        panels[-1].set(xlabel="frame", xticks=range(count))
    figure.align_ylabels(panels)
    return figure


def deletion_figure(table: pd.DataFrame) -> Figure:
    """Draw how the score falls as frames are deleted, most important first; the control as a band.

    Args:
        table: of `blvnet_lab.introspect.deletion_table`: method, seed, deleted, log_probability.
            Method "random" is the control: its mean, within smallest and largest over the seeds.

    Raises:
        ValueError: the control is missing.
    """
    if "random" not in set(table["method"]):
        raise ValueError(
            f'expected the control, method "random", among {table["method"].unique().tolist()}; '
            "without it nothing is faithful: give deletion_table some control_seeds"
        )
    figure, [axes] = new_figure(7, 3.8)
    random = table[table["method"] == "random"].groupby("deleted")["log_probability"]
    spread = random.agg(["min", "mean", "max"])
    axes.fill_between(spread.index, spread["min"], spread["max"], color=GREY, alpha=0.3, lw=0)
    label = f"random (control, {random.size().max()} orders)"
    axes.plot(spread.index, spread["mean"], color=GREY, linestyle="--", label=label)
    methods = table[table["method"] != "random"].groupby("method", sort=False)
    for (name, rows), colour, marker in zip(
        methods, cycle(METHOD_COLOURS), cycle("osD^"), strict=False
    ):
        axes.plot(rows["deleted"], rows["log_probability"], color=colour, marker=marker, label=name)
    axes.set(xlabel="frames deleted", ylabel="log-probability of the label / nats")
    whole_numbers(axes)
    axes.legend(frameon=False, title="frames deleted in order of")
    return figure
