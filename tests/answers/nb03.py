"""Answers to the exercises of notebook 03: wrong ones under the property they break, right ones."""

import math

import torch
import torch.nn.functional as F


def up(side, stride):
    return math.ceil(side / stride)


def conv_with(sides):
    """Count the MACs of a convolution whose output has sides(side, stride) pixels."""

    def conv_macs(c, out, kernel, height, width, stride=1, groups=1):
        return sides(height, stride) * sides(width, stride) * kernel**2 * c * out // groups

    return conv_macs


conv = conv_with(up)


def conv_by_loop(c, out, kernel, height, width, stride=1, groups=1):
    each = kernel * kernel * c // groups * out
    return sum(each for _ in range(0, height, stride) for _ in range(0, width, stride))


def bottleneck_with(sides=up, narrow=None, shortcut=None, places=(1, 0, 0, 0)):
    """Count the MACs of a bottleneck.

    Args:
        sides: of the maps behind the stride.
        places: 1 where a convolution works in front of the stride; the last one is the shortcut's.
    """
    narrow = narrow or (lambda c, out: out // 4)
    shortcut = shortcut or (lambda c, out, stride: c * out if c != out else 0)

    def bottleneck_macs(c, out, height, width, stride=1):
        n, after = narrow(c, out), sides(height, stride) * sides(width, stride)
        macs = c * n, 9 * n * n, n * out, shortcut(c, out, stride)
        pixels = [height * width if place else after for place in places]
        return sum(pixel * mac for pixel, mac in zip(pixels, macs, strict=True))

    return bottleneck_macs


bottleneck = bottleneck_with()


def bottleneck_by_conv_macs(c, out, height, width, stride=1):
    macs = conv(c, out // 4, 1, height, width) + conv(out // 4, out // 4, 3, height, width, stride)
    height, width = up(height, stride), up(width, stride)
    return macs + conv(out // 4, out, 1, height, width) + (c != out) * height * width * c * out


def enlarged(big, little, mode="nearest"):
    return F.interpolate(big, size=little.shape[-2:], mode=mode)


def merge_by_factor(big, little):
    big = F.interpolate(big, scale_factor=2)
    return (big[..., : little.shape[-2], :] + little).relu()


def merge_by_two(big, little):
    rows, columns = (torch.arange(n) // 2 for n in little.shape[-2:])
    return torch.relu(little + big[:, :, rows][..., columns])


def merge(big, little):
    return (enlarged(big, little) + little).relu()


def merge_by_index(big, little):
    rows, columns = (
        torch.arange(little.shape[i]) * big.shape[i] // little.shape[i] for i in (2, 3)
    )
    return torch.relu(little + big[:, :, rows][..., columns])


def stage(x, y, little, big, fusion):
    return fusion(merge(big(y), little(x)))


def stage_by_steps(for_little, for_big, little, big, fusion):
    y = little(for_little)
    return fusion(torch.relu(y + enlarged(big(for_big), y)))


WRONG = {
    "conv_macs": {
        "each pixel of each output channel": [
            lambda c, out, k, h, w, s=1, g=1: h * w * k * c * out,
            lambda c, out, k, h, w, s=1, g=1: h * w * k**2 * c,
            lambda c, out, k, h, w, s=2, g=1: conv(c, out, k, h, w, s, g),
        ],
        "the stride keeps every second or third": [
            conv_with(lambda side, stride: side),
            conv_with(lambda side, stride: side // stride),
            conv_with(lambda side, stride: round(side / stride)),
        ],
        "in groups, an output": [lambda c, out, k, h, w, s=1, g=1: conv(c, out, k, h, w, s)],
        "it runs without an error": [lambda c, out, k, h, w, s, g: conv(c, out, k, h, w, s, g)],
    },
    "bottleneck_macs": {
        "1x1 to a quarter of the output's channels": [
            lambda c, out, h, w, s=1: conv(c, out, 1, h, w) + conv(out, out, 3, h, w, s),
            lambda c, out, h, w, s=2: bottleneck(c, out, h, w, s),
            bottleneck_with(shortcut=lambda c, out, stride: c * out),
        ],
        "a shortcut that changes the channels": [
            bottleneck_with(shortcut=lambda c, out, stride: 0),
            bottleneck_with(narrow=lambda c, out: c // 4),
        ],
        "the first 1x1 works on the input's pixels": [
            bottleneck_with(shortcut=lambda c, out, s: c * out if s > 1 or c != out else 0),
            bottleneck_with(places=(1, 0, 0, 1)),
            bottleneck_with(lambda side, stride: side // stride),
        ],
    },
    "merge": {
        "each pixel of big becomes 2 x 2 equal": [
            lambda big, little: (enlarged(big, little, "bilinear") + little).relu(),
            lambda big, little: ((enlarged(big, little) + little) / 2).relu(),
            lambda big, little: (big + F.adaptive_avg_pool2d(little, big.shape[-2:])).relu(),
            lambda big, little: torch.cat([enlarged(big, little), little], dim=1).relu(),
        ],
        "a ReLU follows the sum": [
            lambda big, little: enlarged(big, little) + little,
            lambda big, little: enlarged(big, little).relu() + little.relu(),
        ],
        "big gets the size of little": [
            lambda big, little: (enlarged(big, little, "nearest-exact") + little).relu(),
            merge_by_two,
        ],
        "gradients reach": [
            lambda big, little: merge(big.detach(), little),
            torch.no_grad()(lambda big, little: merge(big, little)),
        ],
        "it runs without an error": [merge_by_factor],
    },
    "stage_forward": {
        "each branch gets its own maps": [
            lambda x, y, little, big, fusion: fusion(little(x).relu()),
            lambda x, y, little, big, fusion: stage(y, x, little, big, fusion),
            lambda x, y, little, big, fusion: stage(x, x, little, big, fusion),
        ],
        "the fusion follows the merge": [
            lambda x, y, little, big, fusion: merge(big(y), little(x)),
            lambda x, y, little, big, fusion: fusion(enlarged(big(y), x) + little(x)).relu(),
        ],
        "big's map is": [lambda x, y, little, big, fusion: fusion(merge_by_two(big(y), little(x)))],
        "each part runs once": [
            lambda x, y, little, big, fusion: fusion(
                (little(x) + enlarged(big(y), little(x))).relu()
            ),
        ],
        "gradients reach": [
            lambda x, y, little, big, fusion: fusion(merge(big(y).detach(), little(x))),
            torch.no_grad()(lambda *given: stage(*given)),
        ],
        "it runs without an error": [
            lambda x, y, little, big, fusion: fusion((little(x) + enlarged(big(y), x)).relu()),
        ],
    },
}

RIGHT = {
    "conv_macs": [conv, conv_by_loop],
    "bottleneck_macs": [bottleneck, bottleneck_by_conv_macs],
    "merge": [merge, merge_by_index],
    "stage_forward": [stage, stage_by_steps],
}
