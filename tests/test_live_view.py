"""The live view in Python: its scores, its chart, and where one may come from.

The oracles: videos whose every frame shows its own number, `Stream` run by hand, the whole clip in
the causal model with a hook registered by hand, and charts of numbers worked out on paper.
"""

import re

import numpy as np
import pytest
import torch
from nets import network
from PIL import Image
from shown import bytes_of, decoded, plain, still
from videos import draw, read_number, write_video

from blvnet_lab.data import VideoReadError, evaluation_transform, read_frames, sample_uniform
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import blvnet, blvnet_tam
from blvnet_lab.viz.explorers import base, live
from blvnet_lab.viz.explorers.base import FrameReader
from blvnet_lab.viz.explorers.live import LiveView
from blvnet_lab.viz.images import text_width
from blvnet_lab.viz.theme import BLUE, GREY

NAMES = ["goes", "comes", "turns", "<stays>", "leaves"]


@pytest.fixture(scope="module")
def model():
    """Causal, for clips of 8 frames, with scores that differ from pair to pair."""
    model = network(causal=True).float()
    torch.nn.init.normal_(model.classifier.weight, std=0.02)  # not too sure
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "short.mp4", 24, size=(64, 64))
    write_video(folder / "long.mp4", 90, size=(64, 112))
    (folder / "text.mp4").write_text("not a video")
    (folder / "pictures").mkdir()
    for number in range(12):
        Image.fromarray(draw(number, (64, 64))).save(folder / f"pictures/{number + 1:05}.jpg")
    return folder


@pytest.fixture
def view(model, folder):
    return LiveView(model, folder / "short.mp4", NAMES, stride=3)


def shown(view) -> list:
    return [bytes(view.frame.value), bytes(view.chart.value), view.caption.value, view.scores]


def averaged(logits: torch.Tensor, count: int) -> list[list[float]]:
    """The probabilities after each pair, of logits (P, num_classes)."""
    means = (logits[max(0, k + 1 - count) : k + 1].mean(0) for k in range(len(logits)))
    return [mean.softmax(0).tolist() for mean in means]


