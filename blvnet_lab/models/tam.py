"""The temporal aggregation module (TAM): the equation that everything here turns on.

Source: Fan et al., "More Is Less", NeurIPS 2019, equation 3. Not to be confused with
TANet's temporal *adaptive* module, which goes by the same three letters.

    from blvnet_lab.models import TAM
    TAM(channels=64, num_taps=3)(torch.randn(2, 16, 64, 56, 56))   # (B, T, C, H, W) in and out

A *tap* is one learned weight per channel for one neighbour in time. With three taps a channel of a
frame becomes `prev * (same channel, one frame earlier) + curr * (now) + next * (one frame later)`.
"""

import math
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blvnet_lab.models.fast import fused_sum


def weighted_sum(x: Tensor, taps: Tensor, first: int) -> Tensor:  # (B, T, C, H, W) in and out
    """Sum over time: `y[t] = sum_i taps[i] * x[t + first + i]`, zeros before and after the clip.

    Args:
        taps: (r, C), one weight per offset in time and per channel.
        first: the offset in time of `taps[0]`; offset 0 must be among the r offsets.
    """
    weights = taps.to(x.dtype)[:, :, None, None]  # (r, C, 1, 1); under autocast x may be in half
    return sum(weight * temporal_shift(x, first + i) for i, weight in enumerate(weights))


def temporal_shift(x: Tensor, offset: int) -> Tensor:
    """Shift in time: `y[t] = x[t + offset]`, zeros where no such frame is; (B, T, C, H, W)."""
    if offset == 0:
        return x
    before, after = (min(max(0, frames), x.shape[1]) for frames in (-offset, offset))
    return F.pad(x[:, after : x.shape[1] - before], (0, 0) * 3 + (before, after))


def tsm_taps(channels: int, fold: int = 8) -> Tensor:
    """Make the fixed shift of TSM (Lin et al., 2019) as taps (3, C).

    The first `channels // fold` channels come from the next frame, as many after them from the
    frame before; the rest stay.
    """
    moved = channels // fold
    taps = torch.zeros(3, channels)
    taps[2, :moved] = 1
    taps[0, moved : 2 * moved] = 1
    taps[1, 2 * moved :] = 1
    return taps


TapInit = Literal["identity", "kaiming", "shift"]
IDENTITY_NOISE = 0.05  # standard deviation around the identity: enough to tell channels apart


class TamOptions(NamedTuple):
    """How every TAM of a network looks at time; `TAM` explains them."""

    num_taps: int = 3
    tap_init: TapInit = "identity"
    causal: bool = False


class TAM(nn.Module):
    """Depthwise temporal aggregation on frames: `y'_t = ReLU(sum_j w_j * y_{t+j})`.

    `j` runs from `-(r // 2)` to `r // 2`; frames outside the clip count as zero. This equals the
    ReLU of a depthwise 3-D convolution with kernel (r, 1, 1). TSM's shift is the special case of
    taps that are 0 or 1, without the ReLU.

    Args:
        num_taps: r, odd. 1 looks at the frame itself only.
        tap_init: "identity" starts near the identity (curr 1, the others 0, a little noise);
            "kaiming" is the published start: normal, std sqrt(2 / C), random sign; "shift" is TSM
            (`tsm_taps`), whatever the ReLU, since maps are never negative where TAMs stand.
        causal: `j` runs from `-(r - 1)` to 0 instead, so that no frame waits for a later one (for
            live video; not in the paper). r may then be even.

    Attributes:
        taps: (r, C) parameter, earliest frame first; for r = 3: prev, curr, next.
        first_offset: the offset of `taps[0]` in frames; `taps[-first_offset]` is the frame's own.
    """

    def __init__(
        self, channels: int, num_taps: int = 3, tap_init: TapInit = "identity", causal: bool = False
    ):
        super().__init__()
        if num_taps < 1 or (num_taps % 2 == 0 and not causal):
            wanted = "at least 1" if causal else "odd and positive, to look as far back as ahead"
            raise ValueError(
                f"expected num_taps to be {wanted}, got {num_taps}: use 3 as in the paper"
            )
        self.channels, self.num_taps = channels, num_taps
        self.first_offset = -(num_taps - 1) if causal else -(num_taps // 2)
        self.taps = nn.Parameter(torch.empty(num_taps, channels))
        with torch.no_grad():
            if tap_init == "identity":
                self.taps.normal_(0, IDENTITY_NOISE)
                self.taps[-self.first_offset] += 1
            elif tap_init == "kaiming":
                self.taps.normal_(0, math.sqrt(2 / channels))
            elif tap_init == "shift":
                self.taps.zero_()
                for offset, tap in zip((-1, 0, 1), tsm_taps(channels), strict=True):
                    row = offset - self.first_offset
                    # Where no tap looks there (causal, or a single tap), the channels stay.
                    self.taps[row if 0 <= row < num_taps else -self.first_offset] += tap
            else:
                raise ValueError(f"expected tap_init of {get_args(TapInit)}, got {tap_init!r}")

    def forward(self, frames: Tensor) -> Tensor:  # (B, T, C, H, W)
        # `fused_sum` is a faster `weighted_sum`. In place is safe: no hook has seen the new sum.
        return torch.relu_(fused_sum(frames, self.taps, self.first_offset))

    def extra_repr(self) -> str:
        return f"channels={self.channels}, num_taps={self.num_taps}, first={self.first_offset}"


class PairTAM(TAM):
    """The same equation where the two frames of every pair hold the same map.

    After every merge they do, since the merged map of a pair goes to both its frames. So the sum
    over frames is a sum over pairs with *effective pair taps*, and no map is copied: half the
    memory, the same result. For three taps and the maps x_k of the pairs k:

        little_k = ReLU( prev * x_{k-1} + (curr + next) * x_k                   )
        big_k    = ReLU(                  (prev + curr) * x_k + next * x_{k+1} )
    """

    def pair_taps(self) -> list[tuple[Tensor, int]]:
        """Add up the taps that reach the same pair: (taps, first) of little, and of big frames.

        From the little frame 2k a tap at frame offset j reaches the pair k + floor(j / 2), from the
        big frame 2k + 1 the pair k + floor((j + 1) / 2). `taps` are (q, C), and `first` is the pair
        offset of their first row.
        For r = 3: little covers the pairs k-1 and k, big the pairs k and k+1 (causal: k-1 and k).
        """
        offsets = range(self.first_offset, self.first_offset + self.num_taps)
        found = []
        for frame_in_pair in (0, 1):  # little, big
            pairs = [(offset + frame_in_pair) // 2 for offset in offsets]  # those that taps reach
            begins = [pairs.index(pair) for pair in range(pairs[0], pairs[-1] + 1)]
            ranges = pairwise([*begins, self.num_taps])
            taps = torch.stack([self.taps[begin:end].sum(0) for begin, end in ranges])
            found.append((taps, pairs[0]))
        return found

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:  # (B, P, C, H, W)
        """Aggregate for the little and for the big frames, each (B, P, C, H, W)."""
        little, big = (torch.relu_(fused_sum(pairs, *taps)) for taps in self.pair_taps())
        return little, big
