"""Inputs for the checks: numbers, clips, taps, and networks of a single line."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ToyNetwork(nn.Module):
    """A network that computes a function of its input and weights; messages show it as `what`."""

    def __init__(self, what: str, function: Callable[..., Tensor], *weights: Tensor) -> None:
        super().__init__()
        self.what, self.function = what, function
        self.weights, self.calls = nn.ParameterList(weights), 0
        for weight in self.weights:
            weight.grad = torch.ones_like(weight)  # left by other code: it must stay

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.function(x, *self.weights)

    def __repr__(self) -> str:
        return self.what


def rand(*shape: int, seed: int = 0) -> Tensor:
    """Draw normal float32 numbers, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float32, generator=generator)


def clip_tensor(*numbers: float) -> Tensor:
    """Make a clip of one channel and one pixel, with a number per frame: (1, T, 1, 1, 1)."""
    return torch.tensor(numbers, dtype=torch.float32)[None, :, None, None, None]


def taps_tensor(*numbers: float) -> Tensor:
    """Make the taps of a single channel, earliest first: (r, 1)."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def on_taps(numbers: Sequence[float], *all_taps: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Make examples: one clip with each of several sets of taps."""
    return [(clip_tensor(*numbers), taps_tensor(*taps)) for taps in all_taps]


def depthwise_conv3d(x: Tensor, taps: Tensor) -> Tensor:
    """Compute equation 3 without its ReLU by conv3d: x (B, T, C, H, W), taps (r, C), r odd."""
    num_taps, channels = taps.shape
    kernel = taps.t().reshape(channels, 1, num_taps, 1, 1)
    padding = (num_taps // 2, 0, 0)
    return F.conv3d(x.transpose(1, 2), kernel, padding=padding, groups=channels).transpose(1, 2)
