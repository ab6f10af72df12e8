"""Look into both branches at once: see the maps of each frame of a pair, and how they merge.

BranchExplorer(model, clip)          # clip (T, 3, H, W), as the model gets it
"""

import re
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from blvnet_lab.introspect import capture
from blvnet_lab.introspect.capture import evaluating
from blvnet_lab.models import VideoNet, capture_points
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.viz.explorers.base import PAGE_PX, Explorer, one_clip, pictures_of, row, size_text
from blvnet_lab.viz.images import mosaic, paragraph, stacked
from blvnet_lab.viz.theme import BRANCH_COLOURS, GREY, coloured

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
MERGE = ("little", "big", "merged", "out")  # in the order in which they are computed
BY_NUMBER, BY_ACTIVITY = "by number", "most active first"
GAP_PX = 10  # between tiles: room for the frame around the chosen column


class MapRow(NamedTuple):  # one row of the picture, with a tile per position
    name: str  # "little frame", "little map", ...
    pictures: np.ndarray  # (positions, h, w, 3) uint8
    colour: str  # of the tiles' edges
    scale: str = ""  # the value of full red, for maps
    frames: range | None = None  # their numbers, for frames


class BranchExplorer(Explorer):
    """See the maps of one clip, channel by channel; in Python, set ``.value`` of the controls.

    Controls: ``stage``, ``slider`` (channel), ``order`` (of the channels) and ``position`` (the
    enlarged pair). They change ``maps``, a picture, and its ``caption``. ``channel`` is the number
    of the channel shown.

    Everything is captured once, at the start, in eval mode. Little, big and merged share one scale,
    so that one can see that merged is their sum with the negatives cut; out has its own. "Active"
    means the mean absolute value of merged over the clip, or of the last map where there is none.

    The clip is (T, C, H, W) or (1, T, C, H, W), normalised. Raises ValueError for several clips, or
    one that the model does not accept.
    """

    def __init__(self, model: VideoNet, clip: Tensor) -> None:
        super().__init__()
        model = network_of(model)
        clip = one_clip(model, clip)
        self._frames = pictures_of(clip)
        self._what = architecture_of(model)
        self.about = f"BranchExplorer({self._what}, {size_text(clip)})"
        self._pairs, self._unit = model.pairs, "pair" if model.pairs else "frame"
        self._maps, self._by_activity = _maps(model, clip), {}
        for stage, maps in self._maps.items():
            activity = maps.get("merged", list(maps.values())[-1]).abs().mean((0, 2, 3))
            self._by_activity[stage] = activity.argsort(descending=True, stable=True).tolist()
        self._choice("stage", STAGES)
        self._control("slider", widgets.IntSlider(description="channel"))
        self._choice("order", (BY_NUMBER, BY_ACTIVITY))
        last = len(self._maps["stem"]["out"]) - 1
        self._player("position", widgets.IntSlider(max=last, description=self._unit))
        controls = (row(self.slider, self.order), row(self.play, self.position))
        self._arrange(self.stage, *controls, self._image("maps"), self._text("caption"))

    @property
    def channel(self) -> int:
        """The number of the channel shown."""
        place = self.now.slider
        return place if self.now.order == BY_NUMBER else self._by_activity[self.now.stage][place]

    def draw(self) -> None:
        self.slider.max = len(self._by_activity[self.now.stage]) - 1
        self.now.slider = min(self.now.slider, self.slider.max)
        self._show("maps", self._picture())
        self.caption.value = self._caption()
        below = f"channel {self.channel}; below, {self._unit} {self.now.position}"
        text = f"{self._what}, {self.now.stage}, {below}. White is 0, red positive, blue negative."
        self.lines = [text]

    def _rows(self) -> list[MapRow]:
        """List frames and maps in the order of computation; all but out share one scale."""
        maps = {name: m[:, self.channel] for name, m in self._maps[self.now.stage].items()}

        def map_row(name: str) -> MapRow:
            together = [m for other, m in maps.items() if (other == "out") == (name == "out")]
            limit = max(m.nan_to_num(0, 0, 0).abs().max().item() for m in together)
            label = f"{name} map" if name in BRANCH_COLOURS else name
            colour = BRANCH_COLOURS.get(name, GREY)
            return MapRow(label, coloured(maps[name], limit), colour, f"±{limit:.2g}")

        pairs = {"little": slice(0, None, 2), "big": slice(1, None, 2)}
        sources, rows = pairs if self._pairs else {"": slice(None)}, []
        for branch, which in sources.items():
            if self._frames is not None:
                name, colour = f"{branch} frame".strip(), BRANCH_COLOURS.get(branch, GREY)
                numbers = range(len(self._frames))[which]
                rows.append(MapRow(name, self._frames[which], colour, frames=numbers))
            rows += [map_row(branch)] if branch in maps else []
        return rows + [map_row(name) for name in maps if name not in sources]

    def _picture(self) -> np.ndarray:
        rows, position, count = self._rows(), self.now.position, self.position.max + 1
        tile_px = max(36, min(64, (PAGE_PX - 110) // count - GAP_PX))
        unit = f"{self._unit} " if tile_px > 50 else ""  # if there is room
        overview = mosaic(
            {f"{r.name}\n{r.scale}".strip(): list(r.pictures) for r in rows},
            column_labels=[f"{unit}{p}" for p in range(count)],
            edges=[[r.colour] * count for r in rows],
            chosen=position,
            tile_px=tile_px,
            gap_px=GAP_PX,
        )
        labels = [f"{r.name} {r.frames[position]}" if r.frames else r.name for r in rows]
        look = {"edges": [[r.colour for r in rows]], "tile_px": 128, "gap_px": GAP_PX}
        closeup = mosaic({"": [r.pictures[position] for r in rows]}, column_labels=labels, **look)
        return stacked(overview, closeup)

    def _caption(self) -> str:
        """Describe what is enlarged, how the rows are related, and their ranges."""
        maps, stage, position = self._maps[self.now.stage], self.now.stage, self.now.position
        by_activity = self._by_activity[stage]
        rank = by_activity.index(self.channel) + 1
        active = "the most active" if rank == 1 else f"number {rank} in activity"
        enlarged = f"{self._unit} {position}"
        if self._pairs:
            enlarged += f", frame {2 * position} (little) and frame {2 * position + 1} (big)"
        story = f"No branches here: the same layers work on every {self._unit}."
        if "merged" in maps:
            feeds = "" if self._pairs else "Every frame feeds both branches. "
            smaller = maps["big"].shape[-2:] != maps["little"].shape[-2:]  # not so in the stem
            half = " (shown enlarged: it has half the resolution)" if smaller else ""
            rest = "negatives cut; out, after the fusion, mixes all channels of merged."
            story = f"{feeds}Merged is little + big{half}, {rest}"
        ranges = []
        for name, m in maps.items():
            low, high = m[:, self.channel].aminmax()
            ranges.append(f"{name} {m.shape[2]} x {m.shape[3]}, {low:.2f} to {high:.2f}")
        return paragraph(
            f"<code>{stage}, channel {self.channel} of {len(by_activity)}</code>, {active}; "
            f"enlarged: {enlarged}. {story}<br>"
            f"Size in pixels and range over the clip: {'; '.join(ranges)}. "
            "White is 0, red positive, blue negative, full colour at the number beside the row."
        )


def _maps(model: VideoNet, clip: Tensor) -> dict[str, dict[str, Tensor]]:
    """Return stage to name to maps (positions, C, h, w), on the CPU."""
    points = capture_points(model)
    # Stage to name to point: "little" to "stage1.little", but "stage4.0" to itself.
    found = {s: {part: f"{s}.{part}" for part in MERGE if f"{s}.{part}" in points} for s in STAGES}
    if "stem.merged" in points:  # stage 4 shows its blocks
        found["stage4"] = {name: name for name in points if re.fullmatch(r"stage4\.\d+", name)}
    wanted = [point for names in found.values() for point in names.values()]
    with torch.no_grad(), evaluating(model), capture(model, wanted) as cache:
        model(clip.to(next(model.parameters())))
    maps = {point: cache[point][0].float().cpu() for point in wanted}
    return {stage: {n: maps[p] for n, p in names.items()} for stage, names in found.items()}
