"""Follow a video while it plays: a causal network, one pair of frames after another.

LiveView(model, "clip.mp4", class_names, stride=3)       # model: blvnet_tam(causal=True)
LiveView(model, source="camera", class_names=class_names)
"""

import copy
import time
from collections.abc import Sequence
from functools import partial
from html import escape
from itertools import pairwise
from statistics import median
from typing import Literal

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from blvnet_lab.data import VideoReadError, evaluation_transform
from blvnet_lab.deploy.compiled import Precision, compile_for_inference
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import BigLittleNet
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.viz import images
from blvnet_lab.viz.explorers.base import Explorer, checked_names, row
from blvnet_lab.viz.explorers.camera import Camera
from blvnet_lab.viz.explorers.video import FrameReader, VideoExplorer
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY, branch_of

WIDTH = 524  # of the chart, in pixels: with the frame beside it, the page of a notebook
MAX_ROWS, MAX_LETTERS = 10, 24  # of classes in the chart; of their names
ROW_PX, BAR_PX = 25, 21  # of a row; of them, those that stand for 100 %
NUMBERS_PX = 50  # for the numbers at the right
TOP_PX, AXIS_PX = 18, 34
MAX_TICKS = 6
MAX_SECONDS, MAX_FRAMES = 10, 250  # of the chart; frames, where a video does not say how fast
MIN_MS = 40  # from frame to frame while playing
PLAY_MS = 120  # where a video does not say
KEPT_PAIRS = 600  # of a camera: more than the chart and the average need
STILL_PAIRS = 8  # at least as many are in the picture for pages without a kernel
Source = Literal["file", "camera"]


