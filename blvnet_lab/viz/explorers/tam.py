"""Explore a network's temporal aggregation modules, from the overview down to the arithmetic.

explorer = TamExplorer(model, clip, class_names=names, label=3)
explorer                                # as the last line of a cell: the widget
explorer.taps["prev"].value = 0.5       # what dragging the slider does
"""

import copy
import math
from collections.abc import Iterable
from functools import partial

import ipywidgets as widgets
import torch
from torch import Tensor

from blvnet_lab.introspect import centred_taps, channel_roles
from blvnet_lab.introspect.taps import tams, tap_name
from blvnet_lab.models import TAM, PairTAM, VideoNet, capture_points
from blvnet_lab.models.networks import architecture_of
from blvnet_lab.viz.explorers import base, tam_views
from blvnet_lab.viz.explorers.base import Explorer, Names
from blvnet_lab.viz.explorers.tam_views import LABELS, WIDTH, Arithmetic, Kind, heading
from blvnet_lab.viz.images import underlined
from blvnet_lab.viz.theme import branch_of

TAP_LIMIT = 2.0  # range of the tap sliders; doubled until it holds the largest learned tap
# In the browser a slider rounds its value to its steps, and sends that back as if the user had
# moved it. Binary fractions on a range that is a power of two come back unchanged.
STEP = 1 / 512
PLAY_MS = 500  # per position while playing
MODULES = {"TAM": "temporal aggregation modules (TAM)", "shift": "shifts in time (TSM)"}
BRANCHES = f"; lines: {underlined('little')} and {underlined('big')} branch"
PRESETS = {
    "identity": "only the map itself, as if there were no TAM",
    "TSM shift": "1/8 of the channels from the position before, 1/8 from the next, if it is known",
    "difference": "curr 1, prev −1: what has changed since the position before",
    "average": "all taps alike",
    "own": "the model's own taps",
}


