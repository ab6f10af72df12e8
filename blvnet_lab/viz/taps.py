"""Figures of what was learned in time: taps as heat maps, and how they changed in training."""

from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from blvnet_lab.viz.figures import draw_signed, new_figure
from blvnet_lab.viz.theme import BRANCH_COLOURS, GREEN, GREY, ROLE_COLOURS, ink

FEW_CHANNELS = 32  # up to which channel numbers are legible under a heat map


class SortedTaps(NamedTuple):  # of one TAM, with its channels in the order drawn
    names: list[str]  # of the r taps
    weights: np.ndarray  # (r, C)
    channels: list[int]
    roles: list[str]  # one per channel


def sorted_taps(weights: pd.DataFrame, roles: pd.DataFrame) -> dict[str, SortedTaps]:
    """Sort the channels of each module by role, within a role by the weight of the frame itself.

    The tables are those of `introspect.tam_weights` and `introspect.tam_roles` for one model.
    """
    ranks = roles.assign(rank=roles["role"].map(list(ROLE_COLOURS).index))
    found = {}
    for module, rows in weights.groupby("module", sort=False):
        grid = rows.pivot(index="offset", columns="channel", values="weight")  # offsets ascending
        own = ranks[ranks["module"] == module].set_index("channel")
        own = own.assign(falling=-grid.loc[0]).sort_values(["rank", "falling"])
        names = rows.drop_duplicates("offset").set_index("offset")["tap"][grid.index]
        taps = grid[own.index].to_numpy()
        found[module] = SortedTaps(names.tolist(), taps, own.index.tolist(), own["role"].tolist())
    return found


def scale_title(weights: pd.DataFrame) -> str:
    """Name the colour scale, for learned taps or for a shift's (0 or 1, some at other frames)."""
    taps = weights["weight"]
    is_shift = taps.isin([0, 1]).all() and (taps * weights["offset"]).any()
    return "weight in the shift: 0 or 1" if is_shift else "weight / largest of its TAM"


def taps_figure(weights: pd.DataFrame, roles: pd.DataFrame, title: str = "") -> Figure:
    """Draw the taps of every TAM: a column per channel, under a strip in the colour of its role.

    Each TAM has its own colour scale, since the size of its taps does not matter (a batch norm
    follows). Args as for `sorted_taps`.
    """
    modules = sorted_taps(weights, roles)
    tall = 0.5 + 0.12 * weights["offset"].nunique()  # inches: 0.86 for three taps
    figure, panels = new_figure(9, 0.9 + tall * len(modules), title, nrows=len(modules))
    for axes, (module, taps) in zip(panels, modules.items(), strict=True):
        rows, count = taps.weights.shape
        strip = mpl.colors.to_rgba_array([ROLE_COLOURS[role] for role in taps.roles])[None]
        axes.imshow(strip, extent=(0, count, -0.15, -0.7), aspect="auto")
        largest = np.abs(taps.weights).max()
        relative = taps.weights / (largest or 1.0)
        shown = draw_signed(axes, relative, 1, extent=(0, count, rows, 0), aspect="auto")
        axes.set(xlim=(0, count), ylim=(rows, -0.7), xticks=[])
        axes.set_yticks(np.arange(rows) + 0.5, taps.names, fontsize=8)
        if count <= FEW_CHANNELS:
            axes.set_xticks(np.arange(count) + 0.5, taps.channels, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        name = f"{module}: {count} channels, largest weight {largest:.2f}"
        axes.set_title(name, fontsize=9, loc="left", pad=2)
    panels[-1].set_xlabel("channels, by role, then by the weight of the frame itself")
    figure.colorbar(shown, ax=panels, label=scale_title(weights), aspect=40, shrink=0.8)
    counts = roles["role"].value_counts()
    known = [role for role in ROLE_COLOURS if role in counts]
    handles = [Patch(color=ROLE_COLOURS[role], label=f"{role} ({counts[role]})") for role in known]
    columns = len(handles) if len(handles) <= 6 else 4
    style = {"ncols": columns, "fontsize": 8, "columnspacing": 1.2, "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", **style)
    return figure


def pair_taps_figure(pair_weights: pd.DataFrame, module: str, title: str = "") -> Figure:
    """Draw a TAM between merges as it acts on pairs: the taps of little and of big frames.

    Both panels order channels by the sum of weight x offset, from looking back most to looking
    ahead most (of a causal TAM, back least).

    Args:
        pair_weights: the table of `blvnet_lab.introspect.effective_pair_taps`.
        module: "stage1.tam", "stage2.tam" or "stage3.tam".
    """
    rows = of_module(pair_weights, module)
    ahead = (rows["weight"] * rows["pair_offset"]).groupby(rows["channel"]).sum().sort_values()
    limit = rows["weight"].abs().max()
    last = "ahead" if rows["pair_offset"].max() > 0 else "least"
    figure, panels = new_figure(9, 2.3, title or module, ncols=2, framed=True)
    for axes, (frame, colour) in zip(panels, BRANCH_COLOURS.items(), strict=True):
        own = rows[rows["frame"] == frame]
        grid = own.pivot(index="pair_offset", columns="channel", values="weight")[ahead.index]
        shown = draw_signed(axes, grid, limit, aspect="auto")
        axes.set_title(f"{frame} frames")
        offsets = [f"pair {offset:+d}" if offset else "own pair" for offset in grid.index]
        axes.set_yticks(range(len(grid)), offsets)
        axes.set_xticks([])
        if len(ahead) <= FEW_CHANNELS / 2:
            axes.set_xticks(range(len(ahead)), ahead.index, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set(color=colour, linewidth=2)
        axes.set_xlabel(f"{len(ahead)} channels, looking back ... {last}")
    figure.colorbar(shown, ax=panels, label="weight")
    return figure


def tap_history_figure(history: pd.DataFrame, module: str) -> Figure:
    """Draw how the taps of one TAM changed in training: a panel per tap, a line per channel.

    The table is that of `introspect.tap_history`.
    """
    rows = of_module(history, module)
    taps = list(rows.groupby("offset"))  # offsets ascending; the taps' names would sort as text
    figure, panels = new_figure(9, 3.2, module, ncols=len(taps), sharey=True)
    for axes, (_, own) in zip(panels, taps, strict=True):
        lines = own.pivot(index="epoch", columns="channel", values="weight")
        alpha = min(0.8, 3 / lines.shape[1] ** 0.5)
        axes.plot(lines, color=GREY, alpha=alpha, linewidth=0.8)
        axes.plot(lines.median(axis=1), color=GREEN, linewidth=2.5, label="median")
        axes.axhline(0, color=ink(), linewidth=0.8)
        axes.set(title=own["tap"].iloc[0], xlabel="epoch")
        axes.locator_params("x", integer=True, min_n_ticks=1)
    panels[0].set_ylabel("weight")
    panels[0].legend(frameon=False)
    return figure


def of_module(table: pd.DataFrame, module: str) -> pd.DataFrame:
    """Select the rows of one module; raise ValueError, naming the others, if there are none."""
    rows = table[table["module"] == module]
    if rows.empty:
        names = ", ".join(table["module"].unique())
        raise ValueError(f'expected a module of this table, got "{module}"; it has {names}')
    return rows
