"""What all widgets have in common, the small ones, `show` and pictures: no browser, no kernel."""

import copy
import importlib
import re
import threading
import time
from html import escape
from pathlib import Path
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from lab import setting
from shown import MANIFEST, NAMES, a_clip, bytes_of, decoded, scores_in, shipped, shown, still
from torch.overrides import TorchFunctionMode

from blvnet_lab import data, introspect, viz
from blvnet_lab.viz.explorers.base import _LOCK, Explorer
from blvnet_lab.viz.explorers.results import FrameStepper, LiveCurves
from blvnet_lab.viz.images import MAX_CLASSES, fitted, font, mosaic, png, score_tables, text_picture
from blvnet_lab.viz.interactive import show
from blvnet_lab.viz.theme import BLUE, GREEN


class Toy(Explorer):
    """Two sliders, of which `wide` limits `place`; notes what is done when, and by how many."""

    inside, together = 0, []  # of all toys

    def __init__(self):
        super().__init__()
        self.seen = []
        self.wide = self._control("wide", widgets.IntSlider(1), self._choose_wide)
        self.place = self._control("place", widgets.IntSlider(max=12))
        self.picture = self._image("picture")
        self._arrange(self.wide, self.place, self.picture)

    def _choose_wide(self, wide):
        self.now.wide = wide
        self.place.max = 12 // wide  # may move it

    def draw(self):
        Toy.inside += 1
        Toy.together.append(Toy.inside)
        time.sleep(0.02)
        self.now.place = min(self.now.place, self.place.max)
        self.seen.append((self.now.wide, self.now.place))
        Toy.inside -= 1


def test_a_control_changes_the_state_and_the_state_is_drawn():
    toy = Toy()
    toy.place.value = 7
    toy.wide.value = 4
    assert toy.seen == [(1, 0), (1, 7), (4, 3)]
    assert (toy.place.value, toy.place.max) == (3, 3), "the control follows the state"


def test_all_explorers_wait_for_each_other():
    """JupyterLab lets handlers run in several threads."""
    toys, Toy.together = (Toy(), Toy()), []
    threads = [threading.Thread(target=setting(toy.place, v)) for v in (1, 2, 3) for toy in toys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Toy.together) == {1}
    assert [toy.place.value for toy in toys] == [toy.now.place for toy in toys]


def test_an_error_reaches_the_user_and_ends_the_turn():
    toy = Toy()
    with pytest.raises(ZeroDivisionError):
        toy.wide.value = 0
    toy.place.value = 4
    assert toy.seen[-1] == (0, 4)


def test_a_control_may_be_linked_to_that_of_another_explorer():
    first, second = Toy(), Toy()
    first.picture.observe(lambda change: setattr(second.place, "value", 5), names="value")
    first.draw = lambda: setattr(first.picture, "value", png(np.zeros((1, 1, 3), np.uint8)))
    first.place.value = 1
    assert second.now.place == 5


CLIPS = MANIFEST.query("split == 'val'").groupby("class_name").head(2)
ANSWERS = pd.DataFrame(np.eye(10)[:4], [0.5, 1.0, 1.5, 2.0], columns=NAMES)
POINTS = CLIPS.assign(x=range(20), y=range(0, 40, 2))
EXPLORERS = {
    "clip": lambda model: viz.ClipExplorer({"it": model}, CLIPS, NAMES),
    "branch": lambda model: viz.BranchExplorer(model, a_clip()),
    "tam": lambda model: viz.TamExplorer(model, a_clip(), NAMES),
    "live": lambda model: viz.LiveView(model, MANIFEST["path"][0], NAMES, stride=3),
    "evidence": lambda model: viz.EvidenceExplorer({"it": model}, a_clip(), NAMES),
    "timeline": lambda model: viz.TimelineExplorer(MANIFEST["path"][0], ANSWERS),
    "embedding": lambda model: viz.EmbeddingExplorer(POINTS, "a plane"),
}
TEXTS = {
    "clip": "ClipExplorer(it; 8 frames of 64x64, 20 clips of 10 classes)",
    "branch": "BranchExplorer(blvnet_tam, 8 frames of 64x64)",
    "tam": "TamExplorer(6 TAMs, 8 frames of 64x64)",
    "live": "LiveView(4 pairs of 64x64, 10 classes)",
    "evidence": "EvidenceExplorer(it; 8 frames of 64x64)",
    "timeline": "TimelineExplorer(24 frames, 4 answers of 10 classes)",
    "embedding": "EmbeddingExplorer(20 clips)",
}
# What a user does, by control or button.
STEPS = {
    "clip": [("position", 23), ("kind", NAMES[1]), ("order", "frames reversed"), ("position", 1)],
    "branch": [("stage", "stage4"), ("slider", 200), ("stage", "stem"), ("position", 2)],
    "tam": [("taps prev", 0.5), ("module", "stage2.tam"), ("frame", 6), ("taps next", -1.0)],
    "live": [("position", 23), ("restart", None), ("position", 12), ("averaged", 1)],
    "evidence": [("position", 3), ("label", 4), ("order", "frames reversed"), ("minus", 5)],
    "timeline": [("position", 23), ("position", 3)],
    "embedding": [("slider", 19), ("slider", 2)],
}


