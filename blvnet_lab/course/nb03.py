"""Checks of notebook 03: the cost of convolutions, the merge, a stage with two branches."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Answer, Check, cases, gradients
from blvnet_lab.course.inputs import ToyNetwork, rand
from blvnet_lab.course.verdicts import same

HALVED = "odd sizes are rounded up, as in (height - 1) // stride + 1"


def _conv(channels: int, out: int, kernel: int, height: int, width: int, stride=1, groups=1) -> int:
    """Count the multiply-accumulates with PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        conv(torch.empty(1, channels, height, width))
    return counter.get_total_flops() // 2


check_conv_macs = Check(
    cases(
        "each pixel of each output channel takes kernel * kernel * in_channels multiplications",
        "multiply the pixels of the output by kernel * kernel, in_channels and out_channels; "
        "stride and groups are 1 unless they are given",
        *((1, 1, 1, 2, 3, 1, 1), (1, 1, 3, 4, 4, 1, 1), (4, 1, 1, 2, 2, 1, 1)),
        *((1, 4, 1, 2, 2, 1, 1), (2, 3, 3, 8, 6)),
    ),
    cases(
        "the stride keeps every second or third pixel in both directions, starting with the first",
        f"count the pixels of the output: {HALVED}",
        *((2, 3, 3, 8, 6, 2, 1), (3, 4, 7, 13, 15, 2, 1), (1, 1, 3, 10, 11, 3, 1)),
    ),
    cases(
        "in groups, an output channel sees in_channels / groups input channels",
        "a depthwise convolution (groups = channels) sees one input channel",
        *((4, 4, 3, 5, 5, 1, 4), (64, 128, 3, 56, 56, 2, 2)),
    ),
    by=_conv,
)

check_bottleneck_macs = Check(
    cases(
        "1x1 to a quarter of the output's channels, 3x3 there, 1x1 back, at every pixel",
        "16 * 4 + 9 * 4 * 4 + 4 * 16 for each pixel of 16 channels; the stride is 1 by default",
        *((16, 16, 1, 1, 1), (16, 16, 4, 6)),
    ),
    cases(
        "a shortcut that changes the channels, to fewer too, is a 1x1 convolution",
        "in_channels != channels; and narrow is a quarter of the output's channels",
        *((8, 16, 4, 4, 1), (16, 8, 4, 4, 1)),
    ),
    cases(
        "the first 1x1 works on the input's pixels, what follows the stride on fewer, also the "
        "shortcut's 1x1, which a stride alone does not need; its averaging is not counted",
        "the stride sits in the 3x3 convolution; averaging shrinks the shortcut's maps before its "
        f"1x1, to (height / stride) x (width / stride) pixels; {HALVED}",
        *((16, 16, 4, 4, 2), (64, 256, 56, 56, 2), (8, 16, 7, 5, 2), (8, 16, 10, 11, 3)),
    ),
    by=solutions.bottleneck_macs,
)

ROW = torch.tensor([[[[1.0, 3.0]]]])
check_merge = Check(
    cases(
        "each pixel of big becomes 2 x 2 equal ones (nearest), and the two are summed",
        'F.interpolate(big, size=little.shape[-2:], mode="nearest"); no average afterwards',
        *((ROW, torch.zeros(1, 1, 2, 4)), (ROW, torch.ones(1, 1, 1, 4))),
    ),
    cases(
        "a ReLU follows the sum: before it one branch may cancel the other",
        "sum first, then one torch.relu around it",
        (ROW, torch.full((1, 1, 1, 4), -2.0)),
    ),
    cases(
        "big gets the size of little: of 3 pixels, 2 take the first of 2; 2 pixels stay 2",
        'F.interpolate with size= and mode="nearest"; no scale_factor, no "nearest-exact"',
        *((ROW, torch.zeros(1, 1, 1, 3)), (ROW, torch.zeros(1, 1, 1, 2))),
        (rand(2, 3, 2, 2), rand(2, 3, 3, 3)),
    ),
    gradients(big=rand(2, 3, 2, 2), little=rand(2, 3, 3, 3)),
    by=solutions.merge,
)


def _convolution(channels: int, kernel: int, stride: int) -> nn.Module:
    how = {"stride": stride, "padding": kernel // 2}
    weight = rand(6, channels, kernel, kernel)
    return ToyNetwork(
        f"a convolution with {how}", lambda x, weight: F.conv2d(x, weight, **how), weight
    )


SAME, TRIPLE = ToyNetwork("x", lambda x: x), ToyNetwork("3 x", lambda x: 3 * x)
MORE, HALF = ToyNetwork("x + 1", lambda x: x + 1), ToyNetwork("half as large", nn.AvgPool2d(2))
ONES = torch.ones(1, 1, 2, 2)
CONVS = _convolution(3, 1, 1), _convolution(3, 3, 2), _convolution(6, 3, 2)


def stage_runs_each_part_once(stage_forward: Answer) -> None:
    """each part runs once: calls cost time"""
    parts = SAME, HALF, MORE
    for part in parts:
        part.calls = 0
    stage_forward(ONES, ONES, *parts)
    same([part.calls for part in parts], [1, 1, 1], "keep the result of a call in a variable")


check_stage_forward = Check(
    cases(
        "each branch gets its own maps, and their outputs are merged",
        "merge(big(for_big), little(for_little)): look at the order of the arguments",
        *((ONES, 10 * ONES, SAME, HALF, SAME), (ONES, 10 * ONES, TRIPLE, HALF, SAME)),
    ),
    cases(
        "the fusion follows the merge and its ReLU, and comes last",
        "fusion(merge(...)), with the ReLU inside the merge",
        (ONES, -10 * ONES, SAME, HALF, MORE),
    ),
    cases(
        "big's map is enlarged to the size of little's output, whatever that is",
        "enlarge to the size of little(for_little), not by two: your merge, or ours",
        (ONES, rand(1, 1, 2, 2), SAME, SAME, SAME),
        (rand(1, 1, 4, 4), ONES, HALF, HALF, SAME),
        (rand(2, 3, 5, 5), rand(2, 3, 5, 5), *CONVS),
    ),
    stage_runs_each_part_once,
    gradients(*CONVS, for_little=rand(2, 3, 5, 5), for_big=rand(2, 3, 5, 5)),
    by=solutions.stage_forward,
)
