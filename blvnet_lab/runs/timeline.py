"""A network's answer over time: class probabilities of a long video, once a second or as asked.

A causal network follows the video from its beginning (`deploy.Stream`); its answer is the mean of
the last T frames' logits. Any other gets the T frames of a window around each time. Either way the
frames are window / T apart, and lie where `sample_uniform` takes them in a video of that length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blvnet_lab.data import VideoReadError, read_frames, view_transform
from blvnet_lab.data.dataset import smaller_size
from blvnet_lab.data.probing import VideoInfo, refuse_damage
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import VideoNet
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.evaluate import check_finite
from blvnet_lab.training.checkpoint import Trained
from blvnet_lab.training.distributed import on_cpu, pick_device
from blvnet_lab.training.evaluation import evaluate
from blvnet_lab.training.recipe import Recipe

FRAMES_AT_ONCE = 16  # in memory at the size of the video; an even number


@dataclass(frozen=True)
class OverTime:
    """Whether and how a video gets many answers, beside the one for the whole of it."""

    # Answer every so many seconds of the video, such as 1 or 0.5.
    timeline: float | None = None
    # Seconds of video that an answer is about; None for the recipe's frames at its stride.
    window: float | None = None
    # A .csv for these answers; their curves go into a .png beside it.
    out: Path | None = None


class Clips(Dataset):
    """Clips of one video by the `numbers` of their frames, as items (views (V, T, C, H, W), 0)."""

    numbers: Sequence[Tensor] = ()

    def __init__(self, info: VideoInfo, recipe: Recipe):
        views, side = recipe.evaluation, recipe.read_short_side
        self.transform = view_transform(recipe.size, views.crops, views.short_side)
        self.size = info.size if side is None else smaller_size(info.size, side)
        self.info = refuse_damage(info)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(read_frames(self.info, self.numbers[i], self.size)), 0


@on_cpu()
def answer_over_time(
    trained: Trained, recipe: Recipe, info: VideoInfo, how: OverTime
) -> tuple[pd.DataFrame, str]:
    """Compute class probabilities (times, classes), in 0..1, by seconds; and say of which frames.

    Of a causal network, times before it has seen anything are left out. ValueError if it is not
    known how far frames are apart, or when they are shown.
    """
    model, every, frames = trained.model, how.timeline, trained.model.num_frames
    if how.window is None and recipe.stride is None:
        raise ValueError(
            "expected the seconds of video that an answer is about, since this network's clips are "
            "spread over whole videos: give the usual length of those, such as --window 2"
        )
    if not info.fps or min(every, how.window or 1) <= 0:
        raise ValueError(
            f"expected a video that says when frames are shown, got {info.fps:g} frames a second, "
            f"and seconds above 0, got timeline={every} and window={how.window}"
        )
    span = recipe.stride * frames if how.window is None else how.window * info.fps
    times = every * np.arange(1, int(info.seconds / every + 1e-6) + 1)
    times = (times if len(times) else np.array([info.seconds])).round(6)
    places = torch.from_numpy((times * info.fps).round(6))  # in frames
    follow = _by_stream if model.causal else _by_windows
    logits = follow(model, Clips(info, recipe), places, span)
    check_finite(logits)
    table = pd.DataFrame(logits.double().softmax(1), columns=list(trained.class_names))
    table.index = pd.Index(times[len(times) - len(table) :], name="seconds")
    what = f"the last {frames} frames" if model.causal else f"{frames} frames around each time"
    return table, f"of {what}, {span / frames / info.fps:.3g} s apart"


def _by_windows(model: VideoNet, clips: Clips, places: Tensor, span: float) -> Tensor:
    """Compute logits (N, num_classes) around each place, in frames, moved into the video."""
    span = min(span, count := clips.info.num_frames)
    starts = (places - span / 2).clamp(0, count - span)[:, None]
    shifts = (torch.arange(model.num_frames, dtype=torch.float64) + 0.5) * span / model.num_frames
    clips.numbers = (starts + shifts).long().clamp(max=count - 1)
    found = evaluate(model, clips)
    for why in found.unreadable.values():
        raise VideoReadError(why, clips.info.path)
    return found.logits


def _by_stream(model: VideoNet, clips: Clips, places: Tensor, span: float) -> Tensor:
    """Compute mean logits (N, num_classes) of the last frames before each place, if there are."""
    device, width, count = pick_device(), 1 + model.pairs, clips.info.num_frames
    number = math.ceil(count * model.num_frames / span - 0.5) // width * width
    numbers = (torch.arange(number, dtype=torch.float64) + 0.5) * span / model.num_frames
    clips.numbers = numbers.long().split(FRAMES_AT_ONCE) if number else ()
    stream, logits = Stream(model.to(device)), []
    for i in tqdm(range(len(clips)), "following the video", leave=False, unit="block"):
        views = clips[i][0].to(device)  # (crops, n, C, H, W)
        logits += [stream(part).float().mean(0).cpu() for part in views.split(width, 1)]
    seen = [int((numbers.long()[width - 1 :: width] < place).sum()) for place in places]
    means = [torch.stack(logits[max(0, n - model.num_positions) : n]).mean(0) for n in seen if n]
    if not means:
        raise ValueError(
            f"expected a video of {width} frames that are {span / model.num_frames:.1f} apart, got "
            f"one of {count} frames: take a smaller --window"
        )
    return torch.stack(means)
