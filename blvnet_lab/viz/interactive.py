"""Pictures to hover over and zoom into: each function takes plain data, gives a plotly Figure."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

# Four of Okabe and Ito's colours, and markers, for those who see no colours.
STYLES = (("#8C8C8C", "circle"), ("#009E73", "square"), ("#E69F00", "diamond"), ("#0072B2", "x"))


def learning_curves(logs: dict[str, list[dict]], title: str = "") -> go.Figure:
    """Accuracy between partners over the epochs: a panel per kind of partners, a line per model.

    Args:
        logs: by model name, at most four, the lines of its run's log; those with scores hold
            "epoch", "direction" and "order", the scores in 0..1.
    """
    if len(logs) > len(STYLES):
        raise ValueError(
            f"expected at most {len(STYLES)} models, got {len(logs)}: draw them in two"
        )
    kinds = ("direction", "order")
    figure = make_subplots(1, 2, shared_yaxes=True, subplot_titles=[f"{k} classes" for k in kinds])
    for (name, lines), (colour, symbol) in zip(logs.items(), STYLES, strict=False):
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
    figure.add_hline(50, line={"dash": "dash"}, annotation_text="coin toss")
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(range=[30, 104])
    figure.update_yaxes(title_text="accuracy between partners / %", col=1)
    figure.update_layout(title=title, height=400, margin={"t": 80})  # room for both titles
    return figure
