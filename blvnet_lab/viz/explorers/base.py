"""The base of all widgets: state follows the controls, pictures follow the state.

Pictures travel over the widget channel, never as cell output, which is smooth (one small message
each) and testable without a browser (``stepper.slider.value = 3; stepper.frame.value``).

JupyterLab handles widget messages in a thread of their own ("Kernel Comms over subshells"), while a
cell may run in another. A lock makes sure that actions of controls run one after the other.
"""

import base64
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
from torch import Tensor

from blvnet_lab.data import denormalize
from blvnet_lab.models import VideoNet
from blvnet_lab.viz.images import as_images, fitted, jpeg, png, stacked, text_picture

PAGE_PX = 860  # width of a notebook's page
STEP_MS = 400  # per position while playing
Action = Callable[..., None]
Names = Sequence[str] | None

_LOCK = threading.RLock()  # one for all explorers, since they may be linked to each other


class Explorer(widgets.VBox):
    """Controls, a state `now` with one value per control, and pictures and texts of this state.

    A subclass makes its parts, each of which becomes an attribute, and lays them out by `_arrange`.
    It defines `draw()`, which shows the state and corrects values that no longer fit. Pages without
    a kernel get the pictures of `_show`, the text `lines` below them, and `about` as plain text
    (the same on every machine).
    """

    about = ""
    lines: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        self.now = SimpleNamespace()
        self._controls: dict[str, widgets.Widget] = {}
        self._drawn: dict[str, np.ndarray] = {}
        self._busy = True  # until all parts are laid out
        # For style sheets: blvnet-clip-explorer of a ClipExplorer, blvnet-clip-frame of its frame.
        self._css = "blvnet" + re.sub("[A-Z]", r"-\g<0>", type(self).__name__).lower()
        self.add_class(self._css)

    def _named(self, name: str, part: widgets.Widget) -> widgets.Widget:
        setattr(self, name, part)
        return part.add_class(f"{self._css.rpartition('-')[0]}-{name}")

    def _control(
        self, name: str, control: widgets.Widget, action: Action | None = None
    ) -> widgets.Widget:
        """Let `now.name` follow a control, or call `action(value)`, which sets it."""
        setattr(self.now, name, control.value)
        self._controls[name] = control
        self._observe(control, action or partial(setattr, self.now, name))
        return self._named(name, control)

    def _observe(self, control: widgets.Widget, action: Action) -> None:
        control.observe(lambda change: self._set_off(partial(action, change["new"])), names="value")

    def _choice(self, name: str, options: Iterable[str]) -> widgets.Widget:
        style = {"button_width": "max-content"}  # as wide as their texts
        return self._control(name, widgets.ToggleButtons(options=list(options), style=style))

    def _player(
        self, name: str, slider: widgets.IntSlider, ms: int = STEP_MS, action: Action | None = None
    ) -> None:
        """Add a slider as a control, with a play button: `ms` per position."""
        self._control(name, slider, action)
        play = widgets.Play(value=slider.value, max=slider.max, interval=ms)
        # Linked in the browser, in both directions, starting from the slider's value. Only the
        # slider talks to the kernel.
        self._link = widgets.jslink((slider, "value"), (play, "value"))
        self._named("play", play)

    def _button(self, name: str, text: str, action: Action, tooltip: str = "") -> widgets.Button:
        layout = {"width": "max-content", "flex": "0 0 auto"}
        button = widgets.Button(description=text, tooltip=tooltip, layout=layout)
        button.on_click(lambda button: self._set_off(action))
        return self._named(name, button)

    def _text(self, name: str, **layout: str) -> widgets.HTML:
        return self._named(name, widgets.HTML(layout=layout))

    def _image(self, name: str, kind: str = "png") -> widgets.Image:
        # By default a picture is stretched to the width of the page.
        natural = {"align_self": "flex-start", "max_width": "100%"}
        return self._named(name, widgets.Image(format=kind, layout=natural))

    def _arrange(self, *parts: widgets.Widget) -> None:
        self.children, self._busy = parts, False
        self._set_off(lambda: None)

    def _show(self, name: str, picture: np.ndarray) -> None:
        """Show a picture (H, W, 4) as `self.name`, and on pages without a kernel."""
        self._drawn[name] = picture
        getattr(self, name).value = png(picture)

    def _show_frame(self, frame: np.ndarray, height: int, width: int) -> None:
        """Show a frame (h, w, 3) as `self.frame`, fitted into a box in pixels."""
        frame = fitted(frame, height, width)
        self.frame.layout.width = f"{frame.shape[1]}px"
        self.frame.value = jpeg(frame)

    def _set_range(self, slider: widgets.IntSlider, last: int, at: int) -> None:
        """Change the last value of a slider and its play button, and their position."""
        # A value that a new range moves would bounce back and forth over their link; so where the
        # range shrinks, the values are set first.
        if at <= slider.max:
            self.play.value = slider.value = at
        self.play.max = slider.max = last
        self.play.value = slider.value = at

    def _set_off(self, action: Callable[[], None]) -> None:
        """Perform an action, draw the resulting state, and update the controls."""
        with _LOCK:
            if self._busy:
                return  # the change of a control that this explorer has set itself
            self._busy = True
            try:
                action()
                self.draw()
                for name, control in self._controls.items():
                    control.value = getattr(self.now, name)
            finally:
                self._busy = False

    def static_picture(self) -> np.ndarray:
        """Draw the picture for pages without a kernel: (H, W, 3) or (H, W, 4) uint8."""
        words = [text_picture(*self.lines)] if self.lines else []
        return stacked(*self._drawn.values(), *words)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        """Add a picture and a fixed text for everything but a JupyterLab with a kernel."""
        with _LOCK:
            picture, text = self.static_picture(), self.about
        kind, file = ("png", png(picture)) if picture.shape[2] == 4 else ("jpeg", jpeg(picture))
        bundle = super()._repr_mimebundle_(include=include, exclude=exclude)
        return bundle | {f"image/{kind}": base64.b64encode(file).decode(), "text/plain": text}


