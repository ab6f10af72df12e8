"""See a video together with a network's answer at each moment.

answer = predict_video(checkpoint, video, OverTime(0.5, window=2))
TimelineExplorer(video, answer.timeline)
"""

from html import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw

from blvnet_lab.viz.explorers.base import FrameReader, VideoExplorer, row
from blvnet_lab.viz.figures import timeline_figure
from blvnet_lab.viz.images import LABEL_GREY, mosaic, stacked, text_picture
from blvnet_lab.viz.theme import INK_SETTINGS, VERMILLION

LOOK = dict.fromkeys(INK_SETTINGS, LABEL_GREY)  # for light and dark pages
LOOK |= {"figure.facecolor": "none", "axes.facecolor": "none"}


class TimelineExplorer(VideoExplorer):
    """Show a video above the answers over time; ``position.value`` is the frame shown.

    It changes ``frame``, ``caption`` (with the last answer so far, in words) and ``chart`` (the
    curves of all answers, with a cursor at the end of the frame).

    Args:
        table: `Prediction.timeline`, class probabilities in 0..1 indexed by seconds; or as pandas
            reads the file of `predict --timeline`.
        top: how many classes to draw (those that reach the highest values) and to name.

    Raises ValueError for a table without rows; VideoReadError if the video cannot be read.
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
