"""Which frames of a video make a clip: spread over all of it, or close together in one part."""

from functools import partial

import torch
from torch import Tensor


def sample_uniform(
    frame_count: int, num_frames: int, generator: torch.Generator | None = None, place: float = 0.5
) -> Tensor:
    """Take a frame from each of `num_frames` equal segments of a video: (T,) int64, ascending.

    A video shorter than the clip gives some frames more than once.

    generator: draws a random place in each segment, for training; None takes `place`.
    place: in each segment, from 0 (its start) to 1, for evaluation; 0.5 is the centre.
    """
    places = torch.full((num_frames,), place, dtype=torch.float64, device="cpu")
    if generator is not None:
        places = torch.rand(num_frames, generator=generator, dtype=torch.float64, device="cpu")
    segments = torch.arange(num_frames, device="cpu") + places
    return (segments * frame_count / num_frames).long().clamp(max=frame_count - 1)


def sample_dense(
    frame_count: int,
    num_frames: int,
    stride: int,
    generator: torch.Generator | None = None,
    place: float = 0.5,
) -> Tensor:
    """Take `num_frames` frames, each `stride` after the one before: (T,) int64, ascending.

    Where the video ends before the clip does, its last frame is repeated.

    generator: draws a random start, for training; None takes `place`.
    place: of the clip among all that fit, from 0 (the first) to 1; 0.5 is the centre.
    """
    last_start = max(0, frame_count - 1 - (num_frames - 1) * stride)
    start = int(place * last_start)
    if generator is not None:
        start = torch.randint(last_start + 1, (), generator=generator, device="cpu").item()
    return (start + stride * torch.arange(num_frames, device="cpu")).clamp(max=frame_count - 1)


def sample_views(
    frame_count: int, num_frames: int, num_clips: int, stride: int | None = None
) -> Tensor:
    """Spread `num_clips` clips evenly over a video, to evaluate it: (num_clips, T) int64.

    Clip k lies at place (k + 1/2) / num_clips, so that a single clip is the centre. `stride` is as
    in `sample_dense`; None samples uniformly.
    """
    sample = sample_uniform if stride is None else partial(sample_dense, stride=stride)
    places = [(k + 0.5) / num_clips for k in range(num_clips)]
    return torch.stack([sample(frame_count, num_frames, place=place) for place in places])
