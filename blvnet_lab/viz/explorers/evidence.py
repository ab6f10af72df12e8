"""See where and when networks find evidence for a class, in parts that add up to its logit."""

import copy
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from blvnet_lab.introspect import evidence, predict
from blvnet_lab.introspect.influence import frame_orders
from blvnet_lab.models import VideoNet
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.models.wrapped import network_of, unwrapped
from blvnet_lab.viz.explorers import base
from blvnet_lab.viz.explorers.base import Explorer, one_clip, row
from blvnet_lab.viz.explorers.branch import GAP_PX
from blvnet_lab.viz.explorers.clip import AS_FILMED
from blvnet_lab.viz.images import digits_for, mosaic, number, paragraph, png, sum_of
from blvnet_lab.viz.theme import OPACITY, coloured

GLOW = "color:black;text-shadow:" + ",".join(["0 0 2px white"] * 6)  # legible on any colour
NOTES = """Without colour is 0, red positive, blue negative. All networks share one scale, up to the
largest cell of the clip as filmed or as shown. Rounded so that sums are exact as printed.
A cell is a place of the last maps, which have seen much more of the clip than lies below it."""


class EvidenceExplorer(Explorer):
    """See `introspect.evidence` of one clip in several networks; set ``.value`` of the controls.

    Controls: ``network``; ``label`` and ``minus``, classes that the evidence is for and against
    (-1: nothing); ``order`` of the frames; ``position``, enlarged. They change ``maps``, a picture,
    and the texts ``closeup`` and ``sums``.

    Args:
        networks: title to network, or one network. The explorer runs copies of them, in eval mode.
        clip: (T, C, H, W) or (1, T, C, H, W), normalised; frames other than RGB are shown grey.
        class_names: names of the networks' classes; "class 0", ... if None.
        label: the clip's class; if None, the evidence is at first for the first network's answer.

    Raises ValueError for networks, clip and names that do not fit together.
    """

    def __init__(
        self,
        networks: Mapping[str, VideoNet] | VideoNet,
        clip: Tensor,
        class_names: Sequence[str] | None = None,
        label: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(networks, Mapping):
            networks = {architecture_of(unwrapped(networks)): networks}
        networks = {title: copy.deepcopy(network_of(net)).eval() for title, net in networks.items()}
        counts = {title: model.classifier.out_features for title, model in networks.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"expected networks of the same classes, got {counts}; leave some out")
        for model in networks.values():
            names, clip = base.checked_names(class_names, model), one_clip(model, clip)
        self._networks, self._names, self._label = networks, names, label
        frames, first = base.pictures_of(clip), next(iter(networks))
        count, self._size = clip.shape[1], clip.shape[3:]
        self._frames = np.full((count, *self._size, 3), 128, np.uint8) if frames is None else frames
        self._orders = {AS_FILMED: torch.arange(count), **frame_orders(count)}
        self._clip, self._found = clip, cache(self._found)
        self.about = f"EvidenceExplorer({', '.join(networks)}; {base.size_text(clip)})"
        start = predict(networks[first], clip).argmax().item() if label is None else label
        self._found(first, AS_FILMED, start, -1)  # raises the error for a label that is no class

        self._choice("network", networks)
        self._choice("order", self._orders)
        classes = [(name, i) for i, name in enumerate(names)]
        wanted = widgets.Dropdown(options=classes, value=start, description="for")
        against = widgets.Dropdown(options=[("nothing", -1), *classes], description="against")
        asked = row(self._control("label", wanted), self._control("minus", against))
        self._player("position", widgets.IntSlider())
        place = row(self.play, self.position)
        shown = row(self._text("closeup"), self._text("sums", flex="1 1 300px"))
        self._arrange(self.network, asked, self.order, place, self._image("maps"), shown)

    def _found(self, network: str, order: str, label: int, minus: int) -> tuple[np.ndarray, ...]:
        """Compute the evidence (P, h, w) and the probability of every class."""
        model, clip = self._networks[network], self._clip[:, self._orders[order]]
        maps = evidence(model, clip, label, None if minus < 0 else minus)[0]
        return maps.cpu().double().numpy(), base.probabilities(model, predict(model, clip)[0])

    def draw(self) -> None:
        now, names, asked = self.now, self._names, (self.now.label, self.now.minus)
        maps, scores = self._found(now.network, now.order, *asked)
        # A coin toss of one network, or of frames out of order, must not look like certainty.
        together = [maps, *(self._found(title, AS_FILMED, *asked)[0] for title in self._networks)]
        limit = max(np.abs(np.nan_to_num(each)).max() for each in together)
        digits = digits_for(max(limit, 0.01))
        sums = adding_up(maps.sum((1, 2)), maps.sum(), digits)
        now.position = at = now.position * len(maps) // (self.position.max + 1)  # the same time
        self._set_range(self.position, len(maps) - 1, at)
        held = self._orders[now.order].reshape(len(maps), -1).tolist()  # numbers of frames
        paired = len(held[0]) == 2
        self.position.description = unit = "pair" if paired else "position"

        shown = self._frames[held]  # (P, 1 or 2, H, W, 3)
        y, x = (np.arange(n) * m // n for n, m in zip(self._size, maps.shape[1:], strict=True))
        grey = shown.mean((1, 4))[..., None]  # a double exposure of a pair's frames
        colours = coloured(maps[:, y][:, :, x], limit)
        over = (OPACITY * colours + (1 - OPACITY) * grey).astype(np.uint8)
        labels = ["little frame", "big frame"] if paired else ["frame"]
        labels.append(f"evidence\n±{number(limit, digits)}")
        picture = mosaic(
            dict(zip(labels, [*shown.swapaxes(0, 1), over], strict=True)),
            column_labels=[", ".join(map(str, numbers)) for numbers in held],
            chosen=at,
            tile_px=max(36, min(96, (base.PAGE_PX - 110) // len(maps) - GAP_PX)),
            gap_px=GAP_PX,
            below=[number(part, digits) for part in sums],
        )
        self._show("maps", picture)
        cells = adding_up(maps[at], sums[at], digits)
        self.closeup.value = table(over[at], cells, digits)
        frames = f"frame{'s' * paired} {' and '.join(map(str, held[at]))}"
        less = "" if now.minus < 0 else f", less that of {names[now.minus]}"
        truth = "" if self._label is None else f" The clip's class is {names[self._label]}."
        answer = f"{now.network} answers {names[scores.argmax()]} ({100 * scores.max():.1f} %)."
        self.lines = [
            f"{unit.capitalize()} {at}, {frames}: {added(cells, digits)}.",
            f"All {unit}s: {added(sums, digits)}, the logit of {names[now.label]}{less}.",
            answer + truth,
            *NOTES.splitlines(),
        ]
        self.sums.value = paragraph("<br>".join(map(escape, self.lines)))


def adding_up(parts: np.ndarray, total: float, digits: int) -> np.ndarray:
    """Round parts down, or up where that loses most, so that they add up to the rounded total."""
    exact = parts.ravel() * 10.0**digits
    whole = np.floor(exact)
    missing = int(np.nan_to_num(np.round(total * 10.0**digits) - whole.sum()))
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return whole.reshape(parts.shape) / 10.0**digits


def added(parts: np.ndarray, digits: int) -> str:
    """Write out the sum of parts."""
    return sum_of([number(part, digits) for part in parts.flat], number(parts.sum(), digits))


def table(picture: np.ndarray, cells: np.ndarray, digits: int) -> str:
    """Write the cells' numbers over an enlarged picture, as HTML."""
    width = max(256, 8 * (digits + 4) * cells.shape[1])
    look = f"width:{width}px;height:{width * picture.shape[0] // picture.shape[1]}px;{GLOW}"
    look += ";table-layout:fixed;text-align:center;image-rendering:pixelated"
    look += f";background:url(data:image/png;base64,{b64encode(png(picture)).decode()})"
    rows = ["".join(f"<td>{number(cell, digits)}</td>" for cell in line) for line in cells]
    return f"<table style='{look} 0 0/100% 100%'><tr>{'<tr>'.join(rows)}</table>"