def model_for(kind: str) -> torch.nn.Module:
    return shipped("blvnet_tam_causal" if kind == "live" else "blvnet_tam")


def build(kind: str) -> Explorer:
    return EXPLORERS[kind](model_for(kind))


def take_steps(kind: str, explorer: Explorer) -> None:
    for name, value in STEPS[kind]:
        name, _, key = name.partition(" ")
        control = getattr(explorer, name)[key] if key else getattr(explorer, name)
        if isinstance(control, widgets.Button):
            control.click()
        else:
            control.value = value


@pytest.mark.parametrize("kind", EXPLORERS)
def test_a_model_in_training_is_shown_in_eval_mode_and_left_as_it_is(kind):
    """Later changes of the model are not seen: for them, make a new explorer."""
    model = model_for(kind).train()
    model.stage2.eval()
    modes, state = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    explorer, expected = EXPLORERS[kind](model), build(kind)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    changed = {name: torch.zeros_like(value) for name, value in state.items()}
    model.load_state_dict(changed)
    for one in (explorer, expected):
        take_steps(kind, one)
        still(one)
    assert shown(explorer) == shown(expected)
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(value.any() for value in model.state_dict().values()), "it was written to"
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["clip", "tam", "live", "evidence"])
def test_the_model_may_be_used_elsewhere_all_the_while(kind):
    """JupyterLab handles widgets in threads of their own while a cell runs."""
    model = model_for(kind).eval()
    explorer, clip, seen, done = EXPLORERS[kind](model), a_clip()[None], [], threading.Event()
    with torch.no_grad():
        expected = model(clip)

    def call() -> None:
        while not done.is_set():
            with torch.no_grad():
                seen.append(model(clip))

    thread = threading.Thread(target=call)
    thread.start()
    while len(seen) < 5:
        take_steps(kind, explorer)
    done.set()
    thread.join()
    assert all(torch.equal(logits, expected) for logits in seen)


@pytest.mark.parametrize("kind", ["clip", "tam", "live", "evidence"])
def test_where_a_clip_may_be_of_several_classes_each_has_a_probability_of_its_own(kind):
    model = model_for(kind)
    model.multi_label = True
    explorer, clip = EXPLORERS[kind](model), a_clip()
    if kind == "live":
        explorer.position.value = 23
        frames = data.read_frames(MANIFEST["path"][0], data.sample_uniform(24, 8))
        clip, scores = data.normalize(frames), explorer.scores
    elif kind != "evidence":
        (scores,) = scores_in(explorer.scores.value).values()
        clip = explorer._clip if kind == "clip" else clip
    shares = introspect.predict(model, clip[None])[0].sigmoid()
    if kind == "evidence":
        answer = f"{NAMES[shares.argmax()]} ({100 * shares.max():.1f} %)"
        assert f"answers {answer}" in explorer.sums.value
    else:
        assert [*scores.values()] == pytest.approx(shares.tolist(), abs=1e-4)


