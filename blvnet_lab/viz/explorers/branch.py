"""Look into both branches at once: what each frame of a pair becomes, and how the two merge.

BranchExplorer(model, clip)          # clip (T, 3, H, W), as the model gets it
"""

from __future__ import annotations

import re
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from blvnet_lab.data import denormalize
from blvnet_lab.introspect import capture
from blvnet_lab.introspect.capture import evaluating
from blvnet_lab.models import VideoNet, capture_points
from blvnet_lab.viz.handling import turn
from blvnet_lab.viz.images import as_images, mosaic, paragraph, png, stacked, underlined, written
from blvnet_lab.viz.theme import BRANCH_COLOURS, GREY, coloured
from blvnet_lab.viz.widgets import PicturedWidget

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
MERGE = ("little", "big", "merged", "out")  # in the order in which they are computed
BY_NUMBER, BY_ACTIVITY = "by number", "most active first"
PAGE_PX = 860  # width of the picture: the page of a notebook
GAP_PX = 10  # between tiles: room for the frame around the chosen column
STEP_MS = 400  # from position to position, while playing


class _Row(NamedTuple):
    name: str  # "little frame", "little map", ...
    numbers: list[int]  # of the frames; empty for maps
    scale: str  # what full red is, for maps
    colour: str  # of its edges
    pictures: np.ndarray  # (positions, h, w, 3) uint8


