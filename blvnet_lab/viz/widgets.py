"""Small widgets: a clip, frame by frame, and the curves of a running training."""

import io
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

from blvnet_lab.viz.explorers.base import Explorer
from blvnet_lab.viz.figures import training_figure
from blvnet_lab.viz.images import as_images

MAX_WIDTH = 336  # of a frame, in pixels
SHEET_FRAMES, SHEET_HEIGHT = 8, 128  # frames in the static picture; their height in pixels
SHEET_GAP = 4  # white pixels between two frames
TIMED = ("clips_per_second", "wait_share")  # which differ from run to run


class FrameStepper(Explorer):
    """Step through frames (T, 3, H, W) uint8, or play them; ``slider.value`` is the frame's number.

    ``captions`` are T pieces of HTML, each shown under its frame. ``interval_ms`` is the time per
    frame while playing; a local kernel keeps up with about ten frames a second.
    """

    def __init__(
        self,
        frames: torch.Tensor | np.ndarray,
        captions: Sequence[str] | None = None,
        interval_ms: int = 120,
    ) -> None:
        super().__init__()
        self._frames = as_images(frames)  # (T, H, W, 3)
        self._captions = captions or [""] * len(self._frames)
        count, height, width = self._frames.shape[:3]
        self.about = f"FrameStepper({count} frames, {height}x{width})"
        slider = widgets.IntSlider(max=count - 1, description="frame")
        self._player("slider", slider, interval_ms)
        controls = widgets.HBox([self.play, self.slider])
        self._arrange(controls, self._image("frame", "jpeg"), self._text("caption"))

    def draw(self) -> None:
        index, height = self.now.slider, self._frames.shape[1]
        self._show_frame(self._frames[index], MAX_WIDTH * height, MAX_WIDTH)
        counter = f"<code>frame {index} (0 to {self.slider.max})</code>"
        self.caption.value = f"{counter} {self._captions[index]}"

    def static_picture(self) -> np.ndarray:
        """Put evenly spaced frames in a row."""
        count, height, width = self._frames.shape[:3]
        picks = np.linspace(0, count - 1, min(SHEET_FRAMES, count)).round().astype(int)
        size = (round(width * SHEET_HEIGHT / height), SHEET_HEIGHT)  # PIL: width first
        way = Image.Resampling.NEAREST if height < SHEET_HEIGHT else Image.Resampling.BICUBIC
        shown = [np.asarray(Image.fromarray(self._frames[i]).resize(size, way)) for i in picks]
        gap = np.full((SHEET_HEIGHT, SHEET_GAP, 3), 255, np.uint8)
        return np.concatenate([piece for image in shown for piece in (gap, image)][1:], axis=1)


class LiveCurves(Explorer):
    """Draw `training_figure` of a running training, again after every epoch.

    curves = LiveCurves("my first run")
    display(curves)
    engine.fit(..., after_epoch=curves)  # called with the lines of the log so far
    """

    def __init__(self, title: str = "") -> None:
        super().__init__()
        self._title, self._history = title, []
        self._image("figure").layout.width = "100%"
        self._arrange(self.figure)

    def __call__(self, history: Sequence[Mapping[str, float]]) -> None:
        self._history = list(history)
        self.draw()

    def draw(self) -> None:
        self.about = f"LiveCurves({self._title!r}, {len(self._history)} epochs)"
        self.figure.value = self._file(self._history)

    def _file(self, history: Sequence[Mapping[str, float]]) -> bytes:
        file = io.BytesIO()
        training_figure(history, self._title).savefig(file, format="png", dpi=110)
        return file.getvalue()

    def static_picture(self) -> np.ndarray:
        """Draw it without the speed, so that committed notebooks do not change."""
        lines = [{k: v for k, v in line.items() if k not in TIMED} for line in self._history]
        return np.asarray(Image.open(io.BytesIO(self._file(lines))).convert("RGB"))
