"""The checks of notebook 03: what convolutions cost, the merge, a stage of two branches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.course.checking import Answer, Check, cases, gradients, rand, same

HALVED = "odd sizes are rounded up, as in (height - 1) // stride + 1"


def _counted(layers: nn.Module, *shape: int) -> int:
    """Count the multiply-accumulates for an input of this shape, by PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter:
        layers.to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2


def _conv(channels: int, out: int, kernel: int, height: int, width: int, stride=1, groups=1) -> int:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return _counted(conv, 1, channels, height, width)


check_conv_macs = Check(
    "conv_macs",
    cases(
        "each pixel of each output channel takes kernel * kernel * in_channels multiplications",
        "multiply the pixels of the output by kernel * kernel, in_channels and out_channels; "
        "stride and groups are 1 unless they are given",
        *((1, 1, 1, 2, 3, 1, 1), (1, 1, 3, 4, 4, 1, 1), (4, 1, 1, 2, 2, 1, 1)),
        *((1, 4, 1, 2, 2, 1, 1), (2, 3, 3, 8, 6)),
        by=_conv,
    ),
    cases(
        "the stride leaves every second or third pixel in both directions, the first one too",
        f"count the pixels of the output: {HALVED}",
        *((2, 3, 3, 8, 6, 2, 1), (3, 4, 7, 13, 15, 2, 1), (1, 1, 3, 10, 11, 3, 1)),
        by=_conv,
    ),
    cases(
        "in groups, an output channel sees in_channels / groups input channels",
        "a depthwise convolution (groups = channels) sees one input channel",
        *((4, 4, 3, 5, 5, 1, 4), (64, 128, 3, 56, 56, 2, 2)),
        by=_conv,
    ),
)


def _bottleneck(in_channels: int, channels: int, height: int, width: int, stride: int = 1) -> int:
    narrow, after = channels // 4, [len(range(0, side, stride)) for side in (height, width)]
    macs = _conv(in_channels, narrow, 1, height, width)
    macs += _conv(narrow, narrow, 3, height, width, stride) + _conv(narrow, channels, 1, *after)
    return macs + (_conv(in_channels, channels, 1, *after) if in_channels != channels else 0)


check_bottleneck_macs = Check(
    "bottleneck_macs",
    cases(
        "1x1 to a quarter of the output's channels, 3x3 there, 1x1 back, at every pixel",
        "16 * 4 + 9 * 4 * 4 + 4 * 16 for each pixel of 16 channels; the stride is 1 by default",
        *((16, 16, 1, 1, 1), (16, 16, 4, 6)),
        by=_bottleneck,
    ),
    cases(
        "a shortcut that changes the channels, to fewer too, is a 1x1 convolution",
        "in_channels != channels; and narrow is a quarter of the output's channels",
        *((8, 16, 4, 4, 1), (16, 8, 4, 4, 1)),
        by=_bottleneck,
    ),
    cases(
        "the first 1x1 works on the input's pixels, what follows the stride on fewer; a stride "
        "alone needs no 1x1 in the shortcut, and the averaging there is not counted",
        "the stride sits in the 3x3 convolution; averaging shrinks the shortcut's maps",
        (16, 16, 4, 4, 2),
        by=_bottleneck,
    ),
    cases(
        "the shortcut's 1x1 comes after its averaging: it works on the output's pixels",
        f"count the shortcut at (height / stride) x (width / stride); {HALVED}",
        *((64, 256, 56, 56, 2), (8, 16, 7, 5, 2), (8, 16, 10, 11, 3)),
        by=_bottleneck,
    ),
)


def _merged(big: Tensor, little: Tensor) -> Tensor:
    """Merge maps of which big ones have half as many pixels to a side, rounded up, or as many."""
    for axis in (2, 3):
        near = torch.arange(little.shape[axis]) // (1 + (little.shape[axis] > big.shape[axis]))
        big = big.index_select(axis, near)
    return (big + little).clamp(min=0)


