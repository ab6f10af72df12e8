"""The Python half of the widgets, and `show`: no browser, not even a kernel."""

import base64
import importlib
import io

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from blvnet_lab.viz.show import show
from blvnet_lab.viz.widgets import FrameStepper, LiveCurves


def square_goes_right(frames: int = 6, side: int = 32) -> torch.Tensor:
    """``(T, 3, side, side)`` uint8: a red 8x8 square, 4 pixels further at each frame."""
    clip = torch.full((frames, 3, side, side), 30, dtype=torch.uint8)
    for t in range(frames):
        clip[t, 0, 12:20, 4 * t : 4 * t + 8] = 250
    return clip


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


@pytest.fixture
def stepper():
    return FrameStepper(square_goes_right(), width_px=100)


def test_slider_changes_the_picture(stepper):
    seen = []
    stepper.image.observe(lambda change: seen.append(change["new"]), names="value")
    first = picture(stepper.image.value)
    stepper.slider.value = 5  # what the browser does, minus the browser
    assert len(seen) == 1
    last = picture(stepper.image.value)
    row = 16 * 3  # every pixel is 3x3
    assert first[row, 2 * 3, 0] > 240 and first[row, 24 * 3, 0] < 40
    assert last[row, 24 * 3, 0] > 240 and last[row, 2 * 3, 0] < 40
    assert last[row, 24 * 3, 1] < 40, "channels in the wrong order"
    assert "frame 5 (0 to 5)" in stepper.caption.value


def test_slider_is_bounded(stepper):
    stepper.slider.value = 99
    assert stepper.slider.value == 5


def test_play_is_linked_in_the_browser(stepper):
    """jslink runs in JavaScript: here, only the wiring can be seen. test_browser.py plays."""
    assert stepper._link.source == (stepper.slider, "value")
    assert stepper._link.target == (stepper.play, "value")
    assert (stepper.play.max, stepper.slider.max) == (5, 5)
    assert FrameStepper(square_goes_right(), interval_ms=50).play.interval == 50


@pytest.mark.parametrize(
    "side, width_px, factor, shown",
    [(64, 336, 5, "320px"), (64, 64, 1, "64px"), (224, 336, 1, "336px"), (64, 40, 1, "40px")],
)
def test_small_frames_are_enlarged_by_a_whole_factor(side, width_px, factor, shown):
    stepper = FrameStepper(square_goes_right(2, side), width_px=width_px)
    assert picture(stepper.image.value).shape == (side * factor, side * factor, 3)
    assert stepper.image.layout.width == shown


def test_enlarged_pixels_are_crisp():
    checkers = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)  # red and black: colour bleeds first
    checkers[:, 0, ::2, ::2] = checkers[:, 0, 1::2, 1::2] = 255
    grid = picture(FrameStepper(checkers, width_px=16 * 8).image.value)
    blocks = grid.reshape(16, 8, 16, 8, 3)
    assert (blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3))).max() <= 4
    assert blocks[0, 0, 0, 0, 0] > 245 and blocks[0, 0, 1, 0, 0] < 5


def test_frames_are_not_square():
    wide = FrameStepper(np.zeros((2, 3, 20, 50), np.uint8), width_px=100)
    assert picture(wide.image.value).shape == (40, 100, 3)
    assert wide._repr_mimebundle_()["text/plain"] == "FrameStepper(2 frames, 20x50)"


def test_captions_follow_the_frame():
    stepper = FrameStepper(square_goes_right(3), captions=["<b>a</b>", "", "<i>c</i>"])
    assert stepper.caption.value.endswith("<b>a</b>")
    stepper.slider.value = 2
    assert stepper.caption.value.endswith("<i>c</i>")


def test_tensor_and_array_give_the_same_pictures():
    clip = square_goes_right()
    of_tensor, of_array = FrameStepper(clip), FrameStepper(clip.numpy())
    assert [of_tensor.frame_bytes(t) for t in range(6)] == [
        of_array.frame_bytes(t) for t in range(6)
    ]


def test_names_for_style_and_browser_tests(stepper):
    assert "blvnet-stepper" in stepper._dom_classes
    assert "blvnet-frame" in stepper.image._dom_classes
    assert "blvnet-caption" in stepper.caption._dom_classes


def test_bundle_has_a_picture_for_places_without_widgets():
    stepper = FrameStepper(square_goes_right(16, 64))
    bundle = stepper._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == stepper.model_id
    assert bundle["text/plain"] == "FrameStepper(16 frames, 64x64)"
    sheet = picture(base64.b64decode(bundle["image/jpeg"]))
    assert sheet.shape == (128, 8 * 128 + 7 * 4, 3)
    # the square (red in a dark frame) is in the first frame left, in the last one right
    assert sheet[32, 8, 0] > 240 and sheet[32, 8, 1] < 60
    assert sheet[32, 128 + 2].min() > 240, "no white gap"


