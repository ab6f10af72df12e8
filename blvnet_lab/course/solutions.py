"""One right answer to every exercise; from here on the notebooks use it.

Each stands under the name that the exercise gives it. What the library has is imported from there
(`import name as name`: meant to be found here).
"""

import copy
import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from blvnet_lab.models.tam import temporal_shift as shift
from blvnet_lab.models.tam import tsm_taps as tsm_taps
from blvnet_lab.training.metrics import partner_accuracy as partner_accuracy

# 01 from video to tensor


def frames_to_decode(wanted: Sequence[int], gop: int) -> int:
    """Count the frames that must be decoded to get the ones that are wanted."""
    keyframes = (frame // gop * gop for frame in wanted)
    needed = [range(first, last + 1) for first, last in zip(keyframes, wanted, strict=True)]
    return len(set().union(*needed))


def sample_evenly(
    frame_count: int, num_frames: int, generator: torch.Generator | None = None
) -> Tensor:
    """Take a frame of each of num_frames equal segments: the middle one, or a random one."""
    place = torch.full((num_frames,), 0.5, dtype=torch.float64)
    if generator is not None:
        place = torch.rand(num_frames, generator=generator, dtype=torch.float64)
    time = (torch.arange(num_frames) + place) * frame_count / num_frames
    return time.long()  # frame 3 is shown from time 3 to 4: round down


def crop_clip(clip: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a random window of (height, width) pixels, the same in all frames of (T, C, H, W)."""
    height, width = size
    top = torch.randint(clip.shape[-2] - height + 1, ())  # drawn once for all frames
    left = torch.randint(clip.shape[-1] - width + 1, ())
    return clip[:, :, top : top + height, left : left + width]


def flip_clip(clip: Tensor, label: int, mirror: Sequence[int | None]) -> tuple[Tensor, int]:
    """Mirror a clip and its label, unless the mirror image has no class (None)."""
    if mirror[label] is None:
        return clip, label
    return clip.flip(-1), mirror[label]


# 02 why time matters


def tam(x: Tensor, taps: Tensor) -> Tensor:
    """Apply equation 3 to x (B, T, C, H, W) with taps (3, C): prev, curr, next of each channel."""
    prev, curr, next = taps[:, :, None, None]  # (C, 1, 1) each
    return torch.relu(prev * shift(x, -1) + curr * x + next * shift(x, +1))


def tams_needed(num_frames: int, num_taps: int) -> int:
    """Count the TAMs, one after the other, until the first frame has heard of the last."""
    reach = num_taps // 2
    return -(-(num_frames - 1) // reach)  # rounded up


# 03 the big-little network


def conv_macs(
    in_channels: int, out_channels: int, kernel: int, height: int, width: int, stride=1, groups=1
) -> int:
    """Count the MACs of a convolution padded by kernel // 2 on height x width pixels."""
    pixels = ((height - 1) // stride + 1) * ((width - 1) // stride + 1)  # of the output
    return pixels * kernel**2 * (in_channels // groups) * out_channels


def bottleneck_macs(in_channels: int, channels: int, height: int, width: int, stride=1) -> int:
    """Count the MACs of a bottleneck on height x width pixels."""
    narrow = channels // 4
    after = ((height - 1) // stride + 1, (width - 1) // stride + 1)
    macs = conv_macs(in_channels, narrow, 1, height, width)
    macs += conv_macs(narrow, narrow, 3, height, width, stride)
    macs += conv_macs(narrow, channels, 1, *after)
    if in_channels != channels:  # the shortcut, behind its pooling
        macs += conv_macs(in_channels, channels, 1, *after)
    return macs


def merge(big: Tensor, little: Tensor) -> Tensor:
    """Give ReLU(big + little), (N, C, H, W), with big enlarged to the size of little."""
    big = F.interpolate(big, size=little.shape[-2:], mode="nearest")
    return torch.relu(big + little)


def stage_forward(
    for_little: Tensor, for_big: Tensor, little: nn.Module, big: nn.Module, fusion: nn.Module
) -> Tensor:
    """Run a stage: each branch on its own maps (N, C, H, W), the merge, the fusion."""
    return fusion(merge(big(for_big), little(for_little)))


# 04 assembling


def route(clip: Tensor) -> tuple[Tensor, Tensor]:
    """Give frames 0, 2, ... to the little branch and 1, 3, ... to the big one, (B, P, C, H, W)."""
    return clip[:, 0::2], clip[:, 1::2]


def to_both(merged: Tensor) -> Tensor:
    """Repeat the map of each pair for both its frames: (B, P, C, H, W) to (B, 2P, C, H, W)."""
    return merged.repeat_interleave(2, dim=1)


def pair_taps(taps: Tensor) -> tuple[Tensor, Tensor]:
    """Sum taps (3, C) to weights of pairs, (2, C) each: little (k - 1, k), big (k, k + 1)."""
    prev, curr, next = taps
    return torch.stack([prev, curr + next]), torch.stack([prev + curr, next])


def pair_tam(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a TAM to maps of pairs (B, P, C, H, W): those of the little and of the big branch."""
    (before, own), (own_big, after) = (rows[:, :, None, None] for rows in pair_taps(taps))
    little = before * shift(x, -1) + own * x
    big = own_big * x + after * shift(x, +1)
    return torch.relu(little), torch.relu(big)


# 05 train the staircase


def top_k(logits: Tensor, labels: Tensor, k: int) -> float:
    """Return the share of clips whose class is among the k highest logits (N, classes)."""
    best = logits.topk(k, dim=1).indices  # (N, k)
    hits = (best == labels[:, None]).any(dim=1)  # (N,)
    return hits.float().mean().item()


def train_epoch(
    network: nn.Module, loader: Iterable, optimizer: Optimizer, device: torch.device
) -> float:
    """Make a step for each batch (clips, labels), and return the mean loss of all clips."""
    network.train()
    total, seen = 0.0, 0
    for clips, labels in loader:
        clips, labels = clips.to(device), labels.to(device)
        loss = F.cross_entropy(network(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        seen += len(labels)
    return total / seen


def rate_at(step: int, total_steps: int, warmup_steps: int, peak: float) -> float:
    """Return the learning rate: a linear rise to the peak at warmup_steps, then half a cosine."""
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * (1 + math.cos(math.pi * progress)) / 2


# 06 train on a Kinetics subset


def kinetics_rows(text: str) -> list[dict[str, str]]:
    """Make rows for a manifest: path, class_name, split, source_id of each annotation line."""
    rows = []
    for line in csv.DictReader(text.splitlines()):
        start, end = int(line["time_start"]), int(line["time_end"])
        rows.append(
            {
                "path": f"{line['youtube_id']}_{start:06d}_{end:06d}.mp4",
                "class_name": line["label"],
                "split": "val" if line["split"] == "validate" else line["split"],
                "source_id": line["youtube_id"],
            }
        )
    return rows


def split_videos(source_ids: Sequence[str], val_share: float, seed: int) -> list[str]:
    """Draw a share of the videos for "val", with all of their clips; the others are "train"."""
    videos = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(videos))), len(videos) - 1)
    generator = torch.Generator().manual_seed(seed)
    val = {videos[i] for i in torch.randperm(len(videos), generator=generator)[:count]}
    return ["val" if video in val else "train" for video in source_ids]


def fitting_weights(
    wanted: Mapping[str, Tensor], offered: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the offered weights that fit, by their wanted names; and the names that get none."""
    named = {name.removeprefix("module."): weight for name, weight in offered.items()}
    fitting = {
        name: named[name]
        for name, weight in wanted.items()
        if name in named and named[name].shape == weight.shape
    }
    return fitting, [name for name in wanted if name not in fitting]


def average_views(logits: Tensor, videos: Tensor) -> Tensor:
    """Average logits (views, classes) to probabilities (videos, classes)."""
    means = [logits[videos == video].mean(0) for video in range(int(videos.max()) + 1)]
    return torch.softmax(torch.stack(means), dim=1)


# 07 scale to full data sets


def average_gradients(per_rank: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Average each parameter's gradient over the processes; None where none has one."""
    averaged = []
    for gradients in zip(*per_rank, strict=True):
        known = [gradient for gradient in gradients if gradient is not None]
        averaged.append(sum(known) / len(per_rank) if known else None)
    return averaged


def share(num_clips: int, batch_size: int, rank: int, world: int, epoch: int) -> list[list[int]]:
    """List the clips of one process in one epoch, step by step."""
    generator = torch.Generator().manual_seed(epoch)  # every process draws the same order
    order = torch.randperm(num_clips, generator=generator)
    steps = num_clips // batch_size  # a last, smaller batch is left out
    batches = order[: steps * batch_size].reshape(steps, world, batch_size // world)
    return batches[:, rank].tolist()


def accuracy_of_all(per_rank: Sequence[Sequence[tuple[int, bool]]]) -> float:
    """Return the share of clips that are right; each process has pairs (clip, is_right)."""
    answers = {clip: is_right for pairs in per_rank for clip, is_right in pairs}
    return sum(answers.values()) / len(answers)


# 08 look inside


@contextmanager
def capture_by_hand(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep what the named modules return inside the `with`; outside, nothing is left."""
    cache, handles = {}, []

    def keep(name):
        def hook(module, args, output):
            cache[name] = output.detach().clone()

        return hook

    try:
        for name in names:
            handles.append(model.get_submodule(name).register_forward_hook(keep(name)))
        yield cache
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def edited(module: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Send what the module returns inside the `with` through the function first."""
    handle = module.register_forward_hook(lambda module, args, output: function(output))
    try:
        yield
    finally:
        handle.remove()


def other_of_class(labels: Tensor) -> Tensor:
    """Choose for each clip another of its class, by number; every clip is taken once."""
    donors = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        donors[rows] = rows.roll(-1)
    return donors


def standardised(train_x: Tensor, test_x: Tensor) -> tuple[Tensor, Tensor]:
    """Express both in units of the training clips' mean and spread, channel by channel."""
    mean, spread = train_x.mean(0), train_x.std(0) + 1e-6
    return (train_x - mean) / spread, (test_x - mean) / spread


def logit_parts(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Split a logit among the last maps of a clip (P, C, h, w): a number for each place."""
    answers = torch.einsum("pchw,c->phw", features, weight) + bias
    return answers / answers.numel()


def like_without_learning(draw: Callable, model: nn.Module, clip: Tensor) -> float:
    """Correlate a model's map with that of a copy whose weights are in random order."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            order = torch.randperm(weight.numel(), device=weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    maps = torch.stack([draw(each, clip).flatten() for each in (model, other)]).double()
    return torch.corrcoef(maps)[0, 1].nan_to_num(0).item()


# 09 see temporal aggregation


def temporal_centre(taps: Tensor) -> Tensor:
    """Find where each channel looks, in frames from its own: (C,), of taps (r, C)."""
    offsets = torch.arange(len(taps)) - len(taps) // 2
    sizes = taps.abs()
    return (offsets[:, None] * sizes).sum(0) / sizes.sum(0).clamp(min=1e-12)


def frames_seen(network: Callable[[Tensor], Tensor], clip: Tensor, position: int) -> Tensor:
    """Find the frames of a clip (1, T, ...) that can change `network(clip)[:, position]`: (T,)."""
    clip = clip.detach().clone().requires_grad_()
    maps = network(clip)[:, position]
    mixture = torch.randn(maps.shape, generator=torch.Generator().manual_seed(0)).to(maps)
    (gradient,) = torch.autograd.grad((mixture * maps).sum(), clip)
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def step_elsewhere(taps: Tensor, changed: Tensor, seed: int) -> Tensor:
    """Make the step from taps to changed, (3, C) both, in other channels."""
    order = torch.randperm(taps.shape[1], generator=torch.Generator().manual_seed(seed))
    return taps + (changed - taps)[:, order]


def occlusion_by_hand(network: nn.Module, clip: Tensor, label: int) -> Tensor:
    """Measure how much the label's log-probability falls (nats) without each frame."""
    falls = []
    with torch.no_grad():
        whole = network(clip).log_softmax(1)[0, label]
        for t in range(clip.shape[1]):
            without = clip.clone()
            without[:, t] = clip[:, t ^ 1]
            falls.append(whole - network(without).log_softmax(1)[0, label])
    return torch.stack(falls)
