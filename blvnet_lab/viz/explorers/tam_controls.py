"""The controls of `TamExplorer`: what they look like, not what they do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
from torch import Tensor

from blvnet_lab.viz.explorers.tam_views import LABELS, WIDTH

TAP_LIMIT = 2.0  # of the tap sliders; doubled until the largest learned tap is inside
# A slider rounds what it is given to its steps, in the browser, and sends that back as if the user
# had moved it. Binary fractions on a range that is a power of two come back as they are.
STEP = 1 / 512
PLAY_MS = 500  # from position to position
SCOPES = ("this channel", "this TAM", "all TAMs")
PRESET_WORDS = {
    "identity": "only the map itself, as if there were no TAM",
    "TSM shift": "1/8 of the channels from the next position, 1/8 from the one before",
    "difference": "curr 1, prev −1: what is new since the position before",
    "average": "all taps alike",
    "learned": "the model's own taps",
}
CAUSAL_SHIFT_WORDS = "1/8 of the channels from the position before, as in TSM for live video"


def module_buttons(learned: Mapping[str, Tensor]) -> widgets.ToggleButtons:
    """One below every TAM in the drawing of the network."""
    return widgets.ToggleButtons(
        options=list(learned),
        tooltips=[f"{name}: {taps.shape[1]} channels" for name, taps in learned.items()],
        style={"button_width": f"{WIDTH / len(learned) - 4:.0f}px"},
    )


def channel_slider() -> widgets.SelectionSlider:
    """Its options are set when a TAM is chosen."""
    return widgets.SelectionSlider(
        options=[("", 0)],
        description="channel",
        style={"description_width": f"{LABELS - 12}px"},
        layout=widgets.Layout(width=f"{WIDTH}px"),
    )


def frame_slider(num_frames: int) -> tuple[widgets.Play, widgets.IntSlider]:
    """A play button and the slider that it moves, in the middle of the clip."""
    last, middle = num_frames - 1, num_frames // 2
    return widgets.Play(max=last, value=middle, interval=PLAY_MS), widgets.IntSlider(
        max=last,
        value=middle,
        style={"description_width": "40px"},
        layout=widgets.Layout(width="270px"),
    )


def to_frames(play: widgets.Play, slider: widgets.IntSlider, num_frames: int, frame: int) -> None:
    """From pairs to frames: longer sliders."""
    play.max = slider.max = num_frames - 1
    slider.value = frame


def to_pairs(play: widgets.Play, slider: widgets.IntSlider, num_pairs: int, pair: int) -> None:
    """From frames to pairs: shorter sliders.

    The values come first: values that a new range moves would go back and forth over the link.
    """
    play.value = slider.value = pair
    play.max = slider.max = num_pairs - 1


def tap_sliders(
    learned: Mapping[str, Tensor], names: Sequence[str], continuous: bool
) -> dict[str, widgets.FloatSlider]:
    """By the taps' names. `continuous`: do they speak up while they are dragged?"""
    finite = [taps.nan_to_num(0, 0, 0) for taps in learned.values()]
    largest, limit = max(taps.abs().max().item() for taps in finite), TAP_LIMIT
    while limit < largest:
        limit *= 2
    return {
        name: widgets.FloatSlider(
            min=-limit,
            max=limit,
            step=STEP,
            description=name,
            continuous_update=continuous,
            style={"description_width": "40px"},
            layout=widgets.Layout(width="440px"),
        )
        for name in names
    }


def on_slider(tap: float) -> float:
    """The place on its slider for a tap, at most half a step away; 0 if it is not finite."""
    return round(tap / STEP) * STEP if math.isfinite(tap) else 0.0


def preset_words(num_taps: int, causal: bool) -> dict[str, str]:
    """What each preset does. With a single tap there is no neighbour to shift or to subtract."""
    words = PRESET_WORDS | ({"TSM shift": CAUSAL_SHIFT_WORDS} if causal else {})
    return {name: words[name] for name in (words if num_taps > 1 else ("identity", "learned"))}


def preset_buttons(words: Mapping[str, str]) -> dict[str, widgets.Button]:
    """By preset, with what they do as tooltips."""
    return {name: _button(name, tooltip=text) for name, text in words.items()}


def reset_button() -> widgets.Button:
    return _button("reset all", tooltip="all taps of all TAMs as learned")


def _button(text: str, tooltip: str) -> widgets.Button:
    return widgets.Button(
        description=text, tooltip=tooltip, layout=widgets.Layout(width="88px", flex="0 0 auto")
    )


def scope_buttons() -> widgets.ToggleButtons:
    return widgets.ToggleButtons(options=SCOPES, style={"button_width": "104px"})
