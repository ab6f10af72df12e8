"""Pictures: they show the numbers they are given, with labels and units, and refuse nonsense."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from blvnet_lab import viz

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


@pytest.mark.parametrize(
    "bad", [FRAMES.float(), FRAMES[0], FRAMES.permute(0, 2, 3, 1), FRAMES[:, :1]]
)
def test_contact_sheet_of_something_else(bad):
    with pytest.raises(ValueError, match=r"uint8 frames \(T, 3, H, W\), got .*denormalize"):
        viz.contact_sheet(bad)


def test_staircase_has_its_coin_toss():
    table = pd.DataFrame(
        {"model": ["A", "B"], "direction %": [50.0, 98.0], "order %": [49.0, 51.0]}
    )
    (axes,) = viz.staircase_figure(table).axes
    assert [bar.get_height() for bar in axes.patches] == [50.0, 98.0, 49.0, 51.0]
    assert "accuracy between partners / %" in axes.get_ylabel()
    assert any(list(line.get_ydata()) == [50, 50] for line in axes.lines)
    assert "coin toss" in [text.get_text() for text in axes.texts]


def test_class_bars_are_in_percent():
    figure = viz.class_bars({"x": [0.2, 0.8], "y": torch.tensor([0.9, 0.1])}, ["a", "b"])
    widths = [[round(bar.get_width()) for bar in axes.patches] for axes in figure.axes]
    assert widths == [[20, 80], [90, 10]]
    assert [axes.get_title() for axes in figure.axes] == ["x", "y"]
    best = to_hex(figure.axes[0].patches[1].get_facecolor())
    assert best != to_hex(figure.axes[0].patches[0].get_facecolor())


def test_confusion_is_by_true_class():
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
    assert figure.layout.yaxis.title.text == "accuracy between partners / %"
    assert figure.layout.xaxis.title.text == "epoch" and figure.layout.title.text == "title"
    assert "coin toss" in [note.text for note in figure.layout.annotations]


def test_too_many_curves():
    with pytest.raises(ValueError, match="at most 4 models, got 5"):
        viz.learning_curves({str(i): [] for i in range(5)})
