"""Unroll a network over time: each frame's maps become a tensor of their own, for ONNX Runtime."""

import copy
from collections.abc import Callable, Iterable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from blvnet_lab.models.networks import VideoNet


def frame_by_frame(network: VideoNet) -> VideoNet:
    """Copy a network so that it computes on `Frames`, with the same parameters and names."""
    unrolled = copy.copy(network)
    unrolled.forward_features = lambda clip: network.forward_features(
        Frames(clip[:, frame] for frame in range(network.num_frames))
    )
    return unrolled


class Frames:
    """The maps of a clip's frames, or of its pairs, each as a tensor (B, C, H, W).

    The network runs on them as it does on a single tensor, but nothing is sliced, padded or
    concatenated along time. So ONNX Runtime can keep maps in its blocked layout from the first
    convolution to the pooling, and fuse a tap, here a depthwise convolution, with the sum and the
    ReLU that follow.
    """

    dtype = torch.float32

    def __init__(self, maps: Iterable[Tensor | None]):
        self.maps = list(maps)  # None is a frame before or after the clip: zero

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Self:
        if function is F.pad:  # `tam.temporal_shift`
            frames, (*_, before, after) = args
            return cls([None] * before + frames.maps + [None] * after)
        if function is Tensor.mul:  # `tam.weighted_sum`
            tap, frames = args  # (C, 1, 1)
            weight = tap[:, None]
            maps = (x if x is None else F.conv2d(x, weight, groups=len(tap)) for x in frames.maps)
            return cls(maps)
        if function is F.interpolate:
            size, (height, width) = kwargs["size"], args[0].shape[-2:]
            # Of sides that are known ONNX Runtime takes a factor into its layout, not a size.
            if all(isinstance(side, int) for side in size) and size == (2 * height, 2 * width):
                kwargs = {"scale_factor": 2.0, "mode": kwargs["mode"]}
        count = next(len(each.maps) for each in args if isinstance(each, cls))
        columns = (each.maps if isinstance(each, cls) else [each] * count for each in args)
        return cls(function(*row, **(kwargs or {})) for row in zip(*columns, strict=True))

    def __add__(self, other: Self | int) -> Self:
        if not isinstance(other, Frames):  # the 0 that `sum` begins with
            return self
        pairs = zip(self.maps, other.maps, strict=True)
        return Frames(b if a is None else a if b is None else a + b for a, b in pairs)

    __radd__ = __add__

    def __getitem__(self, index: tuple[slice, slice]) -> Self:
        return Frames(self.maps[index[1]])

    @property
    def shape(self) -> tuple[int, ...]:
        batch, *rest = self.maps[0].shape
        return (batch, len(self.maps), *rest)

    def _itself(self, *_: object) -> Self:
        return self

    flatten = unflatten = to = _itself  # no axis is shared with other frames; float32 throughout

    def mean(self, dims: tuple[int, int]) -> Tensor:
        return torch.stack([x.mean(dims) for x in self.maps], 1)  # (B, P, C): one tensor again
