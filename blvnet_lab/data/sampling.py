"""Which frames of a video make a clip: pure functions of numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_uniform(
    frame_count: int, num_frames: int, generator: torch.Generator | None = None
) -> Tensor:
    """One frame from each of `num_frames` equal segments of a video (TSN, Wang et al., 2016).

    Args:
        frame_count: frames in the video, at least 1. A video shorter than the clip gives some
            frames more than once.
        num_frames: T, frames of the clip.
        generator: where to draw a random place in each segment, for training; None takes the
            segments' centres, for evaluation.

    Returns:
        (T,) int64, ascending, each in 0..frame_count-1.

    Raises:
        ValueError: fewer than one frame in the video or in the clip.
    """
    if frame_count < 1 or num_frames < 1:
        raise ValueError(
            f"expected at least one frame in the video and in the clip, got {frame_count} and "
            f"{num_frames}"
        )
    places = torch.full((num_frames,), 0.5, dtype=torch.float64)
    if generator is not None:
        places = torch.rand(num_frames, generator=generator, dtype=torch.float64)
    segments = torch.arange(num_frames) + places
    return (segments * frame_count / num_frames).long().clamp(max=frame_count - 1)
