"""Find what a prediction rests on: which frames can reach it, and which frames and parts matter.

derived_receptive_field(model)["stage1.out"]               # (P, T) bool, from the structure
receptive_field(wake_residuals(model))["stage1.out"] > 0   # the same, measured

importance = occlusion_importance(model, clips, labels)    # (B, T)
deletion_table(model, clips, labels, {"occlusion": importance})
ablation_table(model, clips, labels, score)                # a row per ablation, "nothing" first

Nothing is retrained: this asks what the trained model relies on, not what it could do without.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import pandas as pd
import torch
from torch import Tensor, nn

from blvnet_lab.introspect.capture import (
    capture,
    edit,
    edit_clip,
    evaluating,
    shuffle_positions,
    zero,
)
from blvnet_lab.introspect.taps import edit_taps, identity_taps, tams
from blvnet_lab.models import TAM, VideoNet, capture_points
from blvnet_lab.models.wrapped import check_whole, network_of, unwrapped


def wake_residuals(model: VideoNet) -> VideoNet:
    """Copy a model, with random weights (0.5 to 1.5) for batch norms whose weights are all 0.

    The last batch norm of every block starts at 0: an untrained block is only its shortcut, and
    gradients do not show what its branch would see, for example through stage 4's later TAMs.
    """
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                module.weight.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return model


@torch.inference_mode(False)  # in which no gradients can be had
def receptive_field(
    model: VideoNet, names: str | Iterable[str] = "*", *, clip: Tensor | None = None
) -> dict[str, Tensor]:
    """Measure by gradients, in eval mode, how strongly each frame influences each position.

    Row p of a point's (positions, T) table takes a random mixture of the maps at position p, and
    sums its absolute gradients over each frame. 0 means no influence; compare other values only
    within a row. Gradients depend on the model and the clip: see `wake_residuals`.

    Args:
        names: capture points, as for `capture`.
        clip: (1, T, C, H, W); by default random numbers at 32 x 32 pixels.
    """
    model, generator = network_of(model), torch.Generator().manual_seed(0)
    check_whole(next(model.parameters()), "model")
    if clip is None:
        clip = torch.randn(1, model.num_frames, model.in_channels, 32, 32, generator=generator)
    clip = clip.detach().clone().to(next(model.parameters())).requires_grad_()
    fields = {}
    with torch.enable_grad(), evaluating(model):
        with capture(model, names, detach=False) as cache:
            model(clip)
        for name, maps in cache.items():
            mixture = torch.randn(maps.shape, generator=generator).to(maps)
            sums = (mixture * maps).transpose(0, 1).flatten(1).sum(1)  # (positions,)
            rows = [torch.autograd.grad(one, clip, retain_graph=True)[0] for one in sums]
            fields[name] = torch.stack([row.abs().sum((0, 2, 3, 4)) for row in rows]).cpu()
    return fields


def derived_receptive_field(model: VideoNet) -> dict[str, Tensor]:
    """Derive which frames can influence each position: point to (positions, T) bool.

    Three rules are enough: a TAM of r taps reaches r // 2 frames each way (a causal one r - 1
    frames back), but not beyond the clip's ends; a merge joins what the two frames of a pair have
    seen; and both frames continue with that.
    """
    model = network_of(model)
    positions = torch.eye(model.num_frames, dtype=torch.bool)  # at first a frame sees only itself
    seen = {}
    for place in ("stem", "stage1", "stage2", "stage3", "stage4"):
        stage = model.get_submodule(place)
        if hasattr(stage, "merged"):
            is_merged = model.pairs and place != "stem"
            frames = positions.repeat_interleave(2, 0) if is_merged else positions
            if stage.tam is not None:
                frames = seen[f"{place}.tam"] = _through_tam(frames, stage.tam)
            little, big = (frames[0::2], frames[1::2]) if model.pairs else (frames, frames)
            positions = little | big
            seen |= {f"{place}.little": little, f"{place}.big": big}
            seen |= {f"{place}.merged": positions, f"{place}.out": positions}
            continue
        for name, block in stage.named_children():
            if getattr(block, "tam", None) is not None:
                positions = seen[f"{place}.{name}.tam"] = _through_tam(positions, block.tam)
            seen[f"{place}.{name}"] = positions  # the last name is "out"
    points = capture_points(model)
    return {name: seen[name] for name in seen if name in points} | {"classifier": positions}


def _through_tam(seen: Tensor, tam: TAM) -> Tensor:
    """Widen what each of n positions has seen, (n, T), by the reach of the TAM's taps."""
    places = torch.arange(len(seen))
    tap = places - places[:, None] - tam.first_offset  # (n, n): the tap from row to column
    neighbours = (tap >= 0) & (tap < tam.num_taps)
    if not tam.taps.requires_grad:  # a shift, some of whose taps are always 0
        neighbours &= tam.taps.any(1).cpu()[tap.clamp(0, tam.num_taps - 1)]
    return (neighbours[:, :, None] & seen).any(1)


