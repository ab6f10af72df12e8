"""Show a plotly figure so that JupyterLab, GitHub, HTML export and nbval all cope with it."""

from __future__ import annotations

from collections import Counter

import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import display

from blvnet_lab.viz.theme import template


def show(figure: go.Figure) -> None:
    """Display ``figure`` as ``application/vnd.plotly.v1+json``, which JupyterLab draws live.

    The text beside it is what nbval compares: a figure that goes missing, or changes its kinds of
    traces, fails the notebook; one whose floats differ in the last digit does not. In committed
    notebooks, ``tests/notebooks.py run`` adds a PNG for places without plotly. A figure that has
    no template of its own gets the small one of the theme (see ``set_theme``); ``figure`` itself
    stays as it is. Raises TypeError for anything but a plotly ``Figure``.
    """
    if not isinstance(figure, go.Figure):
        raise TypeError(
            f"expected a plotly.graph_objects.Figure, got {type(figure).__name__}; "
            "a matplotlib figure is shown by plt.show(), a widget as the last line of a cell"
        )
    if figure.layout.template == pio.templates["plotly"]:  # the default, so nobody chose it
        figure = go.Figure(figure).update_layout(template=template())
    bundle = pio.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())
    kinds = Counter(trace.type for trace in figure.data)
    text = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    display({**bundle, "text/plain": f"<plotly figure: {text or 'no traces'}>"}, raw=True)
