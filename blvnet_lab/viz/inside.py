"""Figures of a model's inside: its taps, temporal receptive fields and attributions."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from blvnet_lab.viz import theme
from blvnet_lab.viz.figures import draw_signed, new_figure, number_frames
from blvnet_lab.viz.images import as_images
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREEN, GREY, ORANGE, ROLE_COLOURS, VERMILLION

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
        names, taps = names.str.replace("-", "−").tolist(), grid[own.index].to_numpy()
        found[module] = SortedTaps(names, taps, own.index.tolist(), own["role"].tolist())
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
    ahead most (of a causal TAM, back least). The table is that of `introspect.effective_pair_taps`,
    the module "stage1.tam", "stage2.tam" or "stage3.tam".
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
        axes.set_yticks(range(len(grid)), [text.replace("-", "−") for text in offsets])
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
        axes.axhline(0, color=theme.ink(), linewidth=0.8)
        axes.set(title=own["tap"].iloc[0].replace("-", "−"), xlabel="epoch")
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


def receptive_field_figure(
    fields: Mapping[str, Tensor], derived: Mapping[str, Tensor] | None = None, title: str = ""
) -> Figure:
    """Draw which frames influence which positions, a panel per capture point.

    Where positions are pairs, the ticks above the frames' numbers have the colours of the branches.
    `fields` maps each point to (positions, T): of `introspect.receptive_field`, each row divided by
    its largest value, or bool, of `derived_receptive_field`. `derived` may have more points; its
    fields (positions, T), bool, are outlined.
    """
    fields = {name: _numbers(field) for name, field in fields.items()}
    num_frames = max(field.shape[-1] for field in fields.values())
    paired = any(2 * len(field) == num_frames for field in fields.values())
    columns = min(len(fields), 4 if num_frames <= 8 else 3)
    rows = -(-len(fields) // columns)
    figure, panels = new_figure(9, 0.7 + 1.8 * rows, title, nrows=rows, ncols=columns, framed=True)
    for axes in panels[len(fields) :]:
        axes.axis("off")
    for axes, (name, field) in zip(panels, fields.items(), strict=False):
        rowwise = field / np.maximum(field.max(1, keepdims=True), 1e-30)
        shown = axes.imshow(rowwise, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        if derived is not None:
            edges = _outline(_numbers(derived[name]) > 0)
            axes.add_collection(LineCollection(edges, color=VERMILLION, linewidth=1.5))
        axes.set_title(name, fontsize=9)
        axes.set(xlabel="frame", ylabel="frame" if len(field) == num_frames else "pair")
        number_frames(axes, num_frames, 16)
        axes.set_yticks(range(0, len(field), -(-len(field) // 8)))
        axes.tick_params(labelsize=8 if num_frames <= 8 else 6)
        if paired:
            axes.tick_params(axis="x", length=5, width=5)  # points: squares of colour
            for frame, tick in enumerate(axes.xaxis.get_major_ticks()):
                tick.tick1line.set_markeredgecolor(BLUE if frame % 2 else ORANGE)
    figure.colorbar(shown, ax=panels, label="influence /\nlargest in its row", shrink=0.7)
    if paired:
        handles = [Patch(color=c, label=f"{b} branch") for b, c in BRANCH_COLOURS.items()]
        style = {"ncols": 2, "fontsize": 8, "frameon": False}
        figure.legend(handles=handles, loc="outside lower center", **style)
    return figure


def _outline(cells: np.ndarray) -> list[list[tuple[float, float]]]:
    """Find the edges between True and False cells (rows, columns) of a picture, as lines."""
    ground = np.pad(cells, 1)  # all around it is False; cell (r, c) is now at (r + 1, c + 1)
    across = np.argwhere(ground[:, 1:] != ground[:, :-1])
    down = np.argwhere(ground[1:] != ground[:-1])
    lines = [[(c - 0.5, r - 1.5), (c - 0.5, r - 0.5)] for r, c in across]
    return lines + [[(c - 1.5, r - 0.5), (c - 0.5, r - 0.5)] for r, c in down]


def attribution_figure(
    frames: Tensor | np.ndarray, maps: Mapping[str, Tensor | np.ndarray], title: str = ""
) -> Figure:
    """Draw attribution maps over the grey frames of a clip, a row per name.

    White is zero, red positive, blue negative, on one scale, so that a weak map looks weak; the
    range of each row stands beside it. The map of a pair covers both of its frames, which touch.
    Frames are (T, 3, H, W) uint8, maps (positions, h, w) in logits, per frame or per pair.
    """
    images = as_images(frames)
    count, height, width = images.shape[:3]
    rows = {name: _numbers(values) for name, values in maps.items()}
    if not rows:
        raise ValueError("expected maps by name, got none")
    for name, values in rows.items():
        if values.ndim != 3 or len(values) not in (count, count / 2):
            raise ValueError(
                f"expected maps (positions, h, w) of {count} frames or of their pairs, got {name} "
                f"{values.shape}; of a batch, give those of one clip, maps[0]"
            )
    limit = max(np.abs(np.nan_to_num(values)).max() for values in rows.values()) or 1.0
    size = 9, (len(rows) + 1) * (6.4 / count * height / width + 0.1) + 0.9  # inches
    figure, panels = new_figure(*size, title, nrows=len(rows) + 1, sharex=True, sharey=True)
    for axes, (name, values) in zip(panels, [("frames", None), *rows.items()], strict=True):
        paired = values is not None and len(values) < count
        for t, image in enumerate(images):
            left = t + (0.08 * (1 - t % 2) if paired else 0.04)
            place = {"extent": (left, left + 0.92, 0.92 * height / width, 0)}
            ground = image if values is None else image.mean(-1)
            axes.imshow(ground, cmap="gray", vmin=0, vmax=255, **place)
            if values is not None:
                cells = values[t * len(values) // count]
                shown = draw_signed(axes, cells, limit, alpha=theme.OPACITY, **place)
        if values is not None:
            name += f"\n{values.min():.2g} to {values.max():.2g}".replace("-", "−")
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set(frame_on=False, xlim=(0, count), ylim=(0.92 * height / width, 0), yticks=[])
        axes.tick_params(length=0)
    axes.set_xlabel("frame")
    number_frames(axes, count, first=0.5)
    bar = figure.colorbar(shown, ax=panels, label="attribution\n/ logits", shrink=0.9, aspect=30)
    bar.ax.set_facecolor(GREY)  # under the colours, as a frame is
    return figure


def _numbers(values: Tensor | np.ndarray) -> np.ndarray:
    return torch.as_tensor(values).detach().float().cpu().numpy()
