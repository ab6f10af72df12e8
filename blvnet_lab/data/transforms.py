"""From decoded frames to what a network sees, with one random draw for all frames of a clip.

torchvision's v2 transforms treat the leading axis of (T, C, H, W) as a batch and draw their random
numbers once for it. Nothing here mirrors a clip, because the mirror image of "moves right" is
another class: `ClipDataset`, which knows the label, does that.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms import v2

# ImageNet's, in RGB; the published weights were trained with them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_SCALES = (1.0, 0.875, 0.75, 0.66)  # "multi-scale": sides, as shares of the largest crop's
AREAS, RATIOS = (0.6, 1.0), (0.8, 1.25)  # "resized": shares of the area, of the clip's aspect ratio


def normalize(frames: Tensor) -> Tensor:
    """Turn uint8 frames (..., 3, H, W) into float32, such that ImageNet has mean 0 and std 1."""
    if frames.dtype != torch.uint8:
        raise TypeError(f"expected frames in uint8, from 0 to 255, got {frames.dtype}")
    mean, std = (255 * values for values in _statistics(frames.device))
    # torchvision's two transforms for this take six times as long: as long as all the others.
    clip = frames.to(torch.float32, memory_format=torch.contiguous_format)
    return clip.sub_(mean).div_(std)


def denormalize(clip: Tensor) -> Tensor:
    """Turn a clip back into uint8, to show what the network saw."""
    mean, std = (values.to(clip) for values in _statistics(clip.device))
    return ((clip * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _statistics(device: torch.device) -> Tensor:
    return torch.tensor([MEAN, STD], device=device)[..., None, None]


def training_transform(
    size: tuple[int, int],
    *,
    crop: Literal["resized", "multi-scale"] = "resized",
    jitter: float = 0.3,
    rand_augment: int = 0,
    erase: float = 0.0,
) -> v2.Compose:
    """Make the training transform: a random part of the frame at `size`, its colours varied.

    crop: "resized" draws a part of 60 to 100 % of the frame's area, "multi-scale" one of the
        published corner crops (`multi_scale_crop`).
    jitter: how far brightness, contrast and saturation may change, as a share; published: 0.
    rand_augment: how many operations of RandAugment (Cubuk et al., 2019) to apply, 0 for none.
    erase: probability of blanking out a random rectangle (Zhong et al., 2017).
    """
    with torch.device("cpu"):  # for the tensors that torchvision's transforms hold
        ratios = [ratio * size[1] / size[0] for ratio in RATIOS]  # width to height
        resized = v2.RandomResizedCrop(size, scale=AREAS, ratio=ratios)
        multi_scale = v2.Lambda(partial(multi_scale_crop, size=size))
        steps = [{"resized": resized, "multi-scale": multi_scale}[crop]]
        steps += [ClipRandAugment(num_ops=rand_augment)] if rand_augment else []
        steps += [Jitter(jitter, jitter, jitter)] if jitter else []
        steps.append(v2.Lambda(normalize))
        steps += [v2.RandomErasing(p=erase)] if erase else []  # with 0, the mean colour
    return v2.Compose(steps)


class Jitter(v2.ColorJitter):
    """Change brightness, contrast and saturation as torchvision does, in half the time.

    The same random numbers are drawn, but contrast is about the mean of the clip (T, 3, H, W):
    about that of each frame it makes a still background flicker. Values are rounded once at the
    end, where torchvision truncates them after every change: they differ by a few of 255.
    """

    def transform(self, frames: Tensor, params: dict[str, Any]) -> Tensor:
        kind, form = frames.dtype, torch.contiguous_format
        frames = frames.to(torch.float32, memory_format=form, copy=True)
        for change in params["fn_idx"].tolist():
            if change == 0:
                frames.mul_(params["brightness_factor"]).clamp_(0, 255)
            elif change in (1, 2):
                factor = params["contrast_factor" if change == 1 else "saturation_factor"]
                grey = v2.functional.rgb_to_grayscale(frames)
                grey = grey.mean((-4, -3, -2, -1), keepdim=True) if change == 1 else grey
                frames.mul_(factor).add_(grey, alpha=1 - factor).clamp_(0, 255)
        return frames.round_().to(kind)  # `normalize` takes only uint8


class ClipRandAugment(v2.RandAugment):
    """Apply RandAugment to a clip (T, 3, H, W), with the ranges and means of all its frames.

    torchvision takes those of each frame, and a still background flickers (as in `Jitter`).
    """

    def _apply_image_or_video_transform(
        self, frames: Tensor, name: str, magnitude: float, **options: Any
    ) -> Tensor:
        tall = name in ("AutoContrast", "Contrast", "Equalize")  # given all frames as one picture
        given = frames.movedim(0, 1).flatten(1, 2) if tall else frames
        out = super()._apply_image_or_video_transform(given, name, magnitude, **options)
        return out.unflatten(1, (len(frames), -1)).movedim(1, 0) if tall else out


def useful_short_side(size: tuple[int, int], crop: Literal["resized", "multi-scale"]) -> int:
    """Compute the short side, in pixels, beyond which frames hold more than training crops show."""
    if crop == "resized":
        return math.ceil(max(*size, (math.prod(size) * RATIOS[1] / AREAS[0]) ** 0.5))
    return math.ceil(max(size) / CROP_SCALES[-1])


def multi_scale_crop(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop frames at one of five places (corners, centre), resized to `size` (height, width).

    The crop's sides are drawn from `CROP_SCALES`, height and width at most one step apart, so the
    picture is sometimes stretched a little (TSN, Wang et al., 2016, section 3.2).
    """
    height, width = frames.shape[-2:]
    largest = min(height, width * size[0] / size[1]), min(width, height * size[1] / size[0])
    tall, wide = ([round(side * scale) for scale in CROP_SCALES] for side in largest)
    shapes = [(h, w) for i, h in enumerate(tall) for j, w in enumerate(wide) if abs(i - j) <= 1]
    crop = shapes[torch.randint(len(shapes), (), device="cpu").item()]
    places = _crop_places((height, width), crop, 5)
    top, left = places[torch.randint(len(places), (), device="cpu").item()]
    return v2.functional.resized_crop(frames, top, left, *crop, list(size), antialias=True)


