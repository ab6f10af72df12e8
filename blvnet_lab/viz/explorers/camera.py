"""The camera of the page in which a notebook is open; its side there is `camera.js`."""

from pathlib import Path

import anywidget
import traitlets


class Camera(anywidget.AnyWidget):
    """A picture of what the page's camera sees, and buttons; messages bring what it films.

    Each has to be answered by `send({})`. With `fps` they are pairs of RGBA frames (2, H, W, 4),
    with {"time"} in seconds; otherwise pieces of video files, with {"name", "label", "start" (the
    piece's first byte), "last" (whether it is the last)}.
    """

    _esm = Path(__file__).with_suffix(".js").read_text("utf-8")
    size = traitlets.Tuple((128, 128)).tag(sync=True)  # (height, width) in pixels
    fps = traitlets.Float(0).tag(sync=True)  # frames a second to hand over; 0: film clips,
    seconds = traitlets.Float(2).tag(sync=True)  # so long,
    countdown = traitlets.Int(3).tag(sync=True)  # after so many seconds,
    label = traitlets.Unicode().tag(sync=True)  # of this class
