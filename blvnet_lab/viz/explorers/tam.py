"""The temporal aggregation modules of a network, from the overview down to the arithmetic.

from blvnet_lab.viz.explorers.tam import TamExplorer

explorer = TamExplorer(model, clip, class_names=names, label=3)
explorer                                # as the last line of a cell: the widget
explorer.taps["prev"].value = 0.5       # what dragging the slider does
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import ipywidgets as widgets
import numpy as np
from torch import Tensor

from blvnet_lab.data import denormalize
from blvnet_lab.models import BigLittleNet, capture_points
from blvnet_lab.viz.explorers import tam_arithmetic, tam_controls, tam_maps, tam_views
from blvnet_lab.viz.explorers.tam_edits import TamEdits, checked_names, shift_of
from blvnet_lab.viz.explorers.tam_views import WIDTH, heading
from blvnet_lab.viz.handling import turn
from blvnet_lab.viz.images import as_images, png, stacked, underlined
from blvnet_lab.viz.widgets import PicturedWidget

SLOW_S = 0.15  # where a forward pass takes longer, pictures wait until a slider is let go
SLOW_TRIES = 3  # a quick model may be slow once, on a busy machine
SLOW_NOTE = "This model takes its time: let go of a slider to see what follows."
BRANCHES = (
    f" (TAM); lines: {underlined('little')} and {underlined('big')} branch; bars: roles of channels"
)


class TamExplorer(PicturedWidget):
    """Three linked views of a network's temporal aggregation modules (TAM).

    The network with its TAMs; the channels of the chosen TAM by what they do with time; the chosen
    channel at one position, tap by tap. The taps may be changed; pictures and class probabilities
    follow. What was changed stays until reset, in this widget, which works on a copy of the model:
    the model is left as it is, and later changes of it are not seen; for them, make a new explorer.

    From Python, set `.module.value` (a name), `.channel.value`, `.frame.value` (in stage 4 a pair),
    `.taps["prev"].value`, `.scope.value` ("this channel", "this TAM" or "all TAMs"), and call
    `.presets["identity"].click()` or `.reset.click()`; `.arithmetic` holds the numbers shown. Taps
    have the names of `introspect.tam_weights`.

    Args:
        model: a `BigLittleNet` with TAMs, on any device; it is run in eval mode.
        clip: (1, T, 3, H, W) or (T, 3, H, W), normalised.
        class_names: one per class; "class 0" and so on if None.
        label: the clip's class; None if unknown.

    Raises:
        ValueError: a model without TAM; a clip that it does not take, or more than one; names or a
            label that do not fit its classes.
    """

    def __init__(
        self,
        model: BigLittleNet,
        clip: Tensor,
        class_names: Sequence[str] | None = None,
        label: int | None = None,
    ) -> None:
        self._edits = TamEdits(model, clip)
        self._class_names = checked_names(class_names, label, model.classifier.out_features)
        self._label = label
        frames = self._edits.clip[0]
        # Ten channels of optical flow are no picture.
        self._frames = as_images(denormalize(frames)) if frames.shape[1] == 3 else None
        points = capture_points(model)
        self._branched = [p.removesuffix(".big") for p in points if p.endswith(".big")]
        self._note = ""

        self._before = self._edits.scores()  # the first pass is slower than those that follow
        self._slow = all(self._pass_s() > SLOW_S for _ in range(SLOW_TRIES))
        self._make_controls()
        self._make_outputs()
        super().__init__(
            self._arranged(),
            layout=widgets.Layout(width=f"{WIDTH + 8}px", align_items="flex-start"),
        )
        self.add_class("blvnet-tam-explorer")
        # What is shown. Controls may be ahead of it: what they are set to waits for its turn.
        self._position, self._scope = self.frame.value, self.scope.value
        self._choose_module(self.module.value)
        self._show_scores()

    def _pass_s(self) -> float:
        """Seconds that one forward pass takes."""
        start = time.perf_counter()
        self._edits.scores()
        return time.perf_counter() - start

    # ------------------------------------------------------------ parts

    def _make_controls(self) -> None:
        learned = self._edits.learned
        self.module = tam_controls.module_buttons(learned)
        self.channel = tam_controls.channel_slider()
        self.play, self.frame = tam_controls.frame_slider(self._edits.clip.shape[1])
        # Linked in the browser, both ways; what is shown first is the first one's value.
        self._link = widgets.jslink((self.frame, "value"), (self.play, "value"))
        names = tam_views.tap_names(self._edits.num_taps, self._edits.first_offset)
        self.taps = tam_controls.tap_sliders(learned, names, continuous=not self._slow)
        self._preset_words = tam_controls.preset_words(self._edits.num_taps, self._edits.causal)
        self.presets = tam_controls.preset_buttons(self._preset_words)
        self.scope = tam_controls.scope_buttons()
        self.reset = tam_controls.reset_button()
        self._wire()

    def _wire(self) -> None:
        self._on(self.module, self._choose_module)
        self._on(self.channel, self._choose_channel)
        self._on(self.frame, self._choose_position)
        self._on(self.scope, self._choose_scope)
        for index, slider in enumerate(self.taps.values()):
            self._on(slider, partial(self._set_tap, index))
            slider.add_class("blvnet-tam-tap")
        for name, button in self.presets.items():
            self._on_click(button, partial(self._apply, name))
            button.add_class("blvnet-tam-preset")
        self._on_click(self.reset, self._reset)
        for name in ("module", "channel", "frame", "scope", "reset"):
            getattr(self, name).add_class(f"blvnet-tam-{name}")

    def _make_outputs(self) -> None:
        texts = ("network", "legend", "title", "numbers", "pair-taps", "scores", "message")
        self._html = {name: widgets.HTML() for name in texts}
        self._images = {n: widgets.Image(format="png") for n in ("strip", "arithmetic", "maps")}
        for name, part in (self._html | self._images).items():
            part.add_class(f"blvnet-tam-{name}")

    def _arranged(self) -> list[widgets.Widget]:
        count = len(self._edits.learned)
        html, images = self._html, self._images
        scope = widgets.HBox([widgets.HTML("Set"), self.scope, self.reset])
        presets = widgets.HBox([widgets.HTML("to"), *self.presets.values()])
        left = widgets.VBox([*self.taps.values(), scope, presets, html["message"]])
        left.layout = widgets.Layout(width=f"{WIDTH - 344}px", flex="0 0 auto")
        html["scores"].layout.width = "344px"
        html["title"].layout.width = "400px"  # else the play button would move with its text
        html["message"].layout.min_height = "36px"  # two lines, or all below would move
        return [
            widgets.HTML(
                heading(1, f"The network and its {count} temporal aggregation modules{BRANCHES}")
            ),
            html["network"],
            self.module,
            html["legend"],
            images["strip"],
            self.channel,
            widgets.HBox([html["title"], self.play, self.frame]),
            widgets.HBox([left, html["scores"]]),
            images["arithmetic"],
            html["numbers"],
            html["pair-taps"],
            images["maps"],
        ]

    # ------------------------------------------------------------ what the user does

    def _choose_module(self, name: str) -> None:
        taps, roles = self._edits.learned[name], self._edits.roles[name]
        self._order = tam_views.channel_order(taps, roles)
        self._name, self._channel = name, self._order[0]
        self._input = self._edits.maps_into(name)
        count, shown = len(self._input), self.frame.max + 1
        with self._quietly():
            self.channel.options = [(f"{c} {roles[c]}", c) for c in self._order]
            if count < shown:  # the pair of the same frame
                self._position //= 2
                tam_controls.to_pairs(self.play, self.frame, count, self._position)
            elif count > shown:  # the little frame of the same pair
                self._position *= 2
                tam_controls.to_frames(self.play, self.frame, count, self._position)
            self.frame.description = "pair" if self._edits.kind(name) == "pairs" else "frame"
        title = heading(2, f"The channels of {name}, by what they learned to do")
        self._html["legend"].value = title + tam_views.role_legend(roles)
        self._choose_channel(self._channel)

    def _choose_channel(self, channel: int) -> None:
        if channel in self._order:  # else it was chosen in a TAM that is gone by now
            self._channel = channel
        with self._quietly():
            self.channel.value = self._channel
        self._show_taps()
        self._draw()

    def _choose_position(self, position: int) -> None:
        self._position = min(position, len(self._input) - 1)
        with self._quietly():
            self.frame.value = self._position
        self._draw()

    def _choose_scope(self, scope: str) -> None:
        self._scope = scope

    def _set_tap(self, index: int, value: float) -> None:
        self._edits.taps[self._name][index, self._channel] = value
        self._note = ""
        with self._quietly():  # an earlier turn may have set it to another channel's
            list(self.taps.values())[index].value = tam_controls.on_slider(value)
        self._draw()
        self._show_scores()

    def _apply(self, preset: str) -> None:
        name, channel, scope = self._name, self._channel, self._scope
        everywhere = scope == "all TAMs"
        names = list(self._edits.learned) if everywhere else [name]
        self._edits.apply(preset, names, channel if scope == "this channel" else None)
        self._note = f"{preset}, {scope}: {self._preset_words[preset]}."
        if preset == "TSM shift" and scope == "this channel":
            channels = len(self._edits.roles[name])
            how = shift_of(channel, channels, self._edits.causal)
            self._note = f"TSM shift of {channels} channels: this one {how}."
        self._after_edits()

    def _reset(self) -> None:
        self._edits.reset()
        self._note = ""
        self._after_edits()

    def _after_edits(self) -> None:
        """Earlier TAMs may have changed: what goes into this one is computed anew."""
        self._input = self._edits.maps_into(self._name)
        self._show_taps()
        self._draw()
        self._show_scores()

    # ------------------------------------------------------------ what is shown

    def _show_taps(self) -> None:
        column = self._edits.taps[self._name][:, self._channel]
        with self._quietly():
            for slider, tap in zip(self.taps.values(), column.tolist(), strict=True):
                slider.value = tam_controls.on_slider(tap)

    def _draw(self) -> None:
        """Everything but the scores."""
        name, channel, position = self._name, self._channel, self._position
        edits, kind, first = self._edits, self._edits.kind(name), self._edits.first_offset
        maps = self._input[:, channel].double().cpu()
        limit = maps.nan_to_num(0, 0, 0).abs().max().item() or 1.0
        learned, current = edits.learned[name][:, channel], edits.taps[name][:, channel]
        now = self.arithmetic = tam_arithmetic.arithmetic(maps, current, first, position)
        drawn = {
            "strip": tam_views.strip(
                edits.taps[name], list(self.taps), edits.roles[name], self._order, channel
            ),
            "arithmetic": tam_arithmetic.arithmetic_picture(now, position, kind, limit),
            "maps": tam_maps.maps_picture(
                frames=self._frames,
                maps=maps,
                learned=tam_arithmetic.aggregated(maps, learned, first),
                current=tam_arithmetic.aggregated(maps, current, first),
                chosen=position,
                kind=kind,
                limit=limit,
            ),
        }
        self._drawn = drawn
        for picture, array in drawn.items():
            self._images[picture].value = png(array)
        where = tam_arithmetic.position_name(position, kind)
        texts = {
            "network": tam_views.network_svg(edits.roles, self._branched, name, edits.changed()),
            "title": heading(3, f"Channel {channel} of {name} at {where}"),
            "numbers": tam_arithmetic.in_numbers(now, limit),
            "pair-taps": tam_arithmetic.pair_taps_html(
                edits.pair_taps(name), channel, position, kind
            ),
            "message": tam_views.message_html(
                self._note, edits.changed(), {n: len(roles) for n, roles in edits.roles.items()}
            ),
        }
        for text, html in texts.items():
            self._html[text].value = html

    def _show_scores(self) -> None:
        self._html["scores"].value = tam_views.scores_html(
            self._edits.scores(),
            self._before if self._edits.changed() else None,
            self._class_names,
            self._label,
            note=SLOW_NOTE if self._slow else "",
        )

    # ------------------------------------------------------------ where no kernel runs

    def static_picture(self) -> np.ndarray:
        with turn():
            overview = tam_views.overview(self._edits.learned, self._name)
            return stacked([overview, *self._drawn.values()])

    def summary(self) -> str:
        """One line, the same on every machine."""
        frames, _, height, width = self._edits.clip.shape[1:]
        return f"TamExplorer({len(self._edits.roles)} TAMs, {frames} frames of {height}x{width})"
