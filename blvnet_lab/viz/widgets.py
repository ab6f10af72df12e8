"""Widgets for notebooks. Their pictures travel over the widget channel, never as cell output.

That one decision makes them smooth (one small message a frame), testable without a browser
(``stepper.slider.value = 3; stepper.image.value``), and no concern of ``pytest --nbval``, which
ignores widget messages.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image

from blvnet_lab.viz.figures import training_figure
from blvnet_lab.viz.handling import in_turn
from blvnet_lab.viz.images import as_images, enlarged, jpeg, png

SHEET_FRAMES = 8  # in the static picture
SHEET_HEIGHT = 128  # pixels
SHEET_GAP = 4  # pixels of white between two frames


class PicturedWidget(widgets.VBox):
    """A widget that is a picture where no kernel runs (GitHub, HTML, PDF, a reopened notebook).

    JupyterLab prefers the widget, everything else falls back to the picture, and so does JupyterLab
    with `labextension` when the kernel is gone; nbval compares neither, only the text, which is
    fixed (ipywidgets' own spells out every child).
    """

    _quiet = False  # True while the code sets a control, not the user

    def _on(self, control: widgets.Widget, action: Callable[[object], None]) -> None:
        """Call `action(value)` when the user, or code outside, changes a control.

        The value is what it was changed to: by the time it is handled, the control may have
        another one.
        """

        def act(value: object) -> None:
            if not self._quiet:
                action(value)

        control.observe(lambda change: in_turn(partial(act, change["new"])), names="value")

    def _on_click(self, button: widgets.Button, action: Callable[[], None]) -> None:
        button.on_click(lambda button: in_turn(action))

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Controls that are set inside set off nothing."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def static_picture(self) -> np.ndarray:
        """(H, W, 3) uint8, or (H, W, 4) with transparency."""
        raise NotImplementedError

    def summary(self) -> str:
        """One line that tells what the widget shows, the same on every machine."""
        raise NotImplementedError

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        picture = self.static_picture()
        kind, file = ("png", png(picture)) if picture.shape[2] == 4 else ("jpeg", jpeg(picture))
        bundle = super()._repr_mimebundle_(include=include, exclude=exclude)
        encoded = base64.b64encode(file).decode()
        return bundle | {f"image/{kind}": encoded, "text/plain": self.summary()}


class FrameStepper(PicturedWidget):
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
        self._frames = as_images(frames)  # (T, H, W, 3), as picture files have it
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
        # Linked in the browser, both ways; at first both have the first one's value. Only the
        # slider talks to the kernel.
        self._link = widgets.jslink((self.slider, "value"), (self.play, "value"))
        self._on(self.slider, self._draw)
        self._draw(0)
        super().__init__([widgets.HBox([self.play, self.slider]), self.image, self.caption])
        self.add_class("blvnet-stepper")  # for style sheets and browser tests
        self.image.add_class("blvnet-frame")
        self.caption.add_class("blvnet-caption")

    def frame_bytes(self, index: int) -> bytes:
        """The picture of one frame as a JPEG file."""
        if index not in self._encoded:
            self._encoded[index] = jpeg(enlarged(self._frames[index], self._factor))
        return self._encoded[index]

    def _draw(self, index: int) -> None:
        self.image.value = self.frame_bytes(index)
        counter = f"<code>frame {index} (0 to {self.slider.max})</code>"
        self.caption.value = f"{counter} {self._captions[index]}" if self._captions else counter

    def static_picture(self) -> np.ndarray:
        return _contact_sheet(self._frames)

    def summary(self) -> str:
        count, height, width = self._frames.shape[:3]
        return f"FrameStepper({count} frames, {height}x{width})"


class LiveCurves(PicturedWidget):
    """`training_figure` of a run that is going on, drawn anew after every epoch.

        curves = LiveCurves("my first run")
        display(curves)
        engine.fit(..., after_epoch=curves)

    Call it with the lines of the run's log so far.
    """

    def __init__(self, title: str = "") -> None:
        self._title = title
        self.image = widgets.Image(format="png", layout=widgets.Layout(width="100%"))
        super().__init__([self.image])
        self.add_class("blvnet-curves")
        self([])

    def __call__(self, history: Sequence[Mapping[str, float]]) -> None:
        self._history = list(history)
        self.image.value = self._drawn(self._history)

    def _drawn(self, history: Sequence[Mapping[str, float]]) -> bytes:
        file = io.BytesIO()
        training_figure(history, self._title).savefig(file, format="png", dpi=110)
        return file.getvalue()

    def static_picture(self) -> np.ndarray:
        """Without the speed, which is another in every run: committed notebooks stay the same."""
        timed = ("clips_per_second", "wait_share")
        lines = [{k: v for k, v in line.items() if k not in timed} for line in self._history]
        return np.asarray(Image.open(io.BytesIO(self._drawn(lines))).convert("RGB"))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        bundle = super()._repr_mimebundle_(include=include, exclude=exclude)
        if not self._history:  # shown before the run begins: empty axes would say nothing
            del bundle["image/jpeg"]
        return bundle

    def summary(self) -> str:
        return f"LiveCurves({self._title!r}, {len(self._history)} epochs)"


def _contact_sheet(frames: np.ndarray) -> np.ndarray:
    """Evenly spaced frames of ``(T, H, W, 3)`` in a row, about ``SHEET_HEIGHT`` pixels high."""
    count, height, width = frames.shape[:3]
    picks = np.linspace(0, count - 1, min(SHEET_FRAMES, count)).round().astype(int)
    if height > SHEET_HEIGHT:
        size = (round(width * SHEET_HEIGHT / height), SHEET_HEIGHT)  # PIL: width first
        shown = [np.asarray(Image.fromarray(frames[i]).resize(size)) for i in picks]
    else:
        shown = [enlarged(frames[i], SHEET_HEIGHT // height) for i in picks]
    gap = np.full((len(shown[0]), SHEET_GAP, 3), 255, np.uint8)
    row = [piece for image in shown for piece in (gap, image)]
    return np.concatenate(row[1:], axis=1)
