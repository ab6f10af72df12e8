"""A video file as explorers need it: to look at, and as the networks get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blvnet_lab.data import (
    VideoReadError,
    denormalize,
    evaluation_transform,
    probe_video,
    read_frames,
    sample_uniform,
)
from blvnet_lab.data.reading import VideoInfo
from blvnet_lab.viz.images import as_images, enlarged

MOST_FRAMES = 96  # to step through, evenly spaced, besides the sampled ones
FRAME_BOX = (256, 320)  # height and width in pixels that a frame to look at fits in
AHEAD_BYTES = 64e6  # of frames that are decoded at once, since every start costs time
MOST_AHEAD = 48


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
        """Of `played[place]`."""
        return fitted(self.pictures[place])


class FrameReader:
    """Frames of a video by their numbers, decoded some ahead: for those that play it.

    Raises:
        VideoReadError: the file cannot be read.
    """

    def __init__(self, path: str):
        self.info = probe_video(path)
        height, width = self.info.size
        self._ahead = max(1, min(MOST_AHEAD, int(AHEAD_BYTES / (3 * height * width))))
        self._frames: dict[int, Tensor] = {}  # the last that were decoded

    def __getitem__(self, number: int) -> Tensor:
        """(3, H, W) uint8, RGB. Raises VideoReadError if it cannot be decoded."""
        if number not in self._frames:
            numbers = list(range(number, min(number + self._ahead, self.info.num_frames)))
            try:
                frames = read_frames(self.info, numbers)
            except VideoReadError:  # perhaps for another one's sake
                numbers = [number]
                frames = read_frames(self.info, numbers)
            self._frames = dict(zip(numbers, frames, strict=True))
        return self._frames[number]


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
    return Video(
        num_frames=info.num_frames,
        fps=info.fps,
        title=video_title(info),
        played=played,
        pictures=as_images(read_frames(info, played, fitting)),
        sampled=sampled,
        clip=clip[None],
        tiles=as_images(denormalize(clip)),
    )


def video_title(info: VideoInfo) -> str:
    """Name, length and size of a video, in words."""
    height, width = info.size
    length = f", {info.seconds:.1f} s" if info.fps else ""
    return f"{Path(info.path).name}: {info.num_frames} frames{length}, {height} x {width} pixels"


def fitted(frame: np.ndarray) -> np.ndarray:
    """A frame (h, w, 3) for `FRAME_BOX`: a small one's pixels are squares, a large one shrinks."""
    height, width = frame.shape[:2]
    if height > FRAME_BOX[0] or width > FRAME_BOX[1]:
        picture = Image.fromarray(frame)
        picture.thumbnail(FRAME_BOX[::-1])
        return np.asarray(picture)
    return enlarged(frame, min(FRAME_BOX[0] // height, FRAME_BOX[1] // width))
