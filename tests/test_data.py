"""From video files to clips: the data set, and the motion samples.

What makes the coin toss of the motion samples a fair one is held here, on the generator's frames,
on files freshly written, and on the files that are shipped.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lab import LIMIT_S, contents
from nets import network
from torch.utils.data import DataLoader
from videos import numbers, packets_of, write_video

from blvnet_lab.data import (
    ClipDataset,
    DataSet,
    VideoReadError,
    evaluation_transform,
    load_clips,
    probe_video,
    read_frames,
    sample_uniform,
    sample_views,
    view_transform,
)
from blvnet_lab.data.dataset_files import COLUMNS
from blvnet_lab.datasets.motion import (
    CLASSES,
    FRAMES,
    GOP,
    PARTNERS,
    REVERSAL,
    SIZE,
    partner_frames,
    render,
    scenes,
    write_clip,
    write_dataset,
)
from blvnet_lab.models import blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.paths import data_samples
from blvnet_lab.training.loading import Keyed


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> DataSet:
    """Ten classes of three training clips and one for validation."""
    return DataSet.read(write_dataset(tmp_path_factory.mktemp("motion"), 3, 1, seed=5))


def as_it_is(frames: torch.Tensor) -> torch.Tensor:
    return frames


def test_manifest_of_a_written_data_set(small):
    rows = small.rows
    assert list(rows.columns) == list(COLUMNS)
    assert set(rows["status"]) == {"ok"} and set(rows["probe"]) == {""}
    row = rows.iloc[0]
    assert (row["num_frames"], row["fps"], row["height"], row["width"]) == (FRAMES, 12, SIZE, SIZE)
    assert len(rows) == 10 * (3 + 1) and rows["path"].is_unique
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in rows["path"])
    assert small.classes == CLASSES == (
        "moves_right", "moves_left", "moves_up", "moves_down",
        "turns_clockwise", "turns_counterclockwise",
        "right_then_left", "left_then_right", "grows_then_shrinks", "shrinks_then_grows",
    )  # fmt: skip
    assert small.mirror == (1, 0, 2, 3, 5, 4, 7, 6, 8, 9)


def test_clips_of_a_split(small):
    clips = ClipDataset(small, "val", 8, as_it_is)
    rows = small.split("val").rows
    assert len(clips) == 10 and clips.labels.tolist() == rows["label"].tolist()
    for i in (0, 9):
        frames, label = clips[i]
        expected = read_frames(rows["path"].iloc[i], [1, 4, 7, 10, 13, 16, 19, 22])
        assert torch.equal(frames, expected) and label == rows["label"].iloc[i]
    for skip in (False, True):
        clips = ClipDataset(small, "val", 8, as_it_is, skip_unreadable=skip)
        assert torch.equal(clips[-1][0], frames) and [*zip(range(10), clips, strict=True)]
    assert len(ClipDataset(small, "train", 8, as_it_is)) == 30
    kept = ClipDataset(small, "val", 8, lambda frames: frames.zero_(), in_memory=True)
    before = kept.videos[0].clone()
    kept[0]
    assert torch.equal(kept.videos[0], before), "a transform does not change what is in memory"


def test_random_frames_in_training_only(small):
    torch.manual_seed(0)
    training = ClipDataset(small, "train", 4, as_it_is, random_frames=True, in_memory=True)
    assert len({training[0][0].numpy().tobytes() for _ in range(8)}) > 4
    evaluation = ClipDataset(small, "train", 4, as_it_is, in_memory=True)
    state = torch.random.get_rng_state()
    assert torch.equal(evaluation[0][0], evaluation[0][0])
    assert torch.equal(evaluation[0][0], training.videos[0][[3, 9, 15, 21]])
    assert torch.equal(torch.random.get_rng_state(), state)


def numbered(folder: Path, *counts: int) -> pd.DataFrame:
    """Videos whose frames show their numbers, one class each, in the split "train"."""
    paths = [write_video(folder / f"{i}.mp4", n) for i, n in enumerate(counts)]
    rows = [(path, i, f"class {i}", "train") for i, path in enumerate(paths)]
    return pd.DataFrame(rows, columns=["path", "label", "class_name", "split"])


def clips_of(manifest: pd.DataFrame, **options) -> ClipDataset:
    return ClipDataset(DataSet(manifest), "train", 4, as_it_is, **options)


def test_dense_clips(tmp_path):
    manifest = numbered(tmp_path, 20, 5)
    centre = clips_of(manifest, stride=3)
    assert numbers(centre[0][0]) == [5, 8, 11, 14] and numbers(centre[1][0]) == [0, 3, 4, 4]
    torch.manual_seed(0)
    drawn = clips_of(manifest, random_frames=True, stride=3)
    clips = [numbers(drawn[0][0]) for _ in range(20)]
    assert len({clip[0] for clip in clips}) > 4
    assert all(np.diff(clip).tolist() == [3, 3, 3] for clip in clips)


@pytest.mark.parametrize("stride", [None, 2])
def test_views_of_a_video(tmp_path, stride):
    manifest = numbered(tmp_path, 24)
    plain = clips_of(manifest, num_clips=3, stride=stride)
    views, label = plain[0]
    expected = sample_views(24, 4, 3, stride)
    assert views.shape == (3, 4, 3, 64, 112) and label == 0
    assert [numbers(view) for view in views] == expected.tolist()
    crops = view_transform((64, 64), 3)
    views, _ = ClipDataset(DataSet(manifest), "train", 4, crops, num_clips=3, stride=stride)[0]
    frames = read_frames(manifest["path"][0], expected.flatten())
    assert torch.equal(views, torch.cat([crops(clip) for clip in frames.split(4)]))
    assert views.shape == (9, 4, 3, 64, 64)


def test_mirrored_clips_change_their_label(small):
    """Half of the clips are mirrored; where left and right are classes, the label says so."""
    plain, clips = (ClipDataset(small, "train", 8, as_it_is, mirror=m) for m in (False, True))
    torch.manual_seed(0)
    mirrored = 0
    for (frames, label), (before, label_before) in zip(clips, plain, strict=True):
        is_mirrored = not torch.equal(frames, before)
        assert torch.equal(frames, before.flip(-1) if is_mirrored else before)
        assert label == (small.mirror[label_before] if is_mirrored else label_before)
        mirrored += is_mirrored
    assert 8 <= mirrored <= 22  # of 30


def test_mirroring_needs_a_class_list_and_evaluation_not_all_classes(tmp_path):
    manifest = numbered(tmp_path, 4, 4)
    data_set = DataSet(manifest, ["class 0", "class 1"], [None, 1])
    mirrored = ClipDataset(data_set, "train", 4, as_it_is, mirror=True)
    torch.manual_seed(0)
    shown = [[numbers(mirrored[i][0]) == [0, 1, 2, 3] for _ in range(10)] for i in (0, 1)]
    assert all(shown[0]) and not all(shown[1]), "the first class has no mirror image"
    # no class list, one without the column "mirror", clips that are no training clips
    for mirror, views in ((None, None), ((None, None), None), ((0, 1), 2)):
        data_set = DataSet(manifest, ["class 0", "class 1"], mirror)
        with pytest.raises(ValueError, match=r"images, and no num_clips, to mirror clips, got"):
            ClipDataset(data_set, "train", 4, as_it_is, mirror=True, num_clips=views)
    clips = clips_of(manifest[1:])
    assert clips[0][1] == 1
    with pytest.raises(ValueError, match=r"the labels 0, 1, .* got 1 class 1"):
        _ = clips.classes


def test_rows_that_are_not_ok_are_left_out(tmp_path):
    manifest = numbered(tmp_path, 4, 4, 4)
    manifest["status"] = ["ok", None, ""]  # not given, as of rows that were added by hand
    assert len(clips_of(manifest)) == 3
    manifest["status"] = ["ok", "missing", "damaged"]
    clips = clips_of(manifest)
    assert [*clips.paths] == [str(tmp_path / "0.mp4")] and clips.labels.tolist() == [0]
    with pytest.raises(ValueError, match=r'the status "ok", got none, only damaged, missing'):
        ClipDataset(DataSet(manifest[1:]), "train", 4, as_it_is)


def test_videos_that_are_cut_short_are_not_trained_on(tmp_path):
    """Some can be read up to where they end: that is not the video that the manifest means."""
    manifest = numbered(tmp_path, 12, 12)
    whole = write_video(tmp_path / "whole.mkv", 40).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    assert read_frames(cut, [0]).shape[0] == 1
    manifest.loc[0, "path"] = str(cut)
    with pytest.raises(VideoReadError, match=r"cut\.mkv: .*cut short, after \d+ frames"):
        clips_of(manifest)[0]
    for in_memory in (False, True):
        clips = clips_of(manifest, in_memory=in_memory, skip_unreadable=True)
        assert numbers(clips[0][0]) == numbers(clips[1][0])
        assert clips.unreadable()["path"].tolist() == [str(cut)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_videos_are_skipped_counted_and_named(tmp_path, num_workers):
    manifest = numbered(tmp_path, *[8] * 6)
    (tmp_path / "1.mp4").write_bytes(b"not a video")
    (tmp_path / "2.mp4").unlink()
    clips = clips_of(manifest, skip_unreadable=True)
    loader = DataLoader(clips, 3, num_workers=num_workers, timeout=LIMIT_S if num_workers else 0)
    for _ in range(2):
        labels = [label for _, batch in loader for label in batch.tolist()]
        assert labels == [0, 3, 3, 3, 4, 5], "the next one takes the place of an unreadable one"
        found = clips.unreadable()
        assert found["path"].tolist() == [str(tmp_path / "1.mp4"), str(tmp_path / "2.mp4")]
        assert "cannot be opened" in found["reason"][0] and "does not exist" in found["reason"][1]
    again = clips_of(manifest, skip_unreadable=True)
    assert again[2][1] == 3
    write_video(tmp_path / "2.mp4", 8)
    assert "can be now" in again.unreadable()["reason"][0]
    assert clips.unreadable().equals(found), "each is looked at once, not at every checkpoint"
    for in_memory in (False, True):
        clips = clips_of(manifest, in_memory=in_memory)  # of which evaluation takes the others
        with pytest.raises(VideoReadError, match=r"1\.mp4: .* cannot be opened"):
            clips[1]
        assert numbers(clips[0][0]) == [1, 3, 5, 7]
    keyed = Keyed(clips_of(manifest, skip_unreadable=True), seed=0)
    assert [keyed[1, i][1:] for i in (0, 1, 4)] == [(0, 0), (2, 2), (4, 4)], "label, and which clip"


def test_a_fault_found_while_frames_are_kept_is_no_clip(tmp_path):
    manifest, path = numbered(tmp_path, 60, 8), tmp_path / "0.mp4"
    content = bytearray(path.read_bytes())
    begin = round(0.6 * len(content))
    content[begin : begin + 200] = b"\xff" * 200
    path.write_bytes(content)
    clips = clips_of(manifest, in_memory=True)
    with pytest.raises(VideoReadError, match=r"0\.mp4: .* without a fault"):
        clips[0]
    assert clips.videos[0] is not None and numbers(clips[1][0]) == [1, 3, 5, 7]


def test_a_missing_disk_ends_the_run(tmp_path):
    manifest = numbered(tmp_path, *[4] * 3)
    for path in manifest["path"]:
        path.unlink()
    clips = clips_of(manifest, skip_unreadable=True)
    for _ in range(2):  # also when all are known to be unreadable
        with pytest.raises(VideoReadError, match=r"not one of the 3 from .*1.mp4 on can be read"):
            clips[1]


def body(frames: np.ndarray) -> np.ndarray:
    """Where the shape is: it alone is bright in all three colours; (T, H, W) bool."""
    return frames.min(axis=-1) > 140


def centroid(mask: np.ndarray) -> tuple[float, float]:
    """(x, y) of the middle of the bright pixels, y growing downwards as on a screen."""
    y, x = np.nonzero(mask)
    return x.mean(), y.mean()


def turned(masks: np.ndarray) -> float:
    """How far the dark notch goes round the shape's middle, in radians, clockwise on screen."""
    angles = []
    for mask in masks:
        y, x = np.nonzero(mask)
        middle = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
        # The notch is missing from the bright pixels, so their centroid lies opposite to it.
        # With y growing downwards an angle from x to y grows clockwise.
        angles.append(np.arctan2(middle[1] - y.mean(), middle[0] - x.mean()))
    return np.diff(np.unwrap(angles)).sum()


