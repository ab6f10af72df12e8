"""Leave out each part of a model, and see what is lost.

    ablation_table(model, clips, labels, score)     # one row per ablation, "nothing" first

Nothing is retrained: this asks what the trained model relies on, not what it could do without.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import pandas as pd
import torch
from torch import Tensor

from blvnet_lab.introspect.capture import edit, edit_clip, shuffle_positions, zero
from blvnet_lab.introspect.influence import predict
from blvnet_lab.introspect.taps import edit_taps, identity_taps, tams
from blvnet_lab.models import VideoNet, capture_points
from blvnet_lab.models.wrapped import network_of


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