class BranchExplorer(PicturedWidget):
    """Maps of one clip, channel by channel; in Python, set ``.value`` of the controls.

    The controls: ``stage``, ``slider`` (channel), ``order`` (of the channels) and ``position`` (the
    pair that is enlarged). What they change: ``maps``, a picture, and its ``caption``. ``channel``
    is the number of the channel shown.

    Everything is captured once, at the start, in eval mode; the model stays as it is. White is 0,
    red positive, blue negative. Little, big and merged share one scale, so that merged can be seen
    to be their sum with the negatives cut; out has its own. "Active" is the mean absolute value,
    over the clip, of merged, or of out where there are no branches.

    Args:
        model: one of the four architectures, of any size.
        clip: (T, 3, H, W) or (1, T, 3, H, W), normalised.
        frames: what to show as the clip's frames, (T, 3, h, w) uint8. If None, the clip itself; or
            no frames, if it is no picture (optical flow has ten channels).

    Raises:
        TypeError: a clip that is no tensor.
        ValueError: several clips, or a clip that the model does not take; frames of another shape,
            type or number.
    """

    def __init__(
        self, model: VideoNet, clip: Tensor, frames: Tensor | np.ndarray | None = None
    ) -> None:
        clip = clip[None] if isinstance(clip, Tensor) and clip.ndim == 4 else clip
        model.check_clip(clip)
        if len(clip) != 1:
            raise ValueError(
                f"expected one clip, (T, 3, H, W) or (1, T, 3, H, W), got {len(clip)} of them; "
                "pass clips[0]"
            )
        self._num_frames, in_channels = clip.shape[1:3]
        frames = denormalize(clip[0]) if frames is None and in_channels == 3 else frames
        self._frames = None if frames is None else as_images(frames)
        if self._frames is not None and len(self._frames) != self._num_frames:
            raise ValueError(
                f"expected as many frames as the clip has, {self._num_frames}, got "
                f"{len(self._frames)}; leave them out to see the clip itself"
            )
        self._size = tuple(clip.shape[-2:])
        self._what = getattr(model, "architecture", type(model).__name__)
        self._pairs = model.pairs
        self._maps = _maps(model, clip)
        self._num_positions = len(next(iter(self._maps["stem"].values())))
        self._make_controls()
        # What is shown. Controls may be ahead of it: what they are set to waits for its turn.
        self._order, self._place, self._position = self.order.value, 0, 0
        self._choose_stage(self.stage.value)
        super().__init__(self._arranged())
        self.add_class("blvnet-branch-explorer")  # for style sheets and browser tests
        for part in ("maps", "caption", "slider", "position"):
            getattr(self, part).add_class(f"blvnet-branch-{part}")

    def _make_controls(self) -> None:
        fitting = {"button_width": "max-content"}
        self.stage = widgets.ToggleButtons(options=STAGES, style=fitting)
        self.slider = widgets.IntSlider(min=0, description="channel")
        self.order = widgets.ToggleButtons(options=(BY_NUMBER, BY_ACTIVITY), style=fitting)
        last = self._num_positions - 1
        self.play = widgets.Play(min=0, max=last, interval=STEP_MS)
        self.position = widgets.IntSlider(min=0, max=last, description=self._unit)
        # Left to itself, a picture is stretched to the width of the page.
        natural = widgets.Layout(align_self="flex-start", max_width="100%")
        self.maps = widgets.Image(format="png", layout=natural)
        self.caption = widgets.HTML()
        # Linked in the browser, both ways; at first both have the first one's value.
        self._link = widgets.jslink((self.position, "value"), (self.play, "value"))
        self._on(self.stage, self._choose_stage)
        self._on(self.slider, self._choose_place)
        self._on(self.order, self._choose_order)
        self._on(self.position, self._choose_position)

    def _arranged(self) -> list[widgets.Widget]:
        wrapping = widgets.Layout(flex_flow="row wrap", align_items="center")
        return [
            self.stage,
            widgets.HBox([self.slider, self.order], layout=wrapping),
            widgets.HBox([self.play, self.position], layout=wrapping),
            self.maps,
            self.caption,
        ]

    @property
    def _unit(self) -> str:
        return "pair" if self._pairs else "frame"

    @property
    def channel(self) -> int:
        """The number of the channel that is shown."""
        if self._order == BY_NUMBER:
            return self._place
        return int(self._by_activity[self._place])

    def _choose_stage(self, stage: str) -> None:
        self._stage, maps = stage, self._maps[stage]
        basis = maps["merged"] if "merged" in maps else list(maps.values())[-1]
        self._by_activity = basis.abs().mean((0, 2, 3)).argsort(descending=True, stable=True)
        with self._quietly():
            self.slider.max = basis.shape[1] - 1  # may move it
        self._choose_place(self._place)

    def _choose_place(self, place: int) -> None:
        self._place = min(place, self.slider.max)  # of the channel in the order that was chosen
        with self._quietly():
            self.slider.value = self._place
        self._draw()

    def _choose_order(self, order: str) -> None:
        self._order = order
        self._draw()

    def _choose_position(self, position: int) -> None:
        self._position = position
        self._draw()

    # ------------------------------------------------------------ drawing

    def _draw(self) -> None:
        self.maps.value = png(self._picture())
        self.caption.value = self._caption()

    def _rows(self) -> list[_Row]:
        """Frames and maps in the order of computation, at every position."""
        maps = {name: m[:, self.channel] for name, m in self._maps[self._stage].items()}
        limits = {name: _limit(maps, name) for name in maps}

        def row_of(name: str) -> _Row:
            label = f"{name} map" if name in BRANCH_COLOURS else name
            colour = BRANCH_COLOURS.get(name, GREY)
            pictures = coloured(maps[name], limits[name])
            return _Row(label, [], f"±{limits[name]:.2g}", colour, pictures)

        if not self._pairs:
            return [*self._frame_row("frame", GREY, slice(None)), *map(row_of, maps)]
        rows = []
        for first, (branch, colour) in enumerate(BRANCH_COLOURS.items()):
            rows += self._frame_row(f"{branch} frame", colour, slice(first, None, 2))
            rows += [row_of(branch)] if branch in maps else []
        return rows + [row_of(name) for name in maps if name not in BRANCH_COLOURS]

    def _frame_row(self, name: str, colour: str, which: slice) -> list[_Row]:
        """One row, or none where there is nothing to show."""
        if self._frames is None:
            return []
        numbers = list(range(self._num_frames))[which]
        return [_Row(name, numbers, "", colour, self._frames[which])]

    def _picture(self) -> np.ndarray:
        rows, position = self._rows(), self._position
        count = self._num_positions
        tile_px = max(36, min(64, (PAGE_PX - 110) // count - GAP_PX))
        unit = f"{self._unit} " if tile_px > 50 else ""  # as far as there is room
        overview = mosaic(
            {f"{row.name}\n{row.scale}".strip(): list(row.pictures) for row in rows},
            column_labels=[f"{unit}{p}" for p in range(count)],
            row_colours=[row.colour for row in rows],
            chosen=position,
            tile_px=tile_px,
            gap_px=GAP_PX,
        )
        closeup = mosaic(
            {"": [row.pictures[position] for row in rows]},
            column_labels=[
                f"{row.name} {row.numbers[position]}" if row.numbers else row.name for row in rows
            ],
            column_colours=[row.colour for row in rows],
            tile_px=128,
            gap_px=GAP_PX,
        )
        return stacked([overview, closeup])

    def _caption(self) -> str:
        maps = self._maps[self._stage]
        count, rank = self.slider.max + 1, self._by_activity.tolist().index(self.channel) + 1
        ranges = []
        for name, m in maps.items():
            height, width = m.shape[-2:]
            low, high = m[:, self.channel].min(), m[:, self.channel].max()
            ranges.append(f"{name} {height} x {width}, {low:.2f} to {high:.2f}")
        where = f"{self._stage}, channel {self.channel} of {count}"
        active = "the most active" if rank == 1 else f"number {rank} in activity"
        return paragraph(
            f"<code>{where}</code>, {active}; enlarged: {self._enlarged()}. {self._story()}<br>"
            f"Size in pixels and range over the clip: {'; '.join(ranges)}. "
            "White is 0, red positive, blue negative, full colour at the number beside the row."
        )

    def _enlarged(self) -> str:
        position, stage = self._position, self._stage
        if not self._pairs:
            return f"frame {position}"
        first, second = f"frame {2 * position}", f"frame {2 * position + 1}"
        if stage == "stem":
            first += f" goes to the {underlined('little')} branch"
            second += f" to the {underlined('big')} one"
            return f"pair {position}: {first}, {second}"
        before = f"{STAGES[STAGES.index(stage) - 1]}.out"
        branches = "both branches start from" if "merged" in self._maps[stage] else "it starts from"
        return f"pair {position}, {first} and {second}; {branches} the pair's map in {before}"

    def _story(self) -> str:
        """What the rows have to do with each other."""
        maps = self._maps[self._stage]
        if "merged" in maps:
            feeds = "" if self._pairs else "Every frame feeds both branches. "
            smaller = maps["big"].shape[-2:] != maps["little"].shape[-2:]  # not so in the stem
            enlarged = " (shown enlarged: it has half the resolution)" if smaller else ""
            return (
                f"{feeds}Merged is little + big{enlarged}, negatives cut; out, "
                "after the fusion, mixes all channels of merged."
            )
        if self._pairs or len(maps) > 1:
            return f"Stage4 has no branches: its blocks work on one map a {self._unit}."
        return "There are no branches: the same layers work on every frame."

    # ------------------------------------------------------------ where no kernel runs

    def static_picture(self) -> np.ndarray:
        with turn():
            text = (
                f"{self._what}, {self._stage}, channel {self.channel}; below, {self._unit} "
                f"{self._position}. White is 0, red positive, blue negative."
            )
            return stacked([self._picture(), written([text])])

    def summary(self) -> str:
        height, width = self._size
        return f"BranchExplorer({self._what}, {self._num_frames} frames of {height}x{width})"


def _maps(model: VideoNet, clip: Tensor) -> dict[str, dict[str, Tensor]]:
    """Stage to name to maps (positions, C, h, w), on the CPU."""
    points = capture_points(model)
    found: dict[str, list[str]] = {}
    for stage in STAGES:
        names = [name for name in (f"{stage}.{part}" for part in MERGE) if name in points]
        if stage == "stage4" and "stem.merged" in points:  # blocks instead of branches
            names = [name for name in points if re.fullmatch(r"stage4\.\d+", name)]
        found[stage] = names
    wanted = [name for names in found.values() for name in names]
    with torch.no_grad(), evaluating(model), capture(model, wanted, to_cpu=True) as cache:
        model(clip.to(next(model.parameters())))
    return {
        stage: {_short(name): cache[name][0].float() for name in names}
        for stage, names in found.items()
    }


def _short(point: str) -> str:
    """ "little" of "stage1.little"; blocks keep their whole name, "stage4.0"."""
    last = point.rpartition(".")[2]
    return last if last in MERGE else point


def _limit(maps: dict[str, Tensor], name: str) -> float:
    """What is shown in full colour: out for itself, all others in one scale."""
    together = [m for other, m in maps.items() if (other == "out") == (name == "out")]
    return max(m.nan_to_num(0, 0, 0).abs().max().item() for m in together)
