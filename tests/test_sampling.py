"""Which frames make a clip: worked out by hand, and properties that hold for all numbers."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blvnet_lab.data import sample_dense, sample_uniform, sample_views
from blvnet_lab.datasets.motion import FRAMES, partner_frames


def test_centres_worked_out_by_hand():
    for frame_count, num_frames, expected in (
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (24, 8, [1, 4, 7, 10, 13, 16, 19, 22]),
        (24, 16, [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23]),
        (10, 4, [1, 3, 6, 8]),  # 1.25, 3.75, 6.25, 8.75
        (300, 2, [75, 225]),
        (7, 1, [3]),
        (1, 4, [0, 0, 0, 0]),
        (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),  # .1875 .5625 .9375 1.31 1.69 2.06 2.44 2.81
    ):
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


def test_random_places_reach_all_that_they_should():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([sample_uniform(24, 8, generator) for _ in range(300)])
    starts = torch.stack([sample_dense(12, 4, 3, generator) for _ in range(300)])[:, 0]
    for places, first in [(starts, 0), *((drawn[:, i], 3 * i) for i in range(8))]:
        values, counts = places.unique(return_counts=True)
        assert values.tolist() == [first, first + 1, first + 2]
        assert counts.min() > 60  # of 100 expected
    moves_alike = np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]
    assert abs(moves_alike) < 0.2, "each segment has a draw of its own"


def test_random_frames_come_from_the_generator_alone():
    before, generator = torch.random.get_rng_state(), torch.Generator()
    drawn = [sample_uniform(100, 8, generator.manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    sample_uniform(100, 8)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("num_frames", [8, 16])
def test_centres_commute_with_reversal_and_with_exchanging_halves(num_frames):
    frames = np.arange(FRAMES)
    indices = sample_uniform(FRAMES, num_frames).numpy()
    for kind in ("direction", "order"):
        sampled = partner_frames(frames[indices], kind)
        assert (partner_frames(frames, kind)[indices] == sampled).all()


def test_dense_frames_worked_out_by_hand():
    for frame_count, num_frames, stride, place, expected in (
        (10, 4, 2, 0, [0, 2, 4, 6]),
        (10, 4, 2, 1, [3, 5, 7, 9]),
        (10, 4, 2, 0.5, [1, 3, 5, 7]),  # of the starts 0 to 3 the one below 1.5
        (7, 4, 2, 0.5, [0, 2, 4, 6]),  # it just fits
        (5, 4, 2, 0.5, [0, 2, 4, 4]),  # and here the last frame stands still
        (1, 3, 8, 1, [0, 0, 0]),
        (100, 3, 1, 0.5, [48, 49, 50]),
    ):
        indices = sample_dense(frame_count, num_frames, stride, place=place)
        assert indices.dtype == torch.int64 and indices.tolist() == expected


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    frame_count=st.integers(1, 2000),
    num_frames=st.integers(1, 64),
    stride=st.integers(1, 40),
    seed=st.none() | st.integers(0, 1000),
    place=st.floats(0, 1),
)
def test_dense_frames_keep_their_distance(frame_count, num_frames, stride, seed, place):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    indices = sample_dense(frame_count, num_frames, stride, generator, place).tolist()
    assert len(indices) == num_frames
    assert 0 <= indices[0] and indices[-1] < frame_count
    steps = {late - early for early, late in itertools.pairwise(indices)}
    span = (num_frames - 1) * stride + 1
    if span <= frame_count:
        assert steps <= {stride}
    else:  # all of the video at this distance, and then its last frame
        inside = list(range(0, frame_count, stride))
        assert indices[: len(inside)] == inside
        assert set(indices[len(inside) :]) <= {frame_count - 1}


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    frame_count=st.integers(1, 500),
    num_frames=st.integers(1, 32),
    num_clips=st.integers(1, 10),
    stride=st.none() | st.integers(1, 20),
)
def test_views_are_spread_evenly(frame_count, num_frames, num_clips, stride):
    views = sample_views(frame_count, num_frames, num_clips, stride)
    assert views.shape == (num_clips, num_frames)
    assert 0 <= views.min() and views.max() < frame_count
    assert (views.diff(dim=0) >= 0).all() and (views.diff(dim=1) >= 0).all()
    one = sample_views(frame_count, num_frames, 1, stride)[0]
    how, sample = ([], sample_uniform) if stride is None else ([stride], sample_dense)
    assert torch.equal(one, sample(frame_count, num_frames, *how))
    if num_clips % 2:
        assert torch.equal(views[num_clips // 2], one), "the middle one of them is the centre"


def test_views_worked_out_by_hand():
    assert sample_views(12, 2, 3).tolist() == [[1, 7], [3, 9], [5, 11]]
    # Of the starts 0 to 6, those at 1/6, 3/6 and 5/6.
    assert sample_views(10, 2, 3, stride=3).tolist() == [[1, 4], [3, 6], [5, 8]]
