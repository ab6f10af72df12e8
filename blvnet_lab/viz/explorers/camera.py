"""The camera of the page in which a notebook is open; `camera.js` is the page's side of it."""

from pathlib import Path

import anywidget
import traitlets


class Camera(anywidget.AnyWidget):
    """A view of the page's camera, with buttons; messages bring what it records.

    Each message has to be answered by `send({})`. With `fps` it holds two RGBA frames (H, W, 4)
    and {"time"} in seconds since the camera was turned on; otherwise a piece of a video file and
    {"name", "label", "start" (the piece's first byte), "last" (whether it is the last piece)}.
    """

    _esm = Path(__file__).with_suffix(".js").read_text("utf-8")
    size = traitlets.Tuple((128, 128)).tag(sync=True)  # (height, width) in pixels
    fps = traitlets.Float(0).tag(sync=True)  # frames per second to hand over; 0 records clips
    seconds = traitlets.Float(2).tag(sync=True)  # length of a recorded clip
    countdown = traitlets.Int(3).tag(sync=True)  # seconds before a recording starts
    label = traitlets.Unicode().tag(sync=True)  # class of the recorded clips