ROW = torch.tensor([[[[1.0, 3.0]]]])
check_merge = Check(
    "merge",
    cases(
        "each pixel of big becomes 2 x 2 equal ones (nearest), and the two are summed",
        'F.interpolate(big, size=little.shape[-2:], mode="nearest"); no average afterwards',
        (ROW, torch.zeros(1, 1, 2, 4), ROW.repeat_interleave(2, 2).repeat_interleave(2, 3)),
        (ROW, torch.ones(1, 1, 1, 4), 1 + ROW.repeat_interleave(2, 3)),
    ),
    cases(
        "a ReLU ends the merge, after the sum: one branch may cancel the other",
        "sum first, then one torch.relu around it",
        (ROW, torch.full((1, 1, 1, 4), -2.0), torch.tensor([[[[0.0, 0, 1, 1]]]])),
    ),
    cases(
        "big gets the size of little: of 3 pixels, 2 take the first of 2; 2 pixels stay 2",
        'F.interpolate with size= and mode="nearest"; no scale_factor, no "nearest-exact"',
        (ROW, torch.zeros(1, 1, 1, 3), torch.tensor([[[[1.0, 1, 3]]]])),
        (ROW, torch.zeros(1, 1, 1, 2), ROW),
        (rand(2, 3, 2, 2), rand(2, 3, 3, 3), _merged(rand(2, 3, 2, 2), rand(2, 3, 3, 3))),
    ),
    gradients(_merged, big=rand(2, 3, 2, 2), little=rand(2, 3, 3, 3)),
)


class _Part(nn.Module):
    """A module that applies one of a few functions, and counts how often."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.calls = what, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.what == "half as large":
            return F.avg_pool2d(x, 2)
        return {"x": x, "3 x": 3 * x, "x + 1": x + 1}[self.what]

    def __repr__(self) -> str:
        return self.what


def _stage(x: Tensor, y: Tensor, little: nn.Module, big: nn.Module, fusion: nn.Module) -> Tensor:
    return fusion(_merged(big(y), little(x)))


def _convolution(*sizes: int) -> nn.Module:
    """Make a convolution without drawing its weights from the global generator."""
    conv = nn.utils.skip_init(nn.Conv2d, *sizes, bias=False)
    conv.weight = nn.Parameter(rand(*conv.weight.shape))
    return conv


def stage_runs_each_part_once(stage_forward: Answer) -> None:
    """each part runs once: calls cost time"""
    parts = [_Part("x"), _Part("half as large"), _Part("x")]
    stage_forward(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), *parts)
    calls = [part.calls for part in parts]
    same(calls, [1, 1, 1], "keep in a name what a call gave")


ONES = torch.ones(1, 1, 2, 2)
CONVS = _convolution(3, 6, 1), _convolution(3, 6, 3, 2, 1), _convolution(6, 6, 3, 2, 1)
check_stage_forward = Check(
    "stage_forward",
    cases(
        "each branch gets its own maps, and what they give is merged",
        "merge(big(for_big), little(for_little)): look at the order of the arguments",
        (ONES, 10 * ONES, _Part("x"), _Part("half as large"), _Part("x")),
        (ONES, 10 * ONES, _Part("3 x"), _Part("half as large"), _Part("x")),
        by=_stage,
    ),
    cases(
        "the fusion follows the merge and its ReLU, and ends the stage",
        "fusion(merge(...)), with the ReLU inside the merge",
        (ONES, -10 * ONES, _Part("x"), _Part("half as large"), _Part("x + 1")),
        by=_stage,
    ),
    cases(
        "big's map gets the size of the map that little gives, be it as large or larger",
        "enlarge to the size of little(for_little), not by two: your merge, or ours",
        (ONES, rand(1, 1, 2, 2), _Part("x"), _Part("x"), _Part("x")),
        (rand(1, 1, 4, 4), ONES, _Part("half as large"), _Part("half as large"), _Part("x")),
        (rand(2, 3, 5, 5), rand(2, 3, 5, 5), *CONVS),
        by=_stage,
    ),
    stage_runs_each_part_once,
    gradients(_stage, *CONVS, for_little=rand(2, 3, 5, 5), for_big=rand(2, 3, 5, 5)),
)
