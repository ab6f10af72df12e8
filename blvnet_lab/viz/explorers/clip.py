"""Choose a clip or any video file, step through it, and see what the networks get and say.

    ClipExplorer({"bLVNet": blvnet, "bLVNet-TAM": blvnet_tam}, clips.rows, clips.classes)

The order of the frames is the point: exchange or shuffle them, and see which networks notice.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch

from blvnet_lab.data import VideoReadError
from blvnet_lab.introspect.ablate import frame_orders
from blvnet_lab.introspect.influence import predict
from blvnet_lab.models import VideoNet
from blvnet_lab.viz.explorers.clip_parts import STRANGER, checked_manifest, legend, paths_by_class
from blvnet_lab.viz.explorers.video import read_video
from blvnet_lab.viz.handling import turn
from blvnet_lab.viz.images import (
    jpeg,
    mosaic,
    paragraph,
    png,
    score_tables,
    stacked,
    underlined,
    written,
)
from blvnet_lab.viz.theme import BRANCH_COLOURS, VERMILLION, branch_of
from blvnet_lab.viz.widgets import PicturedWidget

AS_FILMED, SHUFFLED = "as filmed", "frames shuffled"
STRIP_PX = 860  # width of the strip: the page of a notebook


class ClipExplorer(PicturedWidget):
    """One clip in several networks; in Python, set ``.value`` of the controls.

    The controls: ``kind`` (class) and ``number`` (which clip of it), or ``path`` (any video file);
    ``slider`` (which frame to look at); ``order`` (in which the networks get the frames). What they
    change: ``frame``, ``caption``, ``strip`` (the clip), ``scores`` and ``message`` (about files).

    Args:
        models: title to model, all with the same number T of frames and of classes. Copies of
            them are run, for others may use them at the same time; later changes of the models are
            not seen: for them, make a new explorer.
        manifest: the clips to choose from, with `path` and `class_name`; some of its rows will do.
            Rows without a class name are left out.
        class_names: names of the models' classes; "class 0", ... if None.
        size: (height, width) in pixels of the frames that the models get.

    Raises:
        ValueError: no models, or models that differ in frames or classes, or do not take frames
            with 3 channels; another number of names than of classes; no rows, or rows without
            these columns.
        VideoReadError: the first clip cannot be read. Later, such a file gets a message instead,
            and what was shown before stays.
    """

    def __init__(
        self,
        models: Mapping[str, VideoNet],
        manifest: pd.DataFrame,
        class_names: Sequence[str] | None = None,
        *,
        size: tuple[int, int] = (64, 64),
    ) -> None:
        manifest = checked_manifest(models, manifest, class_names)
        self._models = {title: copy.deepcopy(model).eval() for title, model in models.items()}
        self._size = size
        first = next(iter(models.values()))
        self._num_frames, num_classes = first.num_frames, first.classifier.out_features
        numbered = [f"class {i}" for i in range(num_classes)]
        self._class_names = numbered if class_names is None else list(map(str, class_names))
        self._routed = [title for title, model in models.items() if model.pairs]
        self._paths = paths_by_class(manifest, self._class_names)
        absolute = map(os.path.abspath, manifest["path"])
        self._class_of = dict(zip(absolute, manifest["class_name"], strict=True))
        self._orders = {AS_FILMED: torch.arange(self._num_frames), **frame_orders(self._num_frames)}
        self._generator = torch.Generator().manual_seed(1)
        self._make_controls()
        # What is shown. Controls may be ahead of it: what they are set to waits for its turn.
        self._kind, self._number, self._file = self.kind.value, 0, ""
        self._order, self._place = AS_FILMED, 0
        self._load(self._chosen_path())
        super().__init__(self._arranged())
        self.add_class("blvnet-clip-explorer")  # for style sheets and browser tests
        for part in ("path", "frame", "caption", "strip", "scores", "message"):
            getattr(self, part).add_class(f"blvnet-clip-{part}")

    def _make_controls(self) -> None:
        fitting = widgets.Layout(width="max-content")
        self.kind = widgets.Dropdown(options=list(self._paths), description="class")
        last = len(self._paths[self.kind.value]) - 1
        self.number = widgets.IntSlider(max=last, description="clip", continuous_update=False)
        self.path = widgets.Text(
            placeholder="or the path of any video file; empty: the clip chosen above",
            continuous_update=False,
            layout=widgets.Layout(width="440px"),
        )
        self.open_button = widgets.Button(description="open", layout=fitting)
        self.play, self.slider = widgets.Play(), widgets.IntSlider(readout=False)
        self.order = widgets.ToggleButtons(
            options=list(self._orders), style={"button_width": "max-content"}
        )
        self.shuffle_button = widgets.Button(
            description="shuffle again", layout=fitting, disabled=SHUFFLED not in self._orders
        )
        self.frame = widgets.Image(format="jpeg")
        # Left to itself, a picture is stretched to the width of the page.
        natural = widgets.Layout(align_self="flex-start", max_width="100%")
        self.strip = widgets.Image(format="png", layout=natural)
        self.title, self.caption = widgets.HTML(), widgets.HTML()
        self.scores, self.message = widgets.HTML(), widgets.HTML()
        # Linked in the browser, both ways; at first both have the first one's value.
        self._link = widgets.jslink((self.slider, "value"), (self.play, "value"))
        self._on(self.kind, self._choose_class)
        self._on(self.number, self._choose_clip)
        self._on(self.path, self._choose_file)
        self._on_click(self.open_button, self._open_file)
        self._on(self.slider, self._choose_frame)
        self._on(self.order, self._choose_order)
        self._on_click(self.shuffle_button, self._shuffle)

    def _arranged(self) -> list[widgets.Widget]:
        wrapping = widgets.Layout(flex_flow="row wrap", align_items="center")
        at_top = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        beside = [
            self.title,
            widgets.HBox([self.play, self.slider]),
            self.caption,
            widgets.HTML("In which order do the networks get the frames?"),
            widgets.HBox([self.order, self.shuffle_button], layout=wrapping),
        ]
        column = widgets.VBox(beside, layout=widgets.Layout(flex="1 1 300px", padding="0 0 0 12px"))
        return [
            widgets.HBox([self.kind, self.number], layout=wrapping),
            widgets.HBox([self.path, self.open_button], layout=wrapping),
            self.message,
            widgets.HBox([self.frame, column], layout=at_top),
            widgets.HTML(legend(self._routed)),
            self.strip,
            self.scores,
        ]

    def _chosen_path(self) -> str:
        return self._paths[self._kind][self._number]

    def _choose_class(self, kind: str) -> None:
        self._kind = kind
        with self._quietly():
            self.number.max = len(self._paths[kind]) - 1  # may move it
        self._choose_clip(self._number)

    def _choose_clip(self, number: int) -> None:
        self._number, self._file = min(number, self.number.max), ""
        with self._quietly():
            self.number.value, self.path.value = self._number, ""
        self._open_file()

    def _choose_file(self, text: str) -> None:
        self._file = text.strip().strip("\"'")
        self._open_file()

    def _open_file(self) -> None:
        """This video instead of the one before; a message, and no change, if it is unreadable."""
        path = os.path.expanduser(self._file) if self._file else self._chosen_path()
        reading = f"reading {escape(path)} ..."  # a long video takes its time
        self.message.value = reading
        try:
            self._load(path)
        except VideoReadError as error:
            text = f"{error}. Still shown: {self._video.title}."
            self.message.value = paragraph(f"<b>Not opened.</b> {escape(text)}", VERMILLION)
        finally:
            if self.message.value == reading:  # another error, which the notebook's log has
                self.message.value = ""

    def _load(self, path: str) -> None:
        self._video = read_video(path, self._num_frames, self._size)
        self._class = self._class_of.get(os.path.abspath(path))  # None: not in the manifest
        self._predictions: dict[str, dict[str, list[float]]] = {}  # by order, then by model
        kind = f"<b>{escape(self._class)}</b>, " if self._class else ""
        self.title.value = kind + escape(self._video.title)
        self.message.value = "" if self._class else paragraph(STRANGER, VERMILLION)
        last = len(self._video.played) - 1
        with self._quietly():
            self.play.max = self.slider.max = last  # may move them
            self.slider.value = self._place = min(self._place, last)
        self._draw()

    def _choose_frame(self, place: int) -> None:
        self._place = min(place, len(self._video.played) - 1)
        self._draw_frame()

    def _choose_order(self, order: str) -> None:
        self._order = order
        self._draw()

    def _shuffle(self) -> None:
        if SHUFFLED not in self._orders:
            return  # so few frames that no order is left
        before = order = self._orders[SHUFFLED]
        while torch.equal(order, before):
            order = torch.randperm(self._num_frames, generator=self._generator)
        self._orders[SHUFFLED] = order
        self._predictions.pop(SHUFFLED, None)
        with self._quietly():
            self.order.value = SHUFFLED
        self._choose_order(SHUFFLED)

    def _draw(self) -> None:
        """The pictures first: the networks may take their time."""
        self._draw_frame()
        self.strip.value = png(self._strip_picture())
        self._draw_scores()

    def _draw_frame(self) -> None:
        picture = self._video.picture(self._place)
        self.frame.layout.width = f"{picture.shape[1]}px"
        self.frame.value = jpeg(picture)
        number, fps = self._video.played[self._place], self._video.fps
        counter = f"<code>frame {number} (0 to {self._video.num_frames - 1})</code>"
        time = f" at {number / fps:.2f} s" if fps else ""
        self.caption.value = paragraph(f"{counter}{time}<br>{self._fate(number)}")

    def _fate(self, number: int) -> str:
        """What becomes of a frame of the video, in words."""
        order = self._orders[self._order].tolist()
        places = [place for place, i in enumerate(order) if self._video.sampled[i] == number]
        if not places:
            return "not sampled: no network sees it"
        ways = [f"at place {place}" for place in places]
        if self._routed:
            branches = [underlined(branch_of(place)) for place in places]
            ways = [f"{way}, {branch} branch" for way, branch in zip(ways, branches, strict=True)]
        return f"sampled, {' and '.join(ways)}"

    def _strip_picture(self) -> np.ndarray:
        order = self._orders[self._order].tolist()
        colours = [BRANCH_COLOURS[branch_of(place)] for place in range(self._num_frames)]
        return mosaic(
            {"": [self._video.tiles[i] for i in order]},
            column_labels=[str(self._video.sampled[i]) for i in order],
            column_colours=colours if self._routed else (),
            tile_px=max(40, min(96, STRIP_PX // self._num_frames - 6)),
        )

    def _predict(self, order: str) -> dict[str, list[float]]:
        """Model's title to its class probabilities, with the frames in this order."""
        if order not in self._predictions:
            clip = self._video.clip[:, self._orders[order]]
            self._predictions[order] = {
                title: predict(model, clip)[0].softmax(0).tolist()
                for title, model in self._models.items()
            }
        return self._predictions[order]

    def _draw_scores(self) -> None:
        changed, names = self._order != AS_FILMED, self._class_names
        tables = score_tables(
            self._predict(self._order),
            names,
            before=self._predict(AS_FILMED) if changed else None,
            true_class=names.index(self._class) if self._class in names else None,
        )
        text = f"True class: <b>{escape(self._class)}</b>. " if self._class else ""
        text += "Thin bars, and changes in points: against the order as filmed." if changed else ""
        self.scores.value = paragraph(text or "&nbsp;") + tables

    def static_picture(self) -> np.ndarray:
        with turn():
            lines = [f"{self._class or self._video.title}, {self._order}. Most probable:"]
            for title, scores in self._predict(self._order).items():
                best = max(range(len(scores)), key=scores.__getitem__)
                lines.append(f"{title}: {self._class_names[best]}, {100 * scores[best]:.0f} %")
            return stacked([self._strip_picture(), written(lines)])

    def summary(self) -> str:
        height, width = self._size
        return (
            f"ClipExplorer({', '.join(self._models)}; {self._num_frames} frames of "
            f"{height}x{width}, {len(self._class_of)} clips of {len(self._paths)} classes)"
        )
