"""Answers over time. The oracles: whole clips at once, clips read by hand, one answer for all."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pandas as pd
import pytest
import torch
from lab import type_command
from nets import tam_resnet, tsm
from shown import bytes_of, decoded, plain
from torch import nn
from videos import read_number, write_video

from blvnet_lab import viz
from blvnet_lab.data import VideoReadError, probe_video, read_frames, sample_uniform, view_transform
from blvnet_lab.deploy.live import frame_edges
from blvnet_lab.introspect import capture
from blvnet_lab.models import VideoNet, blvnet_tam, tsn
from blvnet_lab.runs import predict
from blvnet_lab.runs.predict import OverTime, answer_over_time, predict_video
from blvnet_lab.training.checkpoint import Trained, load_trained, save_trained
from blvnet_lab.training.recipe import Recipe, Views
from blvnet_lab.viz.theme import VERMILLION

NAMES = tuple("abc")
RECIPE = Recipe(num_frames=4, size=(32, 32), evaluation=Views(short_side=40, crops=3))


def sure(builder=blvnet_tam, frames: int = 4, **arguments) -> VideoNet:
    """A network of three classes, sure of different things as the picture changes."""
    torch.manual_seed(0)
    model = builder(depth="tiny", num_frames=frames, num_classes=3, **arguments).eval()
    nn.init.normal_(model.classifier.weight, std=3.0)
    return model


def saved(folder, model: VideoNet, **changes):
    save_trained(Trained(model, replace(RECIPE, **changes), NAMES), folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Of 70 frames, 2.8 s; each shows its number."""
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", 70)


def views_of(video, numbers) -> torch.Tensor:
    return view_transform((32, 32), 3, 40)(read_frames(video, numbers))  # (3, T, C, H, W)