@pytest.mark.parametrize("stride, first", [(1, 0), (2, 1), (4, 2), (3, 1)])
def test_scores_are_those_of_a_stream_by_hand(model, folder, stride, first):
    """Which gives what the network says of the whole clip (test_forms.py)."""
    path, size, count = folder / "long.mp4", (32, 48), 90
    if stride == 3:  # the clip of an evaluation, in its size
        path, size, count = folder / "short.mp4", (64, 64), 24
    view = LiveView(model, path, stride=stride, **({"size": size} if stride != 3 else {}))
    numbers = list(range(first, count, stride))
    numbers = numbers[: len(numbers) // 2 * 2]
    assert stride != 3 or numbers == sample_uniform(24, 8).tolist()
    clip = evaluation_transform(size)(read_frames(path, numbers))
    pairs, stream = clip.unflatten(0, (-1, 1, 2)), Stream(model)
    logits = torch.cat([stream(pair) for pair in pairs])
    view.averaged.value, scores = 3, averaged(logits, 3)
    assert np.ptp(scores, axis=0).max() > 0.02, "else any pair would do"
    for k, expected in [*enumerate(scores)][::3]:
        view.position.value = numbers[2 * k + 1]
        assert list(view.scores) == [f"class {i}" for i in range(5)]
        assert list(view.scores.values()) == pytest.approx(expected, abs=1e-5)


def test_position_shows_the_frame(view):
    assert view.position.description == "frame"
    assert (view.averaged.value, view.averaged.min, view.averaged.max) == (4, 1, 8)
    for number, words in (
        (0, "the network does not get it"),
        (1, "to the little branch, in pair 0; waits for the other frame"),
        (4, "to the big branch, in pair 0; pair is complete"),
        (22, "to the big branch, in pair 3; pair is complete"),
    ):
        view.position.value = number
        picture = decoded(view.frame.value)
        assert picture.shape == (256, 256, 3) and view.frame.layout.width == "256px"
        assert read_number(picture.transpose(2, 0, 1)) == number
        counter = f"frame {number} (0 to 23) at {number / 25:.2f} s: {words}"
        assert plain(view.caption.value) == counter


def test_what_is_shown_does_not_depend_on_the_way(model, folder, view):
    """Back, ahead with pairs between that are not shown, and frame by frame."""
    by_frame = {}
    for number in range(24):
        view.position.value = number
        by_frame[number] = shown(view)
    jumping = LiveView(model, folder / "short.mp4", NAMES, stride=3)
    for number in (17, 4, 23, 0, 9, 10, 3, 22):
        jumping.position.value = number
        assert shown(jumping) == by_frame[number]


def test_the_network_gets_every_pair_once_and_in_order(view, monkeypatch):
    seen, real = [], view._stream.forward
    monkeypatch.setattr(
        view._stream, "forward", lambda pair: seen.append(pair[0, :, 0, 0, 0]) or real(pair)
    )
    taken, prepare = [], view._prepare

    def numbered(frames):
        taken.append([read_number(frame) for frame in frames])
        return prepare(frames)

    monkeypatch.setattr(view, "_prepare", numbered)
    for number in (5, 3, 17, 0, 16, 23, 4):
        view.position.value = number
    assert taken == [[1, 4], [7, 10], [13, 16], [19, 22]] and len(seen) == 4


def test_restart_forgets(view):
    first = shown(view)
    view.position.value = 23
    last = shown(view)
    assert any(getattr(part, "maps", None) for part in view._stream.modules())
    view.restart.click()
    assert view.position.value == 0 and shown(view) == first and view.scores == {}
    assert not any(getattr(part, "maps", None) for part in view._stream.modules())
    assert "not seen a pair" in view.cost.value
    view.position.value = 23
    assert shown(view) == last


def test_it_plays_as_fast_as_the_video_and_says_the_cost(view):
    assert (view.play.min, view.play.max, view.play.step) == (0, 23, 1)
    assert view.position.max == 23 and not view.play.repeat and view.play.interval == 40
    assert "not seen a pair" in view.cost.value
    view.position.value = 10
    text = plain(view.cost.value)
    words = r"A pair costs the network [\d.]+ ms here \(median\), and is 240 ms of video\. "
    assert re.fullmatch(words + r"2 of 4 pairs seen\.", text)
    view.position.value = 99
    assert view.position.value == 23 and "4 of 4 pairs seen" in view.cost.value


def test_times_are_those_at_which_frames_are_shown(model, tmp_path):
    times = [0, 1, 2, 3, *range(60, 80)]  # in 0.04 s: a recording that pauses
    view = LiveView(model, write_video(tmp_path / "a.mp4", 24, size=(64, 64), times=times), NAMES)
    view.position.value = 5
    assert " at 2.44 s: " in view.caption.value and "24 frames, 3.3 s," in view._frames.title()
    scores = view._probabilities(range(3))
    when = {"now": 2.48, "span": 3.16 * 24 / 23}  # the last frame stays for the mean time
    expected = live.score_chart([0.04, 0.12, 2.44], scores, NAMES, **when, unit="s")
    assert (decoded(view.chart.value) == expected).all()


def test_frames_without_times(model, folder):
    view = LiveView(model, folder / "pictures", NAMES, stride=2)
    view.position.value = 11
    assert "at" not in view.caption.value.split(":")[0] and "video" not in view.cost.value
    assert list(view.scores) == NAMES


def chart(times, scores, *, now, span=10.0, names=("a", "b")):
    scores = np.array(scores, float).reshape(-1, len(names))
    return live.score_chart(times, scores, names, now=now, span=span, unit="s")


def bars(picture, row):
    """The row's bars from left to right: (first pixel, last pixel, height, colour)."""
    floor = live.TOP_PX + (row + 1) * live.ROW_PX - 2
    area = picture[floor - live.BAR_PX : floor, : live.WIDTH - live.NUMBERS_PX]
    colours = {tuple([*bytes_of(c), 255]): c for c in (BLUE, GREY)}
    found = []
    for x, line in enumerate(area.transpose(1, 0, 2)):
        colour = colours.get(tuple(line[-1]))
        height = int((line == line[-1]).all(1)[::-1].cumprod().sum())
        if colour and found and found[-1][1] == x - 1 and found[-1][2:] == (height, colour):
            found[-1] = (found[-1][0], x, height, colour)
        elif colour:
            found.append((x, x, height, colour))
    return [bar for bar in found if bar[1] - bar[0] > 3]


def test_bars_are_the_scores_in_their_time():
    picture = chart([2.0, 4.0], [[1.0, 0.0], [0.25, 0.75]], now=10.0)
    left = 12 + text_width("a")
    plot = live.WIDTH - live.NUMBERS_PX - left
    first, second = left + 0.2 * plot, left + 0.4 * plot
    full = live.BAR_PX
    near = {"abs": 1.01}
    (a0, a1) = bars(picture, 0)
    assert a0[:2] == pytest.approx((first, second - 2), **near) and a0[2:] == (full, BLUE)
    assert a1[:2] == pytest.approx((second, left + plot - 2), **near)
    assert a1[2:] == (round(full / 4), GREY)
    (b1,) = bars(picture, 1)
    assert b1[:2] == a1[:2] and b1[2:] == (round(0.75 * full), BLUE)


def test_time_runs_to_the_left_and_off_the_chart():
    lefts = {}
    for now in (10.0, 11.0, 13.0):  # the first pair is complete at 2
        lefts[now] = bars(chart([2.0, 4.0], [[1.0, 0.0], [1.0, 0.0]], now=now), 0)[0][0]
    edge = 12 + max(map(text_width, "ab"))
    tenth = (live.WIDTH - live.NUMBERS_PX - edge) / 10
    assert lefts[10.0] - lefts[11.0] == pytest.approx(tenth, abs=1.01)
    assert lefts[13.0] == edge, "cut off there"
    assert chart([0.0], [[np.nan, np.nan]], now=1.0).shape[1] == live.WIDTH, "no numbers, no bars"


def test_of_many_classes_the_highest_are_shown_and_long_names_are_cut(written):
    names = [f"{i} is a name that is longer than there is room for" for i in range(400)]
    scores, highest = np.zeros((3, 400)), list(range(7, 400, 40))
    scores[1, highest] = 0.1
    assert chart([0, 1, 2], scores, now=3.0, names=names).shape[1] == live.WIDTH
    cut = [f"{names[i][:12]}…{names[i][-11:]}" for i in highest]
    assert [words for _, words in written if "…" in words] == cut
    ticks = [words for _, words in written if words.replace(".", "").isdigit()]
    assert ticks == ["0", "2"], "round numbers of the time that has been"


def test_chart_shows_the_views_scores(view):
    view.averaged.value = 1
    view.position.value = 23
    view_scores = view._probabilities(range(4))
    picture = decoded(view.chart.value)
    for row in range(5):
        heights = [round(live.BAR_PX * scores[row]) for scores in view_scores]
        found = [height for *_, height, _ in bars(picture, row)]
        assert found == [height for height in heights if height]
    best = [int(np.argmax(scores)) for scores in view_scores]
    blue = sum(colour == BLUE for row in range(5) for *_, colour in bars(picture, row))
    assert blue == len(best) == 4


def test_picture_where_no_kernel_runs(view, model, folder):
    picture, numbers, tile = still(view), [], min(72, live.WIDTH // 8 - 6)
    for i in range(8):
        part = picture[24 : 24 + tile, 6 + i * (tile + 6) :][:, :tile, :3]
        numbers.append(read_number(part.transpose(2, 0, 1)))
    assert numbers == [1, 4, 7, 10, 13, 16, 19, 22]
    other = LiveView(model, folder / "short.mp4", NAMES, stride=3)
    other.position.value = 22
    whole = decoded(other.chart.value)
    assert (picture[-len(whole) - 24 : -24, : whole.shape[1]] == whole).all(), "the chart so far"
    assert view.position.value == 0 and view.scores == {}, "what is shown stays"


def test_what_does_not_fit(model, folder):
    for changes, error, words in (
        ({"model": blvnet_tam}, ValueError, "causal model, got .*causal=True"),
        ({"model": blvnet}, TypeError, "from blvnet_tam, got"),
        ({"stride": 17}, ValueError, "leaves a pair of the video's 24 frames, got 17: take a"),
        ({"stride": 0}, ValueError, "expected a stride, from 1 on, .* got 0: take another"),
        ({"path": "none.mp4"}, VideoReadError, "none.mp4: expected a video file, .*not exist"),
        ({"path": "text.mp4"}, VideoReadError, "text.mp4: expected a video file, .*11 bytes"),
    ):
        arguments = {"model": model, "path": "short.mp4"} | changes
        if "model" in changes:
            arguments["model"] = changes["model"](depth="tiny", num_frames=8, num_classes=5)
        arguments["path"] = folder / arguments["path"]
        with pytest.raises(error, match=words):
            LiveView(**arguments)


def test_a_frame_that_cannot_be_read_stops_it(view, monkeypatch):
    real, broken = base.read_frames, True

    def read(info, numbers, size=None):
        if broken and max(numbers) >= 14:
            raise VideoReadError("here.mp4: frame 14 <cannot> be decoded", "here.mp4")
        return real(info, numbers, size)

    monkeypatch.setattr(base, "read_frames", read)
    view._frames._frames = {}  # all were decoded at once
    view.play.playing = True
    view.position.value = 13
    assert view.message.value == "" and view.position.value == 13
    before = shown(view)
    view.position.value = 14
    assert "Not read" in view.message.value and "frame 14 &lt;cannot&gt;" in view.message.value
    assert "Still shown: frame 13" in view.message.value
    assert view.position.value == 13 and not view.play.playing and shown(view) == before
    assert view.static_picture().shape[2] == 4  # as far as it can be read
    assert len(view._logits) == 2
    broken = False
    view.position.value = 23
    assert view.message.value == "" and len(view._logits) == 4


@pytest.mark.parametrize("room, block", [(64e6, 10), (2.5 * 3 * 64 * 64, 2), (1, 1)])
def test_frames_are_read_in_blocks_that_fit_memory(folder, monkeypatch, room, block):
    calls, real = [], base.read_frames
    monkeypatch.setattr(
        base, "read_frames", lambda info, numbers: calls.append(numbers) or real(info, numbers)
    )
    monkeypatch.setattr(base, "MAX_BLOCK", 10)
    monkeypatch.setattr(base, "BLOCK_BYTES", room)
    frames = FrameReader(folder / "short.mp4")
    assert [read_number(frames[number]) for number in range(24)] == list(range(24))
    assert [len(numbers) for numbers in calls[:2]] == [block] * 2 and len(calls) == -(-24 // block)
