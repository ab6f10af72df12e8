"""What processes that read clips share, and how much of it is kept in memory."""

import dataclasses
import gc
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from videos import write_video

from blvnet_lab.data import (
    ClipDataset,
    DataSet,
    dataset,
    evaluation_transform,
    training_transform,
    useful_short_side,
)
from blvnet_lab.data.sharing import KeptFrames, free_memory
from blvnet_lab.data.transforms import CROP_SCALES
from blvnet_lab.runs import plan as planning
from blvnet_lab.runs.memory import count_memory
from blvnet_lab.runs.train import clip_datasets
from blvnet_lab.training.distributed import Ranks
from blvnet_lab.training.engine import build
from blvnet_lab.training.evaluation import evaluate
from blvnet_lab.training.loading import (
    DeadWorkerError,
    mixing,
    report_dead_worker,
    timed_batches,
    training_loader,
)
from blvnet_lab.training.recipe import Augmentation, Hardware, Recipe, Views

CPU = torch.device("cpu")
RECIPE = Recipe(batch_size=2, num_frames=4, size=(32, 32), hardware=Hardware(in_memory=True))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Four videos for training (8, 16, 24 and 12 frames) and two for validation, of two classes."""
    folder = tmp_path_factory.mktemp("videos")
    splits = ["train"] * 4 + ["val"] * 2
    counts, sizes = (8, 16, 24, 12, 10, 6), ((96, 160), (160, 96), (40, 64)) * 2
    made = enumerate(zip(counts, sizes, strict=True))
    paths = [str(write_video(folder / f"{i}.mp4", n, size=size)) for i, (n, size) in made]
    rows = [(path, i % 2, "ab"[i % 2], splits[i]) for i, path in enumerate(paths)]
    table = pd.DataFrame(rows, columns=["path", "label", "class_name", "split"])
    table["num_frames"], (table["height"], table["width"]) = counts, zip(*sizes, strict=True)
    return DataSet(table).save(folder / "manifest.csv")


def as_it_is(frames: torch.Tensor) -> torch.Tensor:
    return frames


def test_a_data_set_holds_no_object_for_each_row():
    """Python writes to an object that is read: a worker would get a copy of the page it lies in."""
    paths = [f"/v/{i}.mp4" for i in range(5000)]
    rows = pd.DataFrame({"path": paths, "split": "train", "class_name": "x"})
    rows["label"] = [i % 9 for i in range(5000)]
    rows["probe"] = [f"probe {i}ü" for i in range(5000)]
    clips = ClipDataset(DataSet(rows), "train", 8, as_it_is)
    seen, todo = set(), [vars(clips)]
    while todo:
        one = todo.pop()
        if id(one) not in seen and not isinstance(one, type) and not callable(one):
            seen.add(id(one))
            todo += gc.get_referents(one)
    assert len(seen) < 500
    for same in (clips, pickle.loads(pickle.dumps(clips))):
        found = (same.paths[4321], same.labels[4321], same.probes[4321])
        assert found == ("/v/4321.mp4", 1, "probe 4321ü")


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's ways to start processes")
def test_kept_frames_and_paths_reach_every_kind_of_process(manifest, context):
    clips = ClipDataset(DataSet.read(manifest), "train", 4, as_it_is, in_memory=True, short_side=32)
    loader = DataLoader(clips, None, num_workers=2, multiprocessing_context=context)
    found = [(frames, label) for frames, label in loader]
    for i, (frames, label) in enumerate(found):
        expected, expected_label = clips[i]
        assert torch.equal(frames, expected) and label == expected_label
    assert len(found) == 4


def test_a_lack_of_shared_memory_is_named():
    for words in ("DataLoader worker (pid 7) is killed", "unable to allocate shared"):
        with pytest.raises(DeadWorkerError, match=r"lack of memory \(or of /dev/shm .* fewer"):
            with report_dead_worker():
                raise RuntimeError(f"{words} memory(shm) for file </torch_1>: No space left")
    with pytest.raises(RuntimeError, match="another"), report_dead_worker():
        raise RuntimeError("another")


def test_the_smallest_videos_are_kept_as_far_as_the_room_goes():
    shapes = np.array([[10, 4, 4], [2, 4, 4], [0, 0, 0], [3, 4, 8]])  # 480, 96, 0, 288 bytes
    for limit, kept in ((95, []), (96, [1]), (383, [1]), (384, [1, 3]), (864, [0, 1, 3])):
        room = KeptFrames(shapes, limit)
        assert [i for i in range(4) if room[i] is not None] == kept
        assert room.num_left_out == 3 - len(kept)
        assert room.num_bytes == sum(3 * shapes[i].prod() for i in kept) <= limit
    for i in kept:
        frames, height, width = shapes[i]
        assert room[i].shape == (frames, 3, height, width)
        room[i].fill_(i + 7)
    assert [room[i].unique().tolist() for i in kept] == [[i + 7] for i in kept], "none overlaps"


@pytest.mark.parametrize("random_frames", [True, False])
@pytest.mark.parametrize("free", [0, 4 * (8 * 48 * 80 * 3), 4 * 100_000, 10**9])
def test_what_does_not_fit_is_read_and_said(manifest, monkeypatch, free, random_frames):
    arguments = (DataSet.read(manifest), "train", 4, as_it_is, random_frames)
    read = ClipDataset(*arguments, short_side=48)
    monkeypatch.setattr(dataset, "free_memory", lambda: free)
    if free < 10**9:
        with pytest.warns(UserWarning, match=r'split "train": \d of 4 videos are kept in memory'):
            kept = ClipDataset(*arguments, short_side=48, in_memory=True)
    else:
        kept = ClipDataset(*arguments, short_side=48, in_memory=True)
        # All frames are kept for training, where any may be drawn; else those of the clip.
        lengths = [8, 16, 24, 12] if random_frames else [4] * 4
        assert [len(video) for video in kept.videos] == lengths
    assert sum(video.nbytes for video in kept.videos if video is not None) <= free / 4
    for i in range(4):
        torch.manual_seed(i)
        expected = read[i][0]
        torch.manual_seed(i)
        assert torch.equal(kept[i][0], expected)


def test_processes_of_one_machine_share_its_memory(manifest, monkeypatch):
    monkeypatch.setattr(dataset, "free_memory", lambda: 10**9)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    clips = ClipDataset(DataSet.read(manifest), "val", 4, as_it_is, in_memory=True)
    assert clips.videos.limit == 10**9 // 16


def test_a_repeated_video_is_kept_once_and_evaluated_once(manifest):
    table = DataSet.read(manifest).rows
    rows = pd.concat([table, table[:1], table[:1]])
    kept = ClipDataset(DataSet(rows), "train", 4, as_it_is, True, in_memory=True)
    alone = ClipDataset(DataSet(table), "train", 4, as_it_is, True, in_memory=True)
    assert (len(kept), len(kept.videos)) == (6, 4)
    assert kept.videos.num_bytes == alone.videos.num_bytes
    torch.manual_seed(3)
    expected = alone[0][0]
    torch.manual_seed(3)
    assert torch.equal(kept[5][0], expected)
    assert len(ClipDataset(DataSet(rows), "train", 4, as_it_is, num_clips=2)) == 4


@pytest.mark.parametrize("frame", [(1.0, 1.0), (1.0, 16 / 9), (4 / 3, 1.0)])
def test_crops_of_useful_frames_are_never_enlarged(frame):
    """And those of frames a tenth smaller are: no more than this is of use."""
    torch.manual_seed(0)
    least = {}
    for share in (1.0, 0.9):
        side = useful_short_side((64, 48), "resized") * share
        frames = torch.empty(1, 3, *(round(side * scale) for scale in frame))
        crop = training_transform((64, 48)).transforms[0]
        drawn = [crop.make_params([frames]) for _ in range(2000)]
        least[share] = min(min(p["height"] / 64, p["width"] / 48) for p in drawn)
        assert all(0.75 < (p["height"] / 64) / (p["width"] / 48) < 1.3 for p in drawn), "stretched"
    assert least[1.0] >= 1 - 1 / 48
    assert frame != (1.0, 1.0) or least[0.9] < 1
    side = useful_short_side((64, 48), "multi-scale")
    assert round(side * min(CROP_SCALES)) >= 64 > round(0.9 * side * min(CROP_SCALES))


def test_frames_are_read_no_larger_than_crops_show(tmp_path):
    path = write_video(tmp_path / "large.mp4", 6, size=(240, 426))
    rows = [(str(path), 0, "a", "train")]
    table = pd.DataFrame(rows, columns=["path", "label", "class_name", "split"])
    copy = write_video(tmp_path / "val.mp4", 6, size=(426, 240))
    table.loc[1] = [str(copy), 0, "a", "val"]
    table = table.assign(num_frames=6, height=[240, 426], width=[426, 240])
    written = DataSet(table).save(tmp_path / "manifest.csv")
    for recipe, side in (
        (RECIPE, 47),
        (dataclasses.replace(RECIPE, read_short_side=60), 60),
        (dataclasses.replace(RECIPE, evaluation=Views(short_side=40)), 47),
        (dataclasses.replace(RECIPE, evaluation=Views(size=(48, 56))), 47),
        (dataclasses.replace(RECIPE, augmentation=Augmentation(crop="multi-scale")), 49),
        (dataclasses.replace(RECIPE, size=(400, 400)), 240),
    ):
        train, val = clip_datasets(DataSet.read(written), recipe)
        assert min(train.videos[0].shape[-2:]) == side and len(train.videos[0]) == 6
        assert val.videos[0].shape == (4, 3, *(recipe.evaluation.size or recipe.size))
        # Evaluation sees the same in memory and out of it, to the bit.
        plain = dataclasses.replace(recipe, hardware=Hardware())
        _, read = clip_datasets(DataSet.read(written), plain)
        assert torch.equal(val[0][0], read[0][0]) and torch.equal(val[0][0], val[0][0])
        options = {"short_side": recipe.read_short_side}
        whole = ClipDataset(DataSet.read(written), "val", 4, val.transform, **options)
        assert torch.equal(val[0][0], whole[0][0])
        # What is planned is what is taken.
        planned = planning.frames_in_memory(DataSet.read(written), recipe)
        assert planned == (train.videos.num_bytes, val.videos.num_bytes)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(tmp_path, version):
    root = tmp_path / ("memory" if version == 1 else "")
    own = root / "job" / "step"
    own.mkdir(parents=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    if version == 2:
        names = ("memory.max", "memory.current", "inactive_file")
    member = tmp_path / "cgroup"
    member.write_text("4:memory:/job/step\n3:cpu:/other\n" if version == 1 else "0::/job/step\n")
    free = free_memory(tmp_path, tmp_path / "nowhere")
    assert free > 10**6 and free_memory(tmp_path, member) == pytest.approx(free, rel=0.5)
    (own / names[0]).write_text("max\n" if version == 2 else str(2**63 - 4096))
    (own / names[1]).write_text("700")
    assert free_memory(tmp_path, member) == pytest.approx(free, rel=0.5)
    (root / "job" / names[0]).write_text("1000\n")
    (root / "job" / names[1]).write_text("700\n")
    assert free_memory(tmp_path, member) == 300, "the limit of a group around it"
    (root / "job" / "memory.stat").write_text(f"cache 5\n{names[2]} 100\n")
    assert free_memory(tmp_path, member) == 400, "files in memory make room"
    (own / names[0]).write_text("600\n")
    assert free_memory(tmp_path, member) == 0


def test_a_plan_says_what_is_kept(manifest, monkeypatch):
    monkeypatch.setattr(planning, "pick_device", lambda: CPU)
    found = planning.plan_training(manifest, RECIPE, clips_per_second=1.0)
    assert found.kept_frames == found.all_frames
    assert found.all_frames == sum(planning.frames_in_memory(DataSet.read(manifest), RECIPE))
    assert found.main_memory - found.kept_frames > 100e6
    frames = planning._in(planning.BYTES, found.all_frames)
    kept = f"{frames} of it for frames kept in memory, out of {frames}"
    assert kept in " ".join(str(found).split())
    monkeypatch.setattr(planning, "frames_in_memory", lambda *what: (10**15, 10**6))
    large = planning.plan_training(manifest, RECIPE, clips_per_second=1.0)
    assert 0.2 < large.kept_frames / free_memory() < 0.3
    assert large.limit < found.limit
    assert "kept in memory, out of 1,000 TB" in " ".join(str(large).split())
    unknown = planning.plan_training(None, RECIPE, data=found.data, clips_per_second=1.0)
    assert "only a manifest can say how large" in " ".join(str(unknown).split())
    monkeypatch.undo()
    workers = dataclasses.replace(RECIPE, hardware=Hardware(workers=2))
    read = planning.plan_training(manifest, workers, clips_per_second=1.0)
    assert read.kept_frames == 0 and "frames kept" not in str(read)
    more = read.main_memory - (found.main_memory - found.kept_frames)
    assert more == pytest.approx(2 * planning.READER_BYTES, rel=0.1), "two workers"


@pytest.fixture
def set_device():
    """As `torch.set_default_device("cuda")`, "meta": what does not say "cpu" is made there."""
    yield torch.set_default_device
    torch.set_default_device(None)


@pytest.mark.parametrize("crop, workers", [("resized", 0), ("multi-scale", 2)])
def test_the_default_device_changes_no_clip(manifest, crop, workers, set_device):
    changes = Augmentation(crop=crop, rand_augment=1, erase=0.5, mixup=1.0, cutmix=1.0)
    hardware = Hardware(in_memory=not workers, workers=workers)
    recipe = dataclasses.replace(RECIPE, augmentation=changes, hardware=hardware, balanced=True)
    found = []
    model = build(recipe, 2)
    for device in ("cpu", "meta"):
        set_device(device)
        train, val = clip_datasets(DataSet.read(manifest), recipe)
        loader, _ = training_loader(train, recipe, Ranks(), CPU)
        torch.manual_seed(1)
        mix = mixing(recipe, 2)
        batches = [mix(*batch[:2]) for _, batch in timed_batches(loader)]
        predictions = evaluate(model, val, device=CPU, hardware=hardware)
        found.append((batches, predictions.logits, predictions.labels, predictions.indices))
    (batches, *said), (others, *said_then) = found
    assert len(batches) == 2
    for batch, other in zip(batches, others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(said, said_then, strict=True))


def test_the_default_device_changes_no_clip_read_alone_and_no_plan(manifest, set_device):
    found = []
    for device in ("cpu", "meta"):
        set_device(device)
        rows, transform = DataSet.read(manifest).rows, training_transform((32, 32), erase=0.5)
        data_set = DataSet(rows, ["a", "b"], [0, 1])
        torch.manual_seed(0)
        drawn, _ = ClipDataset(data_set, "train", 4, transform, True, mirror=True)[0]
        centre, _ = ClipDataset(data_set, "val", 4, evaluation_transform((32, 32)), stride=2)[0]
        found.append((drawn.tolist(), centre.tolist(), count_memory(RECIPE, 2)))
    assert found[0] == found[1]