class LiveView(VideoExplorer):
    """A video, and what a causal network makes of it so far; set ``.value`` of the controls.

    The controls: ``play``; ``position`` (the frame that is shown); ``averaged`` (over how many
    pairs the logits are averaged before the softmax); ``restart`` (to `click()`: the network
    forgets everything). What they change: ``frame``, ``caption``, ``chart``, ``cost``, ``scores``
    and ``message`` (about the file).

    The network gets one frame of every `stride`, the middle one: each pair once, when its second
    frame is there, from the beginning of the video on. So a frame shows the same however one came
    there: who moves back sees what was known then.

    Args:
        model: from `blvnet_tam(causal=True)`. A copy of it is run; later changes are not seen.
        path: of a video file.
        source: "camera" makes a `CameraView` instead, from model, class_names and size.
        class_names: one per class; "class 0" and so on if None.
        size: (height, width) in pixels of the frames that the network gets.
        stride: from one frame that the network gets to the next, as in `ClipDataset`. Take the one
            of its training: T frames spread over videos of n frames are n / T apart.
        fast: compile the network for this processor, to compute in this precision.

    Raises TypeError or ValueError for another kind of model; ValueError for another number of names
    than of classes, and for a stride that leaves no pair of frames; VideoReadError if the video
    cannot be read. Where only a later frame cannot, a message says so when it is reached.
    """

    css_class = "blvnet-live-view"

    def __new__(cls, model: BigLittleNet, *args, source: Source = "file", **kwargs):
        """Make the view of another source; Python calls __init__ for those of a file only."""
        if source == "file":
            return super().__new__(cls)
        if source != "camera":
            raise ValueError(f'expected "file" or "camera" as the source, got {source!r}')
        return CameraView(model, *args, **kwargs)

    def __init__(
        self,
        model: BigLittleNet,
        path: str,
        class_names: Sequence[str] | None = None,
        *,
        size: tuple[int, int] = (64, 64),
        stride: int = 1,
        source: Source = "file",
        fast: Precision | None = None,
    ) -> None:
        super().__init__()
        self._stream, self._like = stream_of(model, size, fast)
        self._class_names = checked_names(class_names, model)
        self._frames = FrameReader(path)
        self._fps, self._count = self._frames.info.fps, self._frames.info.num_frames
        numbers = range(stride // 2, self._count, stride)
        # Where T x stride frames make up the video, these are the ones of `sample_uniform`.
        self._pairs = list(zip(numbers[0::2], numbers[1::2], strict=False))
        if not self._pairs:
            raise ValueError(
                f"expected a stride that leaves a pair of the video's {self._count} frames, got "
                f"{stride}: take a smaller one"
            )
        self._size, self._stride, self._prepare = size, stride, evaluation_transform(size)
        self._logits: list[Tensor] = []  # of every pair that the network has seen
        self._seconds: list[float] = []  # that it took for each
        self._make_position(max(MIN_MS, round(1000 / self._fps)) if self._fps else PLAY_MS)
        self._button("restart", "restart", self._restart, "forget everything, from the first frame")
        self._control("averaged", averaging_slider(model))
        beside = widgets.VBox([self._image("chart")], layout={"padding": "0 0 0 12px"})
        self._arrange(
            widgets.HTML(f"<b>{escape(self._frames.title())}</b>"),
            row(self.play, self.position, self.restart, self.averaged),
            self.message,
            row(self.frame, beside, align_items="flex-start"),
            self.caption,
            self._text("cost"),
        )

    def _choose_position(self, number: int) -> None:
        with self._reading(f"frame {self.now.position}"):
            self._follow(number)
            super()._choose_position(number)

    def _restart(self) -> None:
        self._stream.reset()
        self._logits, self._seconds = [], []
        self._choose_position(0)

    def _follow(self, number: int) -> None:
        """Give the network all pairs that are complete with this frame, and that are new to it."""
        for first, second in self._pairs[len(self._logits) : self._seen_by(number)]:
            pair = self._prepare(torch.stack([self._frames[first], self._frames[second]]))
            logits, seconds = timed_step(self._stream, pair.to(self._like))
            self._seconds.append(seconds)
            self._logits.append(logits)

    def _seen_by(self, number: int) -> int:
        """Count the pairs that are complete with this frame."""
        return sum(second <= number for _, second in self._pairs)

    @property
    def scores(self) -> dict[str, float]:
        """Class name to probability, as shown at the right edge; empty before the first pair."""
        seen = self._seen_by(self.now.position)
        latest = averages(self._logits, range(seen)[-1:], self.now.averaged)
        return dict(zip(self._class_names, latest[0].tolist(), strict=True)) if seen else {}

    def draw(self) -> None:
        number = self.now.position
        fate = "the network does not get it"
        for k, pair in enumerate(self._pairs):
            if number in pair:
                branch = branch_of(pair.index(number))
                then = "waits for the other frame" if branch == "little" else "pair is complete"
                fate = f"to the {images.underlined(branch)} branch, in pair {k}; {then}"
        self._show_position(fate)
        self.chart.value = images.png(self._chart(number))
        seen, cost = self._seen_by(number), "The network has not seen a pair yet."
        if seen:
            cost = f"A pair costs the network {1000 * median(self._seconds):.1f} ms here (median)"
            if self._fps:
                cost += f", and is {2000 * self._stride / self._fps:.0f} ms of video"
            cost += f". {seen} of {len(self._pairs)} pairs seen."
        self.cost.value = images.paragraph(f"<small>{cost}</small>")

    def _chart(self, number: int) -> np.ndarray:
        """Draw all that is known at a frame, of the last seconds."""
        rate, unit = (self._fps, "s") if self._fps else (1.0, "frames")
        now = (number + 1) / rate
        span = min(self._count / rate, MAX_SECONDS if self._fps else MAX_FRAMES)
        times = [second / rate for _, second in self._pairs[: self._seen_by(number)]]
        gone = sum(end <= now - span for end in times[1:])
        scores = averages(self._logits, range(gone, len(times)), self.now.averaged)
        return score_chart(times[gone:], scores, self._class_names, now=now, span=span, unit=unit)

    def static_picture(self) -> np.ndarray:
        """Draw what the network gets, and the chart as far as it is and some pairs on."""
        count = max(self._seen_by(self.now.position), min(STILL_PAIRS, len(self._pairs)))
        try:
            self._follow(self._pairs[count - 1][1])
        except VideoReadError:
            count = len(self._logits)  # as far as it can be read
        numbers = [n for pair in self._pairs[max(0, count - STILL_PAIRS) : count] for n in pair]
        title = f"{self._frames.title()}; average of up to {self.now.averaged} pairs"
        chart = self._chart(numbers[-1] if numbers else 0)
        chart = images.stacked(chart, images.text_picture(title))
        if not numbers:
            return chart
        strip = images.mosaic(
            {"": [self._frames[number].permute(1, 2, 0).numpy() for number in numbers]},
            column_labels=[str(number) for number in numbers],
            edges=[list(BRANCH_COLOURS.values()) * (len(numbers) // 2)],
            tile_px=min(72, WIDTH // len(numbers) - 6),
        )
        return images.stacked(strip, chart)

    def summary(self) -> str:
        size = "{}x{}".format(*self._size)
        return f"LiveView({len(self._pairs)} pairs of {size}, {len(self._class_names)} classes)"


class CameraView(Explorer):
    """What a causal network makes of what the page's camera sees, while it sees it.

    The page hands the middle of the picture to the kernel, in pairs of frames, and asks for an
    answer to one before it sends the next: a slow machine takes fewer pairs, and none too late.
    The controls ``averaged`` and ``restart`` are those of `LiveView`; they change ``chart``,
    ``cost`` and ``scores``.

    Args:
        model, class_names, size, fast: as in `LiveView`.
        fps: frames a second that the network gets. Take those of its training: T frames spread over
            videos of s seconds are T / s, 4 for eight frames of two seconds.

    Raises ValueError if that is not above 0, and as `LiveView` does.
    """

    css_class = "blvnet-camera-view"

    def __init__(
        self,
        model: BigLittleNet,
        class_names: Sequence[str] | None = None,
        *,
        size: tuple[int, int] = (64, 64),
        fps: float = 4.0,
        fast: Precision | None = None,
    ) -> None:
        if not fps > 0:  # a camera without a rate films clips
            raise ValueError(
                f"expected frames a second above 0, got fps={fps}: take that of the training"
            )
        super().__init__()
        self._stream, self._like = stream_of(model, size, fast)
        self._prepare = evaluation_transform(size)
        self._class_names = checked_names(class_names, model)
        self._named("camera", Camera(size=size, fps=fps)).on_msg(self._receive)
        self._button("restart", "restart", self._restart, "forget everything")
        self._control("averaged", averaging_slider(model))
        self._restart()
        self._arrange(
            row(self.restart, self.averaged),
            row(self.camera, self._image("chart"), align_items="flex-start"),
            self._text("cost"),
        )

    def _restart(self) -> None:
        self._stream.reset()
        # Of the last pairs: logits; when they came (s); how long the network took (s).
        self._logits, self._times, self._seconds = [], [], []

    def _receive(self, camera: Camera, pair: dict, buffers: list) -> None:
        frames = torch.tensor(np.frombuffer(buffers[0], np.uint8)).view(2, *camera.size, 4)
        try:
            self._set_off(partial(self._take, frames[..., :3].permute(0, 3, 1, 2), pair["time"]))
        finally:  # the page waits for it
            camera.send({})

    def _take(self, pair: Tensor, time: float) -> None:
        """Give the network a pair (2, 3, H, W), uint8, that is complete at some time (s)."""
        if self._times and time <= self._times[-1]:  # switched off and on
            self._restart()
        found = *timed_step(self._stream, self._prepare(pair).to(self._like)), time
        for values, new in zip((self._logits, self._seconds, self._times), found, strict=True):
            values[:] = [*values, new][-KEPT_PAIRS:]

    @property
    def scores(self) -> dict[str, float]:
        """Class name to probability, now; empty before the first pair."""
        latest = averages(self._logits, range(len(self._logits))[-1:], self.now.averaged)
        return dict(zip(self._class_names, *latest.tolist(), strict=True)) if len(latest) else {}

    def draw(self) -> None:
        self.chart.value = images.png(self.static_picture())
        cost = "What the camera sees goes from this page to its kernel, and nowhere else."
        if len(self._times) > 1:
            rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
            took = f"{rate:.1f} pairs a second; one takes {1000 * median(self._seconds):.1f} ms"
            cost = f"The network gets {took} (median). {cost}"
        self.cost.value = images.paragraph(f"<small>{cost}</small>")

    def static_picture(self) -> np.ndarray:
        """Draw the chart of the last seconds."""
        now = self._times[-1] + 2 / self.camera.fps if self._times else float(MAX_SECONDS)
        first = sum(time < now - MAX_SECONDS for time in self._times)
        scores = averages(self._logits, range(first, len(self._times)), self.now.averaged)
        scores, about = scores.reshape(-1, len(self._class_names)), {"now": now, "unit": "s"}
        return score_chart(
            self._times[first:], scores, self._class_names, span=MAX_SECONDS, **about
        )

    def summary(self) -> str:
        return f"LiveView(camera, {len(self._class_names)} classes)"


def stream_of(
    model: BigLittleNet, size: tuple[int, int], fast: Precision | None
) -> tuple[nn.Module, Tensor]:
    """Make the stepwise form of a copy of a causal bLVNet-TAM; TypeError for another model.

    With it comes a tensor of the device and precision that it takes. `fast` compiles it.
    """
    if (name := architecture_of(model)) != "blvnet_tam":
        raise TypeError(
            f"expected a model from blvnet_tam, got {name}: the view follows pairs of frames; "
            "`deploy.Stream` takes the frames of a causal tsm or tam_resnet one by one"
        )
    stream = Stream(copy.deepcopy(model))
    like = next(stream.parameters())
    return stream if fast is None else compile_for_inference(stream, size, fast), like


def averaging_slider(model: BigLittleNet) -> widgets.IntSlider:
    """Make the control for how many pairs are averaged."""
    most, style = model.num_frames, {"description_width": "initial"}
    return widgets.IntSlider(most // 2, 1, most, description="pairs averaged", style=style)


def timed_step(stream: nn.Module, pair: Tensor) -> tuple[Tensor, float]:
    """Give a network a pair (2, 3, H, W); return its logits (num_classes,) and the seconds."""
    start = time.perf_counter()
    logits = stream(pair[None])[0].double().cpu()
    return logits, time.perf_counter() - start


def averages(logits: Sequence[Tensor], pairs: range, count: int) -> np.ndarray:
    """Return the probabilities after each of these pairs, of up to `count` each, (n, classes)."""
    means = [torch.stack([*logits[max(0, k + 1 - count) : k + 1]]).mean(0) for k in pairs]
    return np.array([mean.softmax(0).tolist() for mean in means])


def score_chart(
    times: Sequence[float],
    scores: np.ndarray,
    names: Sequence[str],
    *,
    now: float,
    span: float,
    unit: str,
) -> np.ndarray:
    """Draw the scores over time: (H, W, 4) uint8 on a transparent ground.

    The bars of the class that was the most probable are blue. Of many classes those are shown that
    came highest in this chart.

    Args:
        times: since when each row of scores (n, num_classes) holds, the last of them until now.
        now: the time at the right edge, `span` after the left one.
    """
    scores = scores.reshape(-1, len(names))
    shown = sorted(np.argsort(-scores.max(0, initial=0), kind="stable")[:MAX_ROWS].tolist())
    labels = [n if len(n) <= MAX_LETTERS else f"{n[: MAX_LETTERS - 1]}…" for n in names]
    left, right = 12 + max(images.text_width(labels[i]) for i in shown), WIDTH - NUMBERS_PX
    bottom = TOP_PX + len(shown) * ROW_PX
    sheet = images.Sheet(WIDTH, bottom + AXIS_PX)

    def x(time: float) -> float:
        return left + (right - left) * max(0.0, 1 - (now - time) / span)

    sheet.text(left, 1, "probability; a full row is 100 %", "la")
    sheet.text(WIDTH - 4, 1, "now", "ra")
    best = scores.argmax(1)
    edges, heights = [round(x(time)) for time in [*times, now]], np.nan_to_num(scores)
    for place, i in enumerate(shown):
        floor = TOP_PX + (place + 1) * ROW_PX - 2
        sheet.text(left - 8, floor - BAR_PX / 2, labels[i], "rm")
        sheet.pen.line((left, floor, right, floor), fill=GREY)
        for k, (start, end) in enumerate(pairwise(edges)):
            last = end - (2 if end - start > 3 else 1)  # a pixel between two bars, if there is room
            high = round(BAR_PX * float(heights[k, i]))
            if last >= start and high:
                box = (start, floor - high, last, floor - 1)
                sheet.pen.rectangle(box, fill=BLUE if i == best[k] else GREY)
        if len(scores):
            sheet.text(WIDTH - 4, floor - BAR_PX / 2, f"{100 * scores[-1, i]:.0f} %", "rm")
    begin = max(0.0, now - span)
    for tick in MaxNLocator(MAX_TICKS, steps=[1, 2, 5, 10]).tick_values(now - span, now):
        if begin <= tick <= now:
            sheet.pen.line((x(tick), bottom, x(tick), bottom + 4), fill=images.LABEL_GREY)
            sheet.text(x(tick), bottom + 6, f"{tick:g}", "ma")
    sheet.text((left + right) / 2, bottom + 20, f"time in the video / {unit}", "ma")
    return sheet.array()
