"""Colours with a meaning, the same in every picture, on a light or a dark background.

Matplotlib figures take the colours of text, axes and background from its settings, plotly figures
from a template, which `viz.show` gives to those without one of their own. All colours stand out on
both backgrounds, but orange, sky blue and some roles are faint on white: they are never used for
text, nor without a second cue. Widgets need no switch.
"""

from typing import Literal

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from torch import Tensor

# Okabe and Ito's colours: distinguishable with any colour vision, on a dark background, too.
BLUE, ORANGE, GREY, GREEN, PURPLE = "#0072B2", "#E69F00", "#8C8C8C", "#009E73", "#CC79A7"
VERMILLION, SKY = "#D55E00", "#56B4E9"
BRANCH_COLOURS = {"little": ORANGE, "big": BLUE}
KIND_COLOURS = {"direction": ORANGE, "order": BLUE}  # of partner classes
MODEL_COLOURS = [GREY, GREEN, ORANGE, BLUE, VERMILLION, SKY]  # of curves, in the order of models
# What a channel of a TAM does with time, in the order in which pictures show the roles.
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
OPACITY = 0.6  # of a signed map over a frame
_SIGNED_COLOURS = (255 * mpl.colormaps[SIGNED](np.linspace(0, 1, 255))[:, :3]).round().astype("u1")

DARK_GROUND = "#111111"  # JupyterLab's own

# plotly's own template adds 7 kB of JSON to every figure. These use matplotlib's colour maps.
_LAYOUT = {
    "font": {"size": 13},
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "colorscale": {"sequential": "Viridis", "diverging": SIGNED},
}
_DARK_AXIS = {"gridcolor": "#333333", "zerolinecolor": "#555555"}
_ON_DARK = {"font": {"size": 13, "color": "#E0E0E0"}, "xaxis": _DARK_AXIS, "yaxis": _DARK_AXIS}
_ON_DARK |= {"paper_bgcolor": DARK_GROUND, "plot_bgcolor": DARK_GROUND}
_HEATMAP = {"heatmap": [{"autocolorscale": True}]}
pio.templates["blvnet_lab"] = go.layout.Template(data=_HEATMAP, layout=_LAYOUT)
pio.templates["blvnet_lab_dark"] = go.layout.Template(data=_HEATMAP, layout=_LAYOUT | _ON_DARK)

INK_SETTINGS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_DARK_SETTINGS = {f"{part}.facecolor": DARK_GROUND for part in ("figure", "axes", "savefig")}
_DARK_SETTINGS |= dict.fromkeys(INK_SETTINGS, "#E0E0E0") | {"legend.edgecolor": "#555555"}
_before: dict[str, str] = {}  # the settings that the dark ones replaced; empty while it is light


def set_theme(theme: Literal["light", "dark"]) -> None:
    """Draw all later figures, matplotlib's and those of `viz.show`, for a light or a dark page.

    "light" restores the settings that matplotlib had before "dark".
    """
    if theme not in ("light", "dark"):
        raise ValueError(f'expected the theme "light" or "dark", got {theme!r}')
    mpl.rcParams.update(_before)
    _before.clear()
    if theme == "dark":
        _before.update({key: mpl.rcParams[key] for key in _DARK_SETTINGS})
        mpl.rcParams.update(_DARK_SETTINGS)


def branch_of(frame: int) -> str:
    """Name the branch that a frame goes to: little and big alternate."""
    return tuple(BRANCH_COLOURS)[frame % 2]


def template() -> str:
    """Name plotly's template for the current theme."""
    return "blvnet_lab_dark" if _before else "blvnet_lab"


def ink() -> str:
    """Return the colour of lines and text: dark on a light page, light on a dark one."""
    return mpl.rcParams["text.color"]


def coloured(maps: Tensor | np.ndarray, limit: float) -> np.ndarray:
    """Turn numbers (..., H, W) into colours (..., H, W, 3) uint8, full at limit and -limit."""
    maps = np.asarray(maps.detach().cpu() if isinstance(maps, Tensor) else maps, dtype=np.float32)
    middle = len(_SIGNED_COLOURS) // 2  # zero is exactly white
    steps = np.nan_to_num(maps / max(limit, 1e-12)).clip(-1, 1) * middle
    return _SIGNED_COLOURS[middle + steps.round().astype(int)]
