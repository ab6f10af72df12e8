"""Pictures: they show the numbers they are given, with labels and units, and refuse nonsense."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotly.io as pio
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from blvnet_lab import introspect, viz
from blvnet_lab.models import blvnet_tam
from blvnet_lab.viz.theme import BLUE, DARK_GROUND, GREEN, GREY, ORANGE, SKY, template

FRAMES = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 4, 6) * 20


def test_contact_sheet_shows_every_frame():
    colours = ["#ff0000"] * 9 + ["#00ff00"]
    figure = viz.contact_sheet(FRAMES, [f"no. {i}" for i in range(10)], colours, columns=4)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 10 and len(figure.axes) == 12
    for i, axes in enumerate(shown):
        assert axes.get_title() == f"no. {i}"
        assert (axes.images[0].get_array() == 20 * i).all()
        assert axes.images[0].get_array().shape == (4, 6, 3)
    assert to_hex(shown[9].spines["left"].get_edgecolor()) == "#00ff00"


def test_staircase_has_its_coin_toss():
    columns = ["model", "direction %", "order %"]
    table = pd.DataFrame([("A", 50.0, 49.0), ("B", 98.0, 51.0)], columns=columns)
    (axes,) = viz.staircase_figure(table).axes
    assert [bar.get_height() for bar in axes.patches] == [50.0, 98.0, 49.0, 51.0]
    assert "accuracy between partners / %" in axes.get_ylabel()
    assert any(list(line.get_ydata()) == [50, 50] for line in axes.lines)
    assert "coin toss" in [text.get_text() for text in axes.texts]
    table = pd.DataFrame({"model": ["A", "B"], "left / right %": [50.0, 9.0], "top_1 %": [7, 8.0]})
    (axes,) = viz.staircase_figure(table).axes
    assert [bar.get_height() for bar in axes.patches] == [50.0, 9.0]
    assert [bar.get_center()[0] for bar in axes.patches] == pytest.approx([0, 1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["left / right"]


def test_six_models_have_room_and_looks_of_their_own():
    table = pd.DataFrame({"model": list("abcdef"), "direction %": 100.0, "order %": 50.0})
    figure = viz.staircase_figure(table, "title")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend, *texts = (part.get_window_extent() for part in (axes.get_legend(), *axes.texts))
    assert not any(legend.overlaps(text) for text in texts)
    logs = {name: [{"epoch": 1, "direction": 0.5, "order": 0.5}] for name in table["model"]}
    curves = viz.learning_curves(logs).data
    for looks in ([c.line.color for c in curves], [c.marker.symbol for c in curves]):
        assert len(set(looks)) == 6 and None not in looks
    (curve,) = viz.learning_curves({"a": [{"epoch": 1, "order": 0.5}]}).data  # of one kind alone
    assert list(curve.y) == [50]


def test_no_name_is_a_formula_or_hidden():
    names, shares = ["_a", "$x_$", "$1 or $2"], [0.3, 0.2, 0.1]
    over_time = viz.timeline_figure(pd.DataFrame([shares], [1.0], names))
    bars = viz.class_bars({"it": shares}, names)
    for figure in (over_time, bars, viz.confusion_figure({"it": torch.eye(3)}, names)):
        figure.savefig(io.BytesIO())  # "x_" is no formula: matplotlib would refuse it
    for shown in (over_time.axes[0].get_legend().get_texts(), bars.axes[0].get_yticklabels()):
        assert [text.get_text().strip().replace("\\$", "$") for text in shown] == names


def test_numbers_of_many_frames_do_not_overlap():
    frames, cells = torch.zeros(64, 3, 4, 4, dtype=torch.uint8), torch.ones(32, 4, 4)
    for figure, first in (
        (viz.importance_figure(frames, {"a / nats": torch.ones(64)}), 0),
        (viz.attribution_figure(frames, {"a": cells}), 0.5),
        (viz.receptive_field_figure(dict.fromkeys("abc", torch.ones(32, 64))), 0),
    ):
        figure.draw_without_rendering()
        for axes in (axes for axes in figure.axes if axes.get_xlabel() == "frame"):
            for axis in (axes.xaxis, axes.yaxis):
                shown = [text for text in axis.get_ticklabels() if text.get_text()]
                boxes = [text.get_window_extent() for text in shown]
                assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
            places = {text.get_text(): text.get_position()[0] for text in axes.get_xticklabels()}
            numbers = [number for number in places if number]
            assert len(numbers) >= 16 and all(places[n] == int(n) + first for n in numbers)


@pytest.mark.parametrize("num_taps", [3, 7])
def test_every_tap_has_room(num_taps):
    model = blvnet_tam(depth="tiny", num_frames=4, num_taps=num_taps)
    figure = viz.taps_figure(introspect.tam_weights(model), introspect.tam_roles(model))
    figure.draw_without_rendering()
    for axes in figure.axes[:-1]:  # the last one is the scale's
        boxes = [text.get_window_extent().shrunk(1, 0.8) for text in axes.get_yticklabels()]
        assert len(boxes) == num_taps
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize("count", [1, 12, 50])
@pytest.mark.parametrize("letters", [2, 80])
def test_names_have_room_and_leave_room(count, letters):
    names = [f"{i:02}".ljust(letters - 2, "n") + f"{i:02}" for i in range(count)]
    bars = viz.class_bars({"net": torch.ones(count)}, names)
    confusion = viz.confusion_figure({"net": torch.eye(count)}, names)
    for figure in (bars, confusion):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        inches = axes.get_window_extent().size / figure.dpi
        assert inches[0] > 1.5 and inches[1] > (2 if figure is confusion else 0.2)
        assert figure.get_tightbbox().x0 > -0.01 and figure.get_tightbbox().y0 > -0.01
        places = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(places))
        shown = [label.get_text() for label in axes.get_yticklabels()]
        assert max(map(len, shown)) <= 40
        assert all(s[:2] == s[-2:] == name[:2] for s, name in zip(shown, names, strict=True))


def test_class_bars_and_confusion_are_in_percent():
    figure = viz.class_bars({"x": [0.2, 0.8], "y": torch.tensor([0.9, 0.1])}, ["a", "b"])
    widths = [[round(bar.get_width()) for bar in axes.patches] for axes in figure.axes]
    assert widths == [[20, 80], [90, 10]]
    assert [axes.get_title() for axes in figure.axes] == ["x", "y"]
    best = to_hex(figure.axes[0].patches[1].get_facecolor())
    assert best != to_hex(figure.axes[0].patches[0].get_facecolor())
    matrix = torch.tensor([[3, 1, 0], [0, 8, 0], [0, 0, 0]])  # no clip of the third class
    figure = viz.confusion_figure({"net": matrix}, ["a", "b", "c"])
    percent = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(percent, [[75, 25, 0], [0, 100, 0], [0, 0, 0]])
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert [t.get_text() for t in axes.texts] == ["75", "25", "100"]


def test_learning_curves_leave_out_what_has_no_scores():
    lines = [{"epoch": 0, "taps": {}}, {"epoch": 1, "direction": 0.5, "order": 0.4567}]
    figure = viz.learning_curves({"net": lines}, "title")
    by_panel = [(list(curve.x), list(curve.y)) for curve in figure.data]
    assert by_panel == [([1], [50.0]), ([1], [45.7])]
    assert "bdata" not in figure.to_json()  # lists, which GitHub and people can read
    assert figure.layout.yaxis.title.text == "accuracy between partners / %"
    assert figure.layout.xaxis.title.text == "epoch" and figure.layout.title.text == "title"
    assert "coin toss" in [note.text for note in figure.layout.annotations]
    assert all(note.font.color is None for note in figure.layout.annotations)  # the template's
    assert [(line.y0, line.line.color) for line in figure.layout.shapes] == [(50, GREY)] * 2


def test_probes_stand_at_their_points():
    lines = {
        "a": {"stem": 0.5, "stage1": 0.6, "stage2": 0.7},
        "b": {"stage2": 0.9, "stem": 0.8},  # lacks one, in another order
        "c": {"extra": 1.0, "stage1": 0.0},  # has one that the first line lacks
    }
    (axes,) = viz.probe_figure(lines, "title").axes
    points = ["stem", "stage1", "stage2", "extra"]
    assert [label.get_text() for label in axes.get_xticklabels()] == points
    assert axes.get_xticks().tolist() == [0, 1, 2, 3]
    *curves, coin_toss = axes.lines
    drawn = [(curve.get_xdata(), curve.get_ydata()) for curve in curves]
    expected = [([0, 1, 2], [50, 60, 70]), ([0, 2], [80, 90]), ([1, 3], [0, 100])]
    for (x, y), (expected_x, expected_y) in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(x, expected_x)
        np.testing.assert_allclose(y, expected_y)
    assert len({(curve.get_color(), curve.get_marker()) for curve in curves}) == 3
    assert list(coin_toss.get_ydata()) == [50, 50]
    (text,) = axes.texts
    assert (text.get_text(), text.get_position()[1]) == ("coin toss", 50)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c"]
    assert (axes.get_title(), axes.get_ylabel()) == ("title", "accuracy between partners / %")


def test_a_single_panel_does_not_cost_the_title():
    point = pd.DataFrame({"model": ["a"], "dataset": ["K"], "top-1": [70.0], "ms": [4.0]})
    taps = {"module": "stem.tam", "channel": [0, 1], "tap": "+0", "offset": 0}
    taps = pd.DataFrame(taps | {"weight": 0.5, "epoch": 1})
    fields = {"stem.out": torch.ones(4, 8, dtype=torch.bool)}
    for figure, title, panel in (
        (viz.cost_figure(point, "a title"), "a title", "K"),
        (viz.tap_history_figure(taps, "stem.tam"), "stem.tam", "+0"),
        (viz.receptive_field_figure(fields, title="a title"), "a title", "stem.out"),
    ):
        (axes,) = (axes for axes in figure.axes if axes.get_title())
        assert (figure.get_suptitle(), axes.get_title()) == (title, panel)


@pytest.fixture(params=["light", "dark"])
def ground(request) -> str:
    """The colour of the page, while figures are drawn for it."""
    viz.set_theme(request.param)
    yield {"light": "#FFFFFF", "dark": DARK_GROUND}[request.param]
    viz.set_theme("light")


def all_figures(depth, num_frames: int) -> dict[str, Figure]:
    """One of each, with the longest texts that they have."""
    model = blvnet_tam(depth=depth, num_frames=num_frames)
    weights, roles = introspect.tam_weights(model), introspect.tam_roles(model)
    fields = introspect.derived_receptive_field(model)
    some = {point: fields[point] for point in ("stem.tam", "stem.out", "stage4.out")}
    frames = torch.zeros(num_frames, 3, 64, 64, dtype=torch.uint8)
    pairs = num_frames // 2
    map_of_pairs = torch.randn(pairs, 8, 8)
    ablation = ["nothing", *(f"TAM off: {module}" for module in weights["module"].unique())]
    steps = pd.DataFrame({"deleted": range(num_frames), "log_probability": -1.5, "seed": 0})
    deletions = pd.concat(steps.assign(method=m) for m in ("random", "a", "b", "c", "d"))
    names = ["right", "left", "up", "first up, then to the right"]
    scores = pd.DataFrame({"model": list("abcd"), "direction %": 100.0, "order %": 100.0})
    point_scores = dict.fromkeys(fields, 0.5)
    history = weights.assign(epoch=0)
    return {
        "architecture": viz.architecture_figure(introspect.layer_table(model), "a network"),
        "attribution": viz.attribution_figure(
            frames,
            {"as asked": map_of_pairs, "random weights": torch.zeros(num_frames, 7, 7)},
            "title",
        ),
        "taps": viz.taps_figure(weights, roles, "title"),
        "pair_taps": viz.pair_taps_figure(introspect.effective_pair_taps(model), "stage1.tam"),
        "tap_history": viz.tap_history_figure(history, "stem.tam"),
        "receptive_field": viz.receptive_field_figure(some, fields),
        "ablation": viz.ablation_figure(
            pd.DataFrame({"ablation": ablation, "direction": 1.0, "order": 0.95})
        ),
        "importance": viz.importance_figure(
            frames, {f"{name} / nats": torch.ones(num_frames) for name in "abcd"}, "title"
        ),
        "deletion": viz.deletion_figure(deletions),
        "contact_sheet": viz.contact_sheet(frames, ["23 little"] * num_frames),
        "staircase": viz.staircase_figure(scores, "title"),
        "timeline": viz.timeline_figure(pd.DataFrame([[0.1] * 4] * 9, columns=names), 4, "title"),
        "class_bars": viz.class_bars({"TSN, forwards": [0.1] * 4, "backwards": [0.2] * 4}, names),
        "confusion": viz.confusion_figure({"net": torch.arange(16).reshape(4, 4)}, names),
        "probe": viz.probe_figure(dict.fromkeys("abcde", point_scores), "title"),
    }


@pytest.mark.parametrize("depth, num_frames", [("tiny", 8), (50, 16)])
def test_everything_is_inside_its_figure(depth, num_frames):
    for name, figure in all_figures(depth, num_frames).items():
        for dpi in (80, 100):  # texts are not equally wide, in inches
            figure.set_dpi(dpi)
            figure.draw_without_rendering()
            drawn = figure.get_tightbbox()  # inches, of all that is seen
            page, half_pixel = figure.bbox_inches, 0.5 / dpi
            assert drawn.x0 > -half_pixel and drawn.y0 > -half_pixel, (name, dpi, drawn)
            assert drawn.x1 < page.x1 + half_pixel, (name, dpi, drawn)
            assert drawn.y1 < page.y1 + half_pixel, (name, dpi, drawn)


def luminance(colour) -> float:
    """Relative luminance of a colour, as the rules for contrast on the web define it."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(colour, ground) -> float:
    low, high = sorted((luminance(colour), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def test_texts_lines_and_bars_are_legible(ground):
    for name, figure in all_figures("tiny", 8).items():
        on_images = {text for axes in figure.axes if axes.images for text in axes.texts}
        for text in set(figure.findobj(Text)) - on_images:
            if text.get_text():
                assert contrast(text.get_color(), ground) >= 4.5, (name, text)
        for axes in figure.axes:
            bars = {to_hex(patch.get_facecolor()) for patch in axes.patches}
            for line in axes.lines:
                # Orange and sky blue are too faint on white to stand alone (2.2 to 1). They may
                # where something else says what a line is, too: a marker that the legend names, or
                # that it runs down from a bar of its colour.
                colour = line.get_color()
                second_cue = line.get_marker() != "None" or to_hex(colour) in bars
                faint = colour in (ORANGE, SKY) and second_cue
                assert contrast(colour, ground) >= (2.2 if faint else 3), (name, line, colour)
            for patch in axes.patches:  # a bar has its place and its label as the second cue
                edge = patch.get_edgecolor()  # of boxes, whose faces are pale on purpose
                colour = edge if edge[3] == 1 else patch.get_facecolor()
                faint = to_hex(colour).upper() in (ORANGE, SKY)
                assert contrast(colour, ground) >= (2.2 if faint else 3), (name, patch)


def test_numbers_on_cells_are_legible():
    counts = torch.tensor([[k, 100 - k] for k in range(101)])
    counts = torch.nn.functional.pad(counts, (0, 99))
    axes = viz.confusion_figure({"net": counts}, [str(k) for k in range(101)]).axes[0]
    (image,) = axes.images
    assert len(axes.texts) == 2 * 96
    for text in axes.texts:
        column, row = text.get_position()
        cell = image.cmap(image.norm(image.get_array()[row, column]))
        assert contrast(text.get_color(), cell) >= 4.5, text


def test_plotly_figures_are_legible(ground):
    layout = pio.templates[template()].layout
    paper = layout.paper_bgcolor or "#FFFFFF"
    assert (paper, layout.plot_bgcolor or "#FFFFFF") == (ground, ground)
    assert contrast(layout.font.color or "#2A3F5F", paper) >= 4.5  # plotly's own, if none
    for colour in (GREY, GREEN, BLUE):
        assert contrast(colour, ground) >= 3
    assert contrast(ORANGE, ground) >= 2.2  # with a marker, which the legend names


def test_themes_come_and_go():
    own = {"savefig.facecolor": "white", "text.color": "#112233", "axes.facecolor": "#EEEEFF"}
    with mpl.rc_context(own):
        before = dict(mpl.rcParams)
        viz.set_theme("light")  # changes nothing
        assert dict(mpl.rcParams) == before and template() == "blvnet_lab"
        for _ in range(2):  # twice: the dark settings are not taken for the user's own
            viz.set_theme("dark")
        assert template() == "blvnet_lab_dark"
        saved = io.BytesIO()
        viz.probe_figure({"a": {"stem": 0.5}}).savefig(saved, format="png")
        assert to_hex(np.array(Image.open(saved).convert("RGB"))[0, 0] / 255) == DARK_GROUND
        with pytest.raises(ValueError, match='"light" or "dark", got \'black\''):
            viz.set_theme("black")
        viz.set_theme("light")
        assert dict(mpl.rcParams) == before and template() == "blvnet_lab"


def test_training_figure_shows_what_the_log_says():
    history = [
        {"epoch": 0, "taps": {}},
        {"epoch": 1, "train_loss": 2.0, "top_1": 0.2, "clips_per_second": 40, "wait_share": 0.25},
        {"epoch": 2, "train_loss": 1.0, "top_1": 0.6, "clips_per_second": 80, "wait_share": 0.5},
    ]
    history[2] |= {"top_5": 0.9, "largest_class": 0.375}  # not in all lines
    figure = viz.training_figure(history, "a run")
    loss, accuracy, speed = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    top_1, top_5, largest = accuracy.lines
    np.testing.assert_allclose(top_1.get_xydata(), [[1, 20], [2, 60]])
    np.testing.assert_allclose(top_5.get_xydata(), [[2, 90]])
    assert (largest.get_label(), largest.get_linestyle()) == ("always the largest class", "--")
    assert list(largest.get_ydata()) == [37.5, 37.5]
    assert [bar.get_height() for bar in speed.patches] == [40, 80, 10, 40]
    assert all(axes.get_xlabel() == "epoch" and axes.get_ylabel() for axes in figure.axes)
    assert len(viz.training_figure([]).axes) == 3, "before the first epoch has ended"
    loss, unscored = viz.training_figure([{"epoch": 1, "train_loss": 1.5}]).axes
    assert unscored.get_legend() is None
    assert all(tick == round(tick) for tick in loss.get_xticks()), "there is no epoch 0.98"
    untimed = viz.training_figure([{"epoch": 1, "train_loss": 1.5, "top_1": 0.5}])
    assert [axes.get_ylabel() for axes in untimed.axes] == ["cross-entropy", "accuracy / %"]