def first_of_two(place: int, frames: np.ndarray) -> bool:
    """Which of two partners a clip shows, from geometry alone: is it the first?"""
    masks = body(frames)
    (x0, y0), (x1, _) = centroid(masks[0]), centroid(masks[FRAMES // 2 - 1])
    x2, y2 = centroid(masks[-1])
    areas = masks.sum((1, 2))
    values = [
        x2 - x0,  # moves_right
        y0 - y2,  # moves_up
        turned(masks),  # turns_clockwise
        min(x1 - x0, x1 - x2) if x1 > x0 else max(x1 - x0, x1 - x2),  # right_then_left
        np.log(areas[FRAMES // 2 - 1] / areas[0]),  # grows_then_shrinks
    ]
    least = [15, 15, 0.6 * np.pi, 10, 0.3]
    assert abs(values[place]) > least[place], f"{PARTNERS[place].names}: {values[place]:.2f}"
    return values[place] > 0


def scene(place: int, i: int) -> np.ndarray:
    return render(PARTNERS[place], np.random.default_rng([7, place, i]))


EVERY_SCENE = list(itertools.product(range(len(PARTNERS)), range(6)))


@pytest.mark.parametrize("place, i", EVERY_SCENE)
def test_motion_is_what_the_class_says(place, i):
    frames, kind = scene(place, i), PARTNERS[place].kind
    assert frames.shape == (FRAMES, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert len({frame.tobytes() for frame in frames}) == FRAMES
    partner = partner_frames(frames, kind)
    order = [*range(23, -1, -1)] if kind == "direction" else [*range(12, 24), *range(12)]
    assert np.array_equal(partner, frames[order]), "the very same frames"
    assert first_of_two(place, frames) and not first_of_two(place, partner)
    mirror_image = frames[:, :, ::-1]
    changes = not first_of_two(place, mirror_image)
    assert changes == (place in (0, 2, 3))  # x, angle, x: as `small.mirror` has it


def test_scenes_differ_and_come_again_from_their_seed():
    def drawn(split, per_class, seed):
        return [frames.tobytes() for _, _, frames in scenes(split, per_class, seed)]

    first = drawn("val", 2, 3)
    assert first == drawn("val", 2, 3)
    assert len({*first, *drawn("train", 2, 3), *drawn("val", 2, 4)}) == 30
    names = [(name, partners.names[0]) for name, partners, _ in scenes("val", 2, seed=3)]
    assert names[1:3] == [("val_0_0001", "moves_right"), ("val_1_0000", "moves_up")]
    assert drawn("val", 3, 3)[:2] == first[:2], "more clips a class must not change the first ones"


def decoded(path: Path) -> np.ndarray:
    """All frames of a file, (T, H, W, 3) float."""
    return read_frames(path, range(FRAMES)).permute(0, 2, 3, 1).numpy().astype(float)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Four scenes a class: (place, rendered, decoded, the partner's file decoded)."""
    folder = tmp_path_factory.mktemp("written")
    clips = []
    for place, partners in enumerate(PARTNERS):
        for i in range(4):
            frames = scene(place, i)
            write_clip(folder / "a.mp4", frames)
            write_clip(folder / "b.mp4", partner_frames(frames, partners.kind))
            clips.append((place, frames, decoded(folder / "a.mp4"), decoded(folder / "b.mp4")))
    return clips


@pytest.mark.parametrize("num_frames", [8, 16, FRAMES])
def test_files_of_partners_hold_the_same_frames(written, num_frames):
    indices = sample_uniform(FRAMES, num_frames).numpy()
    for place, _, one, other in written:
        kind = PARTNERS[place].kind
        permuted = partner_frames(one[indices], kind)
        difference = np.abs(permuted - other[indices]).mean()
        if kind == "order":  # whole groups of pictures change places
            assert difference == 0
        else:  # coding differs, by about as much as from the rendered frames
            assert difference < 4
            assert difference < 0.75 * np.abs(one[indices] - other[indices]).mean()


def test_every_place_in_a_clip_is_coded_equally_well(written):
    quality = []
    for _, frames, one, _ in written:
        error = ((one - frames) ** 2).mean((1, 2, 3))
        quality.append(10 * np.log10(255**2 / error))
    assert len(quality) == 20
    of_place = np.mean(quality, axis=0)  # dB
    assert of_place.min() > 32
    assert of_place.max() - of_place.min() < 1
    halves = of_place[: FRAMES // 2].mean() - of_place[FRAMES // 2 :].mean()
    assert abs(halves) < 0.2, "the second half must not look better or worse than the first"


def test_keyframes_and_group_of_pictures(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, scene(0, 0))
    keyframes = [packet.is_keyframe for packet in packets_of(path)]
    assert keyframes == [t % GOP == 0 for t in range(FRAMES)]
    assert FRAMES // 2 % GOP == 0, "halves must change places by whole groups"
    info = probe_video(path)
    assert (info.num_frames, info.size, info.fps) == (FRAMES, (SIZE, SIZE), 12)
    assert info.codec == "h264" and info.decord_exact


def partners_stay_together(manifest: pd.DataFrame) -> None:
    for _, rows in manifest.groupby("source_id"):
        labels = sorted(rows["label"])
        assert len(rows) == 2 and labels[0] ^ 1 == labels[1]
        assert rows["split"].nunique() == 1


def test_reversal_is_what_clips_show_backwards(small):
    """Of both partners the one that is nearer to the frames in reverse order."""
    for _, rows in small.rows.groupby("source_id"):
        clips = {row.label: read_frames(row.path, range(24)).float() for row in rows.itertuples()}
        for label, clip in clips.items():
            gaps = {k: (clip.flip(0) - other).abs().mean() for k, other in clips.items()}
            assert REVERSAL[label] == min(gaps, key=gaps.get)


def test_data_set_comes_again_byte_by_byte(small, tmp_path):
    write_dataset(tmp_path, 3, 1, seed=5)
    again, before = contents(tmp_path), contents(small.path.parent)
    assert len(again) == 40 + 2, "videos, manifest and class list"
    assert [name for name in before if before[name] != again.get(name)] == []
    partners_stay_together(small.rows)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    with pytest.raises(ValueError, match="at least one video of each class and split, got"):
        write_dataset(tmp_path / "new", 1, 0)
    (tmp_path / "mine.txt").write_text("do not touch")
    with pytest.raises(FileExistsError, match="new or an empty folder, got"):
        write_dataset(tmp_path, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return DataSet.read(data_samples() / "motion" / "manifest.csv").rows


def test_load_clips_class_by_class(small, shipped):
    transform = evaluation_transform((32, 32))
    mixed = small.with_rows(small.rows.sample(frac=1, random_state=0))
    clips, labels = load_clips(mixed, "train", 4, transform, 2)
    assert clips.shape == (20, 4, 3, 32, 32) and labels.tolist() == [i // 2 for i in range(20)]
    clips, labels = load_clips(small, "train", 4, transform)
    dataset = ClipDataset(small, "train", 4, transform)
    assert labels.tolist() == sorted(dataset.labels)
    for label in (0, 7):
        of_class = [clip for clip, one in (dataset[i] for i in range(30)) if one == label]
        assert torch.equal(clips[labels == label], torch.stack(of_class))
    # the partners' clips of the sample data come in the same scenes
    rows = shipped[shipped.split == "val"].sort_values("label", kind="stable")
    scenes = rows.source_id.to_numpy().reshape(5, 2, 50)
    assert (scenes[:, 0] == scenes[:, 1]).all()
    for per_class in (2, 0):
        with pytest.raises(ValueError, match=f'{per_class} clips of every class in split "val"'):
            load_clips(small, "val", 4, as_it_is, per_class)
    rows = small.rows.assign(status=["unreadable", *["ok"] * (len(small.rows) - 1)])
    with pytest.raises(ValueError, match=r"got .*'moves_down': 3.*: 2.*: ask for fewer"):
        load_clips(small.with_rows(rows), "train", 4, as_it_is, 3)


def test_shipped_samples_are_complete(shipped):
    assert DataSet(shipped).classes == CLASSES
    counts = shipped.groupby(["split", "class_name"]).size()
    for name in CLASSES:
        assert counts["train", name] == 100 and counts["val", name] == 50
    assert set(shipped["split"]) == {"train", "val"}
    folder = data_samples() / "motion"
    listed = {Path(path) for path in shipped["path"]}
    there = {p for split in ("train", "val") for p in (folder / split).rglob("*") if p.is_file()}
    assert listed == there
    assert sum(path.stat().st_size for path in there) < 10_000_000
    for row in shipped.itertuples():
        path = Path(row.path)
        assert (path.parent.name, path.parent.parent.name) == (row.class_name, row.split)
        assert row.label == CLASSES.index(row.class_name)
    partners_stay_together(shipped)
    infos = [probe_video(path) for path in shipped["path"][::15]]
    alike = {(i.num_frames, i.size, i.codec, i.decord_exact) for i in infos}
    assert alike == {(FRAMES, (SIZE, SIZE), "h264", True)}


def test_shipped_files_are_what_the_generator_makes(shipped, tmp_path):
    rows = shipped.set_index(["source_id", "class_name"])
    for split in ("train", "val"):
        for name, partners, frames in scenes(split, 1, seed=0):
            path = tmp_path / "again.mp4"
            versions = (frames, partner_frames(frames, partners.kind))
            for class_name, version in zip(partners.names, versions, strict=True):
                write_clip(path, version)
                there = decoded(rows.loc[(name, class_name), "path"])
                # Equal here; another machine may round a pixel of noise to the other side.
                assert np.abs(decoded(path) - there).mean() < 0.05, (name, class_name)


def partner_clips(shipped: pd.DataFrame, place: int, num_frames: int) -> torch.Tensor:
    """The two files of each of two scenes: (scene, partner, T, C, H, W)."""
    clips = []
    for i in range(2):
        rows = shipped[shipped["source_id"] == f"val_{place}_{i:04d}"].sort_values("label")
        pair = ClipDataset(DataSet(rows), "val", num_frames, evaluation_transform((SIZE, SIZE)))
        clips.append(torch.stack([pair[0][0], pair[1][0]]))
    return torch.stack(clips).double()


@pytest.mark.parametrize("num_frames", [8, 16])
@pytest.mark.parametrize(
    "builder, known",
    [(tsn, ()), (tsn_blnet, ()), (blvnet, (0, 1, 2)), (blvnet_tam, (0, 1, 2, 3, 4))],
)
def test_which_partners_a_network_can_tell_apart(shipped, builder, known, num_frames):
    """Where the logits of partners are the same, no training can tell them apart."""
    model, half = network(builder, num_frames=num_frames, num_classes=10), num_frames // 2
    for place in range(5):
        one, other = partner_clips(shipped, place, num_frames).unbind(1)
        if place > 2:
            assert torch.equal(other, torch.cat([one[:, half:], one[:, :half]], 1))
        elif not known:  # coded backwards, frames differ a little
            other = one.flip(1)
        with torch.no_grad():
            logits, of_other = model(one), model(other)
        change = (logits - of_other).abs().max()
        assert (change > 1e-3) if place in known else (change < 1e-12)
        assert (logits[0] - logits[1]).abs().max() > 1e-3, "two scenes differ"


def test_frames_without_their_order_tell_nothing_about_the_partner(shipped):
    """The encoded files: nothing that a codec writes into frames gives the direction away.

    A ridge classifier gets what any network that averages over frames could use: random features of
    each frame, averaged over the clip. It must toss a coin, and it must not when the same frames'
    features are in their order (the control: the classifier is able to learn).
    """
    torch.manual_seed(0)
    frozen = tsn(depth="tiny", num_frames=8, num_classes=2).eval()
    transform, rows = evaluation_transform((SIZE, SIZE)), {}
    chosen = shipped[shipped["class_name"].isin(("moves_right", "moves_left"))]
    for split in ("train", "val"):
        clips = DataLoader(ClipDataset(DataSet(chosen), split, 8, transform), 50)
        with torch.no_grad():
            pairs = [(frozen.forward_features(x).mean((-2, -1)), y) for x, y in clips]
        rows[split] = torch.cat([f for f, _ in pairs]).double(), torch.cat([y for _, y in pairs])

    def accuracy(features) -> float:
        (train, labels), (val, truth) = rows["train"], rows["val"]
        x, z = features(train), features(val)
        mean, spread = x.mean(0), x.std(0) + 1e-9
        x, z = (x - mean) / spread, (z - mean) / spread
        ridge = x.T @ x + 30 * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(ridge, x.T @ (2.0 * labels.double() - 1))
        return ((z @ weights > 0) == (truth == 1)).double().mean().item()

    blind = accuracy(lambda f: f.mean(1))  # (N, T, C) -> (N, C)
    seeing = accuracy(lambda f: f[:, 4:].mean(1) - f[:, :4].mean(1))
    assert 0.35 < blind < 0.65, blind
    assert seeing > 0.8, seeing
