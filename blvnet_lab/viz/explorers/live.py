"""Follow a video while it plays: a causal network, one pair of frames after another.

LiveView(model, "clip.mp4", class_names, stride=3)       # model: blvnet_tam(causal=True)
LiveView(model, source="camera", class_names=class_names)
"""

import copy
import time
from contextlib import suppress
from functools import partial
from html import escape
from itertools import pairwise
from statistics import median
from typing import Literal

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from blvnet_lab.data import VideoReadError, evaluation_transform
from blvnet_lab.deploy.inference import Precision, compile_for_inference
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import BigLittleNet
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.viz import images
from blvnet_lab.viz.explorers import base
from blvnet_lab.viz.explorers.base import Camera, Explorer, FrameReader, Names, VideoExplorer, row
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY, branch_of

WIDTH = 524  # of the chart in pixels; with the frame beside it, it fills a notebook's page
MAX_ROWS, MAX_LETTERS = 10, 24  # classes in the chart; letters of a class name
ROW_PX, BAR_PX = 25, 21  # height of a row; of a bar of 100 % in it
NUMBERS_PX = 50  # for the numbers on the right
TOP_PX, AXIS_PX = 18, 34
MAX_TICKS = 6
MAX_SECONDS, MAX_FRAMES = 10, 250  # span of the chart; in frames where a video has no rate
PLAY_MS, MIN_MS = 120, 40  # per frame where a video has no rate; at least
KEPT_PAIRS = 600  # of a camera's: more than the chart and the average need
STILL_PAIRS = 8  # the least number in the picture for pages without a kernel


