"""Colours with a meaning, the same in every picture, and a light and a dark ground for them.

Figures of matplotlib take the colours of text, axes and ground from its settings, figures of plotly
from a template, which `viz.show` gives to those that have none of their own. All colours can be
told from both grounds, but orange, sky blue and some roles are faint on white: no text has them,
and whatever has them has a second cue, too. Widgets need no switch.
"""

from typing import Literal

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from torch import Tensor

# Okabe and Ito's colours: told apart with any kind of colour vision, and on dark ground too.
BLUE, ORANGE, GREY, GREEN, PURPLE = "#0072B2", "#E69F00", "#8C8C8C", "#009E73", "#CC79A7"
VERMILLION, SKY = "#D55E00", "#56B4E9"
BRANCH_COLOURS = {"little": ORANGE, "big": BLUE}
KIND_COLOURS = {"direction": ORANGE, "order": BLUE}  # of partner classes
MODEL_COLOURS = [GREY, GREEN, ORANGE, BLUE, VERMILLION, SKY]  # of curves, in the order of models
# What a channel of a TAM does with time, in the order in which pictures show it.
ROLE_COLOURS = {
    "looks_back": VERMILLION,
    "looks_ahead": SKY,
    "differences": PURPLE,
    "averages": GREEN,
    "keeps": GREY,
    "silent": "#D9D9D9",
    "mixed": "#F0E442",
}

# Everything with a sign: white is zero, red positive, blue negative.
SIGNED = "RdBu_r"
OPACITY = 0.6  # of such a map that lies over a frame
_SIGNED_COLOURS = (255 * mpl.colormaps[SIGNED](np.linspace(0, 1, 255))[:, :3]).round().astype("u1")

DARK_GROUND = "#111111"  # JupyterLab's own

# plotly's own template is 7 kB of JSON in every figure. These have matplotlib's colour maps.
_LAYOUT = {
    "font": {"size": 13},
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "colorscale": {"sequential": "Viridis", "diverging": SIGNED},
}
_ON_DARK = {
    "font": {"size": 13, "color": "#E0E0E0"},
    "paper_bgcolor": DARK_GROUND,
    "plot_bgcolor": DARK_GROUND,
    "xaxis": {"gridcolor": "#333333", "zerolinecolor": "#555555"},
    "yaxis": {"gridcolor": "#333333", "zerolinecolor": "#555555"},
}
_HEATMAP = {"heatmap": [{"autocolorscale": True}]}
pio.templates["blvnet_lab"] = go.layout.Template(data=_HEATMAP, layout=_LAYOUT)
pio.templates["blvnet_lab_dark"] = go.layout.Template(data=_HEATMAP, layout=_LAYOUT | _ON_DARK)

INK_SETTINGS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_DARK_SETTINGS = {
    **{f"{part}.facecolor": DARK_GROUND for part in ("figure", "axes", "savefig")},
    **dict.fromkeys(INK_SETTINGS, "#E0E0E0"),
    "legend.edgecolor": "#555555",
}
_before: dict[str, str] = {}  # what the dark settings took the place of; empty while it is light


def set_theme(theme: Literal["light", "dark"]) -> None:
    """Draw all later figures for a light or a dark page: matplotlib's, and what `viz.show` shows.

    "light" gives matplotlib the settings back that it had before it was dark.
    """
    if theme not in ("light", "dark"):
        raise ValueError(f'expected the theme "light" or "dark", got {theme!r}')
    mpl.rcParams.update(_before)
    _before.clear()
    if theme == "dark":
        _before.update({key: mpl.rcParams[key] for key in _DARK_SETTINGS})
        mpl.rcParams.update(_DARK_SETTINGS)


def branch_of(frame: int) -> str:
    """Name the branch that a frame of a clip goes to: little and big alternate."""
    return tuple(BRANCH_COLOURS)[frame % 2]


def template() -> str:
    """Name plotly's template for the theme that was set."""
    return "blvnet_lab_dark" if _before else "blvnet_lab"


def ink() -> str:
    """Give the colour of lines and texts: dark on a light page, light on a dark one."""
    return mpl.rcParams["text.color"]


def coloured(maps: Tensor | np.ndarray, limit: float) -> np.ndarray:
    """Turn numbers (..., H, W) into colours (..., H, W, 3) uint8, full ones at limit and -limit."""
    maps = np.asarray(maps.detach().cpu() if isinstance(maps, Tensor) else maps, dtype=np.float32)
    middle = len(_SIGNED_COLOURS) // 2  # zero is exactly white
    steps = np.nan_to_num(maps / max(limit, 1e-12)).clip(-1, 1) * middle
    return _SIGNED_COLOURS[middle + steps.round().astype(int)]
