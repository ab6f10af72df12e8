"""The last row of `TamExplorer`: one channel at all positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from blvnet_lab.viz.explorers.tam_arithmetic import Kind
from blvnet_lab.viz.explorers.tam_views import WIDTH
from blvnet_lab.viz.images import mosaic, stacked, written
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, branch_of, coloured

MAP_PX = 58  # of a map, at most
MOST_POSITIONS = 16  # more would be too small to see


def maps_picture(
    frames: Sequence[np.ndarray] | None,
    maps: Tensor,
    learned: Tensor,
    current: Tensor,
    chosen: int,
    kind: Kind,
    limit: float,
) -> np.ndarray:
    """One channel at all positions: what goes in, what comes out with two sets of taps.

    Of many positions those around the chosen one are shown, and it is said which.

    Args:
        frames: T pictures (H, W, 3) uint8 of the clip; None leaves their row out.
        maps, learned, current: (T or P, H, W); into the TAM, out of it with the learned taps, and
            with the present ones.
        chosen: the position that is framed.
    """
    total, word = len(maps), "pair" if kind == "pairs" else "frame"
    count = min(total, MOST_POSITIONS)
    first = min(max(0, chosen - count // 2), total - count)
    shown = range(first, first + count)
    rows = {"into\nthe TAM": maps, "out, taps\nas learned": learned, "out, taps\nas set": current}
    rows = {label: list(coloured(row, limit)) for label, row in rows.items()}
    if frames is not None:
        label = "clip\n(1st of pair)" if kind == "pairs" else "clip"
        rows = {label: list(frames)[:: len(frames) // total]} | rows
    gap = 10 if count <= 8 else 8
    tile = min(MAP_PX, (WIDTH - 110) // count - gap)
    branches = [] if kind == "pairs" else [BRANCH_COLOURS[branch_of(t)] for t in shown]
    picture = mosaic(
        {label: row[first : first + count] for label, row in rows.items()},
        column_labels=[f"{word} {t}" if count <= 8 else str(t) for t in shown],
        column_colours=branches,
        tile_px=tile,
        gap_px=gap,
    )
    picture = _framed(picture, chosen - first, count, step=tile + gap)
    if count == total:
        return picture
    return stacked([picture, written([f"Shown: {word}s {first} to {shown[-1]} of {total}."])])


def _framed(picture: np.ndarray, column: int, columns: int, step: int) -> np.ndarray:
    """A frame around one of a mosaic's columns, which are `step` apart.

    Blue, as all that is chosen in this explorer, and so wide that no tile's edge touches it.
    """
    canvas = Image.fromarray(picture)
    left = canvas.width - (columns - column) * step
    box = (left - 6, 4, left + step - 5, canvas.height - 4)
    ImageDraw.Draw(canvas).rectangle(box, outline=BLUE, width=2)
    return np.asarray(canvas)
