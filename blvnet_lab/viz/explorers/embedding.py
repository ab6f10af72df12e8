"""See the clips behind the points of an embedding, by mouse or by number.

points, title = flat_features(Features.read("features.safetensors"))
EmbeddingExplorer(points, title)
"""

from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from blvnet_lab.data import VideoReadError, read_frames, sample_uniform
from blvnet_lab.viz.explorers.base import Explorer, clip_info
from blvnet_lab.viz.images import as_images, mosaic, paragraph, text_picture
from blvnet_lab.viz.interactive import embedding_hover
from blvnet_lab.viz.theme import GREY

FRAMES = 6  # shown of a clip, evenly spaced


class EmbeddingExplorer(Explorer):
    """Show clips as points in a plane, and frames of the clip under the mouse.

    In Python, ``slider.value`` is the number of the clip (a row of `points`). It changes ``plane``,
    where a ring marks that clip's point, ``frames``, a picture, and ``caption``.

    Args:
        points: x, y, class_name, split and path of each clip, as `flat_features` returns.

    Raises ValueError for a table without rows.
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
        numbers = sample_uniform(info.num_frames, min(FRAMES, info.num_frames)).tolist()
        frames = as_images(read_frames(info, numbers))
    except VideoReadError as error:
        return text_picture(str(error))
    labels = [f"frame {number}" for number in numbers]
    return mosaic({"": list(frames)}, column_labels=labels, tile_px=120)
