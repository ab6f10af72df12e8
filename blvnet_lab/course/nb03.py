"""The checks of notebook 03: what convolutions cost, the merge, a stage of two branches."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.course.checking import STAY, ask, check, plain, require, same, same_gradients


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
            (3, 4, 7, 13, 15, 2, 1),
            "odd sizes are rounded up: 13 x 15 pixels at stride 2 give 7 x 8",
            "(height - 1) // stride + 1",
        ),
        (
            (1, 1, 3, 10, 11, 3, 1),
            "at stride 3 every third pixel is left, the first too: of 10 x 11 these are 4 x 4",
            "(height - 1) // stride + 1",
        ),
        (
            (4, 4, 3, 5, 5, 1, 4),
            "in groups, an output channel sees in_channels / groups input channels",
            "a depthwise convolution (groups = channels) sees one input channel",
        ),
        ((64, 128, 3, 56, 56, 2, 2), "all factors together are the product", "see the formula"),
        ((2, 3, 3, 8, 6), "stride and groups are 1 unless they are given", "stride=1, groups=1"),
    ]
    names = ("in_channels", "out_channels", "kernel", "height", "width", "stride", "groups")
    for given, broken, hint in cases:
        of = ", ".join(f"{name}={value}" for name, value in zip(names, given, strict=False))
        channels, out, kernel, height, width, stride, groups = (*given, 1, 1)[:7]
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        wanted = _counted(conv, 1, channels, height, width)
        same(ask(conv_macs, *given, of=of), wanted, broken, of=of, hint=hint)
    return "kernels, channels, strides, odd sizes, groups, defaults, against PyTorch's own counter"


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
            (16, 8, 4, 4, 1),
            "a shortcut that changes the channels, to fewer too, is a 1x1 convolution",
            "in_channels != channels",
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
        (
            (8, 16, 10, 11, 3),
            "at stride 3 every third pixel is left, the first too: of 10 x 11 these are 4 x 4",
            "(height - 1) // stride + 1, as in conv_macs",
        ),
        ((8, 16, 4, 4), "the stride is 1 unless it is given", "stride=1"),
    ]
    names = ("in_channels", "channels", "height", "width", "stride")
    for given, broken, hint in cases:
        of = ", ".join(f"{name}={value}" for name, value in zip(names, given, strict=False))
        in_channels, channels, height, width, stride = (*given, 1)[:5]
        wanted = _counted(_Bottleneck(in_channels, channels, stride), 1, in_channels, height, width)
        got = ask(bottleneck_macs, *given, of=of)
        if stride > 1 and isinstance(plain(got), (int, float)):
            # What is counted too much tells what the shortcut was taken to need.
            too_much, after = plain(got) - wanted, -(-height // stride) * -(-width // stride)
            if too_much in (9 * after * in_channels, stride**2 * after * in_channels):
                broken = "the averaging in the shortcut is not counted"
                hint = "count the shortcut's 1x1 convolution alone, if it needs one"
            elif in_channels == channels and too_much / channels**2 in (after, height * width):
                broken = "a stride alone needs no 1x1 in the shortcut: averaging shrinks the maps"
                hint = "in_channels != channels, whatever the stride is"
        same(got, wanted, broken, of=of, hint=hint)
    return "stride, shortcut, odd sizes and the default, against PyTorch's own counter"


def _maps(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float32, generator=generator)


@check
def check_merge(merge: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks `merge(big, little)`: big enlarged (nearest), plus little, then ReLU."""
    big = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float32)  # (1, 1, 1, 2)
    nothing = torch.zeros(1, 1, 2, 4, dtype=torch.float32)
    of = "big = [[1, 3]], little = 2 x 4 zeros"
    same(
        ask(merge, big, nothing, of=of),
        torch.tensor([[[[1.0, 1, 3, 3], [1, 1, 3, 3]]]], dtype=torch.float32),
        "each pixel of big becomes 2 x 2 equal ones (nearest)",
        of=of,
        hint='F.interpolate(big, size=little.shape[-2:], mode="nearest")',
    )
    of = "big = [[1, 3]], little = 2 x 4 ones"
    same(
        ask(merge, big, nothing + 1, of=of),
        torch.tensor([[[[2.0, 2, 4, 4], [2, 2, 4, 4]]]], dtype=torch.float32),
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
        torch.tensor([[[[0.0, 0, 1, 1], [0, 0, 1, 1]]]], dtype=torch.float32),
        "the ReLU comes after the sum, not before: one branch may cancel the other",
        of=of,
        hint="sum first, then one ReLU around it",
    )
    row = torch.tensor([[[[1.0, 3.0]]]])
    cases = [
        (
            torch.zeros(1, 1, 1, 3),
            torch.tensor([[[[1.0, 1, 3]]]]),
            "big gets the size of little, odd sizes too: of 3 pixels, 2 take the first of 2",
            'F.interpolate with size= and mode="nearest"; no scale_factor, no "nearest-exact"',
        ),
        (
            torch.zeros(1, 1, 1, 2),
            row,
            "big as large as little stays as it is",
            "enlarge to the size of little, not by two",
        ),
    ]
    for little, wanted, broken, hint in cases:
        of = f"big = [[1, 3]], little = 1 x {little.shape[3]} zeros"
        same(ask(merge, row, little, of=of, hint=hint), wanted, broken, of=of, hint=hint)
    of = "random maps: big of 2 x 2 pixels, little of 3 x 3 (half of 3, rounded up, is 2)"
    big, little = _maps(2, 3, 2, 2), _maps(2, 3, 3, 3, seed=1)
    broken, hint = "maps and channels stay apart", "only height and width are enlarged"
    same(ask(merge, big, little, of=of), _merged(big, little), broken, of=of, hint=hint)
    leaves = {
        "big: its branch is to be learned": big.requires_grad_(),
        "little: its branch is to be learned": little.requires_grad_(),
    }
    got = ask(merge, big, little, of=of, hint=STAY)
    same_gradients(got, _merged(big, little), leaves, of=of)
    return "nearest enlarging, the sum, the ReLU after it, odd and equal sizes, gradients"


