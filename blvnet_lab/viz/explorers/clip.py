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
from blvnet_lab.viz.explorers.base import FITTING, Explorer, checked_names, row
from blvnet_lab.viz.explorers.video import frame_counter, read_video, show_frame, video_title
from blvnet_lab.viz.images import (
    mosaic,
    paragraph,
    png,
    score_tables,
    stacked,
    text_picture,
    underlined,
)
from blvnet_lab.viz.theme import BRANCH_COLOURS, VERMILLION, branch_of

AS_FILMED, SHUFFLED = "as filmed", "frames shuffled"
STRIP_PX = 860  # width of the strip: the page of a notebook
STRANGER = (
    "This video is not in the manifest. Small networks trained on coloured shapes have nothing "
    "meaningful to say about other videos."
)


class ClipExplorer(Explorer):
    """One clip in several networks; in Python, set ``.value`` of the controls.

    The controls: ``kind`` (class) and ``number`` (which clip of it), or ``path`` (any video file);
    ``slider`` (which frame to look at); ``order`` (in which the networks get the frames). What they
    change: ``frame``, ``caption``, ``strip`` (the clip), ``scores`` and ``message`` (about files).

    Args:
        models: title to model, all with the same number T of frames and of classes. Copies of
            them are run, for others may use them at the same time: later changes are not seen.
        manifest: the clips to choose from, with `path` and `class_name`; some of its rows will do.
            Rows without a class name are left out.
        class_names: names of the models' classes; "class 0", ... if None.
        size: (height, width) in pixels of the frames that the models get.

    Raises ValueError for models that do not go together or do not take RGB frames, for another
    number of names than of classes, and where no row has a class; VideoReadError if the first clip
    cannot be read. Later, such a file gets a message instead, and what was shown before stays.
    """

    css_class = "blvnet-clip-explorer"

    def __init__(
        self,
        models: Mapping[str, VideoNet],
        manifest: pd.DataFrame,
        class_names: Sequence[str] | None = None,
        *,
        size: tuple[int, int] = (64, 64),
    ) -> None:
        super().__init__()
        _check_alike(models)
        first = next(iter(models.values()))
        self._class_names = checked_names(class_names, first)
        self._models = {title: copy.deepcopy(model).eval() for title, model in models.items()}
        self._num_frames, self._size = first.num_frames, size
        self._routed = [title for title, model in models.items() if model.pairs]
        clips = _with_class(manifest)
        self._paths = _paths_by_class(clips, self._class_names)
        absolute = clips["path"].map(os.path.abspath)
        self._class_of = dict(zip(absolute, clips["class_name"], strict=True))
        self._orders = {AS_FILMED: torch.arange(self._num_frames), **frame_orders(self._num_frames)}
        self._generator = torch.Generator().manual_seed(1)
        self._make_controls()
        self._load(self._chosen_path())
        self._arrange(*self._layout())

    def _make_controls(self) -> None:
        kinds = widgets.Dropdown(options=list(self._paths), description="class")
        self.kind = self._control("kind", kinds, self._choose_class)
        number = widgets.IntSlider(description="clip", continuous_update=False)
        number.max = len(self._paths[kinds.value]) - 1
        self.number = self._control("number", number, self._choose_clip)
        path = widgets.Text(
            placeholder="or the path of any video file; empty: the clip chosen above",
            continuous_update=False,
            layout={"width": "440px"},
        )
        self.path = self._control("path", path, self._choose_file)
        self.open_button = self._button("open", "open", self._open_file)
        self.slider = self._control("slider", widgets.IntSlider(readout=False))
        self.play = self._player(self.slider, interval_ms=100)
        orders = widgets.ToggleButtons(options=list(self._orders), style=FITTING)
        self.order = self._control("order", orders)
        again = self._button("shuffle", "shuffle again", self._shuffle)
        self.shuffle_button, again.disabled = again, SHUFFLED not in self._orders

    def _layout(self) -> list[widgets.Widget]:
        self.frame, self.strip = self._image("frame", "jpeg"), self._image("strip")
        self.title, self.caption = self._text("title"), self._text("caption")
        self.scores, self.message = self._text("scores"), self._text("message")
        beside = [
            self.title,
            widgets.HBox([self.play, self.slider]),
            self.caption,
            widgets.HTML("In which order do the networks get the frames?"),
            row(self.order, self.shuffle_button),
        ]
        column = widgets.VBox(beside, layout={"flex": "1 1 300px", "padding": "0 0 0 12px"})
        return [
            row(self.kind, self.number),
            row(self.path, self.open_button),
            self.message,
            row(self.frame, column, align_items="flex-start"),
            widgets.HTML(_legend(self._routed)),
            self.strip,
            self.scores,
        ]

    # ------------------------------------------------------------ what the user does

    def _chosen_path(self) -> str:
        return self._paths[self.now.kind][self.now.number]

    def _choose_class(self, kind: str) -> None:
        self.now.kind, self.number.max = kind, len(self._paths[kind]) - 1
        self._choose_clip(self.now.number)

    def _choose_clip(self, number: int) -> None:
        self.now.number, self.now.path = min(number, self.number.max), ""
        self._open_file()

    def _choose_file(self, text: str) -> None:
        self.now.path = text
        self._open_file()

    def _open_file(self) -> None:
        """Show this video instead of the one before; or a message, if it cannot be read."""
        path = os.path.expanduser(self.now.path.strip().strip("\"'")) or self._chosen_path()
        self.message.value = f"reading {escape(path)} ..."  # a long video takes its time
        try:
            self._load(path)
        except VideoReadError as error:
            text = escape(f"{error}. Still shown: {self._title}.")
            self._note = paragraph(f"<b>Not opened.</b> {text}", VERMILLION)

    def _load(self, path: str) -> None:
        self._note = ""
        self._video = read_video(path, self._num_frames, self._size)
        self._title = video_title(self._video.info)
        self._class = self._class_of.get(os.path.abspath(path))  # None: not in the manifest
        self._note = "" if self._class else paragraph(STRANGER, VERMILLION)
        self._predictions: dict[str, dict[str, list[float]]] = {}  # by order, then by model

    def _shuffle(self) -> None:
        if SHUFFLED not in self._orders:
            return  # so few frames that no order is left
        before = order = self._orders[SHUFFLED]
        while torch.equal(order, before):
            order = torch.randperm(self._num_frames, generator=self._generator)
        self._orders[SHUFFLED], self.now.order = order, SHUFFLED
        self._predictions.pop(SHUFFLED, None)

    # ------------------------------------------------------------ what is shown

    def draw(self) -> None:
        """Draw the pictures first: the networks may take their time."""
        last = len(self._video.played) - 1
        self.now.slider = min(self.now.slider, last)
        self._set_length(self.slider, self.play, last, self.now.slider)
        kind = f"<b>{escape(self._class)}</b>, " if self._class else ""
        self.title.value, self.message.value = kind + escape(self._title), self._note
        show_frame(self.frame, self._video.pictures[self.now.slider])
        number = self._video.played[self.now.slider]
        counter = frame_counter(self._video.info, number)
        got = [self._video.sampled[i] for i in self._orders[self.now.order].tolist()]
        places = [place for place, sampled in enumerate(got) if sampled == number]
        self.caption.value = paragraph(f"{counter}<br>{_fate(places, bool(self._routed))}")
        self.strip.value = png(self._strip_picture())
        self.scores.value = self._score_text()

    def _strip_picture(self) -> np.ndarray:
        order = self._orders[self.now.order].tolist()
        colours = [BRANCH_COLOURS[branch_of(place)] for place in range(self._num_frames)]
        return mosaic(
            {"": [self._video.tiles[i] for i in order]},
            column_labels=[str(self._video.sampled[i]) for i in order],
            edges=[colours] if self._routed else (),
            tile_px=max(40, min(96, STRIP_PX // self._num_frames - 6)),
        )

    def _predict(self, order: str) -> dict[str, list[float]]:
        """Return every model's class probabilities, with the frames in this order."""
        if order not in self._predictions:
            clip = self._video.clip[:, self._orders[order]]
            self._predictions[order] = {
                title: predict(model, clip)[0].softmax(0).tolist()
                for title, model in self._models.items()
            }
        return self._predictions[order]

    def _score_text(self) -> str:
        changed, names = self.now.order != AS_FILMED, self._class_names
        text = f"True class: <b>{escape(self._class)}</b>. " if self._class else ""
        text += "Thin bars, and changes in points: against the order as filmed." if changed else ""
        return paragraph(text or "&nbsp;") + score_tables(
            self._predict(self.now.order),
            names,
            before=self._predict(AS_FILMED) if changed else None,
            true_class=names.index(self._class) if self._class in names else None,
        )

    # ------------------------------------------------------------ where no kernel runs

    def static_picture(self) -> np.ndarray:
        lines = [f"{self._class or self._title}, {self.now.order}. Most probable:"]
        for title, scores in self._predict(self.now.order).items():
            best = max(range(len(scores)), key=scores.__getitem__)
            lines.append(f"{title}: {self._class_names[best]}, {100 * scores[best]:.0f} %")
        return stacked(self._strip_picture(), text_picture(*lines))

    def summary(self) -> str:
        height, width = self._size
        return (
            f"ClipExplorer({', '.join(self._models)}; {self._num_frames} frames of "
            f"{height}x{width}, {len(self._class_of)} clips of {len(self._paths)} classes)"
        )


def _with_class(manifest: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that have a class, as texts."""
    clips = manifest.dropna(subset=["path", "class_name"])
    if clips.empty:
        raise ValueError(
            "expected a manifest with at least one row that has a class_name, got no such row; "
            "blvnet_lab.data.DataSet.read(path).rows is one"
        )
    # Whole numbers beside gaps have become floats: 7.0 is 7 again.
    kinds = clips["class_name"].convert_dtypes().map(str)
    return clips.assign(path=clips["path"].map(str), class_name=kinds)


def _paths_by_class(clips: pd.DataFrame, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Class name to the paths of its clips: known classes first, in their order."""
    found = clips.groupby("class_name", sort=False)["path"].agg(list)
    known = [name for name in class_names if name in found]
    return {name: found[name] for name in (*known, *found.index)}


def _fate(places: Sequence[int], routed: bool) -> str:
    """Say what becomes of a frame that stands at these places of the clip."""
    branches = [f", {underlined(branch_of(place))} branch" if routed else "" for place in places]
    ways = [f"at place {place}{branch}" for place, branch in zip(places, branches, strict=True)]
    return f"sampled, {' and '.join(ways)}" if ways else "not sampled: no network sees it"


def _legend(routed: Sequence[str]) -> str:
    """Say what the strip shows; `routed`: titles of the models whose pairs are split."""
    text = "The clip as the networks get it, with the numbers of the video's frames."
    ways = f"{underlined('little')} or {underlined('big')}"
    edges = f" Edges: to the {ways} branch in {escape(', '.join(routed))}." if routed else ""
    return paragraph(text + edges)


def _check_alike(models: Mapping[str, VideoNet]) -> None:
    alike = {(m.num_frames, m.classifier.out_features) for m in models.values()}
    if len(alike) != 1:
        raise ValueError(
            "expected models with the same num_frames and num_classes, since all get the same "
            f"clip, got {sorted(alike) or 'no models'}; make an explorer for each kind"
        )
