"""Parts of long videos: the frames that a player shows in a span, many clips of one file."""

import csv
import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from listing import findings, listed
from PIL import Image
from videos import copy_packets, count_pictures, draw, mux, numbers, stored, write_video

from blvnet_lab.data import (
    ClipDataset,
    DataSet,
    VideoReadError,
    check_video,
    probe_video,
    reading,
    useful_short_side,
)
from blvnet_lab.data import probing as probing_module
from blvnet_lab.data.dataset import MAX_IN_A_ROW, smaller_size
from blvnet_lab.data.dataset_files import PART
from blvnet_lab.data.decoding import open_video
from blvnet_lab.data.probing import known_video, pack_info, part_of, unpack_info
from blvnet_lab.data.reading import read_frames
from blvnet_lab.datasets import reencoding
from blvnet_lab.datasets.reencoding import reencode, reencode_video
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.runs.plan import frames_in_memory, manifest_size
from blvnet_lab.training.checkpoint import Trained, _describe_data, save_trained
from blvnet_lab.training.engine import build
from blvnet_lab.training.recipe import Hardware, Network, Recipe

UNEVEN = np.cumsum(np.arange(48) % 5 + 1).tolist()
EVEN = range(48)
KINDS = {  # how the file is made, and when each frame is shown, in 1/25 s from the file's start
    "b.mp4": (lambda p: write_video(p, 48, gop=20, b_frames=2), EVEN),
    "uneven.mp4": (lambda p: write_video(p, 48, gop=20, times=UNEVEN), np.array(UNEVEN) - 1),
    "uneven.webm": (lambda p: write_video(p, 48, codec="libvpx-vp9", times=UNEVEN), None),
    "late.mkv": (lambda p: write_video(p, 48, times=range(7, 55)), EVEN),
    "counted.ts": (lambda p: write_video(p, 48, b_frames=2), EVEN),
    "open.mkv": (
        lambda p: write_video(p, 48, b_frames=2, codec="libx265", codec_options={
            "x265-params": "log-level=none:pools=none:frame-threads=1:open-gop=1:keyint=12"}),
        EVEN,
    ),
    "hidden.mp4": (  # of which an edit list hides 17 frames, up to the middle of a group
        lambda p: copy_packets(write_video(p.with_name("w.mp4"), 65, b_frames=2), p, -17), EVEN,
    ),
}  # fmt: skip
SPANS = [(0, 0.4), (0.4, 0.8), (0.05, 0.1), (1, 1.01), (0.33, 0.9), (0, 0.04), (1.2, 1.92)]


@pytest.mark.parametrize("name", KINDS)
def test_the_frames_are_those_that_a_player_shows(name, tmp_path):
    make, times = KINDS[name]
    path = make(tmp_path / name)
    times = np.array(np.array(UNEVEN) - 1 if times is None else times) / 25
    info, first = probe_video(path), 17 if name == "hidden.mp4" else 0
    assert info.num_frames == 48
    for span in SPANS:
        moments = np.arange(span[0], span[1] - 1e-9, 0.002)  # at each the last frame that came
        shown = sorted({int((times <= moment + 1e-9).sum()) - 1 for moment in moments})
        part = part_of(info, span)
        found = numbers(read_frames(part, range(part.num_frames)))
        assert found == [first + index for index in shown], span
        assert numbers(read_frames(part, [part.num_frames - 1, 0])) == [found[-1], found[0]]
        packed = pack_info(part)
        assert unpack_info(path, packed) == part == known_video(path, packed, span)
        assert len(packed) < 800, "not the times of the whole video"
        assert known_video(path, packed) == info
        assert check_video(part).num_frames == len(shown)


def test_times_may_be_rounded_and_what_is_not_there_is_said(tmp_path):
    info = probe_video(write_video(tmp_path / "a.mp4", 30, times=range(0, 90, 3)))  # to 3.6 s
    assert part_of(info, (3, 3.7)).num_frames == 5, "by less than a frame too long"
    for start, end in ((3.6, 3.7), (9, 10), (3, 4)):
        with pytest.raises(VideoReadError, match=rf"a\.mp4: .* from {start} to {end} .* 3\.6 s"):
            part_of(info, (start, end))
    assert part_of(info, (3, 4), cut=True).part == (3, 3.6)
    info = probe_video(write_video(tmp_path / "a.mkv", 48, rate=30))  # times in whole milliseconds
    for k in range(44):
        assert part_of(info, (k / 30, (k + 4) / 30)).pts == info.pts[k : k + 4]
    (tmp_path / "1").mkdir()
    Image.fromarray(draw(0, (32, 48))).save(tmp_path / "1" / "1.png")
    (tmp_path / "1" / "2.png").write_text("no picture")
    with pytest.raises(VideoReadError, match="no times to find a part by"):
        part_of(probe_video(tmp_path / "1"), (0, 1))


