"""A video file as explorers need it: to look at, and as the networks get it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
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
from blvnet_lab.data.probing import VideoInfo
from blvnet_lab.viz.images import as_images, enlarged, jpeg

MAX_FRAMES = 96  # to step through, evenly spaced, besides the sampled ones
FRAME_BOX = (256, 320)  # height and width in pixels that a frame to look at fits in
AHEAD_BYTES = 64e6  # of frames that are decoded at once, since every start costs time
MAX_AHEAD = 48


class Video(NamedTuple):
    """All that is shown of a video; `read_video` makes one."""

    info: VideoInfo
    played: list[int]  # numbers of the frames to step through
    pictures: np.ndarray  # these frames, (len(played), h, w, 3) uint8
    sampled: list[int]  # numbers of the T frames that make the clip
    clip: Tensor  # (1, T, 3, H, W)
    tiles: np.ndarray  # the clip as pictures, (T, H, W, 3) uint8


def read_video(path: str, num_frames: int, size: tuple[int, int]) -> Video:
    """Read the clip of a file, prepared as for evaluation, and frames to look at, scaled to fit.

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
    spaced = np.linspace(0, info.num_frames - 1, min(MAX_FRAMES, info.num_frames))
    played = sorted({*spaced.round().astype(int).tolist(), *sampled})
    scale = min(1, FRAME_BOX[0] / info.size[0], FRAME_BOX[1] / info.size[1])
    fitting = tuple(max(1, round(side * scale)) for side in info.size)
    pictures = as_images(read_frames(info, played, fitting))
    return Video(info, played, pictures, sampled, clip[None], as_images(denormalize(clip)))


class FrameReader:
    """Frames of a video by their numbers, decoded some ahead: for those that play it.

    Raises:
        VideoReadError: the file cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.info = probe_video(path)
        height, width = self.info.size
        self._ahead = max(1, min(MAX_AHEAD, int(AHEAD_BYTES / (3 * height * width))))
        self._frames: dict[int, Tensor] = {}  # the last that were decoded

    def __getitem__(self, number: int) -> Tensor:
        """Return a frame (3, H, W) uint8, RGB; raises VideoReadError if it cannot be decoded."""
        if number not in self._frames:
            numbers = list(range(number, min(number + self._ahead, self.info.num_frames)))
            try:
                frames = read_frames(self.info, numbers)
            except VideoReadError:  # perhaps because of a later one
                numbers = [number]
                frames = read_frames(self.info, numbers)
            self._frames = dict(zip(numbers, frames, strict=True))
        return self._frames[number]

    def picture(self, number: int) -> np.ndarray:
        """Return a frame as (H, W, 3) uint8."""
        return self[number].permute(1, 2, 0).numpy()


def video_title(info: VideoInfo) -> str:
    """Say a video's name, length and size."""
    height, width = info.size
    length = f", {info.seconds:.1f} s" if info.fps else ""
    return f"{Path(info.path).name}: {info.num_frames} frames{length}, {height} x {width} pixels"


def frame_counter(info: VideoInfo, number: int) -> str:
    """Say which frame is shown, and when it is: HTML."""
    time = f" at {number / info.fps:.2f} s" if info.fps else ""
    return f"<code>frame {number} (0 to {info.num_frames - 1})</code>{time}"


def show_frame(image: widgets.Image, frame: np.ndarray) -> None:
    """Fit a frame (h, w, 3) into `FRAME_BOX`: small pixels become squares, large frames shrink."""
    height, width = frame.shape[:2]
    if height > FRAME_BOX[0] or width > FRAME_BOX[1]:
        shrunken = Image.fromarray(frame)
        shrunken.thumbnail(FRAME_BOX[::-1])
        frame = np.asarray(shrunken)
    else:
        frame = enlarged(frame, min(FRAME_BOX[0] // height, FRAME_BOX[1] // width))
    image.layout.width = f"{frame.shape[1]}px"
    image.value = jpeg(frame)
