"""The model's side of `TamExplorer`: taps that are set for one forward pass at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from blvnet_lab.introspect import (
    capture,
    centred_taps,
    channel_roles,
    edit_taps,
    identity_taps,
    replace_with,
    tsm_taps,
)
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models import BigLittleNet, PairTAM
from blvnet_lab.viz.explorers.tam_arithmetic import Kind


def own_taps(taps: Tensor, first_offset: int) -> Tensor:
    """Taps (r, C) that leave the maps as they are."""
    return identity_taps(centred_taps(taps, first_offset))[: len(taps)]


def tsm_rows(channels: int, causal: bool) -> Tensor:
    """TSM's shift as taps (3, C), the middle ones curr; causal: the shift of TSM for live video.

    There nothing comes from the next position, and as much as before from the one before.
    """
    if not causal:
        return tsm_taps(channels)
    moved = tsm_taps(channels)[2]  # 1 where the other one takes the next position
    return torch.stack([moved, 1 - moved, torch.zeros_like(moved)])


def shift_taps(taps: Tensor, first_offset: int) -> Tensor:
    """TSM's shift in the shape of taps (r, C): zeros for what is more than one position away."""
    new, own = torch.zeros_like(taps), -first_offset
    causal = own == len(taps) - 1
    near = new[own - 1 : own + 2]  # those a causal TAM has: no next
    near[:] = tsm_rows(taps.shape[1], causal)[: len(near)]
    return new


def difference_taps(taps: Tensor, first_offset: int) -> Tensor:
    """Taps (r, C) that subtract the position before: curr 1, prev -1."""
    new = own_taps(taps, first_offset)
    new[-first_offset - 1] = -1
    return new


def average_taps(taps: Tensor, first_offset: int) -> Tensor:
    """Taps (r, C) that weigh all r positions alike."""
    return torch.full_like(taps, 1 / len(taps))


def learned_taps(taps: Tensor, first_offset: int) -> Tensor:
    return taps.clone()


# From learned taps (r, C), and the offset of the first of them, to others. With r = 1 there is no
# neighbour to shift or to subtract.
PRESETS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "identity": own_taps,
    "TSM shift": shift_taps,
    "difference": difference_taps,
    "average": average_taps,
    "learned": learned_taps,
}


def shift_of(channel: int, channels: int, causal: bool) -> str:
    """What TSM does with one channel, in words."""
    prev, _, next_ = tsm_rows(channels, causal)[:, channel].tolist()
    if prev:
        return "comes from the position before"
    return "comes from the next position" if next_ else "stays"


class TamEdits:
    """A model with other taps than its own, and a clip to try them on.

    Args:
        model: a `BigLittleNet` with TAMs. A copy of it is run, in eval mode, for others may use
            the model at the same time; so later changes of the model are not seen.
        clip: (1, T, C, H, W), or (T, C, H, W).

    Attributes:
        model: the copy.
        learned, taps: by TAM, its own taps and those that are set: (r, C), float64 on the CPU,
            which holds all other precisions exactly.
        roles: by TAM, one role per channel, of the learned taps.
        num_taps, first_offset: of every TAM, in frames; in stage 4, in pairs.
        causal: whether they look back only.

    Raises:
        ValueError: a model without TAM, a clip that it does not take, more than one clip.
    """

    def __init__(self, model: BigLittleNet, clip: Tensor):
        if not isinstance(model, BigLittleNet) or not tams(model):
            raise ValueError(
                "expected a BigLittleNet with temporal aggregation modules (TAM), got "
                f"{getattr(model, 'architecture', type(model).__name__)}, which has none: "
                "build one with blvnet_tam"
            )
        clip = clip[None] if isinstance(clip, Tensor) and clip.ndim == 4 else clip
        model.check_clip(clip)
        if len(clip) != 1:
            raise ValueError(
                f"expected one clip, got a batch of {len(clip)}: choose one with clips[0]"
            )
        self.model, self.clip = copy.deepcopy(model).eval(), clip.to(next(model.parameters()))
        self._tams = tams(self.model)
        self.learned = {name: tam.taps.detach().double().cpu() for name, tam in self._tams.items()}
        first, self.causal = next(iter(self._tams.values())), model.causal
        self.num_taps, self.first_offset = first.num_taps, first.first_offset
        self.roles = {name: channel_roles(self._centred(t)) for name, t in self.learned.items()}
        self.reset()

    def reset(self) -> None:
        """All taps as learned."""
        self.taps = {name: taps.clone() for name, taps in self.learned.items()}

    def apply(self, preset: str, names: Iterable[str], channel: int | None = None) -> None:
        """Set the taps of the named TAMs to one of `PRESETS`: of one channel, or of all."""
        channels = slice(None) if channel is None else channel
        for name in names:
            new = PRESETS[preset](self.learned[name], self.first_offset)
            self.taps[name][:, channels] = new[:, channels]

    def _centred(self, taps: Tensor) -> Tensor:
        """Taps as functions of taps take them: the middle one is the position's own."""
        return centred_taps(taps, self.first_offset)

    def changed(self) -> dict[str, int]:
        """Name of every TAM with other than learned taps, to the number of such channels."""
        exactly = {"rtol": 0, "atol": 0, "equal_nan": True}
        counts = {
            name: int((~torch.isclose(taps, self.learned[name], **exactly)).any(0).sum())
            for name, taps in self.taps.items()
        }
        return {name: count for name, count in counts.items() if count}

    @contextmanager
    def _set(self) -> Iterator[None]:
        """The model with the taps that are set."""
        changed = {name: replace_with(self._centred(self.taps[name])) for name in self.changed()}
        with torch.no_grad(), edit_taps(self.model, changed):
            yield

    def scores(self) -> list[float]:
        """The probability of each class."""
        with self._set():
            return self.model(self.clip)[0].softmax(0).tolist()

    def maps_into(self, name: str) -> Tensor:
        """What goes into a TAM: (T or P, C, H, W), frames with twins in stages 1 to 3.

        With identity taps a TAM passes its maps on, since its ReLU changes nothing: they are never
        negative. Taps that are set in the TAMs before it count.
        """
        off = {name: identity_taps}
        with self._set(), edit_taps(self.model, off), capture(self.model, name) as cache:
            self.model(self.clip)
        return cache[name][0]

    def kind(self, name: str) -> Kind:
        """What the TAM's maps stand for."""
        if isinstance(self._tams[name], PairTAM):
            return "twins"
        return "frames" if name.startswith("stem") else "pairs"

    def pair_taps(self, name: str) -> tuple[Tensor, Tensor, int, int] | None:
        """`PairTAM.pair_taps` of the taps that are set; None for a TAM that is none."""
        tam = self._tams[name]
        with self._set():
            return tam.pair_taps() if isinstance(tam, PairTAM) else None


def checked_names(names: Sequence[str] | None, label: int | None, count: int) -> list[str]:
    """The names of a model's `count` classes, numbers if None; raises ValueError, with a remedy."""
    if names is not None and len(names) != count:
        raise ValueError(
            f"expected {count} class names, one per class of the model, got {len(names)}: "
            "pass None to see numbers instead"
        )
    if label is not None and not 0 <= label < count:
        raise ValueError(
            f"expected a label from 0 to {count - 1}, one of the model's classes, got {label}: "
            "pass None if the class is unknown"
        )
    return list(names) if names is not None else [f"class {i}" for i in range(count)]