@torch.no_grad()
def predict(model: VideoNet, clips: Tensor, batch_size: int = 32) -> Tensor:
    """Compute logits (N, num_classes) for clips (N, T, C, H, W) in eval mode; return on the CPU."""
    like = next(model.parameters())
    with evaluating(model):
        return torch.cat([model(part.to(like)).cpu() for part in clips.split(batch_size)])


def label_score(model: VideoNet, logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the log-probability (N,) of each clip's label, or of one of several, in nats."""
    several = getattr(unwrapped(model), "multi_label", False)
    scores = nn.functional.logsigmoid(logits) if several else logits.log_softmax(1)
    return scores.gather(1, labels.to(logits.device)[:, None])[:, 0]


def hold_frames(clips: Tensor, deleted: Tensor) -> Tensor:
    """Delete frames: show the nearest remaining one instead, like a player that drops frames.

    Of two equally near frames that is the pair's other frame, or else the earlier one. A grey or
    averaged frame would be an event of its own.

    Args:
        clips: (N, T, C, H, W).
        deleted: (N, T) bool; a ValueError if a clip has no frame left.
    """
    if deleted.all(1).any():
        raise ValueError("expected every clip to keep at least one frame, got one with none left")
    t = torch.arange(clips.shape[1])
    # Frame t (rows) shows frame s (columns): first by distance, then partner, then the earlier.
    cost = 4 * (t[:, None] - t).abs() - 2 * (t[:, None] == t ^ 1).int() + (t > t[:, None]).int()
    cost = cost + (deleted[:, None] * 8 * len(t)).to(cost)  # (N, T, T)
    return clips[torch.arange(len(clips))[:, None], cost.argmin(2)]


def occlusion_importance(model: VideoNet, clips: Tensor, labels: Tensor) -> Tensor:
    """Measure how much the label's log-probability falls without each frame: (N, T), in nats.

    A deleted frame shows the pair's other frame instead (see `hold_frames`); below 0, the model
    does better without it.
    """
    whole = label_score(model, predict(model, clips), labels)
    frames = torch.arange(clips.shape[1]).expand(clips.shape[:2])
    held = (hold_frames(clips, frames == t) for t in range(clips.shape[1]))
    rest = [label_score(model, predict(model, shown), labels) for shown in held]
    return whole[:, None] - torch.stack(rest, 1)


@torch.inference_mode(False)  # in which no gradients can be had
def gradient_importance(model: VideoNet, clips: Tensor, labels: Tensor) -> Tensor:
    """Sum |gradient x input| of the label's log-probability over each frame's pixels: (N, T).

    Input 0 is the data's mean colour, since clips are normalised. All clips are one batch.
    """
    clips = clips.detach().clone().to(next(model.parameters())).requires_grad_()
    with evaluating(model), torch.enable_grad():
        score = label_score(model, model(clips), labels).sum()
        (gradient,) = torch.autograd.grad(score, clips)
    return (gradient * clips.detach()).abs().sum((2, 3, 4)).cpu()


def deletion_table(
    model: VideoNet, clips: Tensor, labels: Tensor, importances: Mapping[str, Tensor]
) -> pd.DataFrame:
    """Delete frames, most important first: a faithful importance makes the score fall earlier.

    Args:
        importances: name to (N, T). The control, "random", is five random orders of each clip.

    Returns:
        Columns method, seed (of the control, else -1), deleted (frames, 0 to T - 1) and
        log_probability (of the labels, mean over the clips, in nats).
    """
    orders = {(name, -1): values for name, values in importances.items()}
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        orders["random", seed] = torch.rand(clips.shape[:2], generator=generator)
    rows = []
    for (method, seed), importance in orders.items():
        rank = importance.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # 0: first
        for count in range(clips.shape[1]):
            logits = predict(model, hold_frames(clips, rank < count))
            rows.append((method, seed, count, label_score(model, logits, labels).mean().item()))
    return pd.DataFrame(rows, columns=["method", "seed", "deleted", "log_probability"])


def ablations(model: VideoNet) -> dict[str, AbstractContextManager]:
    """Make context managers by name, for one use each, inside which the model lacks something.

    "nothing" is the control. In "no big" and "no little" that branch returns zeros in the stem and
    in stages 1 to 3. Others change the order of frames (`frame_orders`), and "TAM off" (for TSM,
    "shift off") sets identity taps, in one place or everywhere.
    """
    found: dict[str, AbstractContextManager] = {"nothing": nullcontext()}
    network = network_of(model)
    for branch in ("big", "little"):
        if f"stem.{branch}" in capture_points(network):
            found[f"no {branch}"] = edit(model, {f"*.{branch}": zero})
    for name, order in frame_orders(network.num_frames).items():
        found[name] = edit_clip(model, shuffle_positions(order.tolist()))
    places = list(dict.fromkeys(name.partition(".")[0] for name in tams(model)))
    off = "shift off" if network.architecture == "tsm" else "TAM off"
    for place in places:
        found[f"{off}: {place}"] = edit_taps(model, {f"{place}.*": identity_taps})
    if places:
        found[f"{off}: everywhere"] = edit_taps(model, {"*": identity_taps})
    return found


def frame_orders(num_frames: int) -> dict[str, Tensor]:
    """Make permutations (T,) of the frames by name; the first two need an even number of frames.

    Permutations that change nothing, or repeat another one, as with very few frames, are left out.
    """
    t = torch.arange(num_frames)
    generator = torch.Generator().manual_seed(0)
    orders = {}
    if num_frames % 2 == 0:
        orders = {"frames of a pair exchanged": t ^ 1, "halves exchanged": t.roll(num_frames // 2)}
    orders["frames reversed"] = t.flip(0)
    orders["frames shuffled"] = torch.randperm(num_frames, generator=generator)
    found: dict[str, Tensor] = {}
    for name, order in orders.items():
        if not any(order.equal(known) for known in (t, *found.values())):
            found[name] = order
    return found


def ablation_table(
    model: VideoNet,
    clips: Tensor,
    labels: Tensor,
    score: Callable[[Tensor, Tensor], Mapping[str, float]],
) -> pd.DataFrame:
    """Score the model under each of `ablations`: a column "ablation", then one per score.

    Args:
        clips: (N, T, C, H, W).
        labels: (N,).
        score: maps logits (N, num_classes) and labels to named numbers, such as
            `blvnet_lab.runs.staircase.score`.
    """
    rows = []
    for name, without in ablations(model).items():
        with without:
            rows.append({"ablation": name, **score(predict(model, clips), labels)})
    return pd.DataFrame(rows)