def row(*parts: widgets.Widget, **layout: str) -> widgets.HBox:
    """Put parts side by side, wrapping where there is no room."""
    return widgets.HBox(parts, layout={"flex_flow": "row wrap", "align_items": "center"} | layout)


def one_clip(model: VideoNet, clip: Tensor) -> Tensor:
    """Return a clip (T, C, H, W) or (1, T, C, H, W) as (1, T, C, H, W), if the model takes it."""
    clip = clip[None] if isinstance(clip, Tensor) and clip.ndim == 4 else clip
    model.check_clip(clip)
    if len(clip) != 1:
        raise ValueError(f"expected one clip, got {len(clip)} of them; pass clips[0]")
    return clip


def size_text(clip: Tensor) -> str:
    """Describe the number and size of the frames of a clip (1, T, C, H, W)."""
    return "{1} frames of {3}x{4}".format(*clip.shape)


def pictures_of(clip: Tensor) -> np.ndarray | None:
    """Return the frames of a clip (1, T, C, H, W) as pictures (T, H, W, 3), if they are RGB."""
    return as_images(denormalize(clip[0])) if clip.shape[2] == 3 else None


def checked_names(names: Names, model: VideoNet) -> list[str]:
    """Return class names, "class 0" and so on if None; ValueError unless there is one per class."""
    count = model.classifier.out_features
    names = [f"class {i}" for i in range(count)] if names is None else list(map(str, names))
    if len(names) != count:
        raise ValueError(f"expected {count} class names, got {len(names)}; pass None for numbers")
    return names


def probabilities(model: VideoNet, logits: Tensor) -> np.ndarray:
    """Turn logits (..., num_classes) into probabilities: a softmax, or sigmoids if multi-label."""
    logits = logits.detach().cpu().double()  # in this order: MPS has no float64
    return (logits.sigmoid() if model.multi_label else logits.softmax(-1)).numpy()