def close(found: pd.Series, logits: torch.Tensor) -> bool:
    return np.allclose(np.log(found), logits.double().log_softmax(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("builder", [blvnet_tam, tsm, tam_resnet])
def test_a_causal_network_answers_as_it_does_to_the_whole(builder, video, tmp_path):
    checkpoint = saved(tmp_path, sure(builder, causal=True))
    # 12 frames, 0.48 s, make a clip of four: frames 1, 4, ..., 67 are taken.
    with torch.device("meta"):  # whatever the default is
        found = predict_video(checkpoint, video, OverTime(0.1, window=0.48)).timeline
    paired = builder is blvnet_tam
    numbers, width = [*range(1, 70, 3)], 1 + paired
    numbers = numbers[: len(numbers) // width * width]
    whole = sure(builder, len(numbers), causal=True)
    with torch.no_grad(), capture(whole, ["classifier"]) as cache:
        whole(views_of(video, numbers))
    logits = cache["classifier"].mean(0)  # (positions, 3), over the crops
    assert found.index.tolist() == pytest.approx([0.1 * k for k in range(2 if paired else 1, 29)])
    for seconds, row in found.iterrows():
        lasts = enumerate(numbers[width - 1 :: width])
        seen = [k for k, last in lasts if last < 25 * seconds - 1e-6]
        assert close(row, logits[seen[-4 // width :]].mean(0)), seconds
    assert np.log(found).std().max() > 0.1 and list(found) == list(NAMES)


@pytest.mark.parametrize("changes", [{}, {"read_short_side": 48}])
def test_others_see_the_frames_around_each_time(changes, video, tmp_path):
    model = sure(tsn)
    checkpoint = saved(tmp_path, model, **changes)
    found = predict_video(checkpoint, video, OverTime(0.4, window=0.8))
    assert found.timeline.index.tolist() == pytest.approx([0.4 * k for k in range(1, 8)])
    size = None if not changes else (48, 84)
    for seconds, row in found.timeline.iterrows():
        start = min(max(round(25 * seconds) - 10, 0), 50)
        frames = read_frames(video, start + sample_uniform(20, 4), size)
        with torch.no_grad():
            assert close(row, model(view_transform((32, 32), 3, 40)(frames)).mean(0)), seconds
    assert "over time, of 4 frames around each time, 0.2 s apart:" in str(found)
    longer = predict_video(checkpoint, video, OverTime(1.0, window=99))  # than the video
    assert "over time, of 4 frames around each time, 0.7 s apart:" in str(longer)


@pytest.mark.parametrize("causal", [True, False])
def test_times_are_those_at_which_frames_are_shown(causal, tmp_path):
    """Forty frames, 0.04 s apart, then twenty that last five times as long."""
    ticks = [*range(40), *range(40, 140, 5)]
    video = write_video(tmp_path / "uneven.mp4", 60, times=ticks)
    arguments = {"builder": tsm, "causal": True} if causal else {"builder": tsn}
    found = predict_video(saved(tmp_path, sure(**arguments)), video, OverTime(0.8, window=1.6))
    assert found.timeline.index.tolist() == pytest.approx([0.8 * k for k in range(1, 7)])
    # A causal network sees all up to 4.8 s, any other 4.0 to 5.6 s, or as near as the video goes.
    end = found.timeline.index[-1] if causal else min(5.6, 5.4 * 60 / 59)
    times = np.arange(0.2 if causal else end - 1.4, end, 0.4)
    numbers = [sum(tick <= 25 * time + 0.01 for tick in ticks) - 1 for time in times]
    model = sure(frames=len(numbers), **arguments)
    with torch.no_grad(), capture(model, ["classifier"]) as cache:
        model(views_of(video, numbers))
    assert close(found.timeline.iloc[-1], cache["classifier"].mean(0)[-4:].mean(0))


def test_even_times_count_and_not_the_rate_that_a_file_names(video, tmp_path):
    info = replace(probe_video(video), fps=30.0)  # as Matroska may name it
    assert frame_edges(info) == pytest.approx(np.arange(71) / 25)
    trained = load_trained(saved(tmp_path, sure(tsn), stride=5))
    _, basis = answer_over_time(trained, info, OverTime(0.7))
    assert basis == "of 4 frames around each time, 0.2 s apart"


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("stride", [None, 17])
def test_where_the_window_is_the_video_the_last_answer_is_of_all(causal, stride, video, tmp_path):
    model = sure(blvnet_tam, causal=causal)
    checkpoint = saved(tmp_path, model, stride=stride)
    window = None if stride else 2.8
    found = predict_video(checkpoint, video, OverTime(10.0, window=window), top=3)
    (last,) = found.timeline.index
    assert last == pytest.approx(2.8)
    numbers = sample_uniform(68 if stride else 70, 4)  # the first of four frames 17 apart is 8
    shift = 0 if causal or not stride else 2  # at the end of the video
    with torch.no_grad():
        assert close(found.timeline.loc[last], model(views_of(video, numbers + shift)).mean(0))
    if not stride:
        whole = found.table.set_index("class_name")["probability"]
        expected = whole[list(NAMES)].tolist()
        assert found.timeline.loc[last].tolist() == pytest.approx(expected, abs=1e-4)


def test_answers_over_time_in_files(video, tmp_path, monkeypatch, capsys):
    checkpoint, out = saved(tmp_path, sure()), tmp_path / "new" / "answers.csv"
    words = [checkpoint, video, "--timeline", 0.5, "--window", 1, "--out", out]
    type_command(monkeypatch, "predict", *words)
    printed = capsys.readouterr().out
    assert f"wrote {out}" in printed and f"{out.with_suffix('.png')} is a picture" in printed
    assert sorted(path.name for path in out.parent.iterdir()) == ["answers.csv", "answers.png"]
    table = pd.read_csv(out, index_col="seconds")
    expected = predict_video(checkpoint, video, OverTime(0.5, 1.0))
    pd.testing.assert_frame_equal(table, expected.timeline, rtol=1e-6)
    for name, run in groupby(table.index, table.idxmax(axis=1).get):
        begin, *_, end = [*run] * 2
        assert f"{begin:7g} s to {end:g} s  {name}\n" in printed


def test_answers_over_time_that_there_are_not(video, tmp_path, monkeypatch):
    """Mistakes in what was asked for are known before the network is compiled."""
    checkpoint = saved(tmp_path, sure(causal=True))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(write_video(tmp_path / "whole.mkv", 40).read_bytes()[:-4000])
    for file, how, error, words in (
        (video, OverTime(1.0), ValueError, r"clips are spread over whole videos: .*--window 2"),
        (video, OverTime(0.0, 2.0), ValueError, r"seconds above 0, got timeline=0.0 and window=2"),
        (video, OverTime(1.0, -2.0), ValueError, r"seconds above 0, got timeline=1.0 and window=-"),
        (video, OverTime(1.0, 0.0), ValueError, r"seconds above 0, got timeline=1.0 and window=0"),
        (video, OverTime(1.0, np.nan), ValueError, r"got timeline=1.0 and window=nan"),
        (video, OverTime(np.nan, 2.0), ValueError, r"got timeline=nan and window=2"),
        (video, OverTime(None, 2.0), ValueError, r"--timeline with --window and --out"),
        (video, OverTime(1.0, 99.0), ValueError, r"2 frames that are 24\.8 s apart, got one of 2"),
        (video, OverTime(1.0, 2.0, tmp_path / "a.txt"), ValueError, r"ends in \.csv, got"),
        (cut, OverTime(1.0, 2.0), VideoReadError, r"cut\.mkv: .* cut short"),
    ):  # fmt: skip
        calls = []
        monkeypatch.setattr(predict, "compiled", lambda model, *_, c=calls: c.append(1) or model)
        with pytest.raises(error, match=words):
            predict_video(checkpoint, file, how)
        assert bool(calls) == ("apart" in words)  # which only the frames of the video tell


def test_the_explorer_shows_the_answer_of_each_moment(tmp_path):
    """Forty frames, 0.04 s apart, then twenty that last five times as long."""
    ends = [k + 1 for k in range(40)] + [40 + 5 * (k + 1) for k in range(20)]  # in 0.04 s
    video = write_video(tmp_path / "a.mp4", 60, times=[0, *ends[:-1]])
    table = pd.DataFrame({"<a>": [0.1, 0.7], "b": [0.6, 0.2], "c": [0.3, 0.1]}, [0.8, 4.0])
    explorer, columns = viz.TimelineExplorer(video, table, top=2), {}
    empty = np.asarray(explorer._curves).astype(int)
    for number in range(60):
        explorer.position.value = number
        shown, words = decoded(explorer.frame.value), plain(explorer.caption.value)
        assert read_number(shown.transpose(2, 0, 1)) == number
        said = ("answer of 0.8 s: b 60 %, c 30 %", "answer of 4 s: <a> 70 %, b 20 %")
        said = ("no answer yet", *said)[(ends[number] >= 20) + (ends[number] >= 100)]
        assert words.endswith(f" at {[0, *ends][number] / 25:.2f} s: {said}"), number
        chart = decoded(explorer.chart.value)
        changed = (chart != empty).any(-1)
        assert (chart[changed] == [*bytes_of(VERMILLION), 255]).all() and changed.any()
        columns[number] = np.flatnonzero(changed.any(0)).mean()
    # Straight over time (when the last frame ends, no file says).
    places, times = np.array([*columns.values()])[:-1], np.array(ends)[:-1]
    expected = places[0] + (places[-1] - places[0]) * (times - 1) / (times[-1] - 1)
    assert np.abs(places - expected).max() < 1.5
    assert places[-1] - places[0] > 500, "it goes over the whole chart"
    with pytest.raises(ValueError, match="expected answers over time, got a table without rows"):
        viz.TimelineExplorer(video, table[:0])
    table.rename_axis("seconds").to_csv(tmp_path / "a.csv")
    again = viz.TimelineExplorer(video, pd.read_csv(tmp_path / "a.csv"), top=2)
    again.position.value = 59
    assert again.caption.value == explorer.caption.value


def test_curves_are_those_of_the_classes_that_come_highest():
    table = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.75], "c": [0.6, 0.05]}, [0.5, 1.0])
    (axes,) = viz.timeline_figure(table, top=2, title="title").axes
    assert [(line.get_label(), line.get_ydata().tolist()) for line in axes.lines] == [
        ("b", [30, 75]), ("c", [60, 5])
    ]  # fmt: skip
    assert axes.lines[0].get_xdata().tolist() == [0.5, 1.0] and axes.get_title() == "title"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time in the video / s", "probability / %")
    for times in ([0.04], [0.0], [0.1, 9.9]):
        (axes,) = viz.timeline_figure(pd.DataFrame({"a": 0.5}, times)).axes
        left, right = axes.get_xlim()
        assert 0 <= left <= times[0] and right > times[-1], "no time before the video"
