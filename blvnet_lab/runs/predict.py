"""Predict the class of a video, of all of it and over time, and show the answer in a copy of it.

python -m blvnet_lab predict runs/mine/model.safetensors video.mp4 --annotate answer.mp4

Over time means class probabilities throughout a long video, say once a second. A causal network
follows the video from its beginning (`deploy.Stream`); its answer is the mean of the last T frames'
logits. Any other network gets T frames from a window around each time. Either way frames are
window / T apart, as `sample_uniform` takes them from a video of that length.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.utils.data import Dataset

from blvnet_lab.data import DataSet, VideoReadError, probe_video, read_frames, view_transform
from blvnet_lab.data.dataset import on_cpu, smaller_size
from blvnet_lab.data.decoding import ToRGB
from blvnet_lab.data.probing import VideoInfo, pack_info, refuse_damage
from blvnet_lab.data.reading import decode_frames
from blvnet_lab.datasets.encoding import showing_of, write_h264
from blvnet_lab.datasets.layouts import VIDEO_SUFFIXES
from blvnet_lab.deploy.inference import Precision
from blvnet_lab.deploy.live import Stream, frame_edges
from blvnet_lab.models import VideoNet
from blvnet_lab.paths import atomic_write, check_target, write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.evaluate import check_finite, compiled, load_with_views, view_clips
from blvnet_lab.training.checkpoint import Trained
from blvnet_lab.training.distributed import pick_device
from blvnet_lab.training.evaluation import evaluate
from blvnet_lab.training.metrics import ranked
from blvnet_lab.training.recipe import Recipe

FRAMES_AT_ONCE = 16  # held in memory at full size; an even number
SIDES = (360, 720)  # pixels: videos are scaled until the short side is in this range
PAPER, INK, BEST, OTHERS = (24, 24, 24), (240, 240, 240), (86, 180, 233), (140, 140, 140)


@dataclass(frozen=True)
class OverTime:
    """Settings for answers over time, in addition to the one for the whole video."""

    # Seconds of video from answer to answer, such as 1 or 0.5; None gives no answers over time.
    timeline: float | None = None
    # Seconds of video that an answer covers; None for the recipe's frames at its stride.
    window: float | None = None
    # A .csv file for these answers; their curves go into a .png beside it.
    out: Path | None = None


ONCE = OverTime()  # a single answer for the whole video


@dataclass(frozen=True)
class Prediction:
    """A network's answer for a video."""

    table: pd.DataFrame  # most likely classes, best first: class_name, label, probability in 0..1
    annotated: Path | None = None  # the annotated video, if one was written
    multi_label: bool = False  # whether a video may have several classes
    timeline: pd.DataFrame | None = None  # probabilities in 0..1, one row per time (seconds)
    basis: str = ""  # which frames each answer of the timeline is based on
    out: Path | None = None  # the timeline's file

    def __str__(self) -> str:
        rows = self.table.itertuples()
        lines = [f"{100 * row.probability:6.1f} %  {row.class_name}" for row in rows]
        if self.multi_label:
            lines.append("each class has a probability of its own: a video may be of several")
        if self.timeline is not None:
            lines.append(f"over time, {self.basis}:")
            best = self.timeline.idxmax(axis=1)
            for _, times in best.groupby((best != best.shift()).cumsum()):
                begin, end = times.index[[0, -1]]
                lines.append(f"{begin:7g} s to {end:g} s  {times.iloc[0]}")
        lines += [f"wrote {path}" for path in (self.out, self.annotated) if path is not None]
        return "\n".join(lines)