class Watching(Explorer):
    """A view of what a copy of a causal bLVNet-TAM says to pairs of frames, one after another."""

    def _watch(
        self, model: BigLittleNet, class_names: Names, size: tuple[int, int], fast: Precision | None
    ) -> None:
        if (name := architecture_of(model)) != "blvnet_tam":
            raise TypeError(
                f"expected a model from blvnet_tam, got {name}: the view follows pairs of frames; "
                "`deploy.Stream` takes the frames of a causal tsm or tam_resnet one by one"
            )
        self._names, self._model = base.checked_names(class_names, model), copy.deepcopy(model)
        self._prepare, self._stream = evaluation_transform(size), Stream(self._model)
        self._like = next(self._stream.parameters())
        if fast is not None:
            self._stream = compile_for_inference(self._stream, size, fast)
        self._forget()
        most, style = model.num_frames, {"description_width": "initial"}
        number = widgets.IntSlider(most // 2, 1, most, description="pairs averaged", style=style)
        self._control("averaged", number)
        self._image("chart")
        self._text("cost")

    def _forget(self) -> None:
        self._stream.reset()
        # For each pair: logits (num_classes,); when it was complete and how long it took (s).
        self._logits, self._ends, self._seconds = [], [], []

    def _take(self, pair: Tensor, end: float) -> None:
        """Give the network a pair (2, 3, H, W), uint8, that was complete at time `end`."""
        pair = self._prepare(pair).to(self._like)
        start = time.perf_counter()
        self._logits.append(self._stream(pair[None])[0].cpu().double())
        self._seconds.append(time.perf_counter() - start)
        self._ends.append(end)

    def _seen(self) -> int:
        """Count the pairs that the network has seen by what is shown."""
        return len(self._ends)

    def _probabilities(self, pairs: range) -> np.ndarray:
        """Return the probabilities after each pair, averaged over the last: (n, num_classes)."""
        count = self.now.averaged
        latest = [torch.stack(self._logits[max(0, k + 1 - count) : k + 1]).mean(0) for k in pairs]
        found = base.probabilities(self._model, torch.stack(latest)) if latest else np.empty(0)
        return found.reshape(-1, len(self._names))

    @property
    def scores(self) -> dict[str, float]:
        """Class name to probability at the right edge of the chart; empty before the first pair."""
        latest = self._probabilities(range(self._seen())[-1:])
        return dict(zip(self._names, latest[0].tolist(), strict=True)) if len(latest) else {}

    def _chart(self, seen: int, now: float, span: float, unit: str = "s") -> np.ndarray:
        """Draw the probabilities after each of the first `seen` pairs, over the last `span`."""
        gone = sum(end <= now - span for end in self._ends[1:seen])
        found, times = self._probabilities(range(gone, seen)), self._ends[gone:seen]
        return score_chart(times, found, self._names, now=now, span=span, unit=unit)


class LiveView(Watching, VideoExplorer):
    """Play a video through a causal network; in Python, set ``.value`` of the controls.

    Controls: ``play``; ``position`` (the frame shown); ``averaged`` (the number of pairs over which
    logits are averaged); ``restart`` (`click()` makes the network forget everything). They change
    ``frame``, ``caption``, ``chart``, ``cost``, ``scores`` and ``message``.

    The network gets the middle one of every `stride` frames, and each pair once, when its second
    frame is reached. So the answers at a frame do not depend on how one got there.

    Args:
        model: from `blvnet_tam(causal=True)`. The view runs a copy; later changes have no effect.
        source: "camera" makes a `CameraView` instead, from model, class_names, size and fps.
        class_names: one per class; "class 0" and so on if None.
        size: (height, width) in pixels of the frames that the network gets.
        stride: distance between the frames that the network gets. Take that of its training: T
            frames spread over videos of n frames are n / T apart.
        fast: compile the network for this processor, in this precision.

    Raises TypeError or ValueError for arguments that do not fit together; VideoReadError if the
    video cannot be read. If only a later frame cannot, a message says so when it is reached.
    """

    def __new__(cls, *args, source: Literal["file", "camera"] = "file", **kwargs):
        """Make the view for a source; Python then calls __init__ only for that of a file."""
        if source not in ("file", "camera"):
            raise ValueError(f'expected "file" or "camera" as the source, got {source!r}')
        return super().__new__(cls) if source == "file" else CameraView(*args, **kwargs)

    def __init__(
        self,
        model: BigLittleNet,
        path: str,
        class_names: Names = None,
        *,
        size: tuple[int, int] = (64, 64),
        stride: int = 1,
        source: Literal["file"] = "file",
        fast: Precision | None = None,
    ) -> None:
        super().__init__()
        self._watch(model, class_names, size, fast)
        self._frames = FrameReader(path)
        self._count, self._edges = self._frames.info.num_frames, self._frames.edges
        self._fps = self._count / self._edges[-1] if self._frames.info.fps else 0.0
        self._stride, numbers = stride, range(stride // 2, self._count, stride or 1)
        # If the video has T x stride frames, these are the ones that `sample_uniform` takes.
        self._pairs = list(zip(numbers[0::2], numbers[1::2], strict=False))
        if stride < 1 or not self._pairs:
            raise ValueError(
                f"expected a stride, from 1 on, that leaves a pair of the video's {self._count} "
                f"frames, got {stride}: take another, or a longer video"
            )
        pairs = f"{len(self._pairs)} pairs of {size[0]}x{size[1]}"
        self.about = f"LiveView({pairs}, {len(self._names)} classes)"
        self._make_position(max(MIN_MS, round(1000 / self._fps)) if self._fps else PLAY_MS)
        self._button("restart", "restart", self._restart, "forget everything, from the first frame")
        title = widgets.HTML(f"<b>{escape(self._frames.title())}</b>")
        controls = row(self.play, self.position, self.restart, self.averaged)
        beside = widgets.VBox([self.chart], layout={"padding": "0 0 0 12px"})
        shown = row(self.frame, beside, align_items="flex-start")
        self._arrange(title, controls, self.message, shown, self.caption, self.cost)

    def _choose_position(self, number: int) -> None:
        with self._reading(f"frame {self.now.position}"):
            self._follow(self._seen_by(number))
            super()._choose_position(number)

    def _restart(self) -> None:
        self._forget()
        self._choose_position(0)

    def _follow(self, count: int) -> None:
        """Give the network those of the first `count` pairs that it has not seen yet."""
        for first, second in self._pairs[len(self._ends) : count]:
            pair = torch.stack([self._frames[first], self._frames[second]])
            self._take(pair, self._edges[second])

    def _seen_by(self, number: int) -> int:
        """Count the pairs that are complete once this frame is reached."""
        return sum(second <= number for _, second in self._pairs)

    def _seen(self) -> int:
        return self._seen_by(self.now.position)

    def draw(self) -> None:
        number = self.now.position
        fate = "the network does not get it"
        for k, pair in enumerate(self._pairs):
            if number in pair:
                branch = branch_of(pair.index(number))
                then = "waits for the other frame" if branch == "little" else "pair is complete"
                fate = f"to the {images.underlined(branch)} branch, in pair {k}; {then}"
        self._show_position(fate)
        self._show("chart", self._chart_at(number))
        seen, cost = self._seen(), "The network has not seen a pair yet."
        if seen:
            took = 1000 * median(self._seconds)
            cost = f"A pair costs the network {took:.1f} ms here (median)"
            if self._fps:
                cost += f", and is {2000 * self._stride / self._fps:.0f} ms of video"
            cost += f". {seen} of {len(self._pairs)} pairs seen."
        self.cost.value = images.paragraph(f"<small>{cost}</small>")

    def _chart_at(self, number: int) -> np.ndarray:
        """Draw the chart as it is at a frame."""
        most, unit = (MAX_SECONDS, "s") if self._fps else (MAX_FRAMES, "frames")
        now, span = self._edges[number + 1], min(self._edges[-1], most)
        return self._chart(self._seen_by(number), now, span, unit)

    def static_picture(self) -> np.ndarray:
        """Draw the network's input and the chart, up to the current frame or some pairs on."""
        count = max(self._seen_by(self.now.position), min(STILL_PAIRS, len(self._pairs)))
        with suppress(VideoReadError):  # then up to the frame that cannot be read
            self._follow(count)
        pairs = self._pairs[: min(count, len(self._ends))][-STILL_PAIRS:]
        numbers = [number for pair in pairs for number in pair]
        title = f"{self._frames.title()}; average of up to {self.now.averaged} pairs"
        parts = [self._chart_at(numbers[-1] if numbers else 0), images.text_picture(title)]
        if numbers:
            strip = images.mosaic(
                {"": [self._frames.image(number) for number in numbers]},
                column_labels=list(map(str, numbers)),
                edges=[list(BRANCH_COLOURS.values()) * len(pairs)],
                tile_px=min(72, WIDTH // len(numbers) - 6),
            )
            parts.insert(0, strip)
        return images.stacked(*parts)


class CameraView(Watching):
    """Run a causal network live on the page's camera.

    The page hands the middle of the picture to the kernel, in pairs of frames, and waits for an
    answer before it sends the next pair: a slow machine gets fewer pairs, but no late ones.
    Controls and arguments are those of `LiveView`, except `fps`, the frames per second that the
    network gets. Take those of its training: T frames spread over s seconds are T / s.
    """

    def __init__(
        self,
        model: BigLittleNet,
        class_names: Names = None,
        *,
        size: tuple[int, int] = (64, 64),
        fps: float = 4.0,
        fast: Precision | None = None,
    ) -> None:
        if not fps > 0:  # a camera without a rate records clips
            raise ValueError(f"expected fps above 0, got {fps}: take that of the training")
        super().__init__()
        self._watch(model, class_names, size, fast)
        self.about = f"LiveView(camera, {len(self._names)} classes)"
        self._named("camera", Camera(size=size, fps=fps)).on_msg(self._receive)
        self._button("restart", "restart", self._forget, "forget everything")
        shown = row(self.camera, self.chart, align_items="flex-start")
        self._arrange(row(self.restart, self.averaged), shown, self.cost)

    def _receive(self, camera: Camera, pair: dict, buffers: list) -> None:
        frames = torch.tensor(np.frombuffer(b"".join(buffers), np.uint8)).view(2, *camera.size, 4)
        try:
            self._set_off(partial(self._take, frames[..., :3].permute(0, 3, 1, 2), pair["time"]))
        finally:  # the page is waiting for an answer
            camera.send({})

    def _take(self, pair: Tensor, end: float) -> None:
        if self._ends and end <= self._ends[-1]:  # the camera was switched off and on
            self._forget()
        super()._take(pair, end)
        for values in (self._logits, self._ends, self._seconds):
            del values[:-KEPT_PAIRS]

    def draw(self) -> None:
        ends = self._ends
        now = ends[-1] + 2 / self.camera.fps if ends else MAX_SECONDS
        self._show("chart", self._chart(len(ends), now, MAX_SECONDS))
        cost = "What the camera sees goes from this page to its kernel, and nowhere else."
        if len(ends) > 1:
            rate, took = (len(ends) - 1) / (ends[-1] - ends[0]), median(self._seconds)
            took = f"{rate:.1f} pairs a second; one takes {1000 * took:.1f} ms (median)"
            cost = f"The network gets {took}. {cost}"
        self.cost.value = images.paragraph(f"<small>{cost}</small>")


def score_chart(
    times: list[float], scores: np.ndarray, names: list[str], *, now: float, span: float, unit: str
) -> np.ndarray:
    """Draw the scores over time: (H, W, 4) uint8 on a transparent ground.

    Each row of scores (n, num_classes) holds from its time on, the last one until `now`, at the
    right edge, which is `span` after the left edge. The most probable class is blue. If there are
    many classes, those with the highest scores are shown.
    """
    shown = sorted(np.argsort(-scores.max(0, initial=0), kind="stable")[:MAX_ROWS].tolist())
    labels = [images.abridged(name, MAX_LETTERS) for name in names]
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
            box = (start, floor - round(BAR_PX * float(heights[k, i])), last, floor - 1)
            if last >= start and box[1] < floor:
                sheet.pen.rectangle(box, fill=BLUE if i == best[k] else GREY)
        if len(scores):
            sheet.text(WIDTH - 4, floor - BAR_PX / 2, f"{100 * scores[-1, i]:.0f} %", "rm")
    for tick in MaxNLocator(MAX_TICKS, steps=[1, 2, 5, 10]).tick_values(now - span, now):
        if max(0.0, now - span) <= tick <= now:
            sheet.pen.line((x(tick), bottom, x(tick), bottom + 4), fill=images.LABEL_GREY)
            sheet.text(x(tick), bottom + 6, f"{tick:g}", "ma")
    sheet.text((left + right) / 2, bottom + 20, f"time in the video / {unit}", "ma")
    return sheet.array()