class TamExplorer(Explorer):
    """See a network's temporal aggregation modules (TAM), or a TSM's shifts, in three linked views.

    They show the network with its TAMs; the channels of the chosen TAM by what they do with time;
    the chosen channel at one position, tap by tap. The taps can be changed, in a copy of the model;
    pictures and class probabilities follow.

    From Python, set `.module.value` (a name), `.channel.value`, `.frame.value` (in stage 4 a pair),
    `.taps["prev"].value` (named as in `introspect.tam_weights`), `.scope.value` ("this channel",
    "this TAM" or "all TAMs"), and call `.presets["identity"].click()` or `.reset.click()`;
    `.steps` holds the numbers shown.

    Args:
        model: with TAMs or shifts, on any device; or taps alone, from `load_taps`, which cannot be
            run and are shown with an example.
        clip: (1, T, C, H, W) or (T, C, H, W), normalised; if None, an example is shown.
        class_names: one per class; "class 0" and so on if None.
        label: the clip's class; None if unknown.

    Raises ValueError for a model without TAMs, and for a clip or names that do not fit it.
    """

    def __init__(
        self,
        model: VideoNet,
        clip: Tensor | None = None,
        class_names: Names = None,
        label: int | None = None,
    ) -> None:
        super().__init__()
        self._edits = TamEdits(model, clip)
        self._names, self._label = base.checked_names(class_names, model), label
        clip = self._edits.clip
        self._frames = None if clip is None else base.pictures_of(clip)
        points = capture_points(model)
        self._branched = [p.removesuffix(".big") for p in points if p.endswith(".big")]
        self._note = ""  # what the last button did
        self._make_controls()
        self._make_taps()
        self._before, _ = self._edits.run(self.now.module)
        self._choose_module(self.now.module)
        shown = "taps alone" if clip is None else base.size_text(clip)
        self.about = f"TamExplorer({len(self._edits.roles)} {self._edits.what}s, {shown})"
        self.layout = {"width": f"{WIDTH + 8}px", "align_items": "flex-start"}
        self._arrange(*self._layout())

    def _make_controls(self) -> None:
        learned, what, look = self._edits.learned, self._edits.what, _sizes(WIDTH, LABELS - 12)
        modules = widgets.SelectionSlider(options=list(learned), description=what, **look)
        if len(learned) <= tam_views.FEW_TAMS:
            width = f"{WIDTH / len(learned) - 4:.0f}px"  # one button under every TAM in the picture
            modules = widgets.ToggleButtons(options=list(learned), style={"button_width": width})
            modules.tooltips = [f"{n}: {taps.shape[1]} channels" for n, taps in learned.items()]
        self._control("module", modules, self._choose_module)
        channels = widgets.SelectionSlider(options=[("", 0)], description="channel", **look)
        self._control("channel", channels)
        look, count = {"description": "frame", **_sizes(270, 40)}, self._edits.model.num_frames
        frame = widgets.IntSlider(max=count - 1, value=count // 2, **look)
        self._player("frame", frame, PLAY_MS)
        scopes = ("this channel", f"this {what}", f"all {what}s")
        self._choice("scope", scopes).style.button_width = "104px"

    def _make_taps(self) -> None:
        learned = self._edits.learned.values()
        largest = max(taps.nan_to_num(0, 0, 0).abs().max().item() for taps in learned)
        limit, look = max(TAP_LIMIT, 2.0 ** math.frexp(largest)[1]), _sizes(440, 40)
        self.taps, self.presets = {}, {}
        for index, name in enumerate(self._edits.names):
            tap = widgets.FloatSlider(min=-limit, max=limit, step=STEP, description=name, **look)
            self.taps[name] = self._named("tap", tap)
            self._observe(tap, partial(self._set_tap, index))
        for name in self._edits.presets:
            action = partial(self._apply, name)
            self.presets[name] = self._button("preset", name, action, PRESETS[name])
        self._button("reset", "reset all", self._reset, "the model's own taps everywhere")
        for button in (*self.presets.values(), self.reset):
            button.layout.width = "88px"

    def _layout(self) -> list[widgets.Widget]:
        # Fixed widths and heights keep the layout from moving with the texts.
        scopes = widgets.HBox([widgets.HTML("Set"), self.scope, self.reset])
        presets = widgets.HBox([widgets.HTML("to"), *self.presets.values()])
        message = self._text("message", min_height="36px")  # two lines
        left = widgets.VBox([*self.taps.values(), scopes, presets, message])
        left.layout = {"width": f"{WIDTH - 344}px", "flex": "0 0 auto"}
        title = f"The network and its {len(self._edits.learned)} {MODULES[self._edits.what]}"
        title += BRANCHES if self._branched else "; above: shortcuts"
        title = widgets.HTML(heading(1, title + "; bars: roles of channels"))
        network = [title, self._image("network"), self.module]
        channels = [self._text("legend"), self._image("strip"), self.channel]
        place = widgets.HBox([self._text("title", width="400px"), self.play, self.frame])
        edits = widgets.HBox([left, self._text("scores", width="344px")])
        steps = [self._image("arithmetic"), self._text("numbers"), self._image("maps")]
        return [*network, *channels, place, edits, *steps]

    def _choose_module(self, name: str) -> None:
        taps, roles = self._edits.learned[name], self._edits.roles[name]
        self._order = tam_views.channel_order(taps, roles)
        self.now.module, self.now.channel, self._stale = name, self._order[0], True
        self.channel.options = [(f"{c} {roles[c]}", c) for c in self._order]
        frames, unit = self._edits.model.num_frames, "frame"
        if self._edits.kind(name) == "pairs":
            frames, unit = frames // 2, "pair"
        if unit != self.frame.description:  # go to the frame's pair, or to the pair's little frame
            self.now.frame = self.now.frame // 2 if unit == "pair" else 2 * self.now.frame
        self.frame.description = unit
        self._set_range(self.frame, frames - 1, self.now.frame)

    def _set_tap(self, index: int, value: float) -> None:
        self._edits.taps[self.now.module][index, self.now.channel] = value
        self._stale = True

    def _reset(self) -> None:
        self._edits.apply("own", self._edits.tams)
        self._stale = True

    def _apply(self, preset: str) -> None:
        scope = self.now.scope
        names = self._edits.tams if scope.startswith("all") else [self.now.module]
        channels = self.now.channel if scope == "this channel" else slice(None)
        self._edits.apply(preset, names, channels)
        self._note, self._stale = f"{preset}, {scope}: {PRESETS[preset]}.", True

    def draw(self) -> None:
        edits, name, channel = self._edits, self.now.module, self.now.channel
        if self._stale:
            self._scores, self._input = edits.run(name)
            self._stale = False
        learned, taps = (t[name][:, channel].cpu().double() for t in (edits.learned, edits.taps))
        for slider, tap in zip(self.taps.values(), taps.nan_to_num(0, 0, 0).tolist(), strict=True):
            slider.value = round(tap / STEP) * STEP
        maps, kind = self._input[:, channel].cpu().double(), edits.kind(name)
        self.steps = steps = Arithmetic(maps, taps, edits.first_offset, self.now.frame, kind)
        changed, roles = edits.changed(), edits.roles[name]
        network = tam_views.network_picture(edits.roles, self._branched, name, changed, edits.what)
        self._show("network", network)
        strip = tam_views.strip(edits.taps[name], edits.names, roles, self._order, channel)
        self._show("strip", strip)
        self._show("arithmetic", tam_views.arithmetic_picture(steps, edits.names))
        self._show("maps", tam_views.maps_picture(steps, learned, self._frames))
        legend = heading(2, f"The channels of {name}, by what they do with time")
        self.legend.value = legend + tam_views.role_legend(roles)
        at = steps.position
        of_pair = f" ({branch_of(at)}, pair {at // 2})" if steps.branched else ""
        title = f"Channel {channel} of {name} at {steps.unit} {at}{of_pair}"
        self.title.value = heading(3, title)
        self.numbers.value = tam_views.in_numbers(steps)
        self.message.value = tam_views.message_text(self._note, changed, edits.roles)
        self._note = ""
        before = self._before if changed else None
        self.scores.value = tam_views.score_text(self._scores, before, self._names, self._label)


def _sizes(width: int, label: int) -> dict[str, dict[str, str]]:
    """Fix the widths of a slider and of its label, in pixels."""
    return {"style": {"description_width": f"{label}px"}, "layout": {"width": f"{width}px"}}


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
        clip = None if clip is None else base.one_clip(model, clip)
        weight = next(model.parameters())
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
                scores = base.probabilities(self.model, self.model(self.clip)[0]).tolist()
            ((maps,),) = kept
        return scores, maps.repeat_interleave(2, 0) if kind == "twins" else maps
