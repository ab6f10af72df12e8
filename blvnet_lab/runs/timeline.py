"""Answer over time: class probabilities throughout a long video, say once a second.

A causal network follows the video from its beginning (`deploy.Stream`); its answer is the mean of
the last T frames' logits. Any other network gets T frames from a window around each time. Either
way frames are window / T apart, as `sample_uniform` takes them from a video of that length.
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

FRAMES_AT_ONCE = 16  # held in memory at full size; an even number


@dataclass(frozen=True)
class OverTime:
    """Settings for answers over time, in addition to the one for the whole video."""

    # Seconds of video from answer to answer, such as 1 or 0.5; None gives no answers over time.
    timeline: float | None = None
    # Seconds of video that an answer covers; None for the recipe's frames at its stride.
    window: float | None = None
    # A .csv file for these answers; their curves go into a .png beside it.
    out: Path | None = None


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
    if not info.fps or min(every, 1 if how.window is None else how.window) <= 0:
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
