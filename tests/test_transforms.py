"""From frames to clips: crops, colours and views, the same for all frames of a clip."""

import pytest
import torch
from torchvision.transforms import v2

from blvnet_lab.data import denormalize, evaluation_transform, normalize, training_transform
from blvnet_lab.data.transforms import (
    CROP_SCALES,
    ClipRandAugment,
    Jitter,
    multi_scale_crop,
    view_transform,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as published
SIDES = [200, 175, 150, 132]  # of square crops at four scales, out of 200 pixels


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


def test_normalize_leaves_its_frames_alone_and_takes_no_others():
    frames = random_frames(2, 3, 4, 5)
    before = frames.clone()
    assert normalize(frames).is_contiguous() and torch.equal(frames, before)
    permuted = random_frames(2, 4, 5, 3).permute(0, 3, 1, 2)
    assert torch.equal(normalize(permuted), normalize(permuted.contiguous()))
    assert normalize(permuted).is_contiguous()
    for transform in (normalize, training_transform((4, 5))):
        with pytest.raises(TypeError, match=r"in uint8, from 0 to 255, got torch.float32"):
            transform(frames / 255)


def test_denormalize_is_the_way_back():
    frames = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    assert torch.equal(denormalize(normalize(frames)), frames)
    assert torch.equal(denormalize(normalize(frames)[None])[0], frames)  # any leading axes
    far = torch.tensor([-100.0, 100.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert denormalize(far)[:, 0].flatten().tolist() == [0, 255], "clamped, not wrapped around"


def everything(size):
    return training_transform(size, crop="multi-scale", rand_augment=2, erase=1.0)


TRANSFORMS = [training_transform, evaluation_transform, everything]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equal_frames_stay_equal(transform):
    frames = random_frames(1, 3, 60, 80).expand(8, 3, 60, 80)
    for seed in range(5):
        torch.manual_seed(seed)
        clip = transform((48, 56))(frames)
        assert clip.shape == (8, 3, 48, 56) and clip.dtype == torch.float32
        assert all(torch.equal(clip[0], frame) for frame in clip)


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


def test_evaluation_keeps_the_centre():
    plain, wide = random_frames(2, 3, 64, 64), random_frames(2, 3, 64, 128)
    assert torch.equal(evaluation_transform((64, 64))(plain), normalize(plain))
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


def coordinates(height: int, width: int) -> torch.Tensor:
    """A frame (1, 3, H, W) that says where each pixel was: red counts rows, green columns."""
    frames = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    frames[0, 0] = torch.arange(height)[:, None]
    frames[0, 1] = torch.arange(width)
    return frames


@pytest.mark.parametrize("size, wide", [((64, 64), SIDES), ((50, 60), [240, 210, 180, 158])])
def test_multi_scale_crops_are_the_published_ones(size, wide, monkeypatch):
    """On frames of 200 x 240, at the corners or in the middle, of the clip's shape, or nearly."""
    assert CROP_SCALES == (1.0, 0.875, 0.75, 0.66)
    seen, resized = set(), [*size]

    def crop(frames, top, left, height, width, size, antialias):
        assert size == resized and antialias
        seen.add((height, width, top, left))

    monkeypatch.setattr(v2.functional, "resized_crop", crop)
    torch.manual_seed(0)
    for _ in range(2000):
        multi_scale_crop(torch.empty(1, 3, 200, 240), size)
    expected = set()
    for i, height in enumerate(SIDES):
        for width in wide[max(0, i - 1) : i + 2]:
            bottom, right = 200 - height, 240 - width
            places = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
            places.append((round(bottom / 2), round(right / 2)))
            expected |= {(height, width, *place) for place in places}
    assert seen == expected


def test_what_training_may_do_to_frames():
    """As published: no change of colours, only of what part of the frame is seen."""
    frames = torch.full((2, 3, 50, 60), 100, dtype=torch.uint8)
    torch.manual_seed(0)
    plain, coloured = training_transform((40, 40), jitter=0.0), training_transform((40, 40))
    for _ in range(5):
        assert torch.equal(denormalize(plain(frames)), frames[..., :40, :40])
        assert not torch.equal(denormalize(coloured(frames)), frames[..., :40, :40])
    frames = random_frames(1, 3, 48, 48).expand(4, 3, 48, 48)
    blank = (training_transform((48, 48), jitter=0.0, erase=1.0)(frames) == 0).all(1)
    assert 0.01 < blank.float().mean() < 0.4, "the mean colour, in every channel"
    assert all(torch.equal(blank[0], other) for other in blank)
    changed = []
    for operations in (0, 2):
        torch.manual_seed(0)
        changed.append(training_transform((48, 48), jitter=0.0, rand_augment=operations)(frames))
    assert not torch.equal(*changed)


@pytest.mark.parametrize("seed", range(12))  # the changes come in any order
def test_colours_change_as_torchvision_changes_them(seed):
    """The same draws and values, but for rounding in between, as for the frames side by side."""
    frames, own = random_frames(4, 3, 40, 30), []
    frames[2:] //= 2  # darker
    for kind, given in ((Jitter, frames), (v2.ColorJitter, frames.movedim(0, 2).flatten(2))):
        torch.manual_seed(seed)
        own.append((kind(0.3, 0.3, 0.3)(given), torch.rand(())))
    (ours, drawn), (theirs, expected) = own
    assert drawn == expected and ours.dtype == torch.uint8
    theirs = theirs.unflatten(2, (4, 30)).movedim(2, 0).int()
    assert (ours.int() - theirs).abs().max() <= 5
    assert (frames.int() - theirs).abs().max() > 15, "there is something to agree on"


def test_what_is_still_stays_still_under_rand_augment():
    """While something bright comes in from the left; one frame is changed as torchvision does."""
    frames = random_frames(1, 3, 40, 60, seed=1).div(2, rounding_mode="floor").repeat(6, 1, 1, 1)
    for t in range(6):
        frames[t, ..., : 3 * t] = 250
    training = training_transform((40, 60), jitter=0.0, rand_augment=1)
    for seed in range(60):
        torch.manual_seed(seed)
        right = training(frames)[..., 40:]
        assert torch.equal(right, right[:1].expand_as(right)), seed
        single = []
        for kind in (ClipRandAugment, v2.RandAugment):
            torch.manual_seed(seed)
            single.append(kind(1)(frames[3:4]))
        assert torch.equal(*single), seed


def test_evaluation_scales_to_a_short_side_first():
    frames = coordinates(120, 160)
    out = denormalize(evaluation_transform((48, 48), short_side=60)(frames)).int()
    # Half the size, so two pixels to each; of 60 x 80 the centre is rows 6 to 53, columns 16 to 63.
    assert (out[0, 0, :, 0] - (2 * torch.arange(6, 54) + 0.5)).abs().max() <= 1
    assert (out[0, 1, 0] - (2 * torch.arange(16, 64) + 0.5)).abs().max() <= 1
    with pytest.raises(ValueError, match="short side of 48 or more, got 40"):
        evaluation_transform((48, 32), short_side=40)


def test_views_are_the_crops_worked_out_by_hand():
    for crops, frame, places in (
        (1, (60, 100), [(10, 30)]),
        (3, (60, 100), [(10, 0), (10, 30), (10, 60)]),
        (3, (100, 60), [(0, 10), (30, 10), (60, 10)]),
        (5, (60, 100), [(10, 30), (0, 0), (0, 60), (20, 0), (20, 60)]),
    ):
        frames = torch.cat([coordinates(*frame), coordinates(*frame) + 7])
        views = view_transform((40, 40), crops, short_side=60)(frames)
        assert views.shape == (crops, 2, 3, 40, 40)
        for view, (top, left) in zip(views, places, strict=True):
            assert torch.equal(view, normalize(frames[..., top : top + 40, left : left + 40]))


def test_three_views_of_full_height_cover_the_frame():
    views = view_transform((60, 60), 3)(coordinates(60, 150))
    columns = denormalize(views)[:, 0, 1].flatten().unique()
    assert columns.tolist() == list(range(150))


def test_ten_views_are_five_and_their_mirror_images():
    """If these stay in their class."""
    frames = random_frames(2, 3, 60, 80)
    views = view_transform((40, 40), 10, short_side=60, mirror=[0, 1, 2])(frames)
    assert views.shape == (10, 2, 3, 40, 40)
    assert torch.equal(views[:5], view_transform((40, 40), 5, short_side=60)(frames))
    assert torch.equal(views[5:], views[:5].flip(-1))
    for mirror, got in ((None, "none"), ([0, 2, 1, None], r"another one for .* \[1, 2, 3\]")):
        with pytest.raises(ValueError, match=f"own mirror image, for 10 crops, got {got}: take 5"):
            view_transform((40, 40), 10, mirror=mirror)