def predict_video(
    checkpoint: Path,
    video: Path,
    /,
    over_time: OverTime = ONCE,
    *,
    top: int = 5,
    views: str | None = None,
    size: tuple[int, int] | None = None,
    annotate: Path | None = None,
    fast: Precision | None = None,
) -> Prediction:
    """Predict the class of a video: one answer for all of it and, if asked, answers over time.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        video: file, or a folder of pictures 00001.jpg, 00002.jpg, ...
        over_time: settings for answers over time, which use the crops of `views` only.
        top: how many classes to name.
        views: clips of the video x crops per clip (1, 3 or 5), such as 3x3; their logits are
            averaged. The default is the recipe's.
        size: height and width of a view in pixels; the default is the recipe's.
        annotate: an .mp4 to write: the video with the answer below it.
        fast: compile the network for this processor first, in this precision; that takes a minute
            the first time, and pays off for large networks.

    Raises ValueError if an argument is wrong, VideoReadError if the video is unreadable or
    truncated, FloatingPointError for logits that are not finite.
    """
    if over_time.timeline is None and over_time != ONCE:
        raise ValueError("expected --timeline with --window and --out, such as --timeline 1")
    if top < 1:
        raise ValueError(f"expected top to be at least 1 class, got {top}")
    if over_time.out is not None:
        check_target(over_time.out, ".csv")
    if annotate is not None:
        check_target(annotate, ".mp4", read=[video])
    names = sorted(os.listdir(video)) if os.path.isdir(video) else []
    if videos := [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]:
        got = f"{video}, a folder with {len(videos)}: name one, such as {Path(video, videos[0])}"
        raise ValueError(f"expected a video, or a folder of its pictures, got {got}")
    trained, info = load_with_views(checkpoint, views, size), probe_video(video)
    row = {"path": info.path, "label": 0, "class_name": "", "split": "val"}
    alone = DataSet(pd.DataFrame([row | {"probe": pack_info(info)}]))
    clips, answers, basis = view_clips(alone, "val", trained.recipe), None, ""
    if over_time.timeline is not None:  # first: it knows mistakes before the network is compiled
        answers, basis = answer_over_time(trained, info, over_time, fast)
    found = evaluate(compiled(trained.model, trained.recipe.size, fast), [clips[0]])
    check_finite(found.logits)
    best = ranked(found.logits)[0, :top]
    shares = trained.probabilities(found.logits[0].double())[best]
    table = pd.DataFrame({"label": best, "probability": shares})
    table.insert(0, "class_name", [trained.class_names[label] for label in best])
    multi_label, out = trained.multi_label, over_time.out
    prediction = Prediction(table, annotate, multi_label, timeline=answers, basis=basis, out=out)
    if out is not None:
        text = answers.to_csv(float_format="%.9g", lineterminator="\n")
        write_files({out: text}, keep=True)
    if annotate is not None:
        write_annotated(prediction, video, annotate)
    return prediction


class Clips(Dataset):
    """Clips of one video by the `numbers` of their frames; items are (views (V, T, C, H, W), 0)."""

    numbers: Sequence[np.ndarray] = ()

    def __init__(self, info: VideoInfo, recipe: Recipe):
        self.info, views = refuse_damage(info), recipe.evaluation
        self.transform = view_transform(recipe.size, views.crops, views.short_side)
        self.size = smaller_size(info.size, recipe.read_short_side or min(info.size))
        *self.shown, self.end = frame_edges(info).tolist()

    def frames_at(self, times: np.ndarray) -> np.ndarray:
        """Find the numbers of the frames on screen at these times (s)."""
        return np.searchsorted(self.shown, times + 1e-6, "right") - 1

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(read_frames(self.info, self.numbers[i], self.size)), 0


@on_cpu()
def answer_over_time(
    trained: Trained, info: VideoInfo, how: OverTime, fast: Precision | None = None
) -> tuple[pd.DataFrame, str]:
    """Compute class probabilities (times, classes) in 0..1, indexed by seconds; name their frames.

    A causal network gives none for times before its first frames. Raises ValueError if the spacing
    of frames, or the times at which they are shown, are unknown.
    """
    model, recipe = trained.model, trained.recipe
    every, frames = how.timeline, model.num_frames
    if how.window is None and recipe.stride is None:
        raise ValueError(
            "expected the seconds of video that an answer is about, since this network's clips are "
            "spread over whole videos: give the usual length of those, such as --window 2"
        )
    if not info.fps or not all(s > 0 for s in (every, how.window) if s is not None):
        raise ValueError(
            f"expected a video that says when frames are shown, got {info.fps:g} frames a second, "
            f"and seconds above 0, got timeline={every} and window={how.window}"
        )
    clips = Clips(info, recipe)
    span = how.window or recipe.stride * frames * clips.end / info.num_frames
    span = span if model.causal else min(span, clips.end)
    times = every * np.arange(1, int(clips.end / every + 1e-6) + 1)
    times = (times if len(times) else np.array([clips.end])).round(6)
    if model.causal:
        stream = Stream(model.to(pick_device()))
        stream = compiled(stream, recipe.size, fast, recipe.evaluation.crops)
        logits = _by_stream(stream, model, clips, times, span)
    else:
        starts = (times - span / 2).clip(0, clips.end - span)[:, None]  # of windows in the video
        clips.numbers = clips.frames_at(starts + (np.arange(frames) + 0.5) * span / frames)
        found = evaluate(compiled(model, recipe.size, fast), clips)
        for why in found.unreadable.values():
            raise VideoReadError(why, info.path)
        logits = found.logits
    check_finite(logits)
    table = pd.DataFrame(trained.probabilities(logits.double()), columns=list(trained.class_names))
    table.index = pd.Index(times[len(times) - len(table) :], name="seconds")
    what = f"the last {frames} frames" if model.causal else f"{frames} frames around each time"
    return table, f"of {what}, {span / frames:.3g} s apart"


