"""Clips of one's own, filmed or chosen, and a network that watches the camera; no browser.

The oracles: videos whose every frame shows its own number, and `Stream` run by hand.
"""

import numpy as np
import pytest
import torch
from lab import contents
from shown import decoded, shipped, still
from videos import numbers, write_video

from blvnet_lab import data, viz
from blvnet_lab.data import VideoReadError, evaluation_transform, probe_video, read_frames
from blvnet_lab.datasets.inventory import build_manifest
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import tsn
from blvnet_lab.viz.explorers.live import CameraView

NAMES = ["wave left", "wave right"]
WEBM = {"codec": "libvpx", "codec_options": {"deadline": "realtime", "lag-in-frames": "0"}}


@pytest.fixture
def recorder(tmp_path):
    recorder = viz.ClipRecorder(tmp_path / "mine", NAMES)
    recorder.camera.send = lambda content: recorder.answers.append(content)
    recorder.answers = []
    return recorder


def hand(widget, content, data=b""):
    """What the page sends."""
    widget.camera._handle_msg({"content": {"data": {"method": "custom", "content": content}},
                               "buffers": [memoryview(data)]})  # fmt: skip


def film(recorder, path, label, pieces=3):
    content, size = path.read_bytes(), -(-path.stat().st_size // pieces)
    for start in range(0, max(1, len(content)), max(1, size)):
        piece = {"name": path.name, "label": label, "start": start}
        piece["last"] = start + size >= len(content)
        hand(recorder, piece, content[start : start + size])
    return content


def test_a_recording_makes_a_clip_and_its_partner(recorder, tmp_path):
    """Alike but for the order of their frames, so that nothing but time tells them apart."""
    video = write_video(tmp_path / "a.mp4", 24, size=(256, 320), rate=12)
    recorder.add(video, "wave right")
    found = contents(recorder.folder)
    assert sorted(found) == [
        "clips/wave left/001/reversed.mp4",
        "clips/wave right/001/filmed.mp4",
        "originals/wave right/001.mp4",
    ]
    assert found["originals/wave right/001.mp4"] == video.read_bytes()
    infos = [probe_video(recorder.folder / name) for name in sorted(found)[:2]]
    backwards, forwards = (read_frames(info, range(24)) for info in infos)
    assert numbers(forwards) == [*range(24)] and torch.equal(backwards, forwards.flip(0))
    assert [(info.num_frames, info.fps, info.size) for info in infos] == [(24, 12, (128, 160))] * 2
    assert [len(info.keyframe_pts) for info in infos] == [24] * 2, "equal quality of every frame"
    assert recorder.counts() == {"wave left": 1, "wave right": 1}
    assert "Taken: wave right, number 001." in recorder.message.value


# A frame is on the screen until the next; a webcam's are never evenly apart.
UNEVEN = [0, 60, 135, 202, 270, 337, 416, 471, 800, 1000, 1105, 1150, 1300, 1530, 1900, 2100, 2600]


def test_what_a_browser_records_is_taken_at_its_times(recorder, tmp_path):
    times = {"times": UNEVEN, "rate": 1000}
    video = write_video(tmp_path / "a.webm", len(UNEVEN), size=(120, 160), **times, **WEBM)
    content = video.read_bytes()
    if (at := content.find(b"\x23\xe3\x83\x84")) >= 0:  # the rate, which browsers leave out
        video.write_bytes(content[:at] + b"\xec\x86" + bytes(6) + content[at + 8 :])
    film(recorder, video, "wave left")
    assert recorder.answers == [{}] * 3
    moments = (np.arange(24) + 0.5) * 2000 / 24
    expected = [max(k for k, time in enumerate(UNEVEN) if time <= moment) for moment in moments]
    clip = recorder.folder / "clips/wave left/001/filmed.mp4"
    assert numbers(read_frames(clip, range(24))) == expected
    assert probe_video(clip).seconds == pytest.approx(2)
    assert contents(recorder.folder)["originals/wave left/001.webm"] == video.read_bytes()
    assert "(the first 2 s of 2." in recorder.message.value


def test_manifest_folder_keeps_partners_on_one_side(recorder, tmp_path):
    for k in range(5):
        for name in NAMES:
            pictures = np.random.default_rng(k).integers(0, 255, (9, 64, 64, 3), dtype=np.uint8)
            recorder.add(write_video(tmp_path / "a.mp4", 9, pictures=pictures), name)
    build_manifest("folder", recorder.folder / "clips", out=tmp_path / "list")
    found = data.DataSet.read(tmp_path / "list" / "manifest.csv")
    assert found.classes == tuple(NAMES) and found.rows.groupby("label").size().tolist() == [10, 10]
    assert found.rows["status"].eq("ok").all()
    assert found.rows.groupby("source_id")["split"].nunique().eq(1).all()
    assert found.rows.groupby("source_id")["label"].nunique().eq(2).all()
    assert found.rows.groupby("split").size().to_dict() == {"train": 16, "val": 4}


def test_a_short_video_keeps_its_length_and_there_need_be_no_reversed_copies(tmp_path):
    recorder = viz.ClipRecorder(tmp_path / "mine", ["sit", "stand", "rest"], reversed_copies=False)
    recorder.add(write_video(tmp_path / "a.mp4", 25), "stand")
    assert recorder.counts() == {"sit": 0, "stand": 1, "rest": 0}
    clip = probe_video(recorder.folder / "clips/stand/001/filmed.mp4")
    assert (clip.num_frames, clip.seconds) == (24, pytest.approx(1, abs=0.01))


def test_the_last_is_removed_and_nothing_lost(recorder, tmp_path):
    assert recorder.remove.disabled and recorder.about.endswith("0 x wave right)")
    for count, name in ((24, "wave left"), (30, "wave right")):
        recorder.add(write_video(tmp_path / f"{count}.mp4", count), name)
    before = contents(recorder.folder)
    recorder.remove.click()
    after = contents(recorder.folder)
    moved = {name: f"removed/{name}" if "002" in name else name for name in before}
    assert sum("002" in name for name in before) == 3
    assert after == {moved[name]: content for name, content in before.items()}
    assert recorder.counts() == {"wave left": 1, "wave right": 1}
    # A new one gets a number of its own, also after a new start.
    again = viz.ClipRecorder(recorder.folder, NAMES)
    again.add(write_video(tmp_path / "24.mp4", 24), "wave right")
    assert after.items() < contents(recorder.folder).items()
    assert "originals/wave right/003.mp4" in contents(recorder.folder)
    for _ in range(3):
        again.remove_last()
    assert contents(recorder.folder / "clips") == {}


def test_two_kernels_that_record_at_once_take_different_numbers(recorder, tmp_path, monkeypatch):
    other, video = viz.ClipRecorder(recorder.folder, NAMES), write_video(tmp_path / "a.mp4", 24)
    monkeypatch.setattr(other, "_recordings", lambda *folders: [])  # seen before the first wrote
    recorder.add(video, "wave left")
    other.add(video, "wave left")
    originals = {name for name in contents(recorder.folder) if "originals" in name}
    assert originals == {"originals/wave left/001.mp4", "originals/wave left/002.mp4"}


def broken(path, kind):
    if kind == "text":
        path.write_text("no video")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "few":
        write_video(path, 7)
    elif kind == "slow":
        write_video(path, 12, times=range(0, 1200, 100))
    else:
        path.write_bytes(write_video(path, 24).read_bytes()[:-900])
    return path


@pytest.mark.parametrize(
    "kind, words",
    [
        ("text", "it is something else, or cut short"),
        ("empty", "a.mp4: expected a video file, but"),
        ("few", "there are 7 frames in its first 0.28 s; take one with 8 or more"),
        ("slow", "there are 1 frames in its first 2 s"),
        ("cut", "a.mp4: expected a video file, but"),
    ],
)
def test_refused_and_nothing_written(recorder, tmp_path, kind, words):
    video = broken(tmp_path / "a.mp4", kind)
    film(recorder, video, "wave left")
    assert "Not taken." in recorder.message.value and words in recorder.message.value
    assert str(recorder.folder) not in recorder.message.value, "it is called as the user calls it"
    with pytest.raises(VideoReadError, match=words):
        recorder.add(video, "wave left")
    assert contents(recorder.folder) == {} and recorder.answers[-1] == {}
    film(recorder, write_video(tmp_path / "b.mp4", 24), "wave left")
    assert recorder.counts() == {"wave left": 1, "wave right": 1}


def test_pieces_of_a_page_that_was_closed_are_forgotten(recorder, tmp_path):
    video = write_video(tmp_path / "a.mp4", 24)
    hand(recorder, {"name": "b.mp4", "label": "wave left", "start": 0, "last": False}, b"half a v")
    content = film(recorder, video, "wave left", pieces=1)
    assert contents(recorder.folder)["originals/wave left/001.mp4"] == content


def test_names_that_name_no_folder(tmp_path):
    for names, words in (
        (["../up", "down"], r"got '../up': try '_up'"),
        (["left/right", "b"], "try 'left_right'"),
        (["..", "b"], "try '__'"),
        ([".hidden", "b"], "try 'hidden'"),
        (["", "b"], "try '_'"),
        (["wave ", "b"], "try 'wave'"),
        (["Val", "b"], "got 'Val', which names a split"),
        (["Wave", "wave"], "expected different class names, got Wave, wave"),
        (["a", "b", "c"], "expected classes that are partners by twos, got 3"),
        ([], "expected different class names"),
    ):
        with pytest.raises(ValueError, match=words):
            viz.ClipRecorder(tmp_path / "mine", names)
        assert [*tmp_path.iterdir()] == []


def test_a_misspelled_class_or_path(recorder, tmp_path):
    with pytest.raises(ValueError, match="expected one of wave left, wave right, got 'wave'"):
        recorder.add(write_video(tmp_path / "a.mp4", 24), "wave")
    with pytest.raises(VideoReadError, match=r"no.mp4: .*does not exist"):
        recorder.add(tmp_path / "no.mp4", "wave left")
    film(recorder, tmp_path / "a.mp4", "wave")  # of a page that is older than the classes
    assert "expected one of wave left" in recorder.message.value and contents(recorder.folder) == {}


def test_pictures_of_the_recorder(recorder, tmp_path):
    empty = still(recorder)
    recorder.add(write_video(tmp_path / "a.mp4", 24), "wave left")
    assert still(recorder).shape[0] > empty.shape[0]
    assert np.array_equal(decoded(recorder.strip.value), still(recorder))
    assert recorder.about == "ClipRecorder(1 x wave left, 1 x wave right)"
    assert str(recorder.folder) not in recorder._repr_mimebundle_()["text/plain"]


@pytest.fixture(scope="module")
def causal():
    return shipped("blvnet_tam_causal")


@pytest.fixture
def view(causal):
    view = viz.LiveView(causal, source="camera", class_names=None, fps=20)
    view.camera.send = lambda content: view.answers.append(content)
    view.answers = []
    return view


def pairs_of_frames(count):
    return np.random.default_rng(0).integers(0, 255, (count, 2, 64, 64, 4), dtype=np.uint8)


def test_the_camera_view_is_the_stepwise_network(view, causal):
    assert isinstance(view, CameraView) and view.scores == {} and view.camera.fps == 20
    pairs, stream = pairs_of_frames(6), Stream(causal)
    prepare, by_hand, charts = evaluation_transform((64, 64)), [], set()
    for k, pair in enumerate(pairs):
        hand(view, {"time": 0.1 * (k + 1)}, pair.tobytes())
        rgb = torch.from_numpy(pair[..., :3].transpose(0, 3, 1, 2).copy())
        by_hand.append(stream(prepare(rgb)[None])[0].double())
        expected = torch.stack(by_hand[-4:]).mean(0).softmax(0)  # half of its eight frames
        assert np.allclose([*view.scores.values()], expected, atol=1e-6)
        charts.add(bytes(view.chart.value))
    assert len(charts) == 6 and view.answers == [{}] * 6
    assert "The network gets 10.0 pairs a second" in view.cost.value
    view.averaged.value = 1
    assert np.allclose([*view.scores.values()], by_hand[-1].softmax(0), atol=1e-6)


@pytest.mark.parametrize("way", ["button", "camera off and on"])
def test_the_camera_view_forgets(view, way):
    first, *others = pairs_of_frames(3)
    hand(view, {"time": 0.1}, first.tobytes())
    scores = view.scores
    for k, pair in enumerate(others):
        hand(view, {"time": 0.2 + 0.1 * k}, pair.tobytes())
    assert view.scores != scores
    if way == "button":
        view.restart.click()
        assert view.scores == {} and "nowhere else" in view.cost.value
    hand(view, {"time": 0.1}, first.tobytes())
    assert view.scores == scores


def test_other_sources_and_models(causal):
    with pytest.raises(ValueError, match='expected "file" or "camera" as the source, got \'tape\''):
        viz.LiveView(causal, source="tape")
    with pytest.raises(TypeError, match="expected a model from blvnet_tam, got tsn"):
        viz.LiveView(tsn(num_frames=8, num_classes=10), source="camera")
    with pytest.raises(ValueError, match="expected fps above 0, got 0"):
        viz.LiveView(causal, source="camera", fps=0)


@pytest.mark.parametrize("name", ["recorder", "view"])
def test_a_page_is_answered_though_the_work_is_interrupted(request, monkeypatch, name):
    def interrupted():
        raise KeyboardInterrupt

    widget = request.getfixturevalue(name)
    monkeypatch.setattr(widget, "draw", interrupted)
    content = {"name": "a.mp4", "label": "wave left", "start": 0, "last": True, "time": 0.1}
    with pytest.raises(KeyboardInterrupt):
        hand(widget, content, pairs_of_frames(1).tobytes())
    assert widget.answers == [{}]
