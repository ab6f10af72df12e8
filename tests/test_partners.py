"""Partner classes out of any footage: right labels, and nothing but time tells them apart."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lab import contents
from nets import randomized
from videos import packets_of, write_video

from blvnet_lab.data import DataSet, read_frames
from blvnet_lab.data.probing import probe_video
from blvnet_lab.datasets import partners as module
from blvnet_lab.datasets.encoding import showing_of
from blvnet_lab.datasets.motion import CLASSES, PARTNERS, partner_frames, render
from blvnet_lab.datasets.partners import CLASSES_OF, cut_partners, find_windows
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.runs.train import train
from blvnet_lab.training.checkpoint import load_trained
from blvnet_lab.training.recipe import Hardware, Network, Output, Recipe

SCENES = 3  # of 24 frames each, in a video of the tests
MOVES = CLASSES[:4]


def scenes(name: str, count: int = SCENES, seed: int = 0) -> np.ndarray:
    """Frames (24 * count, 64, 64, 3) that move as the class of the sample clips does."""
    place = CLASSES.index(name)
    kind = PARTNERS[place // 2]
    drawn = [render(kind, np.random.default_rng([seed, place, k])) for k in range(count)]
    return np.concatenate([partner_frames(f, kind.kind) if place % 2 else f for f in drawn])


def write_moves(folder: Path, names=MOVES, suffix: str = ".mp4", repeat: int = 1, **form) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        pictures = scenes(name).repeat(repeat, axis=0)
        path = folder / f"{name}{suffix}"
        write_video(path, len(pictures), pictures=pictures, **{"rate": 12} | form)
    return folder


def cut(folder: Path, out: Path, kind: str, **options) -> pd.DataFrame:
    found = cut_partners(folder, out=out, kind=kind, short_side=64, **options)
    return DataSet.read(found.manifest).rows


FORMS = {
    "H.264": {},
    "B-frames": {"b_frames": 3, "gop": 72, "codec_options": {"b-pyramid": "normal"}},
    "MPEG-4": {"codec": "mpeg4", "suffix": ".avi", "b_frames": 2, "codec_options": {"qscale": "2"}},
    "a phone, upright": {"rotation": 90},
    "upside down": {"rotation": 180},
    "a phone, the other way": {"rotation": -90},
    "its front camera": {"rotation": 90, "mirrored": True},
    "50 a second": {"rate": 50, "repeat": 2},
}


@pytest.mark.parametrize("form", FORMS)
def test_directions_are_those_of_known_motion(form, tmp_path):
    folder, found = write_moves(tmp_path / "videos", **FORMS[form]), 0
    for label, name in enumerate(MOVES):
        (path,) = folder.glob(f"{name}.*")
        windows, _ = find_windows(probe_video(path), one_way=True)
        assert {square[0] for _, square in windows} <= {label}, name
        found += len(windows)
    assert 0.75 * SCENES * len(MOVES) <= found <= SCENES * len(MOVES)


@pytest.mark.parametrize("name", (*CLASSES[4:], "mostly"))
def test_what_turns_grows_or_comes_back_goes_no_way(name, tmp_path):
    right = scenes("moves_right").reshape(SCENES, 24, 64, 64, 3)
    mostly = np.concatenate([right[:, 3:20], right[:, 18:11:-1]], axis=1).reshape(-1, 64, 64, 3)
    pictures = mostly if name == "mostly" else scenes(name)
    path = write_video(tmp_path / "a.mp4", 72, pictures=pictures, rate=12)
    windows, left_out = find_windows(probe_video(path), one_way=True)
    assert windows == [] and [why for why, _ in left_out] == ["no sure direction"] * SCENES


@pytest.mark.parametrize("x, rotation", [(40, 0), (260, 90), (480, 270), (300, 180)])
def test_a_square_lies_where_things_move(x, rotation, tmp_path):
    rng = np.random.default_rng(0)
    still, patch = (rng.integers(0, 255, (20, 60, 3)).repeat(10, 0).repeat(10, 1) for _ in "ab")
    pictures = np.stack([still] * 24).astype(np.uint8)
    for k, picture in enumerate(pictures):  # it goes down 3 pixels a frame
        picture[60 + 3 * k :][:40, x : x + 40] = patch[:40, :40]
    path = write_video(tmp_path / "a.mp4", 24, pictures=pictures, rotation=rotation)
    ((_, (label, top, left, side)),), _ = find_windows(probe_video(path), one_way=True)
    assert label == 3
    assert 600 * left < x + 30 and x + 10 < 600 * left + 200 * side
    assert 200 * top < 120 and 80 < 200 * (top + side)


NAMES = ("walk_1", "walk_2", "walk_3", "run 1", "run 2", "run 3", "sea", "sky", "zoo", "hut")
OF_VIDEO = dict(zip(NAMES, (*MOVES, *MOVES, *CLASSES[6:8]), strict=True))  # two families of three
TURNED = {kind: np.arange(24)[::-1].copy() for kind in CLASSES_OF}
TURNED["halves"] = np.roll(np.arange(24), 12)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, class_name) in enumerate(OF_VIDEO.items()):
        write_video(folder / f"{name}.mp4", 72, pictures=scenes(class_name, seed=seed), rate=12)
    return folder


@pytest.fixture(scope="module", params=CLASSES_OF)
def made(request, videos, tmp_path_factory) -> tuple[str, pd.DataFrame]:
    """(kind, rows of the manifest)."""
    out = tmp_path_factory.mktemp("made") / "out"
    return request.param, cut(videos, out, request.param, val_share=0.4)


def test_partners_hold_the_same_pictures_in_another_order(made, videos):
    kind, rows = made
    assert len(rows) >= 2 * (20 if kind == "directions" else 30) and len(rows) % 2 == 0
    for pair, two in rows.groupby("pair"):
        video, _, start = pair.split("-")
        shot = read_frames(videos / f"{video}.mp4", range(int(start), int(start) + 24))
        names = [OF_VIDEO[video], CLASSES[CLASSES.index(OF_VIDEO[video]) ^ 1]]
        names = names if kind == "directions" else CLASSES_OF[kind]
        first, second = (two[two["class_name"] == name]["path"].item() for name in names)
        as_shot, other = read_frames(first, range(24)), read_frames(second, range(24))
        error = (as_shot.float() - shot).square().mean()
        assert error < 255**2 / 1000, "30 decibels"
        assert torch.equal(other, as_shot[TURNED[kind]])  # bit for bit
        # Not even the file tells: pictures take as many bytes, but for their numbers.
        sizes = [np.array([packet.size for packet in packets_of(p)]) for p in (first, second)]
        plain = np.arange(24)[(TURNED[kind] > 0) & (np.arange(24) > 0)]  # the first has headers
        assert np.abs(sizes[1] - sizes[0][TURNED[kind]])[plain].max() <= 2
        assert sizes[0].sum() == pytest.approx(sizes[1].sum(), rel=0.005)


def test_the_manifest(made):
    kind, rows = made
    data_set = DataSet.read(Path(rows["path"][0]).parents[2] / "manifest.csv")
    assert data_set.classes == CLASSES_OF[kind]
    assert data_set.mirror == ((1, 0, 2, 3) if kind == "directions" else (0, 1))
    turned = {"directions": (1, 0, 3, 2), "arrow": (1, 0), "halves": None}
    assert data_set.reversal == turned[kind]
    assert (rows["num_frames"] == 24).all() and (rows["fps"] == 12).all()
    assert (rows[["height", "width"]] == 64).all(axis=None) and (rows["status"] == "ok").all()
    counts = rows.groupby(["split", "class_name"]).size().unstack()
    for k in range(0, len(CLASSES_OF[kind]), 2):
        one, other = CLASSES_OF[kind][k : k + 2]
        assert counts[one].equals(counts[other].rename(one)) and (counts[one] > 0).all()
    assert (rows.groupby("pair")["label"].agg(lambda two: two.iloc[0] ^ two.iloc[1]) == 1).all()
    assert (rows.groupby("source_id")["split"].nunique() == 1).all()
    assert {"walk", "run", "sea"} <= set(rows["source_id"])
    assert set(counts.index) == {"train", "val"}


def test_tsn_tosses_a_coin(made, tmp_path):
    """Trained, and with random weights: it gives partners the same logits, as others do not."""
    _, rows = made
    manifest = Path(rows["path"][0]).parents[2] / "manifest.csv"
    for architecture in ("tsn", "blvnet_tam"):
        network = Network(architecture=architecture)
        hardware = Hardware(in_memory=True)
        recipe = Recipe(network=network, size=(32, 32), epochs=1, batch_size=8, hardware=hardware)
        run = tmp_path / architecture
        train(manifest, Output(run), recipe)
        found = evaluate_file(run / "model.safetensors", manifest, size=(64, 64))
        score, clips = found.scores["partners"], found.clips
        assert f"between partner classes {100 * score:.2f} %" in str(found)
        # A coin lands outside of four standard errors once in 16,000 times.
        assert architecture != "tsn" or abs(score - 0.5) < 4 * 0.5 / clips**0.5
        model = randomized(load_trained(run / "model.safetensors").model)
        pairs = [two.sort_values("label")["path"] for _, two in rows.groupby("pair")]
        clips = [torch.stack([read_frames(path, range(1, 24, 3)) for path in two]) for two in pairs]
        with torch.no_grad():
            logits = torch.stack([model(two.double() / 255) for two in clips[:4]])
        gap = (logits[:, 0] - logits[:, 1]).abs().max()
        assert gap < 1e-12 if architecture == "tsn" else gap > 1e-3


def test_squares_have_the_size_that_was_asked_for(tmp_path):
    """Of 98 rows, scaled by 64 / 98, are 63.999... as Python reckons."""
    info = probe_video(write_video(tmp_path / "a.mp4", 24, size=(98, 174)))
    settings = {"kind": "directions", "short_side": 64}
    window = (0, (0, 0, 0, 1))
    two = module._write_pair("a", info, showing_of(info), window, settings, tmp_path)
    assert [(row["height"], row["width"]) for row in two] == [(64, 64)] * 2


def test_what_is_left_out_is_named(tmp_path):
    folder, noise = tmp_path / "videos", np.random.default_rng(0).normal(0, 2, (24, 64, 64, 3))
    (folder / "more").mkdir(parents=True)
    still = (scenes("moves_up", 1)[:1] + noise).clip(0, 255).astype(np.uint8)
    right, up = scenes("moves_right", 1), scenes("moves_up", 2)[24:]
    light = (np.array([0, 30, 60] * 8) * (np.arange(24) > 11))[:, None, None, None]
    for name, pictures in {
        "still.mp4": still,
        "cut.mp4": np.concatenate([right[:9], up[9:]]),
        "short.mp4": right[:23],
        "vp9.webm": right,
        "more/intra.mp4": right,
        "more/light.mp4": (still / 2 + light).astype(np.uint8),
        "more/good.mp4": np.concatenate([right] * 4),
    }.items():
        form = {"codec": "libvpx-vp9"} if name.endswith("webm") else {}
        form |= {"gop": 1} if "intra" in name else {}
        write_video(folder / name, len(pictures), pictures=pictures, rate=12, **form)
    (folder / "broken.mp4").write_bytes((folder / "cut.mp4").read_bytes()[:900])
    (folder / "notes.txt").write_text("no video")
    found = cut_partners(folder, out=tmp_path / "out", short_side=64, windows_per_video=3)
    why = dict(found.problems[["name", "kind"]].values)
    assert why == {
        "still.mp4": "hardly anything moves", "cut.mp4": "scene cut", "short.mp4": "too short",
        "broken.mp4": "unreadable", "more/light.mp4": "hardly anything moves",
        "more/good.mp4": "video with more windows", ".txt": "files passed over",
    }  # fmt: skip
    assert found.counts.sum().sum() == 2 * (3 + 2)
    assert "forwards" in str(found) and "scene cut" in str(found)
    still_only = tmp_path / "only"
    still_only.mkdir()
    (folder / "still.mp4").rename(still_only / "still.mp4")
    with pytest.raises(ValueError, match=r"no clip \(videos: 1; still.mp4: hardly anything"):
        cut_partners(still_only, out=tmp_path / "none")
    found = cut_partners(folder, out=tmp_path / "ways", kind="directions", short_side=64)
    table = found.problems.set_index("name")["kind"]
    assert table["vp9.webm"] == table["more/intra.mp4"] == "no motion vectors"
    detail = found.problems.set_index("name")["detail"]
    assert "this vp9: encode it again as H.264" in detail["vp9.webm"]


def tree(folder: Path) -> dict[str, bytes]:
    return {k: v for k, v in contents(folder).items() if not k.endswith(".jsonl")}


def test_an_interrupted_run_is_repeated_and_comes_out_the_same(videos, tmp_path, monkeypatch):
    folder, calls, write = tmp_path / "few", [], module.write_h264
    folder.mkdir()
    for name in ("sea", "sky", "run 1"):
        (folder / f"{name}.mp4").hardlink_to(videos / f"{name}.mp4")
    whole = cut_partners(folder, out=tmp_path / "whole", windows_per_video=2)

    def killed(path, *arguments, **options):
        calls.append(path)
        if len(calls) == 7:
            Path(f"{path.parent}/.x.mp4.1.part").write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, *arguments, **options)

    monkeypatch.setattr(module, "write_h264", killed)
    with pytest.raises(KeyboardInterrupt):
        cut_partners(folder, out=tmp_path / "out", windows_per_video=2)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    again = cut_partners(folder, out=tmp_path / "out", windows_per_video=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole") and len(tree(tmp_path / "out")) == 16
    number, expected = len(calls), tree(whole.manifest.parent)
    cut_partners(folder, out=tmp_path / "out", windows_per_video=2)
    assert len(calls) == number  # all was there
    Path(DataSet.read(again.manifest).rows["path"][0]).unlink()
    cut_partners(folder, out=tmp_path / "out", windows_per_video=2)
    assert number < len(calls) <= number + 4 and tree(tmp_path / "out") == expected
    other = cut_partners(folder, out=tmp_path / "other", windows_per_video=2, seed=1)
    assert tree(other.manifest.parent).keys() != expected.keys()


def test_clips_of_a_changed_video_go_and_what_somebody_made_of_them_stays(videos, tmp_path):
    folder, clips = tmp_path / "few", tmp_path / "out" / "clips"
    folder.mkdir()
    shutil.copy(videos / "run 1.mp4", folder / "a.mp4")
    (folder / "run 2.mp4").hardlink_to(videos / "run 2.mp4")
    first = cut(folder, tmp_path / "out", "arrow")
    old = sorted(p for p in first["path"] if Path(p).name.startswith("a-"))
    assert len(old) == 6, "three windows"
    pictures = scenes(MOVES[0], seed=9)[:24]
    write_video(folder / "a.mp4", 24, pictures=pictures, rate=12)
    edited, backup = Path(old[-1]), Path(old[-1]).with_suffix(".1.mp4")
    edited.write_bytes(b"mine")
    later = cut(folder, tmp_path / "out", "arrow")
    assert {*clips.rglob("*.mp4")} == {*map(Path, later["path"]), backup} and len(later) == 8
    assert backup.read_bytes() == b"mine" and (folder / "a.mp4").is_file()
    edited = Path(later["path"].iloc[0])  # and where the video is as it was
    content = edited.read_bytes()
    edited.write_bytes(b"mine, too")
    found = cut_partners(folder, out=tmp_path / "out", kind="arrow", short_side=64)
    assert (edited.read_bytes(), found.backups) == (content, (edited.with_suffix(".1.mp4"),))
    assert found.backups[0].read_bytes() == b"mine, too" and str(found.backups[0]) in str(found)


def test_clips_of_another_folder_and_of_a_video_that_broke_stay(videos, tmp_path):
    folder, out, copy = tmp_path / "few", tmp_path / "out", tmp_path / "copy"
    folder.mkdir()
    for name in ("run 1", "sea"):
        shutil.copy(videos / f"{name}.mp4", folder)
    cut(folder, out, "arrow")
    before = tree(out / "clips")
    shutil.copytree(out, copy)
    video = folder / "run 1.mp4"
    write_video(video, 24, pictures=scenes(MOVES[0], seed=9)[:24], rate=12)
    cut(folder, copy, "arrow")
    assert tree(out / "clips") == before, "the copy's log names the files of the first"
    video.write_bytes(video.read_bytes()[:500])
    rows = cut(folder, out, "arrow")
    assert not rows["path"].str.contains("run 1-").any() and tree(out / "clips") == before


def test_a_long_video_does_not_hold_up_the_log_of_others(videos, tmp_path, monkeypatch):
    """What is finished is not done again, if the run is stopped during a long one."""
    log, cut_video = tmp_path / "out" / "partners.jsonl", module._cut_video
    first, *_ = sorted(path.name for path in videos.iterdir())

    def first_waits(settings, out, name):
        deadline = time.monotonic() + 10
        while name == first and not log.is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        return cut_video(settings, out, name)

    monkeypatch.setattr(module, "_cut_video", first_waits)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    cut_partners(videos, out=tmp_path / "out", windows_per_video=1)
    done = [json.loads(line)["video"] for line in log.read_text().split("\n") if line]
    assert done[0] != first and len(done) == len({*done})


def test_folders_that_will_not_do(videos, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"a new or an empty folder, got .*: choose another"):
        cut_partners(videos, out=tmp_path)
    with pytest.raises(ValueError, match="an out that is not in the folder of videos"):
        cut_partners(videos, out=videos / "clips")
    nothing = tmp_path.parent / f"{tmp_path.name}_out"
    with pytest.raises(ValueError, match=r"expected videos in .*, found none"):
        cut_partners(tmp_path, out=nothing)
    with pytest.raises(ValueError, match=r"a regular expression for the source, got '\('"):
        cut_partners(videos, out=nothing, source="(")
    assert not nothing.exists(), "with the right folder of videos it can be begun"
    with pytest.raises(ValueError, match=r"a share between .* arrow, .*, got 8, 0, 0.2, halves"):
        cut_partners(videos, out=tmp_path / "new", short_side=8, windows_per_video=0, kind="halves")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    few = tmp_path / "few"
    few.mkdir()
    (few / "sea.mp4").hardlink_to(videos / "sea.mp4")
    out = tmp_path / "out"
    cut_partners(few, out=out)
    with pytest.raises(ValueError, match=r"expected the kind with which .* was begun, arrow, got"):
        cut_partners(few, out=out, kind="halves")
