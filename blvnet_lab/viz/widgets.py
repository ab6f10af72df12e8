"""Widgets for notebooks. Their pictures travel over the widget channel, never as cell output.

That one decision makes them smooth (one small message a frame), testable without a browser
(``stepper.slider.value = 3; stepper.image.value``), and no concern of ``pytest --nbval``, which
ignores widget messages.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

SHEET_FRAMES = 8  # in the static picture
SHEET_HEIGHT = 128  # pixels
SHEET_GAP = 4  # pixels of white between two frames


class FrameStepper(widgets.VBox):
    """Play button, slider and picture for one clip; in Python, set ``stepper.slider.value``.

    ``frames`` is a uint8 tensor or array ``(T, 3, H, W)``. ``captions`` are T pieces of HTML, each
    shown under its frame. ``interval_ms`` is the time from frame to frame while playing; a local
    kernel keeps up with about ten frames a second. The picture is at most ``width_px`` wide: small
    frames are enlarged by a whole factor, each pixel a crisp square; others fill the width.

    Raises ValueError for frames of another shape or type, and for another number of captions.
    """

    def __init__(
        self,
        frames: torch.Tensor | np.ndarray,
        captions: Sequence[str] | None = None,
        interval_ms: int = 120,
        width_px: int = 336,
    ) -> None:
        self._frames = _as_images(frames)  # (T, H, W, 3), as picture files have it
        if captions is not None and len(captions) != len(self._frames):
            raise ValueError(
                f"expected one caption a frame, {len(self._frames)} in all, got {len(captions)}; "
                "pass a list of that length, with '' where there is nothing to say"
            )
        self._captions = captions
        self._encoded: dict[int, bytes] = {}
        self._factor = max(1, width_px // self._frames.shape[2])
        shown_px = self._factor * self._frames.shape[2] if self._factor > 1 else width_px
        last = len(self._frames) - 1
        self.play = widgets.Play(min=0, max=last, interval=interval_ms)
        self.slider = widgets.IntSlider(min=0, max=last, description="frame")
        self.image = widgets.Image(format="jpeg", layout=widgets.Layout(width=f"{shown_px}px"))
        self.caption = widgets.HTML()
        # jslink keeps play -> slider in the browser; only the slider talks to the kernel
        self._link = widgets.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(lambda change: self._draw(), names="value")
        self._draw()
        super().__init__([widgets.HBox([self.play, self.slider]), self.image, self.caption])
        self.add_class("blvnet-stepper")  # for style sheets and browser tests
        self.image.add_class("blvnet-frame")
        self.caption.add_class("blvnet-caption")

    def frame_bytes(self, index: int) -> bytes:
        """The picture of one frame as a JPEG file."""
        if index not in self._encoded:
            self._encoded[index] = _jpeg(_enlarged(self._frames[index], self._factor))
        return self._encoded[index]

    def _draw(self) -> None:
        index = self.slider.value
        self.image.value = self.frame_bytes(index)
        counter = f"<code>frame {index} (0 to {self.slider.max})</code>"
        self.caption.value = f"{counter} {self._captions[index]}" if self._captions else counter

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        """The live widget, plus a picture for places without one (GitHub, HTML, PDF).

        JupyterLab prefers the widget, everything else falls back to the picture; nbval compares
        neither. The text is fixed, unlike ipywidgets' own, which spells out every child.
        """
        count, height, width = self._frames.shape[:3]
        bundle = super()._repr_mimebundle_(include=include, exclude=exclude)
        return bundle | {
            "image/jpeg": base64.b64encode(_jpeg(_contact_sheet(self._frames))).decode(),
            "text/plain": f"FrameStepper({count} frames, {height}x{width})",
        }


def _as_images(frames: torch.Tensor | np.ndarray) -> np.ndarray:
    """Frames ``(T, 3, H, W)`` as an array ``(T, H, W, 3)``; raises ValueError, with the remedy."""
    if isinstance(frames, torch.Tensor):
        frames = frames.detach().cpu().numpy()
    frames = np.asarray(frames)
    if frames.ndim == 4 and frames.shape[1] == 3 and frames.dtype == np.uint8 and frames.size:
        return frames.transpose(0, 2, 3, 1)
    if frames.size == 0:
        remedy = "read or sample at least one frame"
    elif frames.ndim == 5:
        remedy = "pass one clip of the batch: clips[0]"
    elif frames.ndim == 3:
        remedy = "a single frame (3, H, W) becomes a clip with frame[None]"
    elif frames.ndim == 4 and frames.shape[1] != 3 and frames.shape[-1] == 3:
        remedy = "channels come first: frames.permute(0, 3, 1, 2), for arrays transpose"
    elif frames.dtype != np.uint8:
        remedy = "undo the normalisation, then (frames * 255).round().clip(0, 255) as uint8"
    else:
        remedy = "grey frames (T, 1, H, W) become colour with frames.repeat(1, 3, 1, 1)"
    raise ValueError(
        f"expected uint8 frames shaped (T, 3, H, W), got {frames.dtype} {frames.shape}; {remedy}"
    )


def _enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
    """``(H, W, 3)`` to ``(H * factor, W * factor, 3)``, every pixel a square."""
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def _contact_sheet(frames: np.ndarray) -> np.ndarray:
    """Evenly spaced frames of ``(T, H, W, 3)`` in a row, about ``SHEET_HEIGHT`` pixels high."""
    count, height, width = frames.shape[:3]
    picks = np.linspace(0, count - 1, min(SHEET_FRAMES, count)).round().astype(int)
    if height > SHEET_HEIGHT:
        size = (round(width * SHEET_HEIGHT / height), SHEET_HEIGHT)  # PIL: width first
        shown = [np.asarray(Image.fromarray(frames[i]).resize(size)) for i in picks]
    else:
        shown = [_enlarged(frames[i], SHEET_HEIGHT // height) for i in picks]
    gap = np.full((len(shown[0]), SHEET_GAP, 3), 255, np.uint8)
    row = [piece for image in shown for piece in (gap, image)]
    return np.concatenate(row[1:], axis=1)


def _jpeg(image: np.ndarray) -> bytes:
    """A JPEG file of ``(H, W, 3)`` uint8, about a tenth of a PNG for real video.

    Colours are kept at full resolution (4:4:4), or the edges of enlarged pixels would bleed.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()
