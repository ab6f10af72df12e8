"""What widgets share: their base class, another for videos, and the camera of the page.

State follows the controls, pictures follow the state. Pictures travel over the widget channel,
never as cell output, which is smooth (one small message each) and testable without a browser
(``stepper.slider.value = 3; stepper.frame.value``).

JupyterLab handles widget messages in a thread of their own ("Kernel Comms over subshells"), while a
cell may run in another. A lock makes sure that actions of controls run one after the other.
"""

import base64
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from types import SimpleNamespace

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from torch import Tensor

from blvnet_lab.data import VideoReadError, denormalize, probe_video, read_frames
from blvnet_lab.data.dataset_files import clip_name
from blvnet_lab.data.probing import VideoInfo, known_video
from blvnet_lab.deploy.live import frame_edges
from blvnet_lab.models import VideoNet
from blvnet_lab.viz.images import as_images, fitted, jpeg, paragraph, png, stacked, text_picture
from blvnet_lab.viz.theme import VERMILLION

PAGE_PX = 860  # width of a notebook's page
STEP_MS = 400  # per position while playing
FRAME_BOX = (256, 320)  # height and width in pixels of the box that a video's frame is fitted into
BLOCK_BYTES = 64e6  # of frames decoded together, since every start of decoding costs time
MAX_BLOCK = 48
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


class Camera(anywidget.AnyWidget):
    """A view of the page's camera, with buttons; messages bring what it records.

    Each message has to be answered by `send({})`. With `fps` it holds two RGBA frames (H, W, 4)
    and {"time"} in seconds since the camera was turned on; otherwise a piece of a video file and
    {"name", "label", "start" (the piece's first byte), "last" (whether it is the last piece)}.
    """

    _esm = Path(__file__).with_name("camera.js").read_text("utf-8")
    size = traitlets.Tuple((128, 128)).tag(sync=True)  # (height, width) in pixels
    fps = traitlets.Float(0).tag(sync=True)  # frames per second to hand over; 0 records clips
    seconds = traitlets.Float(2).tag(sync=True)  # length of a recorded clip
    countdown = traitlets.Int(3).tag(sync=True)  # seconds before a recording starts
    label = traitlets.Unicode().tag(sync=True)  # class of the recorded clips


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
