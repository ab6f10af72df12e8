"""Show a plotly figure so that JupyterLab, GitHub, HTML export and nbval all cope with it."""

from collections import Counter

import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import display

from blvnet_lab.viz.theme import template


def show(figure: go.Figure) -> None:
    """Display ``figure`` as ``application/vnd.plotly.v1+json``, which JupyterLab draws live.

    The text beside it, its kinds of traces, is what nbval compares. A figure without a template of
    its own gets the small one of the theme (see ``set_theme``); ``figure`` itself stays as it is.
    """
    if figure.layout.template == pio.templates["plotly"]:  # the default, so nobody chose it
        figure = go.Figure(figure).update_layout(template=template())
    bundle = pio.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())
    kinds = Counter(trace.type for trace in figure.data)
    text = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    display({**bundle, "text/plain": f"<plotly figure: {text or 'no traces'}>"}, raw=True)
