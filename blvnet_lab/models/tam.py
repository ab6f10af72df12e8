"""The temporal aggregation module (TAM): the equation that everything here turns on.

Source: Fan et al., "More Is Less", NeurIPS 2019, equation 3. Not to be confused with
TANet's temporal *adaptive* module, which goes by the same three letters.

    from blvnet_lab.models import TAM
    TAM(channels=64, num_taps=3)(torch.randn(2, 16, 64, 56, 56))   # (B, T, C, H, W) in and out

A *tap* is one learned weight per channel for one neighbour in time. With three taps a channel of a
frame becomes `prev * (same channel, one frame earlier) + curr * (now) + next * (one frame later)`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

TapInit = Literal["identity", "kaiming"]
IDENTITY_NOISE = 0.05  # standard deviation around the identity: enough to tell channels apart


def weighted_sum(x: Tensor, taps: Tensor, first: int) -> Tensor:
    """`y[t] = sum_i taps[i] * x[t + first + i]`, with zeros before and after the clip.

    Args:
        x: (B, T, C, H, W).
        taps: (r, C), one weight per offset in time and per channel.
        first: the offset in time of `taps[0]`; offset 0 must be among the r offsets.

    Returns:
        (B, T, C, H, W), in the memory layout of `x`.
    """
    return _WeightedSum.apply(x, taps, first)


class _WeightedSum(torch.autograd.Function):
    """`weighted_sum` with its gradient written out; for first derivatives only.

    PyTorch would derive one that copies all maps for every tap. For the stem's TAM, forward and
    backward of 32 clips in bfloat16, that took 33 ms on an H200, this takes 12.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, taps: Tensor, first: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.first = first
        weights = taps.to(x.dtype)[:, :, None, None]  # under autocast x may be in half precision
        y = weights[-first] * x  # offset 0: a new tensor, which no hook sees before it is done
        for offset, weight in enumerate(weights, start=first):
            if offset != 0 and abs(offset) < x.shape[1]:
                here, there = _meet(offset, x.shape[1])
                y[:, here].addcmul_(x[:, there], weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, of_y: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        num_taps, num_frames = len(taps), x.shape[1]
        of_x = of_taps = None
        if ctx.needs_input_grad[0]:  # the same sum, looking the other way
            of_x = weighted_sum(of_y, taps.flip(0), -(ctx.first + num_taps - 1))
        if ctx.needs_input_grad[1]:
            of_taps = torch.zeros_like(taps)
            for i, offset in enumerate(range(ctx.first, ctx.first + num_taps)):
                if abs(offset) < num_frames:
                    here, there = _meet(offset, num_frames)
                    of_taps[i] = (of_y[:, here] * x[:, there]).sum((0, 1, 3, 4), dtype=taps.dtype)
        return of_x, of_taps, None


def _meet(offset: int, num_frames: int) -> tuple[slice, slice]:
    """The frames that have a neighbour at this offset in time, and those neighbours."""
    begin, end = max(0, -offset), min(num_frames, num_frames - offset)
    return slice(begin, end), slice(begin + offset, end + offset)


class TAM(nn.Module):
    """Depthwise temporal aggregation on frames: `y'_t = ReLU(sum_j w_j * y_{t+j})`.

    `j` runs from `-r/2` to `r/2` (equation 3); frames outside the clip count as zero. The same as
    ReLU of a depthwise 3-D convolution with kernel (r, 1, 1). TSM's shift is the case of taps that
    are 0 or 1, without the ReLU.

    Args:
        channels: C.
        num_taps: r, odd. 1 looks at the frame itself only.
        tap_init: "identity" starts near the identity (curr 1, the others 0, a little noise);
            "kaiming" is the published start: normal, std sqrt(2 / C), random sign.
        causal: `j` runs from `-(r - 1)` to 0 instead, so that no frame waits for a later one (for
            live video; not in the paper). r may then be even.

    Attributes:
        taps: (r, C) parameter, earliest frame first; for r = 3: prev, curr, next.
        first_offset: of `taps[0]` in frames; `taps[-first_offset]` is the frame's own.

    Raises:
        ValueError: `num_taps` is not a positive odd number, or `tap_init` is unknown.
    """

    def __init__(
        self,
        channels: int,
        num_taps: int = 3,
        tap_init: TapInit = "identity",
        causal: bool = False,
    ):
        super().__init__()
        if num_taps < 1 or (num_taps % 2 == 0 and not causal):
            wanted = "at least 1" if causal else "odd (1, 3, 5, ...)"
            raise ValueError(
                f"expected num_taps to be {wanted}, got {num_taps}: a frame looks "
                f"{'back' if causal else 'equally far back and ahead'}; use 3 as in the paper"
            )
        if tap_init not in ("identity", "kaiming"):
            raise ValueError(f'expected tap_init "identity" or "kaiming", got {tap_init!r}')
        self.channels, self.num_taps = channels, num_taps
        self.first_offset = -(num_taps - 1) if causal else -(num_taps // 2)
        self.taps = nn.Parameter(torch.empty(num_taps, channels))
        self.reset_taps(tap_init)

    @torch.no_grad()
    def reset_taps(self, tap_init: TapInit) -> None:
        """Draw the taps anew from the global random generator."""
        if tap_init == "kaiming":
            self.taps.normal_(0, math.sqrt(2 / self.channels))
        else:
            self.taps.normal_(0, IDENTITY_NOISE)
            self.taps[-self.first_offset] += 1

    def forward(self, frames: Tensor) -> Tensor:  # (B, T, C, H, W)
        # In place is safe here: the sum is new, and no hook has seen it.
        return torch.relu_(weighted_sum(frames, self.taps, self.first_offset))

    def extra_repr(self) -> str:
        return f"channels={self.channels}, num_taps={self.num_taps}, first={self.first_offset}"


class PairTAM(TAM):
    """The same equation where the two frames of every pair hold the same map.

    After every merge they do, since the merged map of a pair goes on to both its frames. So the sum
    over frames is a sum over pairs with *effective pair taps*, and no map need be copied: half
    the memory, the same result. For three taps and the maps x_k of the pairs k:

        little_k = ReLU( prev * x_{k-1} + (curr + next) * x_k                   )
        big_k    = ReLU(                  (prev + curr) * x_k + next * x_{k+1} )
    """

    def pair_taps(self) -> tuple[Tensor, Tensor, int, int]:
        """Effective taps over pairs: (little, big, first_little, first_big).

        From the little frame 2k a tap at frame offset j reaches the pair k + floor(j / 2), from the
        big frame 2k + 1 the pair k + floor((j + 1) / 2); taps that reach the same pair add up.
        Both are (q, C); `first_little` and `first_big` are the pair offsets of their first rows.
        For r = 3: little covers the pairs k-1 and k, big the pairs k and k+1 (causal: k-1 and k).
        """
        begin, end = self.first_offset, self.first_offset + self.num_taps
        offsets = torch.arange(begin, end, device=self.taps.device)
        taps, firsts = [], []
        for frame_in_pair in (0, 1):  # little, big
            pairs = torch.div(offsets + frame_in_pair, 2, rounding_mode="floor")
            first, last = (frame_in_pair + begin) // 2, (frame_in_pair + end - 1) // 2
            empty = self.taps.new_zeros(last - first + 1, self.channels)
            taps.append(empty.index_add(0, pairs - first, self.taps))
            firsts.append(first)
        return *taps, *firsts

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:  # (B, P, C, H, W)
        """The aggregated maps of the little and of the big frames, each (B, P, C, H, W)."""
        little_taps, big_taps, first_little, first_big = self.pair_taps()
        little = torch.relu_(weighted_sum(pairs, little_taps, first_little))
        big = torch.relu_(weighted_sum(pairs, big_taps, first_big))
        return little, big
