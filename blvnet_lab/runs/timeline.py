"""A network's answer over time: class probabilities of a long video, once a second or as asked.

A causal network follows the video from its beginning (`deploy.Stream`); its answer is the mean of
the last T frames' logits. Any other gets the T frames of a window around each time. Either way the
frames are window / T apart, and lie where `sample_uniform` takes them in a video of that length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from blvnet_lab.data import VideoReadError, read_frames, view_transform
from blvnet_lab.data.dataset import on_cpu, smaller_size
from blvnet_lab.data.probing import VideoInfo, refuse_damage
from blvnet_lab.deploy.compiled import Precision
from blvnet_lab.deploy.live import Stream, frame_edges
from blvnet_lab.models import VideoNet
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.evaluate import check_finite, compiled
from blvnet_lab.training.checkpoint import Trained
from blvnet_lab.training.distributed import pick_device
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

    numbers: Sequence[np.ndarray] = ()

    def __init__(self, info: VideoInfo, recipe: Recipe):
        self.info, views = refuse_damage(info), recipe.evaluation
        self.transform = view_transform(recipe.size, views.crops, views.short_side)
        self.size = smaller_size(info.size, recipe.read_short_side or min(info.size))
        *self.shown, self.end = frame_edges(info).tolist()

    def frames_at(self, times: np.ndarray) -> np.ndarray:
        """Find which frames are on the screen at these times."""
        return np.searchsorted(self.shown, times + 1e-6, "right") - 1

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(read_frames(self.info, self.numbers[i], self.size)), 0


@on_cpu()
def answer_over_time(
    trained: Trained, info: VideoInfo, how: OverTime, fast: Precision | None = None
) -> tuple[pd.DataFrame, str]:
    """Compute class probabilities (times, classes), in 0..1, by seconds; and say of which frames.

    Of a causal network, times before it has seen anything are left out. ValueError if it is not
    known how far frames are apart, or when they are shown.
    """
    model, recipe = trained.model, trained.recipe
    every, frames = how.timeline, model.num_frames
    if how.window is None and recipe.stride is None:
        raise ValueError(
            "expected the seconds of video that an answer is about, since this network's clips are "
            "spread over whole videos: give the usual length of those, such as --window 2"
        )
    if not info.fps or min(every, 1 if how.window is None else how.window) <= 0:
        raise ValueError(
            f"expected a video that says when frames are shown, got {info.fps:g} frames a second, "
            f"and seconds above 0, got timeline={every} and window={how.window}"
        )
    span = recipe.stride * frames / info.fps if how.window is None else how.window
    clips = Clips(info, recipe)
    span = span if model.causal else min(span, clips.end)
    times = every * np.arange(1, int(clips.end / every + 1e-6) + 1)
    times = (times if len(times) else np.array([clips.end])).round(6)
    if model.causal:
        stream = Stream(model.to(pick_device()))
        stream = compiled(stream, recipe.size, fast, recipe.evaluation.crops)
        logits = _by_stream(stream, model, clips, times, span)
    else:
        logits = _by_windows(compiled(model, recipe.size, fast), model, clips, times, span)
    check_finite(logits)
    table = pd.DataFrame(trained.probabilities(logits.double()), columns=list(trained.class_names))
    table.index = pd.Index(times[len(times) - len(table) :], name="seconds")
    what = f"the last {frames} frames" if model.causal else f"{frames} frames around each time"
    return table, f"of {what}, {span / frames:.3g} s apart"


def _by_windows(
    run: nn.Module, model: VideoNet, clips: Clips, times: np.ndarray, span: float
) -> Tensor:
    """Compute logits (N, num_classes) of the seconds around each time, moved into the video."""
    starts = (times - span / 2).clip(0, clips.end - span)[:, None]
    shifts = (np.arange(model.num_frames) + 0.5) * span / model.num_frames
    clips.numbers = clips.frames_at(starts + shifts)
    found = evaluate(run, clips)
    for why in found.unreadable.values():
        raise VideoReadError(why, clips.info.path)
    return found.logits


def _by_stream(
    stream: nn.Module, model: VideoNet, clips: Clips, times: np.ndarray, span: float
) -> Tensor:
    """Compute mean logits (N, num_classes) of the last frames before each time, if there are."""
    device, width, step = pick_device(), 1 + model.pairs, span / model.num_frames
    count = math.ceil(clips.end / step - 0.5) // width * width
    numbers = clips.frames_at((np.arange(count) + 0.5) * step)
    clips.numbers = [numbers[k : k + FRAMES_AT_ONCE] for k in range(0, count, FRAMES_AT_ONCE)]
    logits: list[Tensor] = []
    for i in tqdm(range(len(clips)), "following the video", leave=False, unit="block"):
        views = clips[i][0].to(device)  # (crops, n, C, H, W)
        logits += [stream(part).float().mean(0).cpu() for part in views.split(width, 1)]
    shown = np.array(clips.shown)[numbers[width - 1 :: width]]  # when each of the logits is there
    seen = np.searchsorted(shown, times - 1e-6)
    means = [torch.stack(logits[max(0, n - model.num_positions) : n]).mean(0) for n in seen if n]
    if not means:
        wanted = f"expected a video of {width} frames that are {step:.3g} s apart"
        raise ValueError(f"{wanted}, got one of {clips.end:.3g} s: take a smaller --window")
    return torch.stack(means)
