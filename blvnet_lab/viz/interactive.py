"""Pictures to hover over and zoom into: each function takes plain data, gives a plotly Figure."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from blvnet_lab.viz.figures import ACCURACY
from blvnet_lab.viz.taps import of_module, sorted_taps
from blvnet_lab.viz.theme import BLUE, GREEN, GREY, KIND_COLOURS, ORANGE, ROLE_COLOURS, SIGNED

DECIMALS = 3  # of weights: more would only make the notebooks larger
EPOCH_MS = 400  # while playing

# Colours, and markers for those who see no colours.
STYLES = ((GREY, "circle"), (GREEN, "square"), (ORANGE, "diamond"), (BLUE, "x"))


def learning_curves(logs: dict[str, list[dict]], title: str = "") -> go.Figure:
    """Draw accuracy between partners over the epochs: a panel per kind of them, a line per model.

    Args:
        logs: by model name the lines of its run's log; those with scores hold "epoch",
            "direction" and "order", the scores in 0..1. More than four models share looks.
    """
    kinds = tuple(KIND_COLOURS)
    figure = make_subplots(1, 2, shared_yaxes=True, subplot_titles=[f"{k} classes" for k in kinds])
    for (name, lines), (colour, symbol) in zip(logs.items(), cycle(STYLES), strict=False):
        lines = [line for line in lines if "direction" in line]
        for column, kind in enumerate(kinds, start=1):
            curve = go.Scatter(
                x=[line["epoch"] for line in lines],
                y=[round(100 * line[kind], 1) for line in lines],
                name=name,
                mode="lines+markers",
                line={"color": colour},
                marker={"symbol": symbol},
                legendgroup=name,
                showlegend=column == 1,
            )
            figure.add_trace(curve, 1, column)
    figure.add_hline(50, line={"dash": "dash", "color": GREY}, annotation_text="coin toss")
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(range=[30, 104])
    figure.update_yaxes(title_text=ACCURACY, col=1)
    figure.update_layout(title=title, height=400, margin={"t": 80})  # room for both titles
    return figure


def taps_hover(weights: pd.DataFrame, roles: pd.DataFrame) -> go.Figure:
    """Draw `taps_figure` to hover over and to zoom into: module, channel, role, tap and weight.

    Args and errors as for `taps_figure`.
    """
    modules = sorted_taps(weights, roles)
    titles = [f"{module}: {len(taps.channels)} channels" for module, taps in modules.items()]
    height = 100 * len(modules) + 150  # pixels
    figure = make_subplots(len(modules), 1, subplot_titles=titles, vertical_spacing=32 / height)
    steps = len(ROLE_COLOURS)
    edges = np.repeat(np.arange(steps + 1) / steps, 2)[1:-1].tolist()
    role_scale = list(zip(edges, np.repeat(list(ROLE_COLOURS.values()), 2).tolist(), strict=True))
    for row, (module, taps) in enumerate(modules.items(), start=1):
        # Channel and role are the name of the column, so that no cell has to repeat them.
        columns = [f"{c}, {role}" for c, role in zip(taps.channels, taps.roles, strict=True)]
        strip = go.Heatmap(
            z=[[list(ROLE_COLOURS).index(role) + 0.5 for role in taps.roles]],
            x=columns,
            y=["role"],
            colorscale=role_scale,
            autocolorscale=False,
            zmin=0,
            zmax=steps,
            showscale=False,
            hovertemplate=f"{module}<br>channel %{{x}}<extra></extra>",
        )
        largest = round(float(np.abs(taps.weights).max()), DECIMALS)
        cells = go.Heatmap(
            z=taps.weights.round(DECIMALS).tolist(),
            x=columns,
            y=taps.names,
            colorscale=SIGNED,
            autocolorscale=False,
            zmin=-largest,
            zmax=largest,
            showscale=row == 1,
            colorbar={
                "title": {"text": "weight / largest of its TAM", "side": "right"},
                "tickvals": [-largest, 0, largest],
                "ticktext": ["−1", "0", "1"],
            },
            hovertemplate=f"{module}<br>channel %{{x}}<br>%{{y}}: %{{z}}<extra></extra>",
        )
        for trace in (strip, cells):  # each has gaps where the other one is
            figure.add_trace(trace.update(hoverongaps=False), row, 1)
    for role, colour in ROLE_COLOURS.items():  # the legend: points that are nowhere
        if role in set(roles["role"]):
            marker = {"color": colour, "symbol": "square", "size": 10}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=role)
    figure.update_annotations(font_size=13)  # the titles
    figure.update_xaxes(showticklabels=False, ticks="")
    # Not the axis' own title: without tick labels above it, that stands on the last row.
    below = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0, "yanchor": "top", "yshift": -4}
    figure.add_annotation(below, text="channels, by role, then by curr", showarrow=False)
    figure.update_yaxes(autorange="reversed")
    legend = {"orientation": "h", "yref": "container", "y": 0}
    figure.update_layout(height=height, legend=legend, margin={"b": 90})  # two rows of a legend
    return figure


def tap_history_hover(
    history: pd.DataFrame, module: str, roles: pd.DataFrame | None = None
) -> go.Figure:
    """Play how the taps of one TAM changed in training: a point for every channel.

    It opens at the last epoch; the button plays from the first.

    Args:
        history: of `blvnet_lab.introspect.tap_history`, with three taps.
        roles: of `blvnet_lab.introspect.tam_roles`, of the trained model, as the points' colours;
            if None, they show the weight of the frame itself (curr).

    Raises:
        ValueError: the table has no such module, or its TAM has other than three taps.
    """
    rows = of_module(history, module)
    offsets = sorted(rows["offset"].unique().tolist())
    if offsets != [-1, 0, 1]:
        raise ValueError(
            f"expected three taps (offsets -1, 0, 1) in {module}, got {offsets}; "
            "viz.tap_history_figure draws any number of taps"
        )
    taps = rows.pivot(index=["epoch", "channel"], columns="offset", values="weight")
    taps = taps.round(DECIMALS)
    epochs = [int(epoch) for epoch in taps.index.unique("epoch")]
    groups = {"curr": taps.index.unique("channel")}
    if roles is not None:
        own = roles[roles["module"] == module].set_index("channel")["role"]
        groups = {role: own.index[own == role] for role in ROLE_COLOURS if (own == role).any()}

    def points(epoch: int) -> list[go.Scatter]:
        """Make one trace for each group."""
        traces = []
        for name, channels in groups.items():
            here = taps.loc[epoch].loc[channels]
            colour = here[0].tolist() if roles is None else ROLE_COLOURS[name]
            place = {"x": here[-1].tolist(), "y": here[1].tolist()}
            traces.append(go.Scatter(**place, marker={"color": colour}))
        return traces

    figure = go.Figure(points(epochs[-1]))
    figure.frames = [go.Frame(name=str(epoch), data=points(epoch)) for epoch in epochs]
    for trace, (name, channels) in zip(figure.data, groups.items(), strict=True):
        trace.update(name=name, text=[str(channel) for channel in channels], mode="markers")
    hover = "channel %{text}<br>prev %{x}, next %{y}"
    figure.update_traces(
        marker={"size": 9, "line": {"color": GREY, "width": 0.5}}, hovertemplate=hover
    )
    if roles is None:
        hover += "<br>curr %{marker.color}<extra></extra>"
        figure.update_traces(
            marker={"coloraxis": "coloraxis"}, hovertemplate=hover, showlegend=False
        )
    prev, curr, after = taps.abs().max()
    reach = 1.1 * float(max(prev, after))  # the same axes in every epoch
    axis = {"range": [-reach, reach], "constrain": "domain", "zeroline": True}
    scale = {"colorscale": SIGNED, "cmin": -float(curr), "cmax": float(curr)}
    figure.update_layout(
        title=module,
        height=620,
        margin={"t": 90},
        xaxis=axis | {"title": "prev: weight of the frame before"},
        yaxis=axis | {"title": "next: weight of the frame after", "scaleanchor": "x"},
        coloraxis=scale | {"colorbar": {"title": "curr"}},
        **_player(epochs),
    )
    return figure


def _player(epochs: list[int]) -> dict[str, list[dict]]:
    """Make a slider over the frames of these epochs, and buttons that play them."""
    at_once = {"mode": "immediate", "transition": {"duration": 0}}
    pace = {"frame": {"duration": EPOCH_MS, "redraw": False}, "transition": {"duration": 0}}
    play = {"label": "play", "method": "animate", "args": [None, pace]}
    pause = {"label": "pause", "method": "animate", "args": [[None], at_once]}
    steps = [
        {"label": str(epoch), "method": "animate", "args": [[str(epoch)], at_once]}
        for epoch in epochs
    ]
    # Grey: plotly's own colours of sliders and buttons are for light pages only.
    slider = {"active": len(epochs) - 1, "steps": steps, "bgcolor": GREY, "pad": {"t": 50}}
    buttons = {"type": "buttons", "buttons": [play, pause], "font": {"color": GREY}}
    return {
        "sliders": [slider | {"currentvalue": {"prefix": "epoch "}}],
        "updatemenus": [buttons | {"showactive": False, "direction": "left", "x": 0.1, "y": 1.12}],
    }
