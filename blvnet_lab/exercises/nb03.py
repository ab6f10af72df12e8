"""The checks of notebook 03: what convolutions cost, the merge, a stage of two branches."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.exercises.checking import ask, check, require, same


def _counted(layers: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of PyTorch's own counter for an input of this shape."""
    with FlopCounterMode(display=False) as counter:
        layers.to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2


@check
def check_conv_macs(conv_macs: Callable[..., int]) -> str:
    """Checks `conv_macs(in_channels, out_channels, kernel, height, width, stride, groups)`.

    Multiply-accumulates of a convolution padded by kernel // 2; height and width are the input's.
    """
    cases = [
        ((1, 1, 1, 2, 3, 1, 1), "one multiplication for each pixel", "there are 2 * 3 pixels"),
        (
            (1, 1, 3, 4, 4, 1, 1),
            "each pixel of the output takes kernel * kernel multiplications",
            "a 3x3 kernel has 9 weights, not 3",
        ),
        ((4, 1, 1, 2, 2, 1, 1), "all input channels are summed", "in_channels is a factor"),
        ((1, 4, 1, 2, 2, 1, 1), "every output channel costs as much", "out_channels is a factor"),
        (
            (2, 3, 3, 8, 6, 2, 1),
            "at stride 2 the output has a quarter of the pixels",
            "count the pixels of the output: height and width are both halved",
        ),
        (
            (3, 4, 7, 15, 15, 2, 1),
            "odd sizes are rounded up: 15 pixels at stride 2 give 8",
            "(height - 1) // stride + 1",
        ),
        (
            (4, 4, 3, 5, 5, 1, 4),
            "in groups, an output channel sees in_channels / groups input channels",
            "a depthwise convolution (groups = channels) sees one input channel",
        ),
        ((64, 128, 3, 56, 56, 2, 2), "all factors together are the product", "see the formula"),
    ]
    names = ("in_channels", "out_channels", "kernel", "height", "width", "stride", "groups")
    for given, broken, hint in cases:
        of = ", ".join(f"{name}={value}" for name, value in zip(names, given, strict=True))
        channels, out, kernel, height, width, stride, groups = given
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        wanted = _counted(conv, 1, channels, height, width)
        same(ask(conv_macs, *given, of=of), wanted, broken, of=of, hint=hint)
    return "kernels, channels, strides, odd sizes and groups, against PyTorch's own counter"


