"""The model's side of `TamExplorer`: a copy of it whose taps can be set, and what they compute.

A TAM sums over *positions*, of one of four kinds:

    frames   in a ResNet: every frame has a map of its own
    routed   in the stem: the same, and the frame goes to the little or the big branch
    twins    in stages 1 to 3: frames again, but the two frames of a pair have the same map
    pairs    in stage 4: one map for every pair
"""

import copy
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from blvnet_lab.introspect import centred_taps, channel_roles
from blvnet_lab.introspect.taps import tams, tap_name
from blvnet_lab.models import TAM, PairTAM, VideoNet
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.models.tam import weighted_sum
from blvnet_lab.viz.explorers.base import one_clip, probabilities

Kind = Literal["frames", "routed", "twins", "pairs"]
PRESETS = {
    "identity": "only the map itself, as if there were no TAM",
    "TSM shift": "1/8 of the channels from the position before, 1/8 from the next, if it is known",
    "difference": "curr 1, prev −1: what has changed since the position before",
    "average": "all taps alike",
    "own": "the model's own taps",
}


class Arithmetic:
    """A TAM's computation for one channel at one position, step by step; maps are (H, W).

    `into` are the channel's maps at all positions, (T or P, H, W); the first of the taps (r,)
    weighs the map at `first_offset` from the position.
    """

    def __init__(
        self, into: Tensor, taps: Tensor, first_offset: int, position: int, kind: Kind
    ) -> None:
        self.into, self.taps, self.first_offset = into, taps, first_offset
        self.position, self.kind = position, kind
        self.unit = "pair" if kind == "pairs" else "frame"
        self.branched = kind in ("routed", "twins")
        first = position + first_offset
        self.places = range(first, first + len(taps))  # the positions that the taps reach
        # None: beyond the ends of the clip, which counts as 0.
        self.maps = [into[i] if 0 <= i < len(into) else None for i in self.places]
        pairs = zip(taps, self.maps, strict=True)
        self.products = [None if x is None else tap * x for tap, x in pairs]
        self.total = torch.stack([x for x in self.products if x is not None]).sum(0)
        self.result = self.total.relu()
        # Row and column where the result is largest (or the sum's size, if the result is all 0).
        strongest = int((self.result if self.result.any() else self.total.abs()).argmax())
        self.pixel = divmod(strongest, into.shape[2])
        self.limit = into.nan_to_num(0, 0, 0).abs().max().item() or 1.0  # shown in full colour

    def after(self, taps: Tensor) -> Tensor:
        """Aggregate the channel's maps with taps (r,): (T or P, H, W)."""
        x = self.into[None, :, None]  # (1, T, 1, H, W)
        return weighted_sum(x, taps[:, None], self.first_offset).relu()[0, :, 0]


def preset_taps(preset: str, learned: Tensor, first_offset: int) -> Tensor:
    """Return the taps (r, C) that one of `PRESETS` puts in place of the learned ones."""
    if preset == "own":
        return learned
    if preset == "average":
        return torch.full_like(learned, 1 / len(learned))
    if preset == "TSM shift":
        causal = first_offset == 1 - len(learned)
        return TAM(learned.shape[1], len(learned), "shift", causal).taps.detach()
    taps = torch.zeros_like(learned)
    taps[-first_offset] = 1
    if preset == "difference":
        taps[-first_offset - 1] = -1
    return taps


class TamEdits:
    """A copy of a model, in eval mode, whose taps can be set, and a clip to try them on.

    Attributes:
        clip: (1, T, C, H, W); None if nothing can be run, without a clip or with taps alone.
        what: "TAM", or "shift" in TSM, whose taps are not learned.
        tams: the copy's modules by name; also by name `taps`, their parameters (r, C), `learned`,
            the original values, and `roles`, one per channel.
        first_offset: of every TAM's first tap, in positions.
        presets: the names of those that make sense: a single tap has no neighbours.
    """

    def __init__(self, model: VideoNet, clip: Tensor | None) -> None:
        if not isinstance(model, VideoNet) or not tams(model):
            raise ValueError(
                "expected a network with temporal aggregation modules (TAM) or shifts, got "
                f'{architecture_of(model)}: build a blvnet_tam, or a tsn with temporal="tam"'
            )
        clip, weight = None if clip is None else one_clip(model, clip), next(model.parameters())
        self.clip = None if clip is None or weight.is_meta else clip.to(weight)
        self.what = "shift" if architecture_of(model) == "tsm" else "TAM"
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.tams = tams(self.model)
        first = next(iter(self.tams.values()))
        self.first_offset, r = first.first_offset, first.num_taps
        self.names = [tap_name(first.first_offset + i, r) for i in range(r)]
        self.taps = {name: tam.taps for name, tam in self.tams.items()}
        self.learned = {name: taps.clone() for name, taps in self.taps.items()}
        centred = {n: centred_taps(taps, self.first_offset) for n, taps in self.learned.items()}
        self.roles = {name: channel_roles(taps) for name, taps in centred.items()}
        self.presets = list(PRESETS) if r > 1 else ["identity", "own"]

    def apply(self, preset: str, names: Iterable[str], channels: int | slice = slice(None)) -> None:
        """Set the taps of some channels of the named TAMs to a preset."""
        for name in names:
            new = preset_taps(preset, self.learned[name], self.first_offset)
            self.taps[name][:, channels] = new[:, channels]

    def changed(self) -> dict[str, int]:
        """Return the TAMs whose taps have been changed, with the number of such channels."""
        pairs = {name: (taps, self.learned[name]) for name, taps in self.taps.items()}
        counts = {n: (a.nan_to_num() != b.nan_to_num()).any(0).sum() for n, (a, b) in pairs.items()}
        return {name: int(count) for name, count in counts.items() if count}

    def kind(self, name: str) -> Kind:
        if isinstance(self.tams[name], PairTAM):
            return "twins"
        if not self.model.pairs:
            return "frames"
        return "routed" if name.startswith("stem") else "pairs"

    @torch.no_grad()
    def run(self, name: str) -> tuple[list[float] | None, Tensor]:
        """Return each class's probability, and the input of a TAM: (T or P, C, H, W)."""
        tam, kind, kept, scores = self.tams[name], self.kind(name), [], None
        if self.clip is None:  # an example: a bar that moves right
            count = self.model.num_frames // (1 + (kind in ("twins", "pairs")))
            maps = torch.eye(count, device="cpu")[:, None, None].expand(-1, tam.channels, count, -1)
        else:
            with tam.register_forward_pre_hook(lambda module, args: kept.append(args[0])):
                scores = probabilities(self.model, self.model(self.clip)[0]).tolist()
            ((maps,),) = kept
        return scores, maps.repeat_interleave(2, 0) if kind == "twins" else maps
