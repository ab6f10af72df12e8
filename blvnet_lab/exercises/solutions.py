"""One right answer to every exercise; from here on the notebooks use it.

Each stands under the name that the exercise gives it. What the library has is imported from there
(`import name as name`: meant to be found here).
"""

from __future__ import annotations

import torch
from torch import Tensor

from blvnet_lab.introspect.taps import tsm_taps as tsm_taps

# ---------------------------------------------------------------- 01 from video to tensor

# ---------------------------------------------------------------- 02 why time matters


def shift(x: Tensor, offset: int) -> Tensor:
    """y[t] = x[t + offset], zeros where that is outside the clip; x is (B, T, C, H, W)."""
    num_frames = x.shape[1]
    y = torch.zeros_like(x)
    for t in range(num_frames):
        if 0 <= t + offset < num_frames:
            y[:, t] = x[:, t + offset]
    return y


def tam(x: Tensor, taps: Tensor) -> Tensor:
    """Equation 3: x is (B, T, C, H, W), taps (3, C) are prev, curr, next of every channel."""
    prev, curr, next = taps[:, :, None, None]  # (C, 1, 1) each
    return torch.relu(prev * shift(x, -1) + curr * x + next * shift(x, +1))


def tams_needed(num_frames: int, num_taps: int) -> int:
    """How many TAMs, one after the other, until the first frame has heard of the last."""
    reach = num_taps // 2
    return -(-(num_frames - 1) // reach)  # rounded up


# ---------------------------------------------------------------- 03 the big-little network

# ---------------------------------------------------------------- 04 assembling

# ---------------------------------------------------------------- 05 train the staircase

# ---------------------------------------------------------------- 06 train on a Kinetics subset

# ---------------------------------------------------------------- 07 scale to full data sets

# ---------------------------------------------------------------- 08 look inside

# ---------------------------------------------------------------- 09 see temporal aggregation