class _Bottleneck(nn.Module):
    """Its convolutions alone: that is all that is counted."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        narrow = channels // 4
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, narrow, 1, bias=False),
            nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False),
            nn.Conv2d(narrow, channels, 1, bias=False),
        )
        match = nn.Conv2d(in_channels, channels, 1, bias=False)
        pool = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.shortcut = nn.Sequential(pool, match if in_channels != channels else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


@check
def check_bottleneck_macs(bottleneck_macs: Callable[..., int]) -> str:
    """Checks `bottleneck_macs(in_channels, channels, height, width, stride)`."""
    cases = [
        (
            (16, 16, 1, 1, 1),
            "1x1 to a quarter of the channels, 3x3 there, 1x1 back, and a shortcut for nothing",
            "16 * 4 + 9 * 4 * 4 + 4 * 16",
        ),
        ((16, 16, 4, 6, 1), "all three work at every pixel", "times height * width"),
        (
            (8, 16, 4, 4, 1),
            "narrow is a quarter of the output's channels; and a shortcut that changes them "
            "is a 1x1 convolution, too",
            "8 * 4 + 9 * 4 * 4 + 4 * 16, and 8 * 16 for the shortcut, at every pixel",
        ),
        (
            (16, 16, 4, 4, 2),
            "the first 1x1 works on the input's pixels, what follows the stride on a quarter",
            "the stride sits in the 3x3 convolution",
        ),
        (
            (64, 256, 56, 56, 2),
            "the shortcut's 1x1 comes after its pooling: it works on the output's pixels",
            "count the shortcut at (height / stride) x (width / stride)",
        ),
        (
            (8, 16, 7, 5, 2),
            "odd sizes are rounded up: 7 x 5 pixels at stride 2 give 4 x 3",
            "(height - 1) // stride + 1, as in conv_macs",
        ),
    ]
    for given, broken, hint in cases:
        in_channels, channels, height, width, stride = given
        of = (
            f"in_channels={in_channels}, channels={channels}, height={height}, width={width}, "
            f"stride={stride}"
        )
        wanted = _counted(_Bottleneck(in_channels, channels, stride), 1, in_channels, height, width)
        same(ask(bottleneck_macs, *given, of=of), wanted, broken, of=of, hint=hint)
    return "with and without stride and shortcut, odd sizes, against PyTorch's own counter"


def _maps(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@check
def check_merge(merge: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks `merge(big, little)`: big enlarged (nearest), plus little, then ReLU."""
    big = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64)  # (1, 1, 1, 2)
    nothing = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    of = "big = [[1, 3]], little = 2 x 4 zeros"
    same(
        ask(merge, big, nothing, of=of),
        torch.tensor([[[[1.0, 1, 3, 3], [1, 1, 3, 3]]]], dtype=torch.float64),
        "each pixel of big becomes 2 x 2 equal ones (nearest)",
        of=of,
        hint='F.interpolate(big, size=little.shape[-2:], mode="nearest")',
    )
    of = "big = [[1, 3]], little = 2 x 4 ones"
    same(
        ask(merge, big, nothing + 1, of=of),
        torch.tensor([[[[2.0, 2, 4, 4], [2, 2, 4, 4]]]], dtype=torch.float64),
        "the two are summed",
        of=of,
        hint="a sum, no average and no concatenation",
    )
    of = "big = [[1, 3]], little = 2 x 4 times -2"
    got = ask(merge, big, nothing - 2, of=of)
    require(
        not (isinstance(got, Tensor) and (got < 0).any()),
        "a ReLU ends the merge: nothing is negative",
        of=of,
        found="negative numbers",
        hint="torch.relu of the sum",
    )
    same(
        got,
        torch.tensor([[[[0.0, 0, 1, 1], [0, 0, 1, 1]]]], dtype=torch.float64),
        "the ReLU comes after the sum, not before: one branch may cancel the other",
        of=of,
        hint="sum first, then one ReLU around it",
    )
    of = "big of 2 x 2 pixels, little of 3 x 3 (half of 3, rounded up, is 2)"
    big, little = _maps(2, 3, 2, 2), _maps(2, 3, 3, 3, seed=1)
    rows = torch.tensor([0, 0, 1])
    hint = "2 x 2 pixels are to become 3 x 3: give interpolate the size of little, no scale_factor"
    same(
        ask(merge, big, little, of=of, hint=hint),
        (big[:, :, rows][..., rows] + little).clamp(min=0),
        "big gets exactly the size of little, odd sizes too",
        of=of,
        hint=hint,
    )
    return "nearest enlarging, the sum, the ReLU after it, odd sizes"


@check
def check_stage_forward(stage_forward: Callable[..., Tensor]) -> str:
    """Checks `stage_forward(for_little, for_big, little, big, fusion)`.

    The first two are maps (N, C, H, W), the other three modules.
    """

    def half(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def as_it_is(x: Tensor) -> Tensor:
        return x

    ones = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    of = "for_little = 1s and for_big = 10s, branches that change nothing but the size"
    same(
        ask(stage_forward, ones, 10 * ones, as_it_is, half, as_it_is, of=of),
        11 * ones,
        "both branches run, and their maps are summed",
        of=of,
        hint="merge(big(for_big), little(for_little))",
    )
    of = "for_little = 1s and for_big = 10s, little = 3 * x, big = half as large"
    same(
        ask(stage_forward, ones, 10 * ones, lambda x: 3 * x, half, as_it_is, of=of),
        13 * ones,
        "each branch gets its own maps: little(for_little), big(for_big)",
        of=of,
        hint="look at the order of the arguments",
    )
    of = "for_little = 1s and for_big = -10s, fusion = x + 1"
    same(
        ask(stage_forward, ones, -10 * ones, as_it_is, half, lambda x: x + 1, of=of),
        ones,
        "the fusion follows the merge and its ReLU, and ends the stage",
        of=of,
        hint="fusion(merge(...)), with the ReLU inside the merge",
    )
    torch.manual_seed(0)
    little = nn.Conv2d(3, 6, 1).double()
    big = nn.Conv2d(3, 6, 3, stride=2, padding=1).double()
    fusion = nn.Conv2d(6, 6, 3, stride=2, padding=1).double()
    x, y = _maps(2, 3, 5, 5), _maps(2, 3, 5, 5, seed=1)
    of = "convolutions as branches and fusion, 2 maps of 3 x 5 x 5"
    with torch.no_grad():
        rows = torch.tensor([0, 0, 1, 1, 2])  # 5 pixels at stride 2 are 3
        wanted = fusion((big(y)[:, :, rows][..., rows] + little(x)).clamp(min=0))
        got = ask(stage_forward, x, y, little, big, fusion, of=of)
    same(
        got,
        wanted,
        "the stage gives what its parts give, one after the other",
        of=of,
        hint="merge the two branches, then run fusion once",
    )
    return "which branch gets which maps, the merge, the fusion after it, real convolutions"
