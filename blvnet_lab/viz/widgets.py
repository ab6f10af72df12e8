"""Small widgets: a clip, frame by frame, and the curves of a run that is going on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

from blvnet_lab.viz.explorers.base import Explorer
from blvnet_lab.viz.figures import training_figure
from blvnet_lab.viz.images import as_images, enlarged, jpeg

SHEET_FRAMES = 8  # in the static picture
SHEET_HEIGHT = 128  # pixels
SHEET_GAP = 4  # pixels of white between two frames


class FrameStepper(Explorer):
    """Play button, slider and picture for one clip; in Python, set ``stepper.slider.value``.

    ``frames`` is a uint8 tensor or array ``(T, 3, H, W)``. ``captions`` are T pieces of HTML, each
    shown under its frame. ``interval_ms`` is the time from frame to frame while playing; a local
    kernel keeps up with about ten frames a second. The picture is at most ``width_px`` wide: small
    frames are enlarged by a whole factor, each pixel a crisp square; others fill the width.

    Raises ValueError for frames of another shape or type, and for another number of captions.
    """

    css_class = "blvnet-stepper"

    def __init__(
        self,
        frames: torch.Tensor | np.ndarray,
        captions: Sequence[str] | None = None,
        interval_ms: int = 120,
        width_px: int = 336,
    ) -> None:
        super().__init__()
        self._frames = as_images(frames)  # (T, H, W, 3), as picture files have it
        if captions is not None and len(captions) != len(self._frames):
            raise ValueError(
                f"expected one caption a frame, {len(self._frames)} in all, got {len(captions)}; "
                "pass a list of that length, with '' where there is nothing to say"
            )
        self._captions = captions
        self._factor = max(1, width_px // self._frames.shape[2])
        last = len(self._frames) - 1
        self.slider = self._control("slider", widgets.IntSlider(max=last, description="frame"))
        self.play = self._player(self.slider, interval_ms)
        self.image, self.caption = self._image("frame", "jpeg"), self._text("caption")
        shown_px = self._factor * self._frames.shape[2] if self._factor > 1 else width_px
        self.image.layout.width = f"{shown_px}px"
        self._arrange(widgets.HBox([self.play, self.slider]), self.image, self.caption)

    def draw(self) -> None:
        index = self.now.slider
        self.image.value = jpeg(enlarged(self._frames[index], self._factor))
        counter = f"<code>frame {index} (0 to {self.slider.max})</code>"
        self.caption.value = f"{counter} {self._captions[index]}" if self._captions else counter

    def static_picture(self) -> np.ndarray:
        return _contact_sheet(self._frames)

    def summary(self) -> str:
        count, height, width = self._frames.shape[:3]
        return f"FrameStepper({count} frames, {height}x{width})"


class LiveCurves(Explorer):
    """`training_figure` of a run that is going on, drawn again after every epoch.

        curves = LiveCurves("my first run")
        display(curves)
        engine.fit(..., after_epoch=curves)

    Call it with the lines of the run's log so far.
    """

    css_class = "blvnet-curves"

    def __init__(self, title: str = "") -> None:
        super().__init__()
        self._title, self._history = title, []
        self.image = self._image("figure")
        self.image.layout.width = "100%"
        self._arrange(self.image)

    def __call__(self, history: Sequence[Mapping[str, float]]) -> None:
        self._history = list(history)
        self.draw()

    def draw(self) -> None:
        self.image.value = self._figure(self._history)

    def _figure(self, history: Sequence[Mapping[str, float]]) -> bytes:
        file = io.BytesIO()
        training_figure(history, self._title).savefig(file, format="png", dpi=110)
        return file.getvalue()

    def static_picture(self) -> np.ndarray:
        """Draw it without the speed, which differs in every run: committed notebooks stay as is."""
        timed = ("clips_per_second", "wait_share")
        lines = [{k: v for k, v in line.items() if k not in timed} for line in self._history]
        return np.asarray(Image.open(io.BytesIO(self._figure(lines))).convert("RGB"))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        bundle = super()._repr_mimebundle_(include=include, exclude=exclude)
        if not self._history:  # shown before the run begins: empty axes would say nothing
            del bundle["image/jpeg"]
        return bundle

    def summary(self) -> str:
        return f"LiveCurves({self._title!r}, {len(self._history)} epochs)"


def _contact_sheet(frames: np.ndarray) -> np.ndarray:
    """Put evenly spaced frames of ``(T, H, W, 3)`` in a row, ``SHEET_HEIGHT`` pixels high."""
    count, height, width = frames.shape[:3]
    picks = np.linspace(0, count - 1, min(SHEET_FRAMES, count)).round().astype(int)
    size = (round(width * SHEET_HEIGHT / height), SHEET_HEIGHT)  # PIL: width first
    way = Image.Resampling.NEAREST if height < SHEET_HEIGHT else Image.Resampling.BICUBIC
    shown = [np.asarray(Image.fromarray(frames[i]).resize(size, way)) for i in picks]
    gap = np.full((SHEET_HEIGHT, SHEET_GAP, 3), 255, np.uint8)
    return np.concatenate([piece for image in shown for piece in (gap, image)][1:], axis=1)
