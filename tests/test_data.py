"""From video files to clips: sampling, transforms, the data set, and the motion samples.

What makes the coin toss of the motion samples a fair one is held here, on the generator's frames,
on files freshly written, and on the files that are shipped.
"""

import itertools
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from blvnet_lab.data import (
    ClipDataset,
    VideoReadError,
    class_names,
    denormalize,
    evaluation_transform,
    load_clips,
    normalize,
    probe_video,
    read_frames,
    read_manifest,
    sample_uniform,
    training_transform,
)
from blvnet_lab.data.motion import (
    CLASSES,
    FRAMES,
    GOP,
    KINDS,
    MIRRORED,
    PARTNERS,
    SIZE,
    partner_frames,
    render,
    scenes,
    write_clip,
    write_dataset,
)
from blvnet_lab.models import blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.models.tam import TAM
from blvnet_lab.paths import data_samples

# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    "frame_count, num_frames, expected",
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (24, 8, [1, 4, 7, 10, 13, 16, 19, 22]),
        (24, 16, [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23]),
        (10, 4, [1, 3, 6, 8]),  # 1.25, 3.75, 6.25, 8.75
        (300, 2, [75, 225]),
        (7, 1, [3]),
        (1, 4, [0, 0, 0, 0]),
        (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),  # .1875 .5625 .9375 1.31 1.69 2.06 2.44 2.81
    ],
)
def test_centres_worked_out_by_hand(frame_count, num_frames, expected):
    indices = sample_uniform(frame_count, num_frames)
    assert indices.dtype == torch.int64 and indices.tolist() == expected


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    frame_count=st.integers(1, 2000),
    num_frames=st.integers(1, 64),
    seed=st.none() | st.integers(0, 1000),
)
def test_one_frame_from_each_segment(frame_count, num_frames, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    indices = sample_uniform(frame_count, num_frames, generator).tolist()
    assert len(indices) == num_frames
    assert indices == sorted(indices)
    assert 0 <= indices[0] and indices[-1] < frame_count
    for i, index in enumerate(indices):  # segment i covers the times [i, i + 1) * N / T
        assert index + 1 > i * frame_count / num_frames
        assert index < (i + 1) * frame_count / num_frames
    if seed is None:  # the centre of each, in whole numbers
        assert indices == [(2 * i + 1) * frame_count // (2 * num_frames) for i in range(num_frames)]


def test_random_frames_reach_all_of_their_segment():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([sample_uniform(24, 8, generator) for _ in range(300)])
    for i in range(8):
        values, counts = drawn[:, i].unique(return_counts=True)
        assert values.tolist() == [3 * i, 3 * i + 1, 3 * i + 2]
        assert counts.min() > 60  # of 100 expected
    moves_alike = np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]
    assert abs(moves_alike) < 0.2, "each segment has a draw of its own"


def test_random_frames_come_from_the_generator_alone():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return [sample_uniform(100, 8, generator).tolist() for _ in range(3)]

    before = torch.random.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    sample_uniform(100, 8)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("num_frames", [8, 16])
def test_centres_commute_with_reversal_and_with_exchanging_halves(num_frames):
    frames = np.arange(FRAMES)
    indices = sample_uniform(FRAMES, num_frames).numpy()
    for kind in ("direction", "order"):
        sampled = partner_frames(frames[indices], kind)
        assert (partner_frames(frames, kind)[indices] == sampled).all()


@pytest.mark.parametrize("frame_count, num_frames", [(0, 8), (-1, 8), (8, 0), (8, -4)])
def test_nothing_to_sample(frame_count, num_frames):
    with pytest.raises(ValueError, match=f"at least one frame.*{frame_count} and {num_frames}"):
        sample_uniform(frame_count, num_frames)


# ---------------------------------------------------------------- transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as published


def random_frames(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_normalize_by_hand():
    frames = random_frames(2, 3, 4, 5)
    clip = normalize(frames)
    assert clip.dtype == torch.float32
    for channel in range(3):
        expected = (frames[:, channel].double() / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(clip[:, channel].double(), expected, rtol=0, atol=1e-5)


def test_denormalize_is_the_way_back():
    frames = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    assert torch.equal(denormalize(normalize(frames)), frames)
    assert torch.equal(denormalize(normalize(frames)[None])[0], frames)  # any leading axes
    far = torch.tensor([-100.0, 100.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert denormalize(far)[:, 0].flatten().tolist() == [0, 255], "clamped, not wrapped around"


TRANSFORMS = [training_transform, evaluation_transform]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equal_frames_stay_equal(transform):
    frames = random_frames(1, 3, 60, 80).expand(8, 3, 60, 80)
    for seed in range(5):
        torch.manual_seed(seed)
        clip = transform((48, 56))(frames)
        assert clip.shape == (8, 3, 48, 56) and clip.dtype == torch.float32
        assert all(torch.equal(clip[0], frame) for frame in clip)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_values_stay_in_range(transform):
    torch.manual_seed(0)
    clip = transform((32, 32))(random_frames(8, 3, 64, 64))
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        assert clip[:, channel].min() >= (0 - mean) / std - 1e-4
        assert clip[:, channel].max() <= (1 - mean) / std + 1e-4


def test_training_transform_varies_and_evaluation_does_not():
    frames = random_frames(2, 3, 64, 64)
    torch.manual_seed(0)
    training, evaluation = training_transform((64, 64)), evaluation_transform((64, 64))
    assert not torch.equal(training(frames), training(frames))
    state = torch.random.get_rng_state()
    assert torch.equal(evaluation(frames), evaluation(frames))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_transform_never_mirrors_nor_turns():
    bright_left, bright_top = torch.full((2, 4, 3, 64, 64), 20, dtype=torch.uint8)
    bright_left[..., :32] = bright_top[..., :32, :] = 220
    transform = training_transform((64, 64))
    torch.manual_seed(0)
    for _ in range(100):  # a mirror image one time in two would survive this once in 2^100
        clip = transform(bright_left)
        assert (clip[..., 0] > clip[..., -1]).all()
        clip = transform(bright_top)
        assert (clip[..., 0, :] > clip[..., -1, :]).all()


def test_training_transform_keeps_the_motion():
    """A bright bar that goes right still does so, in every draw."""
    frames = torch.full((8, 3, 64, 64), 30, dtype=torch.uint8)
    for t in range(8):
        frames[t, :, :, 18 + 3 * t : 22 + 3 * t] = 230
    torch.manual_seed(0)
    for _ in range(30):
        clip = training_transform((64, 64))(frames)
        places = clip.mean((1, 2)).argmax(-1).tolist()
        assert places == sorted(places) and places[-1] > places[0] + 10


def test_evaluation_leaves_frames_of_its_size_alone():
    frames = random_frames(2, 3, 64, 64)
    assert torch.equal(evaluation_transform((64, 64))(frames), normalize(frames))


def test_evaluation_keeps_the_centre_of_a_wide_and_of_a_tall_video():
    wide = random_frames(2, 3, 64, 128)
    assert torch.equal(evaluation_transform((64, 64))(wide), normalize(wide[..., 32:96]))
    tall = random_frames(2, 3, 90, 40)
    assert torch.equal(evaluation_transform((50, 40))(tall), normalize(tall[..., 20:70, :]))


def test_evaluation_scales_without_distortion():
    """A slope of brightness from 0 to 255 over 256 columns, seen at a quarter of the size."""
    slope = torch.arange(256, dtype=torch.uint8).expand(1, 3, 128, 256)
    seen = denormalize(evaluation_transform((32, 32))(slope)).float()
    assert seen.shape == (1, 3, 32, 32)
    expected = 64 + 4 * torch.arange(32) + 1.5  # the middle half, four columns to each
    assert (seen - expected).abs().max() <= 1
    for size in [(224, 224), (64, 96), (31, 65)]:
        for shape in [(240, 320), (100, 37), (65, 65)]:
            frames = torch.zeros(1, 3, *shape, dtype=torch.uint8)
            assert evaluation_transform(size)(frames).shape == (1, 3, *size)
            # filled: no black edge where there was none
            bright = evaluation_transform(size)(frames + 255)
            assert bright.min() > 2


# ---------------------------------------------------------------- manifest and data set


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> pd.DataFrame:
    """Ten classes of three training clips and one for validation."""
    return read_manifest(write_dataset(tmp_path_factory.mktemp("motion"), 3, 1, seed=5))


def as_it_is(frames: torch.Tensor) -> torch.Tensor:
    return frames


def test_manifest_of_a_written_data_set(small):
    assert list(small.columns) == [
        *("path", "label", "class_name", "split", "scene", "num_frames", "fps")
    ]
    assert len(small) == 10 * (3 + 1) and small["path"].is_unique
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in small["path"])
    assert class_names(small) == list(CLASSES)


def test_no_manifest(tmp_path):
    path = tmp_path / "nowhere.csv"
    with pytest.raises(ValueError, match=r"expected a manifest \(CSV\).*no file") as error:
        read_manifest(path)
    assert str(path) in str(error.value)


def test_manifest_without_a_column(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("path,label,name\na.mp4,0,run\n")
    with pytest.raises(ValueError) as error:
        read_manifest(path)
    assert "expected the columns path, label, class_name, split" in str(error.value)
    assert str(path) in str(error.value) and "missing: class_name, split" in str(error.value)


def test_numbers_as_names_stay_text(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("path,label,class_name,split\n007,0,12,1\n")
    row = read_manifest(path).iloc[0]
    assert (row["path"], row["class_name"], row["split"]) == (str(tmp_path / "007"), "12", "1")


@pytest.mark.parametrize(
    "rows",
    [
        [(1, "run"), (2, "walk")],
        [(0, "run"), (2, "walk")],
        [(0, "run"), (0, "walk")],
        [(0, "run"), (1, "walk"), (1, "hop")],
    ],
)
def test_labels_that_are_not_0_to_n(rows):
    manifest = pd.DataFrame(rows, columns=["label", "class_name"])
    with pytest.raises(ValueError, match=r"expected the labels 0, 1, \.\.\.") as error:
        class_names(manifest)
    assert f"{rows[-1][0]} {rows[-1][1]}" in str(error.value)


def test_class_names_in_the_order_of_labels():
    rows = [(2, "hop"), (0, "run"), (2, "hop"), (1, "walk")]
    manifest = pd.DataFrame(rows, columns=["label", "class_name"])
    assert class_names(manifest) == ["run", "walk", "hop"]


def test_clips_of_a_split(small):
    clips = ClipDataset(small, "val", 8, as_it_is)
    rows = small[small["split"] == "val"]
    assert len(clips) == 10 and clips.labels == rows["label"].tolist()
    for i in (0, 9):
        frames, label = clips[i]
        expected = read_frames(rows["path"].iloc[i], [1, 4, 7, 10, 13, 16, 19, 22])
        assert torch.equal(frames, expected) and label == rows["label"].iloc[i]
    assert len(ClipDataset(small, "train", 8, as_it_is)) == 30


@pytest.mark.parametrize("random_frames", [False, True])
def test_in_memory_makes_no_difference(small, random_frames):
    arguments = (small, "val", 8, as_it_is, random_frames)
    read = ClipDataset(*arguments)
    kept = ClipDataset(*arguments, in_memory=True)
    for i in range(len(read)):
        torch.manual_seed(i)
        frames, label = read[i]
        torch.manual_seed(i)
        same, same_label = kept[i]
        assert torch.equal(frames, same) and label == same_label
    assert kept.videos[0].shape == (FRAMES, 3, SIZE, SIZE)
    assert kept.videos[0].dtype == torch.uint8


def test_transformed_clip_does_not_change_what_is_in_memory(small):
    clips = ClipDataset(small, "val", 8, lambda frames: frames.zero_(), in_memory=True)
    before = clips.videos[0].clone()
    clips[0]
    assert torch.equal(clips.videos[0], before)


def test_random_frames_in_training_only(small):
    torch.manual_seed(0)
    training = ClipDataset(small, "train", 4, as_it_is, random_frames=True, in_memory=True)
    assert len({training[0][0].numpy().tobytes() for _ in range(8)}) > 4
    evaluation = ClipDataset(small, "train", 4, as_it_is, in_memory=True)
    state = torch.random.get_rng_state()
    assert torch.equal(evaluation[0][0], evaluation[0][0])
    assert torch.equal(evaluation[0][0], training.videos[0][[3, 9, 15, 21]])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_workers_give_the_same_clips(small):
    clips = ClipDataset(small, "val", 8, evaluation_transform((64, 64)))
    alone = list(DataLoader(clips, 4))
    shared = list(DataLoader(clips, 4, num_workers=2))
    assert len(alone) == len(shared) == 3
    for (frames, labels), (same, same_labels) in zip(alone, shared, strict=True):
        assert torch.equal(frames, same) and torch.equal(labels, same_labels)


def test_split_that_is_not_there(small):
    with pytest.raises(ValueError, match=r'split "test", got none; .*\[\'train\', \'val\'\]'):
        ClipDataset(small, "test", 8, as_it_is)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("content", [None, b"not a video"])
def test_broken_video_is_named(tmp_path, content, in_memory):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    row = {"path": str(path), "label": 0, "class_name": "run", "split": "train"}
    with pytest.raises(VideoReadError, match="expected a video file") as error:
        clips = ClipDataset(pd.DataFrame([row]), "train", 8, as_it_is, in_memory=in_memory)
        clips[0]
    assert str(path) in str(error.value)


# ---------------------------------------------------------------- motion: what is drawn


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
    frames, (kind, names, _) = scene(place, i), PARTNERS[place]
    assert frames.shape == (FRAMES, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert first_of_two(place, frames)
    assert not first_of_two(place, partner_frames(frames, kind))
    mirror_image = frames[:, :, ::-1]
    changes = not first_of_two(place, mirror_image)
    assert changes == (names[0] in MIRRORED) == (names[1] in MIRRORED)


def test_grows_and_shrinks_at_the_right_time():
    for i in range(6):
        areas = body(scene(4, i)).sum((1, 2))
        assert areas[0] < areas[6] < areas[11] and areas[12] > areas[18] > areas[23]


def test_classes_and_their_partners():
    assert CLASSES == (
        *("moves_right", "moves_left", "moves_up", "moves_down"),
        *("turns_clockwise", "turns_counterclockwise"),
        *("right_then_left", "left_then_right", "grows_then_shrinks", "shrinks_then_grows"),
    )
    assert KINDS == {name: "direction" if i < 6 else "order" for i, name in enumerate(CLASSES)}
    for label, name in enumerate(CLASSES):
        partners = next(p for p in PARTNERS if name in p.names)
        assert partners.names == (CLASSES[label & ~1], CLASSES[label | 1])
    assert [CLASSES.index(name) for name in MIRRORED] == [0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize("place", range(len(PARTNERS)))
def test_partners_hold_the_very_same_frames(place):
    frames, kind = scene(place, 0), PARTNERS[place].kind
    partner = partner_frames(frames, kind)
    assert partner.shape == frames.shape and not np.array_equal(partner, frames)
    count = {frame.tobytes() for frame in frames}
    assert len(count) == FRAMES and count == {frame.tobytes() for frame in partner}
    assert np.array_equal(partner_frames(partner, kind), frames), "an involution"


def test_partner_orders_by_hand():
    frames = np.arange(8)
    assert partner_frames(frames, "direction").tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert partner_frames(frames, "order").tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


@pytest.mark.parametrize("place", [i for i, p in enumerate(PARTNERS) if p.kind == "order"])
@pytest.mark.parametrize("num_frames", [8, 16])
def test_order_partners_hold_the_same_pairs_of_frames(place, num_frames):
    frames = scene(place, 0)
    partner = partner_frames(frames, "order")
    indices = sample_uniform(FRAMES, num_frames).numpy()

    def pairs(clip):
        pairs_of_frames = clip[indices].reshape(num_frames // 2, -1)
        return sorted(pair.tobytes() for pair in pairs_of_frames)

    assert pairs(frames) == pairs(partner)


def test_scenes_differ_and_come_again_from_their_seed():
    first = [frames.tobytes() for _, _, frames in scenes("val", 2, seed=3)]
    assert first == [frames.tobytes() for _, _, frames in scenes("val", 2, seed=3)]
    others = [
        frames.tobytes()
        for split, seed in (("train", 3), ("val", 4))
        for _, _, frames in scenes(split, 2, seed)
    ]
    assert len(set(first + others)) == 30
    names = [(name, partners.names[0]) for name, partners, _ in scenes("val", 2, seed=3)]
    assert names[:3] == [
        ("val_0_0000", "moves_right"),
        ("val_0_0001", "moves_right"),
        ("val_1_0000", "moves_up"),
    ]
    longer = [frames.tobytes() for _, _, frames in scenes("val", 3, seed=3)]
    assert longer[:2] == first[:2], "more clips a class must not change the first ones"


# ---------------------------------------------------------------- motion: what is written


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
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert [packet.is_keyframe for packet in packets] == [t % GOP == 0 for t in range(FRAMES)]
    assert FRAMES // 2 % GOP == 0, "halves must change places by whole groups"
    info = probe_video(path)
    assert (info.num_frames, info.size, info.fps) == (FRAMES, (SIZE, SIZE), 12)
    assert info.codec == "h264" and info.decord_exact


def test_equal_frames_give_equal_bytes(tmp_path):
    frames = scene(2, 1)
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, frames)
    one = (tmp_path / "a.mp4").read_bytes()
    assert one == (tmp_path / "b.mp4").read_bytes()
    write_clip(tmp_path / "a.mp4", frames[::-1])
    assert one != (tmp_path / "a.mp4").read_bytes()


def test_data_set_comes_again_byte_by_byte(small, tmp_path):
    again = write_dataset(tmp_path, 3, 1, seed=5)
    folder = Path(small["path"].iloc[0]).parents[2]
    assert again.read_bytes() == (folder / "manifest.csv").read_bytes()
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.mp4"))
    assert len(files) == 40
    for name in files:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def partners_stay_together(manifest: pd.DataFrame) -> None:
    for _, rows in manifest.groupby("scene"):
        labels = sorted(rows["label"])
        assert len(rows) == 2 and labels[0] ^ 1 == labels[1]
        assert rows["split"].nunique() == 1


def test_partners_of_a_scene_are_in_one_split(small):
    partners_stay_together(small)


def test_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("do not touch")
    with pytest.raises(FileExistsError, match="new or an empty folder, got"):
        write_dataset(tmp_path, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("counts", [(0, 1), (1, 0), (-1, 5)])
def test_data_set_of_no_videos(tmp_path, counts):
    with pytest.raises(ValueError, match="at least one training and one validation video"):
        write_dataset(tmp_path / "new", *counts)
    assert not (tmp_path / "new").exists()


def test_manifest_that_is_no_table(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# Notes\n\na, b\nc, d, e, f\n")
    with pytest.raises(ValueError, match=r"notes\.md: expected a CSV file with the columns path"):
        read_manifest(path)


# ---------------------------------------------------------------- the shipped samples


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return read_manifest(data_samples() / "motion" / "manifest.csv")


def test_load_clips_class_by_class(small, shipped):
    transform = evaluation_transform((32, 32))
    clips, labels = load_clips(small.sample(frac=1, random_state=0), "train", 4, transform, 2)
    assert clips.shape == (20, 4, 3, 32, 32) and labels.tolist() == [i // 2 for i in range(20)]
    clips, labels = load_clips(small, "train", 4, transform)
    dataset = ClipDataset(small, "train", 4, transform)
    assert labels.tolist() == sorted(dataset.labels)
    for label in (0, 7):
        of_class = [dataset[i][0] for i in range(len(dataset)) if dataset.labels[i] == label]
        assert torch.equal(clips[labels == label], torch.stack(of_class))
    # the partners' clips of the sample data come in the same scenes
    rows = shipped[shipped.split == "val"].sort_values("label", kind="stable")
    scenes = rows.scene.to_numpy().reshape(5, 2, 50)
    assert (scenes[:, 0] == scenes[:, 1]).all()


@pytest.mark.parametrize("per_class", [2, 0])
def test_load_clips_wants_enough_of_each_class(per_class, small):
    with pytest.raises(
        ValueError, match=f'in split "val", at least 1, got {per_class}, and 1 clips'
    ):
        load_clips(small, "val", 4, as_it_is, per_class=per_class)
    lacking = small[(small["class_name"] != "moves_up") | (small["split"] != "val")]
    with pytest.raises(ValueError, match="got 1, and 0 clips of moves_up: ask for fewer"):
        load_clips(lacking, "val", 4, as_it_is, per_class=1)


@pytest.mark.parametrize("per_class", [1, None])
def test_load_clips_of_a_split_that_is_not_there(per_class, small):
    with pytest.raises(ValueError, match=r"the splits \['train', 'val'\]"):
        load_clips(small, "vla", 4, as_it_is, per_class=per_class)


def test_shipped_samples_are_complete(shipped):
    assert class_names(shipped) == list(CLASSES)
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


def test_shipped_files_are_what_the_generator_makes(shipped, tmp_path):
    rows = shipped.set_index(["scene", "class_name"])
    for split in ("train", "val"):
        for name, partners, frames in scenes(split, 1, seed=0):
            path = tmp_path / "again.mp4"
            versions = (frames, partner_frames(frames, partners.kind))
            for class_name, version in zip(partners.names, versions, strict=True):
                write_clip(path, version)
                there = decoded(rows.loc[(name, class_name), "path"])
                # Equal here; another machine may round a pixel of noise to the other side.
                assert np.abs(decoded(path) - there).mean() < 0.05, (name, class_name)


def test_shipped_files_are_all_alike(shipped):
    infos = [probe_video(path) for path in shipped["path"][::15]]
    assert {(i.num_frames, i.size, i.codec, i.decord_exact) for i in infos} == {
        (FRAMES, (SIZE, SIZE), "h264", True)
    }
    assert len(infos) == 100


# ---------------------------------------------------------------- blindness, on real files


def network(builder, num_frames: int):
    """A tiny one in float64 and eval mode, with statistics and weights that hide nothing."""
    torch.manual_seed(1)
    model = builder(depth="tiny", num_frames=num_frames, num_classes=10)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
            elif isinstance(module, TAM):
                module.taps.uniform_(-0.5, 1)
        model.classifier.weight.normal_(0, 0.1)
    return model.double().eval()


def partner_clips(shipped: pd.DataFrame, place: int, num_frames: int) -> torch.Tensor:
    """The two files of each of two scenes: (scene, partner, T, C, H, W)."""
    clips = []
    for i in range(2):
        rows = shipped[shipped["scene"] == f"val_{place}_{i:04d}"].sort_values("label")
        pair = ClipDataset(rows, "val", num_frames, evaluation_transform((SIZE, SIZE)))
        clips.append(torch.stack([pair[0][0], pair[1][0]]))
    return torch.stack(clips).double()


@pytest.mark.parametrize("num_frames", [8, 16])
@pytest.mark.parametrize("builder", [tsn, tsn_blnet])
def test_frame_by_frame_networks_are_blind_to_reversal(shipped, builder, num_frames):
    model = network(builder, num_frames)
    for place in (0, 1, 2):
        clips = partner_clips(shipped, place, num_frames)[:, 0]
        with torch.no_grad():
            logits, backwards = model(clips), model(clips.flip(1))
        assert (logits - backwards).abs().max() < 1e-12
        assert (logits[0] - logits[1]).abs().max() > 1e-3, "two scenes differ"


@pytest.mark.parametrize("num_frames", [8, 16])
@pytest.mark.parametrize("builder", [tsn, tsn_blnet, blvnet])
def test_networks_without_tam_are_blind_to_order_partners(shipped, builder, num_frames):
    """The two files of a scene: the same logits, so no training can tell them apart."""
    model = network(builder, num_frames)
    for place in (3, 4):
        clips = partner_clips(shipped, place, num_frames)
        half = num_frames // 2
        assert torch.equal(clips[:, 1], torch.cat([clips[:, 0, half:], clips[:, 0, :half]], 1))
        with torch.no_grad():
            one, other = model(clips[:, 0]), model(clips[:, 1])
        assert (one - other).abs().max() < 1e-12
        assert (one[0] - one[1]).abs().max() > 1e-3, "two scenes differ"


@pytest.mark.parametrize("builder, places", [(blvnet, (0, 1, 2)), (blvnet_tam, (0, 1, 2, 3, 4))])
def test_what_the_others_can_see(shipped, builder, places):
    model = network(builder, 8)
    for place in places:
        clips = partner_clips(shipped, place, 8)
        with torch.no_grad():
            assert (model(clips[:, 0]) - model(clips[:, 1])).abs().max() > 1e-3


def test_frames_without_their_order_tell_nothing_about_the_partner(shipped):
    """The encoded files: nothing that a codec writes into frames gives the direction away.

    A ridge classifier gets what any network that averages over frames could use: random features of
    each frame, averaged over the clip. It must toss a coin, and it must not when the same frames'
    features are in their order (the control: the classifier is able to learn).
    """
    torch.manual_seed(0)
    network = tsn(depth="tiny", num_frames=8, num_classes=2).eval()
    transform, rows = evaluation_transform((SIZE, SIZE)), {}
    chosen = shipped[shipped["class_name"].isin(("moves_right", "moves_left"))]
    for split in ("train", "val"):
        clips = DataLoader(ClipDataset(chosen, split, 8, transform), 50)
        with torch.no_grad():
            pairs = [(network.forward_features(x).mean((-2, -1)), y) for x, y in clips]
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
