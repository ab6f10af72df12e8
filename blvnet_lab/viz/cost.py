"""Accuracy against cost: published accuracies over times measured here, as papers draw them."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from blvnet_lab.viz.figures import new_figure
from blvnet_lab.viz.theme import BLUE, GREY, ORANGE, ink

OURS = "bLVNet"  # what the titles of our models contain
X_TITLE = "one clip, measured / ms"
Y_TITLE = "published top-1 / %"
TICKS = [m * 10**e for e in range(-1, 5) for m in (1, 2, 3, 5, 7)]  # of a logarithmic axis
HOVER = ["model", "views", "source", "GMACs"]
LINE = 0.06  # height of a name, as a share of a panel's
ASIDE = 1.12  # the ms at which a name stands, over those of its point


def cost_figure(accuracies: pd.DataFrame, title: str = "") -> Figure:
    """Draw published accuracy over the measured time of one clip, a panel for each data set.

    Args:
        accuracies: of the benchmark: model, dataset, top-1 (percent), ms.
    """
    datasets = dict(list(accuracies.groupby("dataset", sort=False)))
    widths = [1 + len(rows) / 5 for rows in datasets.values()]
    figure, panels = new_figure(12, 4.2, title, columns=len(datasets), width_ratios=widths)
    for axes, (dataset, rows) in zip(panels, datasets.items(), strict=True):
        rows = rows.sort_values("top-1")
        axes.set_xscale("log")
        limits = rows["ms"].min() / 2, rows["ms"].max() * 3  # with room for names on both sides
        axes.set_xlim(limits)
        ticks = [t for t in TICKS if limits[0] <= t <= limits[1]]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        low, high = rows["top-1"].min(), rows["top-1"].max()
        margin = 0.12 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.scatter(rows["ms"], rows["top-1"], c=rows["model"].map(_colour), s=45, zorder=3)
        _name_points(axes, rows, LINE * (high - low + 2 * margin))
        axes.set_title(dataset, fontsize=10)
        axes.set_xlabel(X_TITLE)
        axes.grid(color=GREY, alpha=0.25)
    panels[0].set_ylabel(Y_TITLE)
    return figure


def _name_points(axes: Axes, rows: pd.DataFrame, height: float) -> None:
    """Write the models' names, each `height` high, beside their points, ascending."""
    points = list(zip(rows["ms"], rows["top-1"], strict=True))
    place = -math.inf
    for name, (ms, top_1) in zip(rows["model"], points, strict=True):
        place = max(top_1, place + height)  # moved up where names would stand on each other
        # The name stands on the right, unless another point is there.
        in_the_way = any(ms < x < 2 * ms and abs(y - place) < height for x, y in points)
        axes.annotate(
            name,
            (ms, top_1),
            xytext=(ms / ASIDE if in_the_way else ms * ASIDE, place),
            ha="right" if in_the_way else "left",
            va="center",
            fontsize=8,
            color=ink(),
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkB": 3},
        )


def cost_hover(accuracies: pd.DataFrame, title: str = "") -> go.Figure:
    """Draw `cost_figure` to hover over: each point has its views, multiply-accumulates and source.

    Args:
        accuracies: of the benchmark: model, dataset, top-1, views, source, ms, GMACs.
    """
    datasets = list(accuracies["dataset"].unique())
    figure = make_subplots(1, len(datasets), subplot_titles=datasets)
    for column, dataset in enumerate(datasets, start=1):
        rows = accuracies[accuracies["dataset"] == dataset].sort_values("ms")
        points = go.Scatter(
            x=rows["ms"].round(1).tolist(),
            y=rows["top-1"].tolist(),
            mode="markers",
            marker={"size": 11, "color": rows["model"].map(_colour).tolist()},
            customdata=rows.round({"GMACs": 1})[HOVER].to_numpy(dtype=object).tolist(),
            hovertemplate="<b>%{customdata[0]}</b><br>%{y} % top-1 (%{customdata[1]})<br>%{x} ms, "
            "%{customdata[3]} GMACs a clip<br>%{customdata[2]}<extra></extra>",
            showlegend=False,
        )
        figure.add_trace(points, 1, column)
        # A little more than the points: else one hundredth of a difference could fill a panel.
        limits = [math.log10(rows["ms"].min() / 1.5), math.log10(rows["ms"].max() * 1.5)]
        figure.update_xaxes(range=limits, col=column)
    figure.update_xaxes(type="log", tickvals=TICKS, tickangle=0, tickfont={"size": 11})
    middle = (len(datasets) + 1) // 2  # one title for all: three would overlap
    figure.update_xaxes(title_text=f"{X_TITLE} (logarithmic)", col=middle)
    figure.update_yaxes(title_text=Y_TITLE, col=1)
    figure.update_layout(title=title, height=400, margin={"t": 80})
    return figure


def _colour(model: str) -> str:
    return BLUE if OURS in model else ORANGE if "TSM" in model or "TAM" in model else GREY
