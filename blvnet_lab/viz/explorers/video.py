"""A video file as the clip explorer needs it: to look at, and as the networks get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blvnet_lab.data import (
    denormalize,
    evaluation_transform,
    probe_video,
    read_frames,
    sample_uniform,
)
from blvnet_lab.viz.images import as_images, enlarged

MOST_FRAMES = 96  # to step through, evenly spaced, besides the sampled ones
FRAME_BOX = (256, 320)  # height and width in pixels that a frame to look at fits in


@dataclass(frozen=True)
class Video:
    """All that is shown of a video; `read_video` makes one."""

    num_frames: int  # in the file
    fps: float  # 0.0 if the file does not say
    title: str  # its name, length and size, in words
    played: list[int]  # numbers of the frames to step through
    pictures: np.ndarray  # these frames, (len(played), h, w, 3) uint8
    sampled: list[int]  # numbers of the T frames that make the clip
    clip: Tensor  # (1, T, 3, H, W)
    tiles: np.ndarray  # the clip as pictures, (T, H, W, 3) uint8

    def picture(self, place: int) -> np.ndarray:
        """Of `played[place]`; if it is small, every pixel is a square of several."""
        frame = self.pictures[place]
        height, width = frame.shape[:2]
        return enlarged(frame, max(1, min(FRAME_BOX[0] // height, FRAME_BOX[1] // width)))


def read_video(path: str, num_frames: int, size: tuple[int, int]) -> Video:
    """The clip of a file, prepared as for evaluation, and frames to look at, scaled down to fit.

    Args:
        num_frames: T, of the clip.
        size: (height, width) in pixels of the clip's frames.

    Raises:
        VideoReadError: the file cannot be read.
    """
    info = probe_video(path)
    sampled = sample_uniform(info.num_frames, num_frames).tolist()
    prepare = evaluation_transform(size)
    # One by one: as floats, all frames of a large video would take gigabytes.
    clip = torch.stack([prepare(frame) for frame in read_frames(info, sampled)])
    spaced = np.linspace(0, info.num_frames - 1, min(MOST_FRAMES, info.num_frames))
    played = sorted({*spaced.round().astype(int).tolist(), *sampled})
    height, width = info.size
    scale = min(1, FRAME_BOX[0] / height, FRAME_BOX[1] / width)
    fitting = (max(1, round(height * scale)), max(1, round(width * scale)))
    length = f", {info.seconds:.1f} s" if info.fps else ""
    return Video(
        num_frames=info.num_frames,
        fps=info.fps,
        title=f"{Path(path).name}: {info.num_frames} frames{length}, {height} x {width} pixels",
        played=played,
        pictures=as_images(read_frames(info, played, fitting)),
        sampled=sampled,
        clip=clip[None],
        tiles=as_images(denormalize(clip)),
    )
