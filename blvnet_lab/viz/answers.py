"""Pictures of what networks make of clips: their answers over time, their features in a plane."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from matplotlib.figure import Figure

from blvnet_lab.viz.figures import new_figure
from blvnet_lab.viz.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION


def timeline_figure(table: pd.DataFrame, top: int = 5, title: str = "") -> Figure:
    """Draw the probabilities of the classes that come highest at some time of a video.

    Args:
        table: a row for each time, indexed by seconds, with a column for each class, in 0..1.
        top: how many classes to draw.
    """
    figure, [axes] = new_figure(9, 3.2)
    colours, marks = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, GREY), "osD^vx"
    highest = table.max().sort_values(ascending=False, kind="stable").index[:top]
    for name, colour, mark in zip(highest, cycle(colours), cycle(marks), strict=False):
        axes.plot(table.index, 100 * table[name], color=colour, marker=mark, ms=3, label=name)
    axes.set(xlabel="time in the video / s", ylabel="probability / %", ylim=(-2, 102))
    axes.set_title(title, fontsize=10)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    return figure


def embedding_hover(points: pd.DataFrame, title: str = "") -> go.Figure:
    """Draw clips as points in a plane, a panel a split, to hover over for class and path.

    Args:
        points: x, y, class_name, split and path of each clip, as `runs.probe.flat_features` has it.
    """
    ends = ["/".join(Path(path).parts[-3:]) for path in points["path"]]
    figure = px.scatter(
        points.round({"x": 3, "y": 3}).astype(object),  # lists in the notebook, not encoded bytes
        x="x",
        y="y",
        color="class_name",
        symbol="class_name",  # for those who see no colours
        facet_col="split",
        hover_name=ends,
        custom_data=[np.arange(len(points)).astype(object)],  # the number of its row
        labels={"x": "first principal component", "y": "second principal component"},
        title=title.replace("; ", "<br>"),
        height=560,
    )
    figure.update_traces(marker={"size": 7, "opacity": 0.8})
    return figure.update_layout(margin={"t": 110})  # room for all titles