@pytest.mark.parametrize("side, frames, width", [(300, 3, 3 * 128 + 2 * 4), (64, 1, 128)])
def test_sheet_of_large_frames_and_of_few(side, frames, width):
    bundle = FrameStepper(np.zeros((frames, 3, side, side), np.uint8))._repr_mimebundle_()
    assert picture(base64.b64decode(bundle["image/jpeg"])).shape == (128, width, 3)


@pytest.mark.parametrize(
    "bad, came, remedy",
    [
        (np.zeros((4, 8, 8, 3), np.uint8), "(4, 8, 8, 3)", "permute(0, 3, 1, 2)"),
        (torch.zeros(4, 3, 8, 8), "float32", "data.denormalize makes"),
        (torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8), "(2, 4, 3, 8, 8)", "clips[0]"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "(3, 8, 8)", "frame[None]"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "(4, 1, 8, 8)", "repeat(1, 3, 1, 1)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "(0, 3, 8, 8)", "at least one frame"),
    ],
)
def test_bad_frames(bad, came, remedy):
    with pytest.raises(ValueError, match=r"expected uint8 frames shaped \(T, 3, H, W\)") as error:
        FrameStepper(bad)
    assert came in str(error.value) and remedy in str(error.value)


def test_wrong_number_of_captions():
    with pytest.raises(ValueError, match="one caption a frame, 6 in all, got 2"):
        FrameStepper(square_goes_right(), captions=["a", "b"])


# ---------------------------------------------------------------- show


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    module = importlib.import_module("blvnet_lab.viz.show")
    monkeypatch.setattr(module, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_show_gives_json_and_a_fixed_text(shown):
    show(go.Figure([go.Scatter(y=[1, 2]), go.Scatter(y=[2, 1]), go.Heatmap(z=[[1]])]))
    assert set(shown[0]) == {"application/vnd.plotly.v1+json", "text/plain"}
    assert shown[0]["text/plain"] == "<plotly figure: 1 heatmap, 2 scatter>"
    show(go.Figure())
    assert shown[1]["text/plain"] == "<plotly figure: no traces>"


def test_show_uses_the_small_template_unless_one_was_chosen(shown):
    figure = go.Figure(go.Scatter(y=[1, 2]))
    show(figure)
    assert len(str(shown[0])) < 2000
    assert figure.layout.template.layout.colorway is not None, "the caller's figure was changed"
    show(go.Figure(go.Scatter(y=[1, 2])).update_layout(template="plotly_dark"))
    assert len(str(shown[1])) > 4000


def test_show_wants_a_plotly_figure(shown):
    with pytest.raises(TypeError, match=r"expected a plotly.*got FigureWidget.*last line"):
        show(go.FigureWidget())
    assert shown == []


# ---------------------------------------------------------------- curves of a run


def line(epoch: int, **scores: float) -> dict[str, float]:
    figures = {"epoch": epoch, "train_loss": 2 / epoch, "clips_per_second": 50, "wait_share": 0.1}
    return figures | scores


def test_curves_are_drawn_anew_after_every_epoch():
    curves, seen = LiveCurves("first"), []
    curves.image.observe(lambda change: seen.append(change["new"]), names="value")
    history = []
    for epoch in (1, 2):
        history.append(line(epoch, top_1=0.3 * epoch))
        curves(history)
    assert len(set(seen)) == 2
    assert curves.summary() == "LiveCurves('first', 2 epochs)"
    size = picture(curves.image.value).shape
    assert size[0] > 300 and size[1] > 900


def test_curves_that_are_empty_have_no_picture_for_pages_without_a_kernel():
    curves = LiveCurves("first")
    bundle = curves._repr_mimebundle_()
    assert "image/jpeg" not in bundle and bundle["text/plain"] == "LiveCurves('first', 0 epochs)"
    curves([line(1, top_1=0.5)])
    assert "image/jpeg" in curves._repr_mimebundle_()


def test_the_picture_of_curves_is_the_same_however_quick_the_machine():
    stills, live = [], []
    for speed in (50, 80):
        curves = LiveCurves("first")
        curves([line(1, top_1=0.5) | {"clips_per_second": speed}])
        stills.append(curves.static_picture().tobytes())
        live.append(curves.image.value)
    assert stills[0] == stills[1] and live[0] != live[1]
