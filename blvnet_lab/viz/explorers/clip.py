"""Choose a clip or any video file, step through it, and see what networks are shown and answer.

    ClipExplorer({"bLVNet": blvnet, "bLVNet-TAM": blvnet_tam}, clips.rows, clips.classes)

The point is the order of the frames: exchange or shuffle them, and see which networks notice.
"""

import copy
import os
from collections.abc import Mapping
from functools import cache
from html import escape

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch

from blvnet_lab.data import denormalize, evaluation_transform, read_frames, sample_uniform
from blvnet_lab.data.dataset_files import clip_names
from blvnet_lab.introspect.influence import frame_orders, predict
from blvnet_lab.models import VideoNet
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.viz.explorers import base
from blvnet_lab.viz.explorers.base import FrameReader, Names, VideoExplorer, row
from blvnet_lab.viz.images import as_images, mosaic, paragraph, score_tables, underlined
from blvnet_lab.viz.theme import BRANCH_COLOURS, VERMILLION, branch_of

AS_FILMED, SHUFFLED = "as filmed", "frames shuffled"
PLAY_MS = 100  # from frame to frame
STRANGER = "Networks have little to say about videos that are unlike those of their training."


class ClipExplorer(VideoExplorer):
    """Compare networks on one clip; in Python, set ``.value`` of the controls.

    Controls: ``kind`` (class) and ``number`` (which of its clips), or ``path`` (any video file);
    ``position`` (the frame to look at); ``order`` (in which the networks get the frames). They
    change ``frame``, ``caption``, ``strip`` (the clip), ``scores`` and ``message``.

    Args:
        models: title to model, all with the same number T of frames and of classes. The explorer
            runs copies of them, so later changes have no effect.
        manifest: the clips to choose from, with `path` and `class_name`, perhaps parts of videos.
        class_names: names of the models' classes; "class 0", ... if None.
        size: (height, width) in pixels of the frames that the models get.

    Raises ValueError for models and names that do not fit together; VideoReadError if the first
    clip cannot be read. If a later one cannot, a message says so, and the last picture stays.
    """

    def __init__(
        self,
        models: Mapping[str, VideoNet],
        manifest: pd.DataFrame,
        class_names: Names = None,
        *,
        size: tuple[int, int] = (64, 64),
    ) -> None:
        super().__init__()
        models = {title: network_of(model) for title, model in models.items()}
        first = next(iter(models.values()))
        self._names, self._num_frames = base.checked_names(class_names, first), first.num_frames
        self._models = {title: copy.deepcopy(model).eval() for title, model in models.items()}
        self._routed = [title for title, model in models.items() if model.pairs]
        self._prepare = evaluation_transform(size)
        clips = manifest.dropna(subset=["class_name"]).astype({"class_name": str})
        clips = clips.assign(path=clip_names(clips))
        found = clips.groupby("class_name", sort=False)["path"].agg(list)
        known = [name for name in self._names if name in found]  # come first, in label order
        self._paths = {name: found[name] for name in (*known, *found.index)}
        self._orders = {AS_FILMED: torch.arange(self._num_frames), **frame_orders(self._num_frames)}
        self._rng = torch.Generator().manual_seed(1)
        self._scores = cache(self._scores)
        about = f"{self._num_frames} frames of {size[0]}x{size[1]}, {len(clips)} clips"
        self.about = f"ClipExplorer({', '.join(models)}; {about} of {len(self._paths)} classes)"
        self._make_controls()
        self._arrange(*self._layout())

    def _make_controls(self) -> None:
        kinds = widgets.Dropdown(options=list(self._paths), description="class")
        self._control("kind", kinds, self._choose_class)
        last = len(self._paths[kinds.value]) - 1
        number = widgets.IntSlider(max=last, description="clip", continuous_update=False)
        self._control("number", number, self._choose_clip)
        words = "or the path of any video file; empty: the clip chosen above"
        look = {"continuous_update": False, "layout": {"width": "440px"}}
        self._control("path", widgets.Text(placeholder=words, **look), self._choose_file)
        self._load(self._paths[kinds.value][0])
        self._class = kinds.value  # None for a file of one's own
        self._make_position(PLAY_MS)
        self._choice("order", self._orders)
        self._button("shuffle", "shuffle again", self._shuffle)

    def _layout(self) -> list[widgets.Widget]:
        playing = widgets.HBox([self.play, self.position])
        question = widgets.HTML("In which order do the networks get the frames?")
        orders = row(self.order, self.shuffle)
        beside = widgets.VBox([self._text("title"), playing, self.caption, question, orders])
        beside.layout = {"flex": "1 1 300px", "padding": "0 0 0 12px"}
        legend = "The clip as the networks get it, with the numbers of the video's frames."
        if self._routed:
            branches = f"{underlined('little')} or {underlined('big')}"
            legend += f" Edges: to the {branches} branch in {escape(', '.join(self._routed))}."
        choice = [row(self.kind, self.number), self.path, self.message]
        strip = [widgets.HTML(paragraph(legend)), self._image("strip")]
        shown = row(self.frame, beside, align_items="flex-start")
        return [*choice, shown, *strip, self._text("scores")]

    def _choose_class(self, kind: str) -> None:
        self.now.kind, self.number.max = kind, len(self._paths[kind]) - 1
        self._choose_clip(self.now.number)

    def _choose_clip(self, number: int) -> None:
        self.now.number = min(number, self.number.max)
        self._choose_file("")

    def _choose_file(self, text: str) -> None:
        """Show this video, or a message if it cannot be read."""
        self.now.path = text
        path = os.path.expanduser(text.strip().strip("\"'"))
        with self._reading(self._frames.title()):
            self._load(path or self._paths[self.now.kind][self.now.number])
            self._class = None if path else self.now.kind

    def _load(self, path: str) -> None:
        """Read the T frames of the clip, prepared as for evaluation."""
        frames = FrameReader(path)
        sampled = sample_uniform(frames.info.num_frames, self._num_frames).tolist()
        # One by one, since as floats the frames of a large video would take gigabytes.
        clip = torch.stack([self._prepare(frame) for frame in read_frames(frames.info, sampled)])
        at = min(getattr(self.now, "position", 0), frames.info.num_frames - 1)
        frames[at]
        self._frames, self._sampled, self._clip, self.now.position = frames, sampled, clip, at
        self._tiles = as_images(denormalize(clip))
        self._scores.cache_clear()

    def _shuffle(self) -> None:
        self._orders[SHUFFLED] = torch.randperm(self._num_frames, generator=self._rng)
        self.now.order = SHUFFLED
        self._scores.cache_clear()

    def _scores(self, order: str) -> dict[str, np.ndarray]:
        """Compute every model's class probabilities, with the frames in this order."""
        clip = self._clip[None, self._orders[order]]
        logits = {title: predict(model, clip)[0] for title, model in self._models.items()}
        return {title: base.probabilities(self._models[title], x) for title, x in logits.items()}

    def draw(self) -> None:
        self._set_range(self.position, self._frames.info.num_frames - 1, self.now.position)
        kind = f"<b>{escape(self._class)}</b>, " if self._class else ""
        self.title.value = kind + escape(self._frames.title())
        order = self._orders[self.now.order].tolist()
        numbers = [self._sampled[i] for i in order]
        branches = [branch_of(place) for place in range(self._num_frames)]
        places = [place for place, number in enumerate(numbers) if number == self.now.position]
        where = [f", {underlined(branch)} branch" if self._routed else "" for branch in branches]
        sampled = " and ".join(f"at place {place}{where[place]}" for place in places)
        self._show_position(f"sampled, {sampled}" if places else "not sampled: no network sees it")
        if not (self._class or self._note):
            self.message.value = paragraph(STRANGER, VERMILLION)
        strip = mosaic(
            {"": [self._tiles[i] for i in order]},
            column_labels=list(map(str, numbers)),
            edges=[[BRANCH_COLOURS[branch] for branch in branches]] if self._routed else (),
            tile_px=max(40, min(96, base.PAGE_PX // self._num_frames - 6)),
        )
        self._show("strip", strip)
        self._show_scores()  # last, since the networks may be slow

    def _show_scores(self) -> None:
        changed, names = self.now.order != AS_FILMED, self._names
        text = f"True class: <b>{escape(self._class)}</b>. " if self._class else ""
        text += "Thin bars, and changes in points: against the order as filmed." if changed else ""
        scores, before = self._scores(self.now.order), self._scores(AS_FILMED)
        label = names.index(self._class) if self._class in names else None
        tables = score_tables(scores, names, before if changed else None, label)
        self.scores.value = paragraph(text or "&nbsp;") + tables
        best = {title: int(values.argmax()) for title, values in scores.items()}
        self.lines = [
            f"{self._class or self._frames.title()}, {self.now.order}. Most probable:",
            *(f"{t}: {names[i]}, {100 * scores[t][i]:.0f} %" for t, i in best.items()),
        ]