def _crop_places(frame: Sequence[int], crop: Sequence[int], crops: int) -> list[tuple[int, int]]:
    """Return each crop's (top, left) in a frame, both (height, width), for `view_transform`."""
    bottom, right = frame[0] - crop[0], frame[1] - crop[1]
    centre = (round(bottom / 2), round(right / 2))
    if crops == 3 and bottom > right:
        return [(0, centre[1]), centre, (bottom, centre[1])]
    if crops == 3:
        return [(centre[0], 0), centre, (centre[0], right)]
    return [centre, (0, 0), (0, right), (bottom, 0), (bottom, right)][:crops]


def evaluation_transform(size: tuple[int, int], short_side: int | None = None) -> v2.Compose:
    """Make the evaluation transform: the centre of the frame at `size` (height, width).

    short_side: in pixels, to which the frame is scaled first; None: just large enough for `size`.
    """
    return v2.Compose([CentreCrop(size, short_side), v2.Lambda(normalize)])


def view_transform(
    size: tuple[int, int],
    crops: Literal[1, 3, 5, 10],
    short_side: int | None = None,
    mirror: Sequence[int | None] | None = None,
) -> v2.Compose:
    """Make the transform that shows a clip in several crops: (crops, T, C, H, W).

    crops: 1 is the centre; 3 lie side by side along the frame's longer side; 5 are the centre and
        the corners; 10 are these and their mirror images.
    mirror: the class list's, needed for 10 crops: each class must be its own mirror image.
    """
    others = [label for label, image in enumerate(mirror or ()) if image != label]
    if crops == 10 and (others or mirror is None):
        wanted = "a class list in which every class is its own mirror image, for 10 crops"
        got = "none" if mirror is None else f"another one for the labels {others}"
        raise ValueError(f"expected {wanted}, got {got}: take 5 crops")
    return v2.Compose([CentreCrop(size, short_side, crops), v2.Lambda(normalize)])


class CentreCrop(v2.Transform):
    """Scale a clip (T, C, H, W) and take its centre, or several crops (crops, T, C, H, W)."""

    def __init__(self, size: tuple[int, int], short_side: int | None, crops: int | None = None):
        super().__init__()
        if short_side is not None and short_side < max(size):
            raise ValueError(f"expected a short side of {max(size)} or more, got {short_side}")
        self.size, self.short_side, self.crops = size, short_side, crops

    def forward(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        scale = max(self.size[0] / height, self.size[1] / width)
        if self.short_side is not None:
            scale = self.short_side / min(height, width)
        filling = (round(height * scale), round(width * scale))
        if filling != (height, width):
            frames = v2.functional.resize(frames, list(filling), antialias=True)
        if self.crops is None:
            return v2.functional.center_crop(frames, list(self.size))
        places = _crop_places(filling, self.size, 5 if self.crops == 10 else self.crops)
        views = [v2.functional.crop(frames, *place, *self.size) for place in places]
        if self.crops == 10:
            views += [v2.functional.horizontal_flip(view) for view in views]
        return torch.stack(views)