def _by_stream(
    stream: nn.Module, model: VideoNet, clips: Clips, times: np.ndarray, span: float
) -> Tensor:
    """Compute mean logits (N, num_classes) of the last frames before each time that has any."""
    device, width, step = pick_device(), 1 + model.pairs, span / model.num_frames
    count = math.ceil(clips.end / step - 0.5) // width * width
    numbers = clips.frames_at((np.arange(count) + 0.5) * step)
    clips.numbers = [numbers[k : k + FRAMES_AT_ONCE] for k in range(0, count, FRAMES_AT_ONCE)]
    logits: list[Tensor] = []
    for i in tqdm(range(len(clips)), "following the video", leave=False, unit="block"):
        views = clips[i][0].to(device)  # (crops, n, C, H, W)
        logits += [stream(part).float().mean(0).cpu() for part in views.split(width, 1)]
    shown = np.array(clips.shown)[numbers[width - 1 :: width]]  # when each logit becomes known
    seen = np.searchsorted(shown, times - 1e-6)
    means = [torch.stack(logits[max(0, n - model.num_positions) : n]).mean(0) for n in seen if n]
    if not means:
        wanted = f"expected a video of {width} frames that are {step:.3g} s apart"
        raise ValueError(f"{wanted}, got one of {clips.end:.3g} s: take a smaller --window")
    return torch.stack(means)


def write_annotated(
    prediction: Prediction, video: str | os.PathLike, target: str | os.PathLike
) -> Path:
    """Write the whole video, upright and with its timing, with the answer as bars below it.

    H.264 in mp4, square pixels, no sound. Raises ValueError if the target is not an .mp4 or is the
    video itself, VideoReadError if a frame cannot be decoded; no file is written then.
    """
    target, info = Path(target), probe_video(video)
    check_target(target, ".mp4", read=[video])
    showing = showing_of(info)
    shown = info.size[0], info.size[1] * (showing.pixel_aspect or 1)
    short_side = min(max(round(min(shown)), SIDES[0]), SIDES[1])
    height, width = (round(side * short_side / min(shown)) // 2 * 2 for side in shown)
    bars = _bars(prediction.table, width, short_side // 36 * 2)

    frames = decode_frames(info, range(info.num_frames), ToRGB((height, width)))
    pictures = (np.concatenate([frame, bars]) for frame in frames)
    square = replace(showing, pixel_aspect=None, colours=None)
    with atomic_write(target, keep=True) as partial:
        write_h264(partial, pictures, square, gop=48, x264="crf=20")
    return target


def _bars(table: pd.DataFrame, width: int, row: int) -> np.ndarray:
    """Draw a line `row` pixels high per class, with its bar: uint8 (H, width, 3), H even."""
    image = Image.new("RGB", (width, (len(table) + 1) * row), PAPER)
    pen, margin = ImageDraw.Draw(image), row // 2
    # Pillow's own font lacks accents.
    path = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    font = ImageFont.truetype(str(path), round(0.7 * row))  # Pillow 10 takes no Path
    first, right = width * 3 // 5, width - margin  # columns where bars begin and numbers end
    full = right - round(font.getlength(" 100 %")) - first  # length of a bar of 100 %
    for place, line in enumerate(table.itertuples(), start=1):
        middle, length = place * row, round(line.probability * full)
        pen.text((margin, middle), line.class_name, INK, font, anchor="lm")
        # A long name is cut off.
        pen.rectangle((first - margin, middle - margin, width, middle + margin), PAPER)
        pen.text((right, middle), f"{100 * line.probability:.0f} %", INK, font, anchor="rm")
        if length:
            box = (first, middle - row // 3, first + length - 1, middle + row // 3)
            pen.rectangle(box, BEST if place == 1 else OTHERS)
    return np.asarray(image)
