"""Figures to hover over and zoom into: each function takes plain data, returns a plotly Figure."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import display
from plotly.subplots import make_subplots

from blvnet_lab.viz.figures import ACCURACY, COST_TICKS, COST_TITLE, TOP_1_TITLE, model_colour
from blvnet_lab.viz.inside import of_module, scale_title, sorted_taps
from blvnet_lab.viz.theme import GREY, KIND_COLOURS, MODEL_COLOURS, ROLE_COLOURS, SIGNED, template

# For those who see no colours; seven go with six or ten colours in 42 or 70 combinations.
SYMBOLS = ["circle", "square", "diamond", "x", "triangle-up", "star", "cross"]
DECIMALS = 3  # of weights; more would only make the notebooks larger


def learning_curves(logs: dict[str, list[dict]], title: str = "") -> go.Figure:
    """Draw accuracy between partners over the epochs: a panel per kind of them, a line per model.

    `logs` maps a model's name to the lines of its run's log: "epoch" and, if scored, "direction"
    and "order", in 0..1. More than 42 models share styles.
    """
    names = ["epoch", *KIND_COLOURS]
    runs = {name: pd.DataFrame(lines, columns=names) for name, lines in logs.items()}
    table = pd.concat(runs, names=["model"]).reset_index("model")
    table = table.melt(["model", "epoch"], var_name="classes", value_name=ACCURACY).dropna()
    table[ACCURACY] = (100 * table[ACCURACY]).round(1)
    look = {"color": "model", "color_discrete_sequence": MODEL_COLOURS}
    look |= {"symbol": "model", "symbol_sequence": SYMBOLS, "facet_col": "classes"}
    look |= {"range_y": [30, 104], "title": title, "height": 400}
    figure = px.line(table.astype(object), "epoch", ACCURACY, **look)
    note = {"text": "coin toss", "yshift": -32}  # below the lines of those that toss it
    figure.add_hline(50, line={"dash": "dash", "color": GREY}, annotation=note)
    return figure.update_layout(margin={"t": 80})  # room for both titles


def cost_hover(accuracies: pd.DataFrame) -> go.Figure:
    """Draw `cost_figure` to hover over: a point shows views, multiply-accumulates and source.

    The table is the benchmark's: model, dataset, top-1, views, source, ms, GMACs.
    """
    points = accuracies.round({"ms": 1, "GMACs": 1})
    hover = {"hover_name": "model", "hover_data": ["views", "GMACs", "source"]}
    panels = {"facet_col": "dataset", "facet_col_spacing": 0.07, "log_x": True, "height": 400}
    labels = {"ms": COST_TITLE, "top-1": TOP_1_TITLE}
    figure = px.scatter(points.astype(object), "ms", "top-1", labels=labels, **hover, **panels)
    for trace, (_, rows) in zip(figure.data, points.groupby("dataset", sort=False), strict=True):
        trace.marker = {"size": 11, "color": rows["model"].map(model_colour).tolist()}
    figure.update_xaxes(matches=None, tickvals=COST_TICKS, tickangle=0, tickfont={"size": 11})
    figure.update_yaxes(matches=None, showticklabels=True)
    return figure.update_layout(margin={"t": 80})


def taps_hover(weights: pd.DataFrame, roles: pd.DataFrame) -> go.Figure:
    """Draw `taps_figure` to hover over and to zoom into: module, channel, role, tap and weight."""
    modules = sorted_taps(weights, roles)
    titles = [f"{module}: {len(taps.channels)} channels" for module, taps in modules.items()]
    tall = 49 + 17 * weights["offset"].nunique()  # pixels: 100 for three taps, a role and a title
    height = tall * len(modules) + 150
    figure = make_subplots(len(modules), 1, subplot_titles=titles, vertical_spacing=32 / height)
    steps = len(ROLE_COLOURS)
    edges = np.repeat(np.arange(steps + 1) / steps, 2)[1:-1].tolist()
    role_scale = list(zip(edges, np.repeat(list(ROLE_COLOURS.values()), 2).tolist(), strict=True))
    for row, (module, taps) in enumerate(modules.items(), start=1):
        # Channel and role form the column's name, so that no cell has to repeat them.
        columns = [f"{c}, {role}" for c, role in zip(taps.channels, taps.roles, strict=True)]
        words = f"{module}<br>channel %{{x}}"
        ranks = [[list(ROLE_COLOURS).index(role) + 0.5 for role in taps.roles]]
        strip = go.Heatmap(z=ranks, y=["role"], zmin=0, zmax=steps, colorscale=role_scale)
        strip.update(showscale=False, hovertemplate=f"{words}<extra></extra>")
        largest = round(float(np.abs(taps.weights).max()), DECIMALS)
        values = taps.weights.round(DECIMALS).tolist()
        cells = go.Heatmap(z=values, y=taps.names, zmin=-largest, zmax=largest, colorscale=SIGNED)
        cells.update(showscale=row == 1, hovertemplate=f"{words}<br>%{{y}}: %{{z}}<extra></extra>")
        ticks = {"tickvals": [-largest, 0, largest], "ticktext": ["−1", "0", "1"]}
        cells.colorbar = {"title": {"text": scale_title(weights), "side": "right"}} | ticks
        for trace in (strip, cells):  # each has gaps where the other has values
            trace.update(x=columns, autocolorscale=False, hoverongaps=False)
            figure.add_trace(trace, row, 1)
    for role, colour in ROLE_COLOURS.items():  # entries of the legend, without points
        if role in set(roles["role"]):
            marker = {"color": colour, "symbol": "square", "size": 10}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=role)
    figure.update_annotations(font_size=13)  # the titles
    figure.update_xaxes(showticklabels=False, ticks="")
    # Not the axis's own title, which without tick labels would overlap the last row.
    below = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0, "yanchor": "top", "yshift": -4}
    figure.add_annotation(below, text="channels, by role, then by curr", showarrow=False)
    figure.update_yaxes(autorange="reversed")
    legend = {"orientation": "h", "yref": "container", "y": 0}
    figure.update_layout(height=height, legend=legend, margin={"b": 90})  # two rows of a legend
    return figure


def tap_history_hover(history: pd.DataFrame, module: str, roles: pd.DataFrame) -> go.Figure:
    """Animate how the taps of one TAM changed in training: a point per channel.

    Its place is the taps of the two nearest frames: before and after, or both before (causal).
    It opens at the last epoch; the button plays from the first. The tables are those of
    `introspect.tap_history` and, for the trained model, `introspect.tam_roles`.
    """
    rows = of_module(history, module).sort_values(["epoch", "offset"])
    others = rows[rows["offset"] != 0].drop_duplicates("offset")
    x, y = others.sort_values("offset", key=np.abs, kind="stable")["tap"][:2]
    taps = rows.pivot(index=["epoch", "channel"], columns="tap", values="weight").round(DECIMALS)
    reach = 1.1 * float(taps[[x, y]].abs().max().max())  # the same axes in every epoch
    own = roles.loc[roles["module"] == module, ["channel", "role"]]
    taps = taps.reset_index().merge(own, on="channel").astype(object)  # lists, not encoded bytes
    look = {"color": "role", "color_discrete_map": ROLE_COLOURS, "title": module, "height": 620}
    look |= {"category_orders": {"role": list(ROLE_COLOURS)}, "animation_frame": "epoch"}
    ranges = {"range_x": [-reach, reach], "range_y": [-reach, reach]}
    figure = px.scatter(taps, x, y, hover_name="channel", **look, **ranges)
    if figure.frames:  # of a single epoch there are none
        figure.update(data=figure.frames[-1].data)
        # Grey: plotly's own colours of sliders and buttons are for light pages only.
        slider = {"active": len(figure.frames) - 1, "bgcolor": GREY}
        figure.update_layout(sliders=[slider], updatemenus=[{"font": {"color": GREY}}])
    figure.update_traces(marker={"size": 9, "line": {"color": GREY, "width": 0.5}})
    axis = {"constrain": "domain", "zeroline": True}
    xaxis = axis | {"title": f"{x}: weight of the frame before".replace("-", "−")}
    beside = "after" if (others["offset"] > 0).any() else "two before"
    title = f"{y}: weight of the frame {beside}".replace("-", "−")
    yaxis = axis | {"title": title, "scaleanchor": "x"}
    return figure.update_layout(margin={"t": 90}, xaxis=xaxis, yaxis=yaxis)


def embedding_hover(points: pd.DataFrame, title: str = "") -> go.Figure:
    """Draw clips as points in a plane, a panel per split, with class and path on hover.

    The table has x, y, class_name, split and path of each clip, as `flat_features` returns.
    More than 70 classes share styles.
    """
    ends = ["/".join(Path(path).parts[-3:]) for path in points["path"]]
    rows = [np.arange(len(points)).astype(object)]  # objects become lists, not encoded bytes
    points = points.round({"x": 3, "y": 3}).astype(object)
    labels = {"x": "first principal component", "y": "second principal component"}
    look = {"color": "class_name", "symbol": "class_name", "symbol_sequence": SYMBOLS}
    look |= {"facet_col": "split", "labels": labels, "title": title.replace("; ", "<br>")}
    figure = px.scatter(points, "x", "y", hover_name=ends, custom_data=rows, height=560, **look)
    figure.update_traces(marker={"size": 7, "opacity": 0.8})
    return figure.update_layout(margin={"t": 110})  # room for all titles


def show(figure: go.Figure) -> None:
    """Display ``figure`` as ``application/vnd.plotly.v1+json``, which JupyterLab draws live.

    The accompanying text names its traces; nbval compares that. A figure without a template of its
    own gets the theme's small one (see ``set_theme``); ``figure`` itself is not changed.
    """
    if figure.layout.template == pio.templates["plotly"]:  # the default, so none was chosen
        figure = go.Figure(figure).update_layout(template=template())
    bundle = pio.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())
    kinds = Counter(trace.type for trace in figure.data)
    text = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    display({**bundle, "text/plain": f"<plotly figure: {text or 'no traces'}>"}, raw=True)
