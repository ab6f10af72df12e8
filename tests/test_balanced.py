"""Rare classes: every class drawn equally often, or rows that are repeated by hand."""

from collections import Counter

import pytest
import torch
from videos import write_video

from blvnet_lab.data import ClipDataset, DataSet, probe_video
from blvnet_lab.datasets.reencoding import reencode
from blvnet_lab.training.distributed import Ranks
from blvnet_lab.training.loading import Batches, Keyed

# 40 clips: 31 of class 0, 6 of class 1, 3 of class 4.
LABELS = [4 if i % 13 == 5 else 1 if i % 6 == 0 else 0 for i in range(40)]


def batches(rank: int = 0, world: int = 1, accumulate: int = 1, size: int = 6) -> Batches:
    ranks = Ranks(rank, world)
    return Batches(40, size, seed=3, ranks=ranks, accumulate=accumulate, labels=LABELS)


def test_every_class_is_drawn_equally_often():
    assert sorted(Counter(LABELS).values()) == [3, 6, 31]
    for size in (6, 7, 40):
        loader = batches(size=size)
        for loader.epoch in (1, 2):
            keys = [key for batch in loader for key in batch]
            drawn = Counter(LABELS[key[1]] for key in keys)
            assert len(keys) == 40 // size * size and len(loader) == 40 // size
            assert set(drawn) == {0, 1, 4} and max(drawn.values()) - min(drawn.values()) <= 1
            clips = Counter(key[1] for key in keys)
            for label in (0, 1, 4):
                of_class = [clips[i] for i in range(40) if LABELS[i] == label]
                assert max(of_class) - min(of_class) <= 1, "no clip again before all had a turn"
            assert len(set(keys)) == len(keys), "each draw has random numbers of its own"
            assert all(key[0] == loader.epoch for key in keys)


def test_every_clip_has_its_turn_in_some_epoch():
    loader, seen = batches(), set()
    for loader.epoch in range(1, 21):
        seen |= {key[1] for batch in loader for key in batch}
    assert seen == set(range(40))


@pytest.mark.parametrize("world, accumulate", [(2, 1), (1, 3), (2, 3), (6, 1)])
def test_ranks_and_parts_share_the_same_draws(world, accumulate):
    whole = list(batches())
    parts = [list(batches(rank, world, accumulate)) for rank in range(world)]
    for step, batch in enumerate(whole):
        found = [
            key
            for rank in parts
            for part in rank[step * accumulate : (step + 1) * accumulate]
            for key in part
        ]
        assert found == batch


def test_a_balanced_epoch_goes_on_where_it_stopped():
    loader = batches()
    whole = list(loader)
    loader.first_step = 4
    assert list(loader) == whole[4:] and list(batches()) == whole
    loader.first_step, loader.epoch = 0, 2
    assert list(loader) != whole


def test_without_balance_the_order_is_as_ever():
    loader = Batches(40, 6, seed=3, ranks=Ranks())
    keys = [key for batch in loader for key in batch]
    assert {len(key) for key in keys} == {2} and len(set(keys)) == 36


def test_a_clip_that_is_drawn_again_is_drawn_otherwise():
    class Draws:
        def __getitem__(self, index):
            return torch.rand(3), 7

    clips = Keyed(Draws(), seed=5)
    keys = ((1, 4), (1, 4, 1), (1, 4, 2), (2, 4), (1, 5))
    found = {tuple(clips[key][0].tolist()) for key in keys}
    assert len(found) == 5
    assert all(clips[key][1:] == (7, key[1]) for key in keys)
    assert torch.equal(clips[1, 4, 2][0], clips[1, 4, 2][0])


HEAD = "path,label,class_name,split\n"


def test_training_rows_may_be_repeated(tmp_path):
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", 8)
    path = tmp_path / "manifest.csv"
    rows = ["a.mp4,0,run,train", "b.mp4,1,walk,train", "b.mp4,1,walk,train", "c.mp4,0,run,val"]
    path.write_text(HEAD + "\n".join(rows))
    table = DataSet.read(path).rows
    clips = ClipDataset(DataSet(table), "train", 4, lambda frames: frames)
    assert clips.labels.tolist() == [0, 1, 1]
    # Each video is prepared once, and stays in as many rows.
    done = reencode(path, tmp_path / "small", short_side=32, workers=2)
    new = DataSet.read(done.manifest).rows
    assert sum(done.counts.values()) == 3 and new["label"].tolist() == [0, 1, 1, 0]
    assert new["path"].nunique() == 3
    assert all(probe_video(video).num_frames == 8 for video in new["path"])
