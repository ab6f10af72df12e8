"""Figures of a model's inside: attributions and temporal receptive fields."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from blvnet_lab.viz.figures import draw_signed, new_figure, number_frames
from blvnet_lab.viz.images import as_images
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY, OPACITY, ORANGE, VERMILLION


def _numbers(values: Tensor | np.ndarray) -> np.ndarray:
    return torch.as_tensor(values).detach().float().cpu().numpy()


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
                shown = draw_signed(axes, cells, limit, alpha=OPACITY, **place)
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


def receptive_field_figure(
    fields: Mapping[str, Tensor], derived: Mapping[str, Tensor] | None = None, title: str = ""
) -> Figure:
    """Draw which frames influence which positions, a panel per capture point.

    Where positions are pairs, the ticks above the frames' numbers have the colours of the branches.

    Args:
        fields: point to (positions, T) from `blvnet_lab.introspect.receptive_field`, each row
            divided by its largest value; or bool, from `derived_receptive_field`.
        derived: point to (positions, T) bool, outlined; it may have more points than `fields`.
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