def _merged(big: Tensor, little: Tensor) -> Tensor:
    """Of big maps of 2 or 3 pixels to a side, and little ones of 3 or 5."""
    near = torch.arange(little.shape[-1]) // 2
    return (big[:, :, near][..., near] + little).clamp(min=0)


class _Part(nn.Module):
    """A module that does what it is told, and counts how often."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function, self.calls = function, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.function(x)


@check
def check_stage_forward(stage_forward: Callable[..., Tensor]) -> str:
    """Checks `stage_forward(for_little, for_big, little, big, fusion)`.

    The first two are maps (N, C, H, W), the other three modules.
    """
    ones, larger = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 4, 4)
    numbers = torch.tensor([[[[1.0, 2], [3, 4]]]])
    cases = [
        (
            (ones, 10 * ones),
            (_as_it_is, _half, _as_it_is),
            11 * ones,
            "for_little = 1s and for_big = 10s, modules that change nothing but big's size",
            "both branches run, and their maps are summed",
            "merge(big(for_big), little(for_little))",
        ),
        (
            (ones, 10 * ones),
            (lambda x: 3 * x, _half, _as_it_is),
            13 * ones,
            "for_little = 1s and for_big = 10s, little = 3 * x, big = half as large",
            "each branch gets its own maps: little(for_little), big(for_big)",
            "look at the order of the arguments",
        ),
        (
            (ones, -10 * ones),
            (_as_it_is, _half, lambda x: x + 1),
            ones,
            "for_little = 1s and for_big = -10s, big = half as large, fusion = x + 1",
            "the fusion follows the merge and its ReLU, and ends the stage",
            "fusion(merge(...)), with the ReLU inside the merge",
        ),
        (
            (ones, numbers),
            (_as_it_is, _as_it_is, _as_it_is),
            1 + numbers,
            "for_little = 1s and for_big = [[1, 2], [3, 4]], modules that change nothing",
            "a big map as large as the little one is not enlarged",
            "enlarge to the size of the little map, not by two: your merge, or ours",
        ),
        (
            (larger, 10 * larger),
            (_half, lambda x: _half(_half(x)), _as_it_is),
            11 * ones,
            "for_little = 1s and for_big = 10s, little = half as large, big = a quarter",
            "big's map gets the size of the map that little gives",
            "merge(big(for_big), little(for_little)): the size of little(for_little)",
        ),
    ]
    for maps, functions, wanted, of, broken, hint in cases:
        parts = [_Part(function) for function in functions]
        same(ask(stage_forward, *maps, *parts, of=of, hint=hint), wanted, broken, of=of, hint=hint)
    for part, name in zip(parts, ("little", "big", "fusion"), strict=True):
        broken, hint = "each part runs once: calls cost time", "keep in a name what a call gave"
        found = f"{name} is called {part.calls} times"
        require(part.calls == 1, broken, of=of, found=found, hint=hint)

    torch.manual_seed(0)
    little = nn.Conv2d(3, 6, 1)
    big = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    fusion = nn.Conv2d(6, 6, 3, stride=2, padding=1)
    x, y = _maps(2, 3, 5, 5), _maps(2, 3, 5, 5, seed=1)
    of = "convolutions as branches and fusion, 2 maps of 3 x 5 x 5"
    wanted = fusion(_merged(big(y), little(x)))
    broken = "the stage gives what its parts give, one after the other"
    hint = "merge what the branches give (big's enlarged to little's size), then run fusion once"
    got = ask(stage_forward, x, y, little, big, fusion, of=of, hint=hint)
    same(got, wanted, broken, of=of, hint=hint)
    parts = {"the little branch": little, "the big branch": big, "the fusion": fusion}
    leaves = {f"{name}: it is to be learned": part.weight for name, part in parts.items()}
    same_gradients(got, wanted, leaves, of=of)
    return "which branch gets which maps, the merge, the fusion after it, convolutions, gradients"


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _half(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)