class NoFloat64(TorchFunctionMode):
    """As on MPS: what has not come to the CPU cannot become float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.double and not hasattr(args[0], "on_cpu"):
            raise TypeError("there is no float64")
        result = function(*args, **(kwargs or {}))
        if function is torch.Tensor.cpu:
            result.on_cpu = True
        return result


@pytest.mark.parametrize("kind", ["clip", "tam", "live", "evidence"])
def test_a_device_without_float64_will_do(kind):
    expected = build(kind)
    with NoFloat64():
        explorer = build(kind)
        take_steps(kind, explorer)
    take_steps(kind, expected)
    assert shown(explorer) == shown(expected)


@pytest.mark.parametrize("kind", EXPLORERS)
def test_picture_and_text_where_no_kernel_runs(kind):
    explorer = build(kind)
    take_steps(kind, explorer)
    before = shown(explorer)
    assert explorer._repr_mimebundle_()["text/plain"] == TEXTS[kind]
    picture = still(explorer)
    assert picture.shape[2] == 4 and (picture[..., 3] == 0).mean() > 0.2, "the ground is clear"
    assert shown(explorer) == before, "what is shown stays"
    done = []
    thread = threading.Thread(target=lambda: done.append(explorer._repr_mimebundle_()))
    with _LOCK:
        thread.start()
        time.sleep(0.1)
        assert not done, "it waits for its turn"
    thread.join()
    assert done


@pytest.mark.parametrize("build", [viz.BranchExplorer, viz.TamExplorer, viz.EvidenceExplorer])
@pytest.mark.parametrize(
    "clip, error, words",
    [
        (torch.zeros(2, 8, 3, 64, 64), ValueError, r"one clip.* got 2 of them; pass clips\[0\]"),
        (torch.zeros(6, 3, 64, 64), ValueError, "expected a clip .*sample 8 frames"),
        (torch.zeros(3, 8, 64, 64), ValueError, r"looks like \(B, C, T, H, W\)"),
        (np.zeros((8, 3, 64, 64)), TypeError, "a clip as a tensor, got ndarray"),
    ],
)
def test_clips_that_do_not_fit(build, clip, error, words):
    with pytest.raises(error, match=words):
        build(shipped("blvnet_tam"), clip)


def test_another_number_of_names_than_of_classes():
    model, two = shipped("blvnet_tam"), ["a", "b"]
    for build in (
        lambda: viz.ClipExplorer({"it": model}, CLIPS, two),
        lambda: viz.TamExplorer(model, a_clip(), two),
        lambda: viz.EvidenceExplorer(model, a_clip(), two),
        lambda: viz.LiveView(shipped("blvnet_tam_causal"), MANIFEST["path"][0], two),
        lambda: viz.LiveView(shipped("blvnet_tam_causal"), source="camera", class_names=two),
    ):
        with pytest.raises(ValueError, match=r"expected 10 class names.*, got 2; pass None"):
            build()


def square_goes_right(frames: int = 6, side: int = 32) -> torch.Tensor:
    """``(T, 3, side, side)`` uint8: a red 8x8 square, 4 pixels further at each frame."""
    clip = torch.full((frames, 3, side, side), 30, dtype=torch.uint8)
    for t in range(frames):
        clip[t, 0, 12:20, 4 * t : 4 * t + 8] = 250
    return clip


@pytest.mark.parametrize("kind", [torch.Tensor.clone, torch.Tensor.numpy])
def test_slider_changes_the_picture(kind):
    stepper, seen = FrameStepper(kind(square_goes_right()), interval_ms=50), []
    stepper.frame.observe(lambda change: seen.append(change["new"]), names="value")
    first = decoded(stepper.frame.value)
    stepper.slider.value = 99  # it is bounded
    assert stepper.slider.value == stepper.play.max == 5 and len(seen) == 1
    last, row = decoded(stepper.frame.value), 16 * 10  # every pixel is 10x10
    assert first[row, 20, 0] > 240 and first[row, 240, 0] < 40
    assert last[row, 240, 0] > 240 and last[row, 20, 0] < 40
    assert last[row, 240, 1] < 40, "channels in the wrong order"
    assert "frame 5 (0 to 5)" in stepper.caption.value and stepper.play.interval == 50
    # jslink runs in JavaScript: test_browser.py plays.
    assert stepper._link.source == (stepper.slider, "value"), "whose value counts at first"
    assert stepper._link.target == (stepper.play, "value")


def test_frames_fit_their_place_and_enlarged_pixels_are_crisp():
    for size, box, expected in (
        ((64, 64), (336, 336), (320, 320)),  # by a whole factor
        ((64, 64), (40, 40), (40, 40)),
        ((64, 112), (256, 320), (128, 224)),
        ((100, 800), (256, 320), (40, 320)),
    ):
        assert fitted(np.zeros((*size, 3), np.uint8), *box).shape == (*expected, 3)
    checkers = torch.zeros(1, 3, 42, 42, dtype=torch.uint8)  # red and black: colour bleeds first
    checkers[:, 0, ::2, ::2] = checkers[:, 0, 1::2, 1::2] = 255
    grid = decoded(FrameStepper(checkers).frame.value)
    blocks = grid.reshape(42, 8, 42, 8, 3)
    assert (blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3))).max() <= 4
    assert blocks[0, 0, 0, 0, 0] > 245 and blocks[0, 0, 1, 0, 0] < 5


def test_picture_of_a_stepper_for_places_without_widgets():
    stepper = FrameStepper(square_goes_right(16, 64))
    bundle = stepper._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == stepper.model_id
    assert bundle["text/plain"] == "FrameStepper(16 frames, 64x64)"
    sheet = still(stepper)
    assert sheet.shape == (128, 8 * 128 + 7 * 4, 3)
    # the square (red in a dark frame) is in the first frame left, in the last one right
    assert sheet[32, 8, 0] > 240 and sheet[32, 8, 1] < 60
    assert sheet[32, 128 + 2].min() > 240, "no white gap"


def test_bad_frames():
    shapes = (4, 8, 8, 3), (2, 4, 3, 8, 8), (3, 8, 8), (0, 3, 8, 8)
    for bad in (torch.zeros(4, 3, 8, 8), *(np.zeros(shape, np.uint8) for shape in shapes)):
        with pytest.raises(ValueError, match=r"uint8 frames shaped \(T, 3, H, W\)") as error:
            FrameStepper(bad)
        assert str(tuple(bad.shape)) in str(error.value) and "denormalize makes" in str(error.value)


def line(epoch: int, **scores: float) -> dict[str, float]:
    figures = {"epoch": epoch, "train_loss": 2 / epoch, "clips_per_second": 50, "wait_share": 0.1}
    return figures | scores


def test_curves_are_drawn_again_after_every_epoch():
    curves, seen = LiveCurves("first"), []
    curves.figure.observe(lambda change: seen.append(change["new"]), names="value")
    history = []
    for epoch in (1, 2):
        history.append(line(epoch, top_1=0.3 * epoch))
        curves(history)
    assert len(set(seen)) == 2 and "image/jpeg" in curves._repr_mimebundle_()
    assert curves.about == "LiveCurves('first', 2 epochs)"
    height, width, _ = decoded(curves.figure.value).shape
    assert height > 300 and width > 900


def test_the_picture_of_curves_is_the_same_however_quick_the_machine():
    stills, live = [], []
    for speed in (50, 80):
        curves = LiveCurves("first")
        curves([line(1, top_1=0.5) | {"clips_per_second": speed}])
        stills.append(curves.static_picture().tobytes())
        live.append(curves.figure.value)
    assert stills[0] == stills[1] and live[0] != live[1]


@pytest.fixture
def bundles(monkeypatch):
    bundles = []
    module = importlib.import_module("blvnet_lab.viz.interactive")
    monkeypatch.setattr(module, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_show_gives_json_and_a_fixed_text(bundles):
    show(go.Figure([go.Scatter(y=[1, 2]), go.Scatter(y=[2, 1]), go.Heatmap(z=[[1]])]))
    assert set(bundles[0]) == {"application/vnd.plotly.v1+json", "text/plain"}
    assert bundles[0]["text/plain"] == "<plotly figure: 1 heatmap, 2 scatter>"
    show(go.Figure())
    assert bundles[1]["text/plain"] == "<plotly figure: no traces>"


def test_show_uses_the_small_template_unless_one_was_chosen(bundles):
    figure = go.Figure(go.Scatter(y=[1, 2]))
    show(figure)
    assert len(str(bundles[0])) < 2000
    assert figure.layout.template.layout.colorway is not None, "the caller's figure was changed"
    show(go.Figure(go.Scatter(y=[1, 2])).update_layout(template="plotly_dark"))
    assert len(str(bundles[1])) > 4000


def test_score_tables_name_few_classes_once():
    scores = {"<x>": [0.2, 0.8], "y": [0.1, 0.9]}
    html = score_tables(scores, ["it's", "b"], true_class=0)
    assert scores_in(html) == {"<x>": {"it's": 0.2, "b": 0.8}, "y": {"it's": 0.1, "b": 0.9}}
    assert html.count("<b>it&#x27;s</b>") == 1 and html.count("text-align:right") == 2
    assert "<x>" not in html


def test_of_many_classes_those_with_the_highest_scores_are_shown():
    scores = np.linspace(0, 0.5, MAX_CLASSES + 3)
    scores[0] = np.nan
    before = np.where(np.arange(len(scores)) == 1, 0.9, scores)
    names = [f"class {i}" for i in range(len(scores))]
    html = score_tables({"x": scores, "y": scores}, names, {"x": before, "y": scores})
    shown = ["class 1", *names[-MAX_CLASSES + 1 :]]
    found = {title: list(table) for title, table in scores_in(html).items()}
    assert found == {"x": shown, "y": shown}
    assert f"background:{BLUE}" in html.rpartition(f"data-class='{names[-1]}'")[2]


def test_changes_have_thin_bars_and_signs():
    html = score_tables({"x": [0.75, 0.25]}, ["a", "b"], before={"x": [0.125, 0.875]})
    assert re.findall(r"width:([\d.]+)%;height:9px", html) == ["75.0", "25.0"]
    assert re.findall(r"width:([\d.]+)%;height:3px", html) == ["12.5", "87.5"]
    assert "75 % (+62)" in html and "25 % (-62)" in html
    html = score_tables({"x": [0.5, 0.5]}, ["a", "b"], {"x": [0.501, 0.499]})
    assert html.count("50 % (+0)") == 2, "no change has no minus"
    html = score_tables({"x": [np.nan, 0.5]}, ["a", "b"], {"x": [0.5, 0.5]})
    assert "nan % (+nan)" in html and "width:0.0%" in html


def test_mosaic_rows_have_their_edges():
    tile = np.zeros((4, 4, 3), np.uint8)
    picture = mosaic({"": [tile], " ": [tile]}, edges=[[BLUE], [GREEN]], tile_px=20)
    left = picture.shape[1] - 20 - 6
    for row, colour in enumerate((BLUE, GREEN)):
        assert picture[10 + 26 * row, left - 1].tolist() == [*bytes_of(colour), 255]
    assert mosaic({"": [tile]}, tile_px=20)[10, 5].tolist() == [0, 0, 0, 0]


def test_signs_and_letters_with_accents_are_written():
    missing = bytes(font().getmask("\ufffe"))
    assert all(bytes(font().getmask(sign)) != missing for sign in "×−é±→")
    assert (text_picture("×") != text_picture("−")).any()
    tile = np.zeros((4, 4, 3), np.uint8)
    assert (mosaic({"×": [tile]})[:, :40] != mosaic({"−": [tile]})[:, :40]).any()
    both, one = text_picture("first", "second"), text_picture("first")
    assert len(both) > len(one) and both[len(one) :, :, 3].any()


def test_embedding_explorer_shows_the_clip_under_the_mouse():
    order = POINTS.assign(split=["train", "val"] * 10).sample(frac=1, random_state=0)
    explorer = viz.EmbeddingExplorer(order, "a plane")
    *classes, ring = explorer.plane.data
    for trace in classes:
        for number, x in enumerate(trace.x):
            explorer._hovered(trace, SimpleNamespace(point_inds=[number]), None)
            clip = order.iloc[explorer.slider.value]
            assert clip["x"] == x and clip["class_name"] == trace.name
            end = "/".join(Path(clip["path"]).parts[-2:])
            assert escape(f"({clip['split']}), {trace.name}: val/{end}") in explorer.caption.value
            assert (*ring.x, *ring.y) == (x, trace.y[number]) and ring.xaxis == trace.xaxis
    path = order["path"].iloc[3]
    part = order.assign(path=f"{path}#t=0.5,1.5")  # from the sixth frame on
    for points, first, count in ((order, 0, 24), (part, 6, 12)):
        numbers = data.sample_uniform(count, 6)
        labels = [f"frame {number}" for number in numbers.tolist()]
        frames = data.read_frames(path, (first + numbers).tolist())
        strip = {"": [frame.permute(1, 2, 0).numpy() for frame in frames]}
        explorer = viz.EmbeddingExplorer(points)
        explorer.slider.value = 3
        assert explorer.frames.value == png(mosaic(strip, column_labels=labels, tile_px=120))


def test_embedding_explorer_says_what_cannot_be_shown(tmp_path):
    (tmp_path / "no.mp4").write_text("not a video")
    points = POINTS.assign(path=[str(tmp_path / "no.mp4"), *POINTS["path"][1:]])
    explorer = viz.EmbeddingExplorer(points)
    before = explorer.frames.value
    explorer.slider.value = 1
    assert explorer.frames.value != before and "no.mp4" not in explorer.caption.value
    with pytest.raises(ValueError, match="clips as points in a plane, got a table without rows"):
        viz.EmbeddingExplorer(points[:0])
