"""The base of explorers of a video file: they show a frame, and survive what cannot be read."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from torch import Tensor

from blvnet_lab.data import VideoReadError, probe_video, read_frames
from blvnet_lab.data.dataset_files import clip_name
from blvnet_lab.data.probing import VideoInfo, known_video
from blvnet_lab.deploy.live import frame_edges
from blvnet_lab.viz.explorers.base import Explorer
from blvnet_lab.viz.images import paragraph
from blvnet_lab.viz.theme import VERMILLION

FRAME_BOX = (256, 320)  # height and width in pixels of the box that the frame is fitted into
BLOCK_BYTES = 64e6  # of frames decoded together, since every start of decoding costs time
MAX_BLOCK = 48


def clip_info(name: str | os.PathLike) -> VideoInfo:
    """Probe a video file or, by a clip's name (`clip_name`), the part of one."""
    part = re.fullmatch(r"(.*)#t=([\d.,e+-]+)", os.fspath(name))
    if part is None or os.path.exists(name):
        return probe_video(name)
    return known_video(part[1], "", [*map(float, part[2].split(","))])


class FrameReader:
    """Frames of a video, or of a clip (`clip_info`), by number, decoded in blocks, for playing."""

    def __init__(self, path: str) -> None:
        self.info = info = clip_info(path)
        # When each frame is shown, and the last one ends: (N + 1,), in seconds if they have a rate.
        self.edges = frame_edges(info) if info.fps else np.arange(info.num_frames + 1)
        height, width = self.info.size
        self._block = max(1, min(MAX_BLOCK, int(BLOCK_BYTES / (3 * height * width))))
        self._frames: dict[int, Tensor] = {}  # of the last block

    def __getitem__(self, number: int) -> Tensor:
        """Return a frame (3, H, W) uint8, RGB."""
        if number not in self._frames:
            first = number - number % self._block
            numbers = list(range(first, min(first + self._block, self.info.num_frames)))
            try:
                frames = read_frames(self.info, numbers)
            except VideoReadError:  # perhaps another frame is at fault
                numbers, frames = [number], read_frames(self.info, [number])
            self._frames = dict(zip(numbers, frames, strict=True))
        return self._frames[number]

    def image(self, number: int) -> np.ndarray:
        """Return a frame as a picture (H, W, 3) uint8."""
        return self[number].permute(1, 2, 0).numpy()

    def title(self) -> str:
        """Describe the video by name, length and size."""
        info, (height, width) = self.info, self.info.size
        seconds = f", {self.edges[-1]:.1f} s" if info.fps else ""
        length, size = f"{info.num_frames} frames{seconds}", f"{height} x {width} pixels"
        return f"{clip_name(Path(info.path).name, info.part)}: {length}, {size}"


class VideoExplorer(Explorer):
    """A video in `_frames`, its frame at `position`, with a `caption` and a `message`.

    If a file or a frame cannot be read, the last picture stays, and the message says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frames: FrameReader
        self._note = ""
        for name in ("caption", "message"):
            self._text(name)
        self._image("frame", "jpeg")

    def _make_position(self, interval_ms: int) -> None:
        slider = widgets.IntSlider(max=self._frames.info.num_frames - 1, description="frame")
        self._player("position", slider, interval_ms, self._choose_position)

    def _choose_position(self, number: int) -> None:
        with self._reading(f"frame {self.now.position}"):
            self._frames[number]  # raises the error before the state changes
            self.now.position = number

    @contextmanager
    def _reading(self, shown: str) -> Iterator[None]:
        """Stop where something cannot be read, with a message that names what is still shown."""
        self._note = ""
        try:
            yield
        except VideoReadError as error:
            text = escape(f"{error}. Still shown: {shown}.")
            self._note = paragraph(f"<b>Not read.</b> {text}", VERMILLION)
            self.play.playing = False

    def _show_position(self, fate: str) -> None:
        """Show the frame, its number and time, and `fate`, HTML about its use by the network."""
        number, info = self.now.position, self._frames.info
        self._show_frame(self._frames.image(number), *FRAME_BOX)
        time = f" at {self._frames.edges[number]:.2f} s" if info.fps else ""
        counter = f"<code>frame {number} (0 to {info.num_frames - 1})</code>{time}"
        self.caption.value = paragraph(f"{counter}: {fate}")
        self.message.value = self._note
