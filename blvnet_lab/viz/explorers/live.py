"""Follow a video while it plays: a causal network, one pair of frames after another.

LiveView(model, "clip.mp4", class_names, stride=3)       # model: blvnet_tam(causal=True)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from html import escape
from statistics import median

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from blvnet_lab.data import VideoReadError, evaluation_transform
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import BigLittleNet
from blvnet_lab.viz.explorers.live_chart import WIDTH, score_chart
from blvnet_lab.viz.explorers.tam_edits import checked_names
from blvnet_lab.viz.explorers.video import FrameReader, fitted, video_title
from blvnet_lab.viz.handling import turn
from blvnet_lab.viz.images import (
    jpeg,
    mosaic,
    paragraph,
    png,
    stacked,
    underlined,
    written,
)
from blvnet_lab.viz.theme import BRANCH_COLOURS, VERMILLION, branch_of
from blvnet_lab.viz.widgets import PicturedWidget

MOST_SECONDS, MOST_FRAMES = 10, 250  # of the chart; frames, where a video does not say how fast
LEAST_MS = 40  # from frame to frame while playing
PLAY_MS = 120  # where a video does not say
STILL_PAIRS = 8  # so many at least are in the picture for pages without a kernel


class LiveView(PicturedWidget):
    """A video, and what a causal network makes of it so far; set ``.value`` of the controls.

    The controls: ``play``; ``position`` (the frame that is shown); ``averaged`` (over how many
    pairs the logits are averaged before the softmax: at first as many as a clip has); ``restart``
    (to `click()`). What they change: ``frame``, ``caption``, ``chart``, ``cost``, ``scores`` and
    ``message`` (about the file).

    The network gets one frame of every `stride`, the middle one, as if they were filmed just then:
    each pair once, when its second frame is there, and all in their order, from the beginning of
    the video. What is shown at a frame is therefore the same however one came there: who moves
    ahead waits until the pairs between have been seen, who moves back sees what was known then.
    `restart` makes the network forget everything and begins anew.

    Args:
        model: from `blvnet_tam(causal=True)`. A copy of it is run; later changes are not seen.
        path: of a video file.
        class_names: one per class; "class 0" and so on if None.
        size: (height, width) in pixels of the frames that the network gets.
        stride: from one frame that the network gets to the next, as in `ClipDataset`. Take the one
            of its training: T frames spread over videos of n frames are n / T apart.

    Raises:
        TypeError: a model that is not from `blvnet_tam`.
        ValueError: a model that is not causal, or not for RGB; another number of names than of
            classes; a stride below 1, or one that leaves no pair of frames.
        VideoReadError: the video cannot be read. Where only a later frame cannot, a message says so
            when it is reached.
    """

    def __init__(
        self,
        model: BigLittleNet,
        path: str,
        class_names: Sequence[str] | None = None,
        *,
        size: tuple[int, int] = (64, 64),
        stride: int = 1,
    ) -> None:
        self._stream = Stream(copy.deepcopy(model))
        if model.in_channels != 3:
            raise ValueError(
                "expected a model of RGB frames (in_channels=3), got one with in_channels="
                f"{model.in_channels}: a video file holds nothing else"
            )
        self._like = next(self._stream.parameters())
        self._class_names = checked_names(class_names, None, model.classifier.out_features)
        self._frames = FrameReader(path)
        self._info = self._frames.info
        self._taken = _taken(self._info.num_frames, stride)
        self._size, self._stride, self._prepare = size, stride, evaluation_transform(size)
        self._logits: list[Tensor] = []  # of every pair that the network has seen
        self._seconds: list[float] = []  # that it took for each
        self._rate = self._info.fps or 1.0
        self._make_controls(model.num_frames // 2)
        # What is shown. Controls may be ahead of it: what they are set to waits for its turn.
        self._number, self._count = 0, self.averaged.value
        self._draw()
        super().__init__(self._arranged())
        self.add_class("blvnet-live-view")  # for style sheets and browser tests
        parts = ("play", "position", "averaged", "restart", "frame", "caption", "chart", "cost")
        for part in (*parts, "message"):
            getattr(self, part).add_class(f"blvnet-live-{part}")

    def _make_controls(self, num_pairs: int) -> None:
        last, fps = self._info.num_frames - 1, self._info.fps
        interval = max(LEAST_MS, round(1000 / fps)) if fps else PLAY_MS
        self.play = widgets.Play(max=last, interval=interval)
        self.position = widgets.IntSlider(max=last, description="frame")
        self.restart = widgets.Button(
            description="restart",
            tooltip="forget everything, from the first frame on",
            layout=widgets.Layout(width="max-content"),
        )
        self.averaged = widgets.IntSlider(
            value=num_pairs,
            min=1,
            max=2 * num_pairs,
            description="pairs averaged",
            style={"description_width": "initial"},
        )
        self.frame = widgets.Image(format="jpeg")
        # Left to itself, a picture is stretched to the width of the page.
        natural = widgets.Layout(align_self="flex-start", max_width="100%")
        self.chart = widgets.Image(format="png", layout=natural)
        self.caption, self.cost, self.message = (widgets.HTML() for _ in range(3))
        # Linked in the browser, both ways; at first both have the first one's value.
        self._link = widgets.jslink((self.position, "value"), (self.play, "value"))
        self._on(self.position, self._choose_position)
        self._on(self.averaged, self._choose_average)
        self._on_click(self.restart, self._restart)

    def _arranged(self) -> list[widgets.Widget]:
        wrapping = widgets.Layout(flex_flow="row wrap", align_items="center")
        at_top = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        beside = widgets.VBox([self.chart], layout=widgets.Layout(padding="0 0 0 12px"))
        title = f"<b>{escape(video_title(self._info))}</b>"
        return [
            widgets.HTML(title),
            widgets.HBox([self.play, self.position, self.restart, self.averaged], layout=wrapping),
            self.message,
            widgets.HBox([self.frame, beside], layout=at_top),
            self.caption,
            self.cost,
        ]

    # ------------------------------------------------------------ what the user does

    def _choose_position(self, number: int) -> None:
        try:
            self._follow(number)
            self._frames[number]  # is read here, or not at all
        except VideoReadError as error:
            text = f"{error}. Still shown: frame {self._number}."
            self.message.value = paragraph(f"<b>Stopped.</b> {escape(text)}", VERMILLION)
            self.play.playing = False
        else:
            self.message.value, self._number = "", number
        with self._quietly():
            self.position.value = self._number
        self._draw()

    def _choose_average(self, count: int) -> None:
        self._count = count
        self._draw()

    def _restart(self) -> None:
        self._stream.reset()
        self._logits, self._seconds = [], []
        self._choose_position(0)

    # ------------------------------------------------------------ what the network does

    def _follow(self, number: int) -> None:
        """The network gets all pairs that are complete with this frame, and that it has not had."""
        for first, second in self._taken[len(self._logits) : self._seen_by(number)]:
            pair = self._prepare(torch.stack([self._frames[first], self._frames[second]]))
            start = time.perf_counter()
            logits = self._stream(pair[None].to(self._like))[0].double().cpu()
            self._seconds.append(time.perf_counter() - start)
            self._logits.append(logits)

    def _seen_by(self, number: int) -> int:
        """How many pairs are complete with this frame."""
        return sum(second <= number for _, second in self._taken)

    def _averages(self, pairs: range) -> Tensor:
        """The probabilities after each of these pairs, (n, num_classes)."""
        if not pairs:
            return torch.zeros(0, len(self._class_names))
        last = [self._logits[max(0, k + 1 - self._count) : k + 1] for k in pairs]
        return torch.stack([torch.stack(logits).mean(0) for logits in last]).softmax(1)

    @property
    def scores(self) -> dict[str, float]:
        """Class name to probability, as shown at the right edge; empty before the first pair."""
        seen = self._seen_by(self._number)
        averages = self._averages(range(max(0, seen - 1), seen))
        return dict(zip(self._class_names, averages[0].tolist(), strict=True)) if seen else {}

    # ------------------------------------------------------------ what is shown

    def _draw(self) -> None:
        picture = fitted(self._frames[self._number].permute(1, 2, 0).numpy())
        self.frame.layout.width = f"{picture.shape[1]}px"
        self.frame.value = jpeg(picture)
        self.chart.value = png(self._chart(self._number))
        number, fps = self._number, self._info.fps
        counter = f"<code>frame {number} (0 to {self._info.num_frames - 1})</code>"
        at = f" at {number / fps:.2f} s" if fps else ""
        self.caption.value = paragraph(f"{counter}{at}: {self._fate(number)}")
        self.cost.value = paragraph(f"<small>{self._cost()}</small>")

    def _chart(self, number: int) -> np.ndarray:
        """All that is known at a frame, of the last seconds."""
        most = MOST_SECONDS if self._info.fps else MOST_FRAMES
        now, span = (number + 1) / self._rate, min(self._info.num_frames / self._rate, most)
        times = [second / self._rate for _, second in self._taken[: self._seen_by(number)]]
        gone = sum(end <= now - span for end in times[1:])
        scores = self._averages(range(gone, len(times)))
        return score_chart(
            times[gone:],
            scores.numpy(),
            self._class_names,
            now=now,
            span=span,
            unit="s" if self._info.fps else "frames",
        )

    def _fate(self, number: int) -> str:
        """What becomes of a frame, in words."""
        for k, pair in enumerate(self._taken):
            if number in pair:
                branch = branch_of(pair.index(number))
                then = "waits for the other frame" if branch == "little" else "pair is complete"
                return f"to the {underlined(branch)} branch, in pair {k}; {then}"
        return "the network does not get it"

    def _cost(self) -> str:
        seen = self._seen_by(self._number)
        if not seen:
            return "The network has not seen a pair yet."
        text = f"A pair costs the network {1000 * median(self._seconds):.1f} ms here (median)"
        if self._info.fps:
            text += f", and is {2000 * self._stride / self._info.fps:.0f} ms of video"
        return f"{text}. {seen} of {len(self._taken)} pairs seen."

    # ------------------------------------------------------------ where no kernel runs

    def static_picture(self) -> np.ndarray:
        """The frames that the network gets, and the chart: as far as it is, and some pairs on."""
        with turn():
            count = max(self._seen_by(self._number), min(STILL_PAIRS, len(self._taken)))
            try:
                self._follow(self._taken[count - 1][1])
            except VideoReadError:
                count = len(self._logits)  # as far as it can be read
            pairs = self._taken[max(0, count - STILL_PAIRS) : count]
            numbers = [number for pair in pairs for number in pair]
            title = f"{video_title(self._info)}; average of up to {self._count} pairs"
            chart = stacked([self._chart(numbers[-1] if pairs else 0), written([title])])
            if not pairs:
                return chart
            strip = mosaic(
                {"": [self._frames[number].permute(1, 2, 0).numpy() for number in numbers]},
                column_labels=[str(number) for number in numbers],
                column_colours=list(BRANCH_COLOURS.values()) * len(pairs),
                tile_px=min(72, WIDTH // len(numbers) - 6),
            )
            return stacked([strip, chart])

    def summary(self) -> str:
        height, width = self._size
        count = len(self._taken)
        return f"LiveView({count} pairs of {height}x{width}, {len(self._class_names)} classes)"


def _taken(frame_count: int, stride: int) -> list[tuple[int, int]]:
    """The pairs of frames that the network gets: of every `stride` frames the middle one.

    Where T x stride frames make up the video, these are the ones of `sample_uniform`.
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1 frame, got {stride}")
    numbers = range(stride // 2, frame_count, stride)
    pairs = list(zip(numbers[0::2], numbers[1::2], strict=False))  # an odd last one has no other
    if not pairs:
        raise ValueError(
            f"expected a stride that leaves a pair of the video's {frame_count} frames, got "
            f"{stride}: take a smaller one"
        )
    return pairs
