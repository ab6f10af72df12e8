"""Re-encoded videos: the same frames, quicker to read; and nothing lost on the way."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from lab import LIMIT_S, contents, type_command
from PIL import Image
from videos import copy_packets, draw, numbers, shown_by_ffmpeg, write_shown, write_video

from blvnet_lab.data import ClipDataset, DataSet, check_video, probe_video, read_frames
from blvnet_lab.data.dataset_files import CLASS_LIST
from blvnet_lab.data.probing import unpack_info
from blvnet_lab.datasets import reencoding as module
from blvnet_lab.datasets.encoding import write_h264, write_mpeg4
from blvnet_lab.datasets.reencoding import CODINGS, reencode, reencode_video
from blvnet_lab.paths import atomic_write


def reencode_one(path: Path, short_side: int = 64, coding: str = "mpeg4") -> tuple[dict, Path]:
    target = path.with_name(f"{path.name}.new") / "clip.mp4"
    return reencode_video(str(path), "", str(target), short_side, (), coding), target


X265 = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
SOURCES = {
    "long.mp4": (lambda p: write_video(p, 60, gop=250, b_frames=2, size=(96, 160)), 0, 60),
    "cut.mp4": (
        lambda p: copy_packets(write_video(p.with_name("w.mp4"), 48, b_frames=2), p, -17),
        17, 31,
    ),
    "vp9.webm": (lambda p: write_video(p, 30, codec="libvpx-vp9", size=(65, 99)), 0, 30),
    "hevc.mp4": (lambda p: write_video(p, 30, codec="libx265", codec_options=X265), 0, 30),
    "b.avi": (lambda p: write_video(p, 30, codec="mpeg4", b_frames=2), 0, 30),
    "one.webm": (lambda p: write_video(p, 1, codec="libvpx-vp9"), 0, 1),
    "odd.mp4": (lambda p: write_video(p, 20, size=(67, 113), pix_fmt="yuv444p"), 0, 20),
}  # fmt: skip


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", SOURCES)
def test_every_frame_stays_in_its_place(name, coding, tmp_path):
    make, first, count = SOURCES[name]
    source = make(tmp_path / name)
    before = source.read_bytes(), source.stat().st_mtime_ns
    entry, target = reencode_one(source, coding=coding)
    assert entry["how"] == "encoded", entry
    info, old = check_video(target), probe_video(source)
    assert numbers(read_frames(target, range(count))) == list(range(first, first + count))
    assert info.codec == coding and info.decord_exact and info.num_frames == count
    keyframes = [info.pts.index(pts) for pts in info.keyframe_pts]
    assert keyframes == list(range(0, count, CODINGS[coding]["gop"]))
    height, width = info.size
    assert height % 2 == width % 2 == 0
    assert min(info.size) <= 64 and height <= old.size[0] and width <= old.size[1]
    assert width / height == pytest.approx(old.size[1] / old.size[0], rel=0.03)
    assert info.fps == pytest.approx(old.fps, rel=0.02) or count == 1
    assert unpack_info(target, entry["probe"]) == info and info.whole
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    assert [path.name for path in target.parent.iterdir()] == ["clip.mp4"]


UNEVEN = np.cumsum([0, 33, 34, 200, 5, 40, *[33] * 18]).tolist()
SHOWN = {
    "uneven.mp4": {"ticks": UNEVEN},
    "no rate.webm": {"ticks": UNEVEN, "codec": "libvpx-vp9"},
    "ntsc.mkv": {"ticks": [round(1001 / 30 * k) for k in range(24)]},
    "slow.mp4": {"ticks": 2000},
    "dv.mp4": {"aspect": Fraction(64, 45), "ticks": 40},
    "svcd.mp4": {"aspect": Fraction(59, 54), "size": (151, 277), "pix_fmt": "yuv444p", "ticks": 40},
    "square.mp4": {"aspect": Fraction(1), "size": (150, 272), "ticks": 40},
    "portrait.mp4": {"aspect": Fraction(4, 3), "rotation": 90, "size": (160, 96), "ticks": 40},
    "709.mp4": {"colours": (1, 1, 1, 1), "ticks": 40},
    "full.mp4": {"colours": (1, 1, 1, 2), "ticks": 40},
    "full 601.mp4": {"colours": (6, 6, 6, 2), "ticks": 40},
    "full, no more said.mp4": {"colours": (2, 2, 2, 2), "ticks": 40},
    "709 in part.mkv": {"colours": (1, 2, 2, 1), "ticks": 40},
    "bt2020.mkv": {"colours": (9, 9, 16, 1), "pix_fmt": "yuv420p10le", "ticks": 40},
    "240.mp4": {"colours": (7, 7, 7, 1), "ticks": 40},
    "10 bits.mp4": {"pix_fmt": "yuv422p10le", "ticks": 40},
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", SHOWN)
def test_time_shape_and_colours_stay(name, coding, tmp_path):
    source = write_shown(tmp_path / name, **SHOWN[name])
    entry, target = reencode_one(source, coding=coding)
    assert entry["how"] == "encoded", entry
    (times, shape, colours), before = shown_by_ffmpeg(target), shown_by_ffmpeg(source)
    assert times == pytest.approx(before[0], abs=2e-5)
    assert shape == pytest.approx(before[1], rel=0.001 if SHOWN[name].get("aspect") else 0.02)
    assert colours == before[2]
    before, after = read_frames(source, range(24), (48, 80)), read_frames(target, range(24))
    assert numbers(after) == list(range(24))
    # The ground is one colour throughout: a wrong matrix or range moves it by 5 levels and more.
    ground = [frames[..., 0, :].float().mean((0, 2)) for frames in (before, after)]
    # MPEG-4 rounds the mean of a block to steps of more than a level.
    assert (ground[0] - ground[1]).abs().max() < {"h264": 2.5, "mpeg4": 3.5}[coding]


def test_a_folder_of_pictures_becomes_a_video(tmp_path, monkeypatch):
    """Also in several blocks."""
    monkeypatch.setattr(module, "FRAMES_AT_ONCE", 7)
    for k in range(20):
        (tmp_path / "7").mkdir(exist_ok=True)
        Image.fromarray(draw(k, (80, 128))).save(tmp_path / "7" / f"{k + 1:05d}.jpg")
    entry, target = reencode_one(tmp_path / "7")
    assert entry["how"] == "encoded" and entry["fps"] == 12 and entry["height"] == 64
    assert numbers(read_frames(target, range(20))) == list(range(20))


def test_what_is_fine_is_copied(tmp_path):
    for number, (how, coding, options) in enumerate((
        ("copied", "h264", {"gop": 12}),
        ("copied", "h264", {"gop": 6}),
        ("encoded", "h264", {"gop": 13}),
        ("encoded", "h264", {"gop": 12, "size": (66, 112)}),
        ("encoded", "h264", {"gop": 12, "codec": "mpeg4"}),
        ("copied", "mpeg4", {"gop": 5}),
        ("copied", "mpeg4", {"gop": 5, "codec": "mpeg4"}),
        ("encoded", "mpeg4", {"gop": 6}),
        ("encoded", "mpeg4", {"gop": 5, "codec": "mpeg4", "size": (66, 112)}),
    )):  # fmt: skip
        source = write_video(tmp_path / f"{number}.mp4", 30, **options)
        entry, target = reencode_one(source, coding=coding)
        assert entry["how"] == how, (coding, options)
        assert (target.read_bytes() == source.read_bytes()) == (how == "copied")
        assert not os.path.samefile(source, target)


def test_pictures_are_hardly_worse(tmp_path):
    """Noise that moves, which is hard to code: the error is small against the noise itself."""
    rng = np.random.default_rng(0)
    noise = rng.integers(40, 216, (40, 60, 1)).repeat(3, 2).repeat(4, 0).repeat(4, 1).astype("u1")
    frames = [noise[k : k + 96, 2 * k : 2 * k + 160] for k in range(24)]
    write_h264(tmp_path / "a.mp4", frames, 25, gop=250, x264="crf=10")
    entry, target = reencode_one(tmp_path / "a.mp4", short_side=96)
    assert entry["how"] == "encoded"
    truth = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
    error = (read_frames(target, range(24)).float() - truth).square().mean()
    assert 10 * np.log10(255**2 / error.item()) > 28  # decibels


@pytest.fixture
def data_set(tmp_path) -> Path:
    """Nine videos of two classes: two of one name, one broken, one fine, two rows of no use."""
    rows = []
    for k in range(9):
        path = tmp_path / "old" / f"{k % 4}" / f"{k // 2}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        gop, size = (5, (64, 96)) if k == 4 else (250, (96, 160))
        write_video(path, 20 + k, gop=gop, size=size)
        name = ("run left", "a/b")[k % 2]
        rows.append((path, k % 2, name, ("train", "val")[k > 5], "ok", f"source {k}"))
    rows[5][0].write_bytes(b"not a video")
    rows.append((tmp_path / "old" / "gone.mp4", 0, "run left", "val", "missing", "source 9"))
    columns = ["path", "label", "class_name", "split", "status", "source_id"]
    table = pd.DataFrame(rows, columns=columns)
    return DataSet(table, ["run left", "a/b"], [0, 1]).save(tmp_path / "old" / "manifest.csv")


def tree(folder: Path) -> dict[str, bytes]:
    """All videos and tables below a folder."""
    there = {k: v for k, v in contents(folder).items() if k.endswith((".mp4", ".csv"))}
    return {name: text.replace(str(folder).encode(), b"OUT") for name, text in there.items()}


@pytest.fixture
def alone(monkeypatch):
    """The jobs one after the other, in this process: quick, and open to counting."""
    jobs = []

    def in_turn(waiting, workers):
        for job in waiting:
            jobs.append(job)
            yield reencode_video(*job)

    monkeypatch.setattr(module, "_in_parallel", in_turn)
    return jobs


def test_a_data_set_is_reencoded(data_set, tmp_path, alone):
    before = tree(data_set.parent)
    found = reencode(data_set, tmp_path / "new", short_side=64)
    assert found.counts == {"encoded": 7, "copied": 1, "unreadable": 1} and found.waiting == 0
    assert tree(data_set.parent) == before
    old, new = DataSet.read(data_set).rows, DataSet.read(found.manifest).rows
    assert len(new) == len(old) == 10
    same = ["label", "class_name", "split", "source_id"]
    pd.testing.assert_frame_equal(new[same], old[same])
    assert new["status"].tolist() == ["ok"] * 5 + ["unreadable"] + ["ok"] * 3 + ["missing"]
    good = new[new["status"] == "ok"]
    assert good["path"].is_unique
    for k, row in good.iterrows():
        assert Path(row["path"]).is_relative_to(tmp_path / "new")
        assert row["num_frames"] == 20 + k and min(row["height"], row["width"]) == 64
        assert numbers(read_frames(row["path"], [19 + k])) == [19 + k]
        assert unpack_info(row["path"], row["probe"]) == check_video(row["path"])
    lists = [path.with_name(CLASS_LIST).read_bytes() for path in (found.manifest, data_set)]
    assert lists[0] == lists[1]
    report = pd.read_csv(tmp_path / "new" / "report.csv")
    assert report["kind"].tolist() == ["missing", "unreadable"], "and what was so before"
    assert "cannot be opened" in report["detail"][1] and "not a" not in report["name"][1]
    assert len(ClipDataset(DataSet(new), "train", 4, lambda frames: frames)) == 5
    sizes = [Path(path).stat().st_size for path in good["path"]]
    assert found.bytes_after == sum(sizes) and found.bytes_before > 0


def test_a_data_set_of_which_nothing_can_be_read_is_no_success(data_set, tmp_path, alone):
    whole = DataSet.read(data_set)
    few = whole.with_rows(whole.rows.iloc[[5, 9]]).save(tmp_path / "few" / "manifest.csv")
    with pytest.raises(ValueError, match=r"got none of the 2 in .*: .*report\.csv says"):
        reencode(few, tmp_path / "new", short_side=64)
    report = pd.read_csv(tmp_path / "new" / "report.csv")
    assert report["kind"].tolist() == ["missing", "unreadable"]


def test_a_row_that_is_repeated_stays_so_and_its_video_is_prepared_once(tmp_path, alone):
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", 8)
    path = tmp_path / "manifest.csv"
    rows = ["a.mp4,0,run,train", "b.mp4,1,walk,train", "b.mp4,1,walk,train", "c.mp4,0,run,val"]
    path.write_text("path,label,class_name,split\n" + "\n".join(rows))
    clips = ClipDataset(DataSet.read(path), "train", 4, lambda frames: frames)
    assert clips.labels.tolist() == [0, 1, 1]
    done = reencode(path, tmp_path / "small", short_side=32)
    new = DataSet.read(done.manifest).rows
    assert sum(done.counts.values()) == 3 and new["label"].tolist() == [0, 1, 1, 0]
    assert new["path"].nunique() == 3


def test_again_does_only_what_changed(data_set, tmp_path, alone):
    out = tmp_path / "new"
    reencode(data_set, out, short_side=64)
    with pytest.raises(ValueError, match=r"the short_side .*, 64, got 48: take another fold"):
        reencode(data_set, out, short_side=48)
    before = tree(out)
    alone.clear()
    found = reencode(data_set, out, short_side=64)
    assert alone == [] and found.counts == {"already there": 9} and tree(out) == before
    table = DataSet.read(data_set).rows
    write_video(Path(table["path"][5]), 33, gop=250)  # the broken one was fetched again
    Path(DataSet.read(out / "manifest.csv").rows["path"][0]).unlink()
    found = reencode(data_set, out, short_side=64)
    assert {source for source, *_ in alone} == {table["path"][0], table["path"][5]}
    new = DataSet.read(found.manifest).rows
    assert new["status"][5] == "ok" and new["num_frames"][5] == 33
    assert pd.read_csv(out / "report.csv")["kind"].tolist() == ["missing"]
    for name, content in before.items():
        assert tree(out)[name] == content or name.endswith(".csv")


def test_a_folder_goes_on_with_the_coding_that_it_was_begun_with(data_set, tmp_path, alone):
    out = tmp_path / "new"
    reencode(data_set, out, short_side=64, coding="h264")
    settings = {"short_side": 64, "gop": 12, "x264": "crf=23:cabac=0:no-deblock=1:weightp=0"}
    assert json.loads((out / "prepare.json").read_text()) == settings | {"coding": "h264"}
    (out / "prepare.json").write_text(json.dumps(settings))  # when there was no other
    before = tree(out)
    with pytest.raises(ValueError, match=r"the coding .* h264, got mpeg4: .*, or the same coding"):
        reencode(data_set, out, short_side=64)
    assert tree(out) == before
    found = reencode(data_set, out, short_side=64, coding="h264")
    assert found.counts == {"already there": 9} and tree(out) == before


def test_small_pictures_that_stay_as_they_are_can_be_jumped_to(tmp_path):
    """In MPEG-4 they take so few bytes that there is no telling which frame is where."""
    still = [draw(number, (32, 64)) for number in (3, 7) for _ in range(20)]
    write_h264(tmp_path / "a.mp4", still, 25, gop=250, x264="crf=10")
    entry, target = reencode_one(tmp_path / "a.mp4", short_side=32)
    info = probe_video(target)
    assert entry["how"] == "encoded" and info.codec == "h264" and len(info.keyframe_pts) == 4
    assert numbers(read_frames(target, [0, 19, 20, 39])) == [3, 3, 7, 7]


def test_a_coarser_quantizer_takes_fewer_bytes(tmp_path):
    frames, sizes = np.random.default_rng(0).integers(0, 255, (10, 64, 96, 3), np.uint8), []
    for quantizer in (2, 4, 5, 9):
        write_mpeg4(tmp_path / "a.mp4", frames, 25, gop=5, quantizer=quantizer)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes == sorted({*sizes}, reverse=True)


def test_shards_make_the_same_as_one(data_set, tmp_path, alone):
    whole = reencode(data_set, tmp_path / "whole", short_side=64)
    out = tmp_path / "shared"
    first = reencode(data_set, out, short_side=64, shard="1/3")
    assert first.manifest is None and first.waiting == 6
    assert not (out / "manifest.csv").exists()
    third = reencode(data_set, out, short_side=64, shard="3/3")
    assert third.manifest is None and third.waiting == 3
    last = reencode(data_set, out, short_side=64, shard="2/3")
    assert last.manifest == out / "manifest.csv"
    assert tree(out) == tree(tmp_path / "whole") and whole.waiting == 0


def test_options_that_make_no_sense(data_set, tmp_path):
    for options, words in (
        *(({"shard": shard}, f"from 1/n to n/n, such as 2/4, got {shard}$")
          for shard in ("0/2", "3/2", "2", "1/2/3", "")),
        ({"workers": 0}, "at least one worker, got 256 and 0"),
        ({"short_side": 1}, "a short side of 2 pixels or more"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            reencode(data_set, tmp_path / "new", **options)


def test_a_video_that_is_damaged_or_cut_leaves_no_file(tmp_path):
    content = bytearray(write_video(tmp_path / "a.mp4", 40, gop=250, size=(96, 160)).read_bytes())
    begin = content.find(b"mdat") + len(content) // 2
    content[begin : begin + 400] = bytes(400)
    (tmp_path / "a.mp4").write_bytes(content)
    whole = write_video(tmp_path / "whole.mkv", 40).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    for name, word in (("a.mp4", "frame"), ("cut.mkv", "cut short")):
        entry, target = reencode_one(tmp_path / name)
        assert entry["how"] == "unreadable" and word in entry["detail"]
        assert list(target.parent.iterdir()) == []


def test_killed_and_run_again(data_set, tmp_path, alone, monkeypatch, capsys):
    """The real command, with two processes, killed when two files are in its log."""
    reencode(data_set, tmp_path / "whole", short_side=64)
    out = tmp_path / "new"

    def logged() -> bool:
        return any(path.read_bytes().count(b"\n") > 3 for path in out.glob("*.jsonl"))

    words = ["prepare", str(data_set), "--out", str(out), "--short-side", "64", "--workers", "2"]
    command, pipe = [sys.executable, "-m", "blvnet_lab", *words], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True)
    deadline = time.monotonic() + LIMIT_S
    while not logged() and time.monotonic() < deadline:
        time.sleep(0.01)  # not to be in its way
    process.kill()
    process.communicate(timeout=LIMIT_S)  # the processes that it had started end, too
    there = {k: v for k, v in tree(out).items() if k.endswith(".mp4")}
    assert logged() and there, "it had come that far"
    assert there.items() <= tree(tmp_path / "whole").items(), "no half file has its name"
    (log,) = out.glob("*.jsonl")  # as if killed within an entry, and within a file
    log.write_bytes(log.read_bytes()[:-9])
    half = next(out.rglob("*/*.mp4"))
    half.rename(half.with_name(f".{half.name}.{process.pid}.part"))
    type_command(monkeypatch, *words)
    output = capsys.readouterr().out
    assert "already there" in output and "unreadable" in output and "is the manifest" in output
    assert tree(out) == tree(tmp_path / "whole")
    assert not list(out.rglob(".*"))


def test_originals_are_never_written_over(data_set, tmp_path):
    """In the layout that is written: split/class/video, with their manifest beside them or not.

    Also one of no use that has the name that the new file of a good one would get.
    """
    table = DataSet.read(data_set).rows.query("status == 'ok'").head(2).reset_index(drop=True)
    for row in table.itertuples():
        target = tmp_path / "own" / row.split / row.class_name / f"{row.Index}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, target)
        table.loc[row.Index, "path"] = str(target)
    table = table.drop(columns="probe")
    manifest = DataSet(table).save(tmp_path / "own" / "manifest.csv")
    useless = table.assign(status=["x", "ok"])
    useless.loc[1, "path"] = str(tmp_path / "other" / "0.mp4")
    same = ["class_name", "label", "split"]
    useless.loc[1, same] = useless.loc[0, same]
    before = tree(tmp_path / "own")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    elsewhere = DataSet(table).save(tmp_path / "list" / "manifest.csv")
    for listed in (manifest, elsewhere, DataSet(useless).save(tmp_path / "other" / "manifest.csv")):
        for out in ("own", "link"):
            with pytest.raises(ValueError, match="expected another folder for the new files"):
                reencode(listed, tmp_path / out, short_side=64)
    assert tree(tmp_path / "own") == before


def test_a_video_of_another_manifest_is_not_taken_for_done(tmp_path, alone):
    """Two data sets with equal names, re-encoded into one folder alternately."""
    listed = {}
    for name, frames in (("first", 12), ("second", 24)):
        (tmp_path / name).mkdir()
        path = write_video(tmp_path / name / "a.mp4", frames, size=(48, 64))
        row = {"path": [str(path)], "label": [0], "class_name": ["x"], "split": ["train"]}
        listed[name] = DataSet(pd.DataFrame(row)).save(tmp_path / name / "manifest.csv")
    for name, frames in (("first", 12), ("second", 24), ("first", 12)):
        found = reencode(listed[name], tmp_path / "out", short_side=32)
        (row,) = DataSet.read(found.manifest).rows.itertuples()
        assert row.num_frames == frames == probe_video(row.path).num_frames
        assert "already there" not in found.counts


def test_another_class_list_is_noticed_before_the_work(data_set, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "classes.csv").write_text("label,class_name\n0,mine\n")
    for words in (r"classes\.csv is there and differs", r"label \d to be"):
        with pytest.raises(ValueError, match=words):
            reencode(data_set, tmp_path / "out", short_side=64)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["classes.csv"]
        (data_set.parent / "classes.csv").unlink(missing_ok=True)  # then it has no list of its own


def test_names_that_are_too_long_are_cut_and_the_folder_may_be_moved(tmp_path, alone):
    """Two that begin alike, and one that is short; all three are done."""
    names = ["x" * 250, "x" * 249 + "y", "short"]
    videos = [write_video(tmp_path / f"{name}.mp4", 12 + k) for k, name in enumerate(names)]
    rows = [(path, 0, "run" * 80, "train") for path in videos]
    table = pd.DataFrame(rows, columns=["path", "label", "class_name", "split"])
    manifest = DataSet(table).save(tmp_path / "manifest.csv")
    found = reencode(manifest, tmp_path / "new", short_side=32)
    assert found.counts == {"encoded": 3}
    new = DataSet.read(found.manifest).rows
    assert new["path"].is_unique and new["num_frames"].tolist() == [12, 13, 14]
    assert [probe_video(path).num_frames for path in new["path"]] == [12, 13, 14]
    (tmp_path / "new").rename(tmp_path / "moved")
    found = reencode(manifest, tmp_path / "moved", short_side=32)
    assert found.counts == {"already there": 3}
    assert all(Path(path).is_file() for path in DataSet.read(found.manifest).rows["path"])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_process_that_dies_ends_the_run_with_a_word(data_set, tmp_path, monkeypatch):
    first, second, *_ = DataSet.read(data_set).rows["path"]  # to be at work long enough
    shutil.copy(write_video(Path(first), 600, gop=250, size=(96, 160)), second)
    out = tmp_path / "new"

    def kill_one() -> None:
        at_work, deadline = [], time.monotonic() + LIMIT_S
        while not at_work and time.monotonic() < deadline:
            time.sleep(0.01)
            at_work = [*out.glob("*/*/.*.mp4.*.part")]
        worker = int(at_work[0].suffixes[-2][1:])
        os.kill(worker, signal.SIGKILL if worker != os.getpid() else 0)

    threading.Thread(target=kill_one, daemon=True).start()
    words = "prepare", data_set, "--out", out, "--short-side", 64, "--workers", 2
    with pytest.raises(SystemExit) as error:
        type_command(monkeypatch, *words)
    said = str(error.value)
    assert "one of the processes died" in said and "run the same command again" in said
    assert "(A program that calls this must be a file, and call it below `if __name__ ==" in said


def test_what_a_killed_run_left_of_one_file_goes_and_what_is_written_to_others_stays(tmp_path):
    folder = tmp_path / "a.mp4.new"
    folder.mkdir()
    left, other = folder / ".clip.mp4.7.part", folder / ".clip.mp4.2.mp4.8.part"
    for path in (left, other):
        path.write_bytes(b"half")
    _, target = reencode_one(write_video(tmp_path / "a.mp4", 6, size=(64, 64)))
    assert {*folder.iterdir()} == {target, other}


def test_a_full_quota_names_the_file_also_from_a_process(tmp_path, monkeypatch):
    """PyAV's own errors have no file name; and a loader's workers would add their trace."""
    with pytest.raises(OSError) as error, atomic_write(tmp_path / "a.mp4"):
        av.error.err_check(-errno.EDQUOT)
    assert (error.value.errno, error.value.filename) == (errno.EDQUOT, str(tmp_path / "a.mp4"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").write_text("a file where a folder should be")
    job = (str(tmp_path / "b.mp4"), "", str(tmp_path / "out" / "b.mp4"), 64, (), "mpeg4")
    with pytest.raises(FileExistsError, match=rf"^\[Errno {errno.EEXIST}\] "):
        list(module._in_parallel([job], 1))
    monkeypatch.setattr(module, "reencode_video", lambda *job: av.error.err_check(-errno.EINVAL))
    assert isinstance(module._Reencoding()[job], av.error.ArgumentError)
