"""Widgets that run no network: they show what is there already.

Frames, the curves of a running training, answers over time, and clips as points in a plane.
"""

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw

from blvnet_lab.data import VideoReadError, read_frames, sample_uniform
from blvnet_lab.viz.explorers.base import Explorer, FrameReader, VideoExplorer, clip_info, row
from blvnet_lab.viz.figures import timeline_figure, training_figure
from blvnet_lab.viz.images import LABEL_GREY, as_images, mosaic, paragraph, stacked, text_picture
from blvnet_lab.viz.interactive import embedding_hover
from blvnet_lab.viz.theme import GREY, INK_SETTINGS, VERMILLION

MAX_WIDTH = 336  # of a stepper's frame, in pixels
SHEET_FRAMES, SHEET_HEIGHT = 8, 128  # frames in its static picture; their height in pixels
SHEET_GAP = 4  # white pixels between two frames
TIMED = ("clips_per_second", "wait_share")  # which differ from run to run
LOOK = dict.fromkeys(INK_SETTINGS, LABEL_GREY)  # of curves on light and dark pages
LOOK |= {"figure.facecolor": "none", "axes.facecolor": "none"}
CLIP_FRAMES = 6  # shown of a clip in an embedding, evenly spaced


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


class TimelineExplorer(VideoExplorer):
    """Show a video above the answers over time; ``position.value`` is the frame shown.

    answer = predict_video(checkpoint, video, OverTime(0.5, window=2))
    TimelineExplorer(video, answer.timeline)

    It changes ``frame``, ``caption`` (with the last answer so far, in words) and ``chart`` (the
    curves of all answers, with a cursor at the end of the frame).

    The table is `Prediction.timeline`, class probabilities in 0..1 indexed by seconds, or as pandas
    reads the file of `predict --timeline`. Drawn are the `top` classes that reach the highest
    values. Raises ValueError for a table without rows; VideoReadError for an unreadable video.
    """

    def __init__(self, path: str, table: pd.DataFrame, top: int = 3) -> None:
        super().__init__()
        if table.empty:
            raise ValueError("expected answers over time, got a table without rows")
        table = table.set_index("seconds") if "seconds" in table else table
        self._frames, self._table, self._top = FrameReader(path), table, top
        self._ends = self._frames.edges[1:]
        with mpl.rc_context(LOOK):
            canvas = FigureCanvasAgg(timeline_figure(table, top))
            (self._axes,) = canvas.figure.axes
            self._axes.set_xlim(0, max(self._ends[-1], table.index[-1]))
            canvas.draw()  # once, since drawing at every move of the slider would be too slow
        self._curves = np.array(canvas.buffer_rgba())
        answers = f"{len(table)} answers of {table.shape[1]} classes"
        self.about = f"TimelineExplorer({len(self._ends)} frames, {answers})"
        self._make_position(max(40, round(1000 * self._ends[-1] / len(self._ends))))
        parts = (self.message, self.frame, self.caption, self._image("chart"))
        self._arrange(row(self.play, self.position), *parts)

    def draw(self) -> None:
        number = self.now.position
        end, answer = self._ends[number], "no answer yet"
        so_far = self._table[self._table.index <= end + 1e-6]
        if not so_far.empty:
            best = so_far.iloc[-1].nlargest(self._top).items()
            names = ", ".join(f"{name} {100 * share:.0f} %" for name, share in best)
            answer = f"answer of {so_far.index[-1]:g} s: {names}"
        self._show_position(escape(answer))
        self._words = text_picture(f"frame {number}, {answer}")
        chart = Image.fromarray(self._curves)
        x, y = self._axes.transData.transform([(end, y) for y in self._axes.get_ylim()]).T
        ImageDraw.Draw(chart).line([*zip(x, chart.height - y, strict=True)], VERMILLION, 2)
        self._show("chart", np.asarray(chart))

    def static_picture(self) -> np.ndarray:
        frame = mosaic({"": [self._frames.image(self.now.position)]}, tile_px=240)
        return stacked(frame, self._words, *self._drawn.values())


class EmbeddingExplorer(Explorer):
    """Show clips as points in a plane, and frames of the clip under the mouse.

    points, title = flat_features(Features.read("features.safetensors"))
    EmbeddingExplorer(points, title)

    In Python, ``slider.value`` is the number of the clip (a row of `points`). It changes ``plane``,
    where a ring marks that clip's point, ``frames``, a picture, and ``caption``. The points are x,
    y, class_name, split and path of each clip; ValueError if there are none.
    """

    def __init__(self, points: pd.DataFrame, title: str = "") -> None:
        super().__init__()
        if points.empty:
            raise ValueError("expected clips as points in a plane, got a table without rows")
        self._points = points.reset_index(drop=True)
        self.about = f"EmbeddingExplorer({len(points)} clips)"
        self._named("plane", go.FigureWidget(embedding_hover(self._points, title)))
        for trace in self.plane.data:
            trace.on_hover(self._hovered)
        ring = {"symbol": "circle-open", "size": 18, "color": GREY, "line_width": 3}
        self.plane.add_scatter(mode="markers", marker=ring, hoverinfo="skip", showlegend=False)
        last = len(points) - 1
        self._control("slider", widgets.IntSlider(max=last, description="clip"))
        self._arrange(self.plane, self.slider, self._image("frames"), self._text("caption"))

    def _hovered(self, trace: go.Scatter, found: Any, state: Any) -> None:
        for number in found.point_inds[:1]:
            self.slider.value = int(trace.customdata[number][0])

    def draw(self) -> None:
        *classes, ring = self.plane.data
        for trace in classes:
            for (number,), x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
                if number == self.now.slider:
                    ring.update(x=[x], y=[y], xaxis=trace.xaxis, yaxis=trace.yaxis)
        clip = self._points.loc[self.now.slider]
        self._show("frames", _picture(clip["path"]))
        end = "/".join(Path(clip["path"]).parts[-3:])
        name = f"clip {self.now.slider} ({clip['split']}), {clip['class_name']}: {end}"
        self.caption.value, self.lines = paragraph(escape(name)), [name]


def _picture(path: str) -> np.ndarray:
    """Draw frames of a video, or why it cannot be read."""
    try:
        info = clip_info(path)
        numbers = sample_uniform(info.num_frames, min(CLIP_FRAMES, info.num_frames)).tolist()
        frames = as_images(read_frames(info, numbers))
    except VideoReadError as error:
        return text_picture(str(error))
    labels = [f"frame {number}" for number in numbers]
    return mosaic({"": list(frames)}, column_labels=labels, tile_px=120)
