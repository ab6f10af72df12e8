"""One right answer to every exercise; from here on the notebooks use it.

Each stands under the name that the exercise gives it. What the library has is imported from there
(`import name as name`: meant to be found here).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def conv_macs(
    in_channels: int,
    out_channels: int,
    kernel: int,
    height: int,
    width: int,
    stride: int = 1,
    groups: int = 1,
) -> int:
    """Multiply-accumulates of a convolution padded by kernel // 2 on height x width pixels."""
    pixels = ((height - 1) // stride + 1) * ((width - 1) // stride + 1)  # of the output
    return pixels * kernel**2 * (in_channels // groups) * out_channels


def bottleneck_macs(
    in_channels: int, channels: int, height: int, width: int, stride: int = 1
) -> int:
    """Multiply-accumulates of a bottleneck on height x width pixels."""
    narrow = channels // 4
    after = ((height - 1) // stride + 1, (width - 1) // stride + 1)
    macs = conv_macs(in_channels, narrow, 1, height, width)
    macs += conv_macs(narrow, narrow, 3, height, width, stride)
    macs += conv_macs(narrow, channels, 1, *after)
    if in_channels != channels:  # the shortcut, behind its pooling
        macs += conv_macs(in_channels, channels, 1, *after)
    return macs


def merge(big: Tensor, little: Tensor) -> Tensor:
    """ReLU(big + little), (N, C, H, W), with big enlarged to the size of little."""
    big = F.interpolate(big, size=little.shape[-2:], mode="nearest")
    return torch.relu(big + little)


def stage_forward(
    for_little: Tensor, for_big: Tensor, little: nn.Module, big: nn.Module, fusion: nn.Module
) -> Tensor:
    """A stage: each branch on its own maps (N, C, H, W), the merge, the fusion."""
    return fusion(merge(big(for_big), little(for_little)))


# ---------------------------------------------------------------- 04 assembling


def route(clip: Tensor) -> tuple[Tensor, Tensor]:
    """Frames 0, 2, ... for the little branch and 1, 3, ... for the big one, (B, P, C, H, W)."""
    return clip[:, 0::2], clip[:, 1::2]


def to_both(merged: Tensor) -> Tensor:
    """(B, P, C, H, W) to (B, 2P, C, H, W): the map of a pair for both its frames."""
    return merged.repeat_interleave(2, dim=1)


def pair_taps(taps: Tensor) -> tuple[Tensor, Tensor]:
    """Taps (3, C) as weights of pairs, (2, C) each: little (k - 1, k), big (k, k + 1)."""
    prev, curr, next = taps
    return torch.stack([prev, curr + next]), torch.stack([prev + curr, next])


def pair_tam(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """What a TAM gives the little and the big branch of maps (B, P, C, H, W), one for each pair."""
    (before, own), (own_big, after) = (rows[:, :, None, None] for rows in pair_taps(taps))
    little = before * shift(x, -1) + own * x
    big = own_big * x + after * shift(x, +1)
    return torch.relu(little), torch.relu(big)


# ---------------------------------------------------------------- 05 train the staircase

# ---------------------------------------------------------------- 06 train on a Kinetics subset

# ---------------------------------------------------------------- 07 scale to full data sets

# ---------------------------------------------------------------- 08 look inside

# ---------------------------------------------------------------- 09 see temporal aggregation
