"""See a video, and what a network answers at each moment of it.

answer = predict_video(checkpoint, video, OverTime(0.5, window=2))
TimelineExplorer(video, answer.timeline)
"""

from __future__ import annotations

from html import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw

from blvnet_lab.deploy.live import frame_edges
from blvnet_lab.viz import images
from blvnet_lab.viz.answers import timeline_figure
from blvnet_lab.viz.explorers.base import row
from blvnet_lab.viz.explorers.video import FrameReader, VideoExplorer
from blvnet_lab.viz.theme import VERMILLION

INKS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")


class TimelineExplorer(VideoExplorer):
    """A video above its answers over time; set ``.value`` of ``position`` (the frame shown).

    What it changes: ``frame``, ``caption`` (with the last answer so far, in words) and ``chart``
    (the curves of all answers, with a cursor at the moment when the frame has been shown).

    Args:
        path: of the video.
        table: probabilities in 0..1, a row for each time (the index, in seconds) and a column for
            each class: `Prediction.timeline`.
        top: how many classes to draw (those that come highest) and to name.

    Raises ValueError for a table without rows; VideoReadError if the video cannot be read.
    """

    css_class = "blvnet-timeline-explorer"

    def __init__(self, path: str, table: pd.DataFrame, top: int = 3) -> None:
        super().__init__()
        if table.empty:
            raise ValueError("expected answers over time, got a table without rows")
        self._frames, self._table, self._top = FrameReader(path), table, top
        self._ends = frame_edges(self._frames.info)[1:]
        with mpl.rc_context(dict.fromkeys(INKS, images.LABEL_GREY)):  # for light and dark pages
            canvas = FigureCanvasAgg(timeline_figure(table, top))
            (self._axes,) = canvas.figure.axes
            self._axes.set_xlim(0, max(self._ends[-1], table.index[-1]))
            for ground in (canvas.figure.patch, self._axes.patch):
                ground.set_visible(False)
            canvas.draw()  # once: every move of the slider would take too long
        self._curves = np.array(canvas.buffer_rgba())
        self._make_position(max(40, round(1000 * self._ends[-1] / len(self._ends))))
        controls = row(self.play, self.position)
        self._arrange(controls, self.message, self.frame, self.caption, self._image("chart"))

    def _answer(self) -> str:
        so_far = self._table[self._table.index <= self._ends[self.now.position] + 1e-6]
        if so_far.empty:
            return "no answer yet"
        best = so_far.iloc[-1].nlargest(self._top).items()
        names = ", ".join(f"{name} {100 * share:.0f} %" for name, share in best)
        return f"answer of {so_far.index[-1]:g} s: {names}"

    def _chart(self) -> np.ndarray:
        chart, end = Image.fromarray(self._curves), self._ends[self.now.position]
        x, y = self._axes.transData.transform([(end, y) for y in self._axes.get_ylim()]).T
        ImageDraw.Draw(chart).line([*zip(x, chart.height - y, strict=True)], VERMILLION, 2)
        return np.asarray(chart)

    def draw(self) -> None:
        self._show_position(escape(self._answer()))
        self.chart.value = images.png(self._chart())

    def static_picture(self) -> np.ndarray:
        number = self.now.position
        frame = images.mosaic({"": [self._frames[number].permute(1, 2, 0).numpy()]}, tile_px=240)
        words = images.text_picture(f"frame {number}, {self._answer()}")
        return images.stacked(frame, words, self._chart())

    def summary(self) -> str:
        answers = "{} answers of {} classes".format(*self._table.shape)
        return f"TimelineExplorer({len(self._ends)} frames, {answers})"
