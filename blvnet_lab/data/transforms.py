"""From decoded frames to what a network sees; one draw of chance for all frames of a clip.

torchvision's v2 transforms take the leading axis of (T, C, H, W) as a batch and draw their random
numbers once for it: that makes them clip-consistent. Nothing here mirrors a clip, because a mirror
image of "moves right" is another class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

# Of ImageNet, in RGB; the published weights were trained with them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalize(frames: Tensor) -> Tensor:
    """uint8 frames (..., 3, H, W) to floats, with ImageNet's mean and spread taken out."""
    return _normalize(frames)


def denormalize(clip: Tensor) -> Tensor:
    """Back to uint8, for pictures of what the network saw."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((clip * std.to(clip) + mean.to(clip)) * 255).round().clamp(0, 255).to(torch.uint8)


def training_transform(size: tuple[int, int]) -> v2.Compose:
    """A random part of the frame at `size` (height, width), in somewhat other colours."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.6, 1.0), ratio=(0.8, 1.25)),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
            _normalize,
        ]
    )


def evaluation_transform(size: tuple[int, int]) -> v2.Compose:
    """The centre of the frame, scaled so that it just fills `size` (height, width)."""
    return v2.Compose([_FillAndCrop(size), _normalize])


class _FillAndCrop(v2.Transform):
    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def forward(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        scale = max(self.size[0] / height, self.size[1] / width)
        filling = (round(height * scale), round(width * scale))
        if filling != (height, width):
            frames = v2.functional.resize(frames, list(filling), antialias=True)
        return v2.functional.center_crop(frames, list(self.size))


_normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
