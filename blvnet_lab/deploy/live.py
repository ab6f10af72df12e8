"""Live video: run a causal network on one pair of frames, or one frame, at a time.

    model = blvnet_tam(num_frames=16, causal=True)
    stream = Stream(model)
    for pair in pairs:                      # (B, 2, C, H, W)
        logits = stream(pair)               # (B, num_classes): of this pair, given the past

A causal TSM or TAM-ResNet takes single frames (B, 1, C, H, W). Nothing waits for later frames: each
TAM keeps its last input maps, and a pair costs the same however long the video is. Up to rounding,
the logits are those that the whole clip gives for each pair before they are averaged.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from blvnet_lab.data.probing import VideoInfo
from blvnet_lab.datasets.encoding import showing_of
from blvnet_lab.models.networks import VideoNet, architecture_of
from blvnet_lab.models.tam import TAM, PairTAM

Maps = list[list[Tensor]]  # of each module with a memory, the earliest first


def frame_edges(info: VideoInfo) -> np.ndarray:
    """Find when each frame of a video is shown, and when the last one ends: (N + 1,) seconds."""
    showing = showing_of(info)
    step = 1 / float(showing.fps)  # from the times: Matroska may name another rate in `info`
    shown = showing.times or np.arange(info.num_frames) * step
    return np.append(np.array(shown, np.float64), float(shown[-1]) + step)


class PastMaps(nn.Module):
    """The last `length` input maps (B, C, H, W); zeros before the first, as before a clip."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length
        self.maps: list[Tensor] | None = None

    def forward(self, new: Tensor) -> list[Tensor]:  # (B, n, C, H, W)
        """Return the past maps and the n new ones, and keep the last of them."""
        past = self.maps or [torch.zeros_like(new[:, 0])] * self.length
        # A list, since joining maps would undo their channels-last layout; copies, so that they do
        # not keep the rest of `new` alive.
        maps = [*past, *(one.clone() for one in new.unbind(1))]
        self.maps = maps[len(maps) - self.length :]
        return maps


def latest_sums(maps: list[Tensor], new: Tensor, taps: Tensor) -> Tensor:
    """Compute the weighted sum for the `new` maps, the last of `maps`; `taps[-1]` is their own."""
    weights = taps.to(new.dtype)[:, :, None, None]
    y = weights[-1] * new
    first = len(maps) - new.shape[1]
    if torch.compiler.is_compiling():  # exported: one tensor, and no writes into slices
        whole = torch.stack(maps, 1)
        own = (whole[:, first - back :][:, : new.shape[1]] for back in range(len(weights)))
        return sum(map(torch.mul, weights.flip(0), own))
    for back, weight in enumerate(weights[:-1].flip(0), start=1):
        for t in range(new.shape[1]):
            y[:, t].addcmul_(maps[first + t - back], weight)
    return y


class StepTAM(nn.Module):
    """A causal TAM that gets a clip piece by piece."""

    def __init__(self, tam: TAM):
        super().__init__()
        self.taps, self.past = tam.taps, PastMaps(tam.num_taps - 1)

    def forward(self, frames: Tensor) -> Tensor:  # (B, n, C, H, W)
        return torch.relu_(latest_sums(self.past(frames), frames, self.taps))


class StepPairTAM(nn.Module):
    """A causal PairTAM that gets the pairs one by one."""

    def __init__(self, tam: PairTAM):
        super().__init__()
        (little, first_little), (big, first_big) = tam.pair_taps()
        self.register_buffer("little_taps", little.detach())
        self.register_buffer("big_taps", big.detach())
        self.past = PastMaps(-min(first_little, first_big))

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:  # (B, n, C, H, W)
        maps, both = self.past(pairs), (self.little_taps, self.big_taps)
        return tuple(torch.relu_(latest_sums(maps, pairs, taps)) for taps in both)


class Stream(nn.Module):
    """The stepwise form of a causal model, in eval mode, sharing the model's weights.

    The model, built with `causal=True`, may be folded. Taps of pairs are copied, all else is
    shared, so move or convert the model before. Raises TypeError for a model that is not from one
    of our builders, ValueError for one that is not causal.
    """

    def __init__(self, model: VideoNet):
        super().__init__()
        if not isinstance(model, VideoNet):
            raise TypeError(f"expected one of our networks itself, got {architecture_of(model)}")
        if not model.causal:
            raise ValueError(
                f"expected a causal model, got a {architecture_of(model)} that is not: build and "
                "train a blvnet_tam, tsm or tam_resnet with causal=True"
            )
        # Copy the modules, but not their tensors.
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        model = copy.deepcopy(model, shared)
        model.num_frames, model.num_positions = 1 + model.pairs, 1
        for module in list(model.modules()):
            if isinstance(tam := getattr(module, "tam", None), TAM):
                module.tam = StepPairTAM(tam) if isinstance(tam, PairTAM) else StepTAM(tam)
        self.model = model
        self.eval().reset()

    def reset(self) -> None:
        """Forget all frames: the next pair starts a new video."""
        for module in self.modules():
            if isinstance(module, PastMaps):
                module.maps = None
        self.shape: tuple[int, ...] | None = None

    @torch.no_grad()
    def forward(self, pair: Tensor) -> Tensor:
        """Compute the logits (B, num_classes) of the next pair (or frame).

        Raises ValueError as the model does for a clip, and if the shape changes.
        """
        self.model.check_clip(pair)
        shape = tuple(pair.shape)
        if self.shape not in (None, shape):
            raise ValueError(
                f"expected a pair {self.shape} as before, got {shape}: call reset() where another "
                "video begins"
            )
        self.shape = shape
        return self.model(pair)


class Step(nn.Module):
    """A step of a stream without a memory of its own: past maps are inputs and outputs."""

    def __init__(self, network: VideoNet):  # a stream's `model`
        super().__init__()
        self.network = network
        modules = network.named_modules()
        self.pasts = {name: m for name, m in modules if isinstance(m, PastMaps) and m.length}

    def forward(self, frames: Tensor, before: Maps) -> tuple[Tensor, Maps]:
        """Compute logits and the maps to keep; before the first frames, `before` is empty."""
        for past, maps in zip(self.pasts.values(), before, strict=False):
            past.maps = maps
        logits, pasts = self.network(frames), self.pasts.values()
        after = [past.maps for past in pasts]
        for past in pasts:
            past.maps = None
        return logits, after
