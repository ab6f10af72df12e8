"""The loader benchmark: that it measures what it says, never how long it took."""

import math

import pandas as pd
import pytest
from lab import type_command
from videos import numbers, write_video

from blvnet_lab.benchmark import from_json
from blvnet_lab.benchmark import reading as module
from blvnet_lab.benchmark.reading import decode_only, measure_loading
from blvnet_lab.data import DataSet, dataset, probe_video
from blvnet_lab.data.probing import part_of
from blvnet_lab.datasets.inventory import build_manifest


@pytest.fixture(scope="module")
def found():
    """On small videos, so that it is done in seconds."""
    patch, draw = pytest.MonkeyPatch(), module.draw_scene
    patch.setattr(module, "SECONDS", 2)
    patch.setattr(module, "draw_scene", lambda h, w, count: draw(h // 4, w // 4 // 2 * 2, count))
    patch.setattr(module, "SHORT_SIDE", 48)
    options = {"workers": (0, 1), "clips": 16, "repeats": 2, "memory_clips": 20}
    found = measure_loading(num_frames=4, size=(32, 32), **options)
    patch.undo()
    return found


def test_every_step_of_every_video(found):
    steps, loaders, memory = (found.tables[name] for name in ("steps", "loaders", "memory"))
    videos = ["raw 720p", "prepared", "prepared as h264", "VP9 240p, 12 fps"]
    assert steps.index.tolist() == [f"{v}, {s}" for v in videos for s in ("uniform", "dense")]
    for name in ("decode", "read", "sample", "jitter", "clips/s a core", "MB"):
        assert (steps[name] > 0).all() and steps[name].map(math.isfinite).all()
    assert (steps["read / decode"] == steps["read"] / steps["decode"]).all()
    assert (steps["clips/s a core"] == 1000 / steps["sample"]).all()
    assert loaders.index.tolist() == [f"{v}, {n} workers" for v in videos[1:] for n in (0, 1)]
    assert (loaders["clips/s"] > 0).all()
    assert (loaders["feeds a step of 64 in s"] == 64 / loaders["clips/s"]).all()
    assert memory.index.tolist() == [f"{number} clips" for number in range(2, 21, 2)]
    assert memory["MB"].between(50, 10_000).all()


def test_the_limit_decodes_all_that_is_asked_for(tmp_path):
    info = probe_video(write_video(tmp_path / "a.mp4", 48, gop=12, b_frames=2))
    assert decode_only(info, [5, 5, 20, 47]) == 3
    assert decode_only(info, range(48)) == 48
    info = probe_video(write_video(tmp_path / "a.avi", 20, codec="mpeg4", b_frames=2))
    with pytest.raises(ValueError, match="frames with times of their own"):
        decode_only(info, [1])


def test_the_command_on_a_data_set(tmp_path, monkeypatch, capsys):
    (tmp_path / "set" / "run").mkdir(parents=True)
    write_video(tmp_path / "set" / "run" / "a.mp4", 24)
    listed = build_manifest("folder", tmp_path / "set", out=tmp_path / "listed").manifest
    options = "--clips 16 --repeats 3 --workers 0 --num-frames 4 --size 32 32 --json found.json"
    monkeypatch.chdir(tmp_path)
    type_command(monkeypatch, "loader-benchmark", "--manifest", listed, *options.split())
    said = capsys.readouterr().out
    assert "data set, uniform" in said and "feeds a step of 64" in said
    tables = from_json((tmp_path / "found.json").read_text()).tables
    assert list(tables) == ["steps", "loaders"] and len(tables["steps"]) == 2


def test_a_manifest_without_a_good_clip(tmp_path):
    rows = pd.DataFrame([{"path": "a.mp4", "label": 0, "class_name": "x", "split": "train"}])
    path = DataSet(rows.assign(status="missing"), ["x"], [0]).save(tmp_path / "m.csv")
    with pytest.raises(ValueError, match='the status "ok", got none, only missing'):
        measure_loading(manifest=path)


def test_of_a_part_of_a_video_only_the_part_is_measured(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 48)
    row = {"path": "a.mp4", "label": 0, "class_name": "x", "split": "train"}
    rows = pd.DataFrame([row | {"part_start": 0.4, "part_end": 1.2}])
    path, seen = DataSet(rows, ["x"], [0]).save(tmp_path / "m.csv"), {}
    for place in (module, dataset):

        def read(*args, real=place.read_frames, name=place.__name__):
            frames = real(*args)
            seen.setdefault(name, set()).update(numbers(frames))
            return frames

        monkeypatch.setattr(place, "read_frames", read)
    limit = decode_only
    monkeypatch.setattr(module, "decode_only", lambda info, which: seen.setdefault("pts", info.pts))
    found = measure_loading(manifest=path, num_frames=4, size=(32, 32), workers=(0,), clips=16)
    assert len(found.tables["steps"]) == 2
    with pytest.raises(ValueError, match=r"more than 8 clips, .* got 8"):  # none is timed
        measure_loading(manifest=path, clips=8)
    assert len(seen) == 3 and seen["pts"] == probe_video(tmp_path / "a.mp4").pts[10:30]
    assert all(seen[place.__name__] <= {*range(10, 30)} for place in (module, dataset))
    assert limit(part_of(probe_video(tmp_path / "a.mp4"), (0.4, 1.2)), [0, 19]) == 2