def test_a_closed_file_is_asked_nothing(tmp_path, monkeypatch):
    """PyAV's stream would answer with memory that is in other use by then."""
    info = probe_video(write_video(tmp_path / "a.mp4", 30))

    @contextmanager
    def watched(*args):
        with open_video(*args) as (container, stream):
            yield container, (seen := SimpleNamespace(time_base=stream.time_base))
        del seen.time_base

    monkeypatch.setattr(probing_module, "open_video", watched)
    assert part_of(info, (0.4, 0.8)).pts == info.pts[10:20]


def test_damage_before_a_part_is_noticed_where_the_part_is_built_on_it(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", 48, gop=24)
    packets = stored(whole)
    lacking = str(mux(whole, tmp_path / "lacking.mkv", packets[:5] + packets[6:]))
    parts = (part_of(probe_video(whole), span) for span in ((0.4, 0.8), (1.0, 1.4)))
    built, other = (replace(part, path=lacking) for part in parts)
    assert numbers(read_frames(other, [0])) == [25]
    with pytest.raises(VideoReadError, match="cannot be decoded without a fault"):
        read_frames(built, [0])


def test_parts_of_a_video_that_is_cut_short_are_refused_for_that(tmp_path):
    path = write_video(tmp_path / "a.mkv", 48)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    kept = probe_video(path).num_frames
    for span in ((0.2, 0.4), (1.8, 1.9)):
        with pytest.raises(VideoReadError, match=f"cut short, after {kept} frames"):
            known_video(path, "", span)


def test_a_jump_to_an_earlier_keyframe_costs_one_group_more(tmp_path, monkeypatch):
    """In an mp4 that was cut by copying, with B-frames, FFmpeg goes one too far back."""
    whole = write_video(tmp_path / "whole.mp4", 120, b_frames=2)
    path = copy_packets(whole, tmp_path / "cut.mp4", -5)
    part = part_of(probe_video(path), (3, 4))
    decoded = count_pictures(reading, monkeypatch)
    assert numbers(read_frames(part, [0, 24])) == [80, 104]
    assert len(decoded) <= 25 + 2 * 12


def test_a_video_is_decoded_once_for_the_times_of_all_its_parts(tmp_path, monkeypatch):
    info = probe_video(write_video(tmp_path / "a.ts", 48))
    decoded = count_pictures(probing_module, monkeypatch)
    assert [part_of(info, (k / 5, k / 5 + 0.4)).first for k in range(5)] == [0, 5, 10, 15, 20]
    assert len(decoded) == 48


def test_a_part_is_known_again_from_a_manifest(tmp_path, monkeypatch):
    """Which holds nine digits of its times."""
    path, spans = write_video(tmp_path / "a.mp4", 48), [(1 / 3, 2 / 3), (0.123456789012, 1.4)]
    probes = [pack_info(part_of(probe_video(path), span)) for span in spans]
    same = {"path": str(path), "label": 0, "class_name": "x", "split": "train"}
    rows = pd.DataFrame(spans, columns=PART).assign(**same, probe=probes)
    monkeypatch.setattr(probing_module, "probe_video", None)
    for data_set in (DataSet(rows), DataSet.read(DataSet(rows).save(tmp_path / "m.csv"))):
        clips = ClipDataset(data_set, "train", 2, lambda frames: frames)
        assert [numbers(clip) for clip, _ in clips] == [[10, 14], [11, 27]]


@pytest.fixture
def table(tmp_path) -> Path:
    """A list of eight parts of two videos, in three classes; one goes on after its video."""
    for name in ("one", "two"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        write_video(tmp_path / "videos" / f"{name}.mp4", 48, gop=24 if name == "one" else 20)
    text = (
        "path,label,start,end,split\n"
        "one.mp4,run,0,0.4,train\none.mp4,jump,0.4,0.8,train\none.mp4,run,0.8,1.2,train\n"
        "one.mp4,swim,0.2,1,train\none.mp4,run,1.5,9,train\n"
        "two.mp4,run,0.4,0.8,val\ntwo.mp4,jump,0.8,1.2,val\ntwo.mp4,swim,,,val\n"
    )
    (tmp_path / "parts.csv").write_text(text)
    return tmp_path / "parts.csv"


@pytest.fixture
def manifest(table, tmp_path) -> Path:
    return listed("list", tmp_path / "videos", tmp_path / "out", annotations=table).manifest


def test_a_table_becomes_a_manifest_and_every_video_is_probed_once(table, tmp_path, monkeypatch):
    looked, probe = [], probing_module.probe_video
    monkeypatch.setattr(probing_module, "probe_video", lambda p: looked.append(p) or probe(p))
    monkeypatch.setattr("os.cpu_count", lambda: 0.25)  # one thread
    for again in (False, True):
        found = listed("list", tmp_path / "videos", tmp_path / "out", annotations=table)
        table_read = DataSet.read(found.manifest).rows
        columns = table_read[[*PART, "class_name", "num_frames"]].fillna(-1).values.tolist()
        assert columns == [
            [0.0, 0.4, "run", 10], [0.4, 0.8, "jump", 10], [0.8, 1.2, "run", 10],
            [0.2, 1.0, "swim", 20], [1.5, 1.92, "run", 11],
            [0.4, 0.8, "run", 10], [0.8, 1.2, "jump", 10], [-1, -1, "swim", 48],
        ]  # fmt: skip
        assert table_read["start"].isna().all() and set(table_read["status"]) == {"ok"}
        assert table_read["source_id"].nunique() == 2
        assert findings(found) == {("part cut", "train", "one.mp4#t=1.5,9")}
        assert len(looked) == 2 + again, "and again for the part that was cut"


@pytest.mark.parametrize(
    "line, kind",
    [
        ("one.mp4,swim,0,0.4,train", "duplicate row"),  # the same part once more
        ("two.mp4,swim,1.2,1.6,train", "equal files"),  # others of it are in val
        ("two.mp4,swim,7,8,val", "unreadable"),
        ("six.mp4,swim,7,8,val", "row without video"),
    ],
)
def test_parts_that_are_of_no_use_are_named(line, kind, table, tmp_path):
    table.write_text(f"{table.read_text()}{line}\n")
    found = listed("list", tmp_path / "videos", tmp_path / "out", annotations=table)
    assert [k for k, _, _ in sorted(findings(found)) if k != "part cut"] == [kind]
    rows = DataSet.read(found.manifest).rows.set_index("status")
    assert [*rows.index].count("ok") == 8
    (times,) = rows.drop(index="ok")[PART].values.tolist()
    assert times == [*map(float, line.split(",")[2:4])]


def test_tables_that_make_no_sense(tmp_path):
    for line, words in (
        ("a.mp4,run,x,2,", "start and end in seconds"),
        ("a.mp4,run,1,2,dev", "got 'dev'"),
        ("b.mp4,run,,,\na.mp4,run,1,,", "or neither, .* got a row from 1 to nan"),
        ("a.mp4,run,2,1,", "in this order, .* got a row from 2 to 1"),
        ("a.mp4,run,-1,1,", "got a row from -1 to 1"),
        ("a.mp4,a.mp4,1,2,3,", "rows with more cells than the first line"),
        ('a.mp4,"run,1,2,', "EOF inside string"),
    ):
        (tmp_path / "a.csv").write_text(f"path,label,start,end,split\n{line}\n")
        with pytest.raises(ValueError, match=rf"a\.csv: expected .*{words}"):
            listed("list", tmp_path, tmp_path / "out", annotations=tmp_path / "a.csv")


def test_a_manifest_is_a_table_too(manifest, table, tmp_path):
    """Its start and end are no parts: they say where in their sources files were cut out."""
    data_set = DataSet.read(manifest)
    data_set.with_rows(data_set.rows.assign(start=100, end=110)).save(manifest)
    same, cells = ["path", "class_name", "split", *PART], pd.read_csv(manifest, dtype="str")
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):  # R's write.csv quotes the names of columns
        cells.to_csv(manifest, index=False, quoting=quoting)
        found = listed("list", tmp_path / "videos", tmp_path / "again", annotations=manifest)
        pd.testing.assert_frame_equal(DataSet.read(found.manifest).rows[same], data_set.rows[same])


def test_parts_are_divided_by_video(tmp_path):
    lines = ["path, label, start, end"]
    (tmp_path / "v").mkdir()
    for k in range(6):
        path = write_video(tmp_path / "v" / f"{'abcdef'[k]}.mp4", 30 + k)
        lines += [f"{path.name}, {'xyx'[j]}, {k / 10},{(k + j + 1) / 10}" for j in range(3)]
    table = tmp_path / "parts.csv"
    table.write_text("\n".join(lines))
    for seed in range(4):
        found = listed("list", tmp_path / "v", tmp_path / f"{seed}", annotations=table, seed=seed)
        rows = DataSet.read(found.manifest).rows
        assert (rows.groupby("path")["split"].nunique() == 1).all()
        assert set(rows["split"]) == {"train", "val"}


def test_manifests_of_parts(tmp_path):
    path = tmp_path / "m.csv"
    head = "path,label,class_name,split,part_start,part_end\na.mp4,0,run,train,0,1\n"
    for second, words in (
        ("a.mp4,1,jump,train,2,", "a part_end after every part_start, or neither"),
        ("a.mp4,1,jump,train,2,2", "a part_end after every part_start, or neither"),
        ("a.mp4,1,jump,train,2,x", "numbers from 0 on in the column part_end"),
        ("./a.mp4,1,jump,train,0,1", "every video in one row, got two of"),
        ("a.mp4,1,jump,val,1,2", r"got two of a\.mp4: .* parts .* all in one split"),
        ("a.mp4,1,jump,val,,", r"got two of a\.mp4: .* parts .* all in one split"),
    ):
        path.write_text(head + second)
        with pytest.raises(ValueError, match=words):
            DataSet.read(path)
    path.write_text(f"{head}a.mp4,1,jump,train,1,2")
    assert DataSet.read(path).rows["part_end"].tolist() == [1, 2]


def clips_of(manifest: Path, split: str, num_frames: int = 4, **options) -> ClipDataset:
    return ClipDataset(DataSet.read(manifest), split, num_frames, lambda frames: frames, **options)


def changed(manifest: Path, row: int | list[int], times: list, columns: list[str] = PART) -> Path:
    """The manifest with other times, beside the one that was."""
    rows = DataSet.read(manifest).rows
    rows.loc[row, columns] = times
    return DataSet(rows).save(manifest.with_name("other.csv"))


@pytest.mark.parametrize("probed", [True, False])
def test_clips_are_of_their_part_in_memory_too(manifest, probed):
    if not probed:  # a manifest that was written by hand
        DataSet(DataSet.read(manifest).rows.drop(columns="probe")).save(manifest)
    clips, kept = clips_of(manifest, "train"), clips_of(manifest, "train", in_memory=True)
    wanted = [(0, 10), (10, 10), (20, 10), (5, 20), (37, 11)]
    for i, (first, count) in enumerate(wanted):
        expected = [first + int((k + 0.5) * count / 4) for k in range(4)]
        assert numbers(clips[i][0]) == expected and torch.equal(kept[i][0], clips[i][0])
    assert [clips[i][1] for i in range(5)] == [1, 0, 1, 2, 1]
    assert [name.rpartition("/")[2] for name in clips.names][-1] == "one.mp4#t=1.5,1.92"
    assert len(clips_of(manifest, "train", num_clips=2)) == 5
    recipe = Recipe(num_frames=4, size=(32, 32), hardware=Hardware(in_memory=True))
    data_set = DataSet.read(manifest)
    sizes = [path.stat().st_size for path in (manifest.parent.parent / "videos").iterdir()]
    assert manifest_size(data_set).bytes_per_clip * 8 == pytest.approx(sum(sizes))
    frames, _ = frames_in_memory(data_set, recipe)
    size = smaller_size((64, 112), useful_short_side(recipe.size, recipe.augmentation.crop))
    assert not probed or frames == 61 * 3 * math.prod(size)


def test_other_parts_of_the_same_videos_are_other_data(manifest):
    before = _describe_data(clips_of(manifest, "train"), clips_of(manifest, "val"))
    other = changed(manifest, 0, [0, 0.36])
    after = _describe_data(clips_of(other, "train"), clips_of(other, "val"))
    others = [name for name in before["rows"] if before["rows"][name] != after["rows"][name]]
    assert others == ["clips of train"]


def test_parts_that_cannot_be_read_are_skipped_and_named(manifest):
    clips = clips_of(changed(manifest, [0, 2], [[7, 8], [1, 8]]), "train", skip_unreadable=True)
    assert [clips[i][1] for i in range(5)] == [0, 0, 2, 2, 1]
    found = clips.unreadable()
    assert [Path(path).name for path in found["path"]] == ["one.mp4#t=7,8", "one.mp4#t=1,8"]
    assert found["reason"].str.contains("it ends at 1.92 s").all()


def test_one_bad_video_of_many_parts_does_not_end_the_training(tmp_path):
    """Of more parts than there may be unreadable videos in a row."""
    good = write_video(tmp_path / "good.mp4", 12)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    parts = [(str(tmp_path / "bad.mp4"), k, k + 1) for k in range(MAX_IN_A_ROW + 5)]
    rows = pd.DataFrame([*parts, (str(good), 0, 0.4)], columns=["path", *PART])
    data_set = DataSet(rows.assign(label=0, class_name="x", split="train"))
    clips = ClipDataset(data_set, "train", 2, lambda frames: frames, skip_unreadable=True)
    assert numbers(clips[0][0]) == [2, 7] and len(clips.unreadable()) == len(parts)


def test_results_name_the_part(manifest, tmp_path):
    recipe = Recipe(num_frames=4, size=(32, 32), network=Network("tsn"))
    checkpoint = tmp_path / "model.safetensors"
    classes = DataSet.read(manifest).classes
    save_trained(Trained(build(recipe, 3).eval(), recipe, classes), checkpoint)
    other = changed(manifest, 5, [1.9, 3.0])
    found = evaluate_file(checkpoint, other, out=tmp_path / "eval")
    assert [Path(name).name for name in found.unreadable] == ["two.mp4#t=1.9,3"]
    written = pd.read_csv(tmp_path / "eval" / "predictions.csv")
    assert list(written)[:4] == ["path", *PART, "class_name"]
    merged = written.merge(DataSet.read(other).rows, on=["path", *PART], suffixes=("", "_listed"))
    assert len(merged) == 3 and (merged["label"] == merged["label_listed"]).all()


def test_each_part_becomes_a_file_and_the_rest_is_left_out(manifest, tmp_path, monkeypatch):
    one_by_one = lambda jobs, _: (reencode_video(*job) for job in jobs)  # noqa: E731
    monkeypatch.setattr(reencoding, "_in_parallel", one_by_one)
    # Of what one.mp4 was cut from.
    listing = changed(manifest, 1, [100, 110], ["start", "end"])
    found = reencode(listing, tmp_path / "new", short_side=32)
    assert found.counts == {"encoded": 8}
    assert found.bytes_before == sum(p.stat().st_size for p in (tmp_path / "videos").iterdir())
    new = DataSet.read(found.manifest).rows
    names = ["run/one_0_0.4", "jump/one_0.4_0.8", "run/one_0.8_1.2", "swim/one_0.2_1",
             "run/one_1.5_1.92", "run/two_0.4_0.8", "jump/two_0.8_1.2", "swim/two"]  # fmt: skip
    assert ["/".join(Path(path).with_suffix("").parts[-2:]) for path in new["path"]] == names
    assert new[PART].isna().all(axis=None) and new["start"].isna().tolist() == [False] * 7 + [True]
    assert new[["start", "end"]].values.tolist()[:3] == [[0, 0.4], [100.4, 100.8], [0.8, 1.2]]
    spans = [(0, 10), (10, 20), (20, 30), (5, 25), (37, 48), (10, 20), (20, 30), (0, 48)]
    for path, span in zip(new["path"], spans, strict=True):
        assert numbers(read_frames(path, range(probe_video(path).num_frames))) == [*range(*span)]
    assert reencode(listing, tmp_path / "new", short_side=32).counts == {"already there": 8}
