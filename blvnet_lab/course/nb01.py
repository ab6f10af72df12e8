"""Checks of notebook 01: groups of pictures, sampling, cropping, mirror images."""

from collections import Counter

import torch
from torch import Tensor

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Answer, Check, cases, deterministic, never_seeds
from blvnet_lab.course.verdicts import kind, plain, require, same

DRAWS = 1000  # enough to see how often each frame of a short segment is drawn

check_frames_to_decode = Check(
    cases(
        "it runs from the last keyframe before the wanted frame to that frame, both included",
        "the keyframe of frame f is f // gop * gop, and range(a, b) stops before b",
        *(([3], 6, 4), ([0], 6, 1), ([6], 6, 1), ([5], 6, 6), ([8], 6, 3), ([3], 1, 1)),
    ),
    cases(
        "a frame that is needed twice is decoded once, whatever the order of the wanted ones, and "
        "a group in which nothing is wanted not at all",
        "keep the numbers of decoded frames in a set, or the furthest of each group",
        *(([2, 4], 6, 5), ([4, 2], 6, 5), ([3, 3], 6, 4), ([3, 3], 1, 1), ([10, 2], 6, 8)),
        *(([1, 13], 6, 4), ([9, 27, 45, 63, 81], 12, 38), ([100_010], 250, 11), ([], 6, 0)),
    ),
)


def _frames(sample_evenly: Answer, *given: object) -> list[int]:
    """Return the frame numbers as a list; there must be num_frames of them, all whole."""
    got = plain(sample_evenly(*given))
    is_whole = isinstance(got, list) and all(isinstance(n, int) for n in got)
    hint = "return one tensor of T whole numbers; .long() rounds down"
    require(is_whole and len(got) == given[1], f"{got}"[:80], hint)
    return got


def sampling_takes_the_middle(sample_evenly: Answer) -> None:
    """without a generator it takes the middle frame of each segment, in a short video, too"""
    for n, t in ((9, 3), (24, 8), (6, 3), (11, 4), (3, 6), (1, 4), (5, 1), (300, 16)):
        hint = "the middle of segment k is at (k + 0.5) * N / T, rounded down at the very end"
        same(_frames(sample_evenly, n, t), [(2 * k + 1) * n // (2 * t) for k in range(t)], hint)


def sampling_is_fair(sample_evenly: Answer) -> None:
    """with a generator each call draws again, independently for each segment, and every moment of
    a segment is equally likely
    """
    moments = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    for n, t in ((6, 2), (5, 3), (10, 4), (24, 8), (3, 6)):
        generator = torch.Generator().manual_seed(0)
        drawn = [_frames(sample_evenly, n, t, generator) for _ in range(DRAWS)]
        for k in range(t):
            counts = Counter(frames[k] for frames in drawn)
            wanted = Counter(((k + moments) * n / t).long().tolist())
            for frame in sorted(counts | wanted):
                found = f"frame {frame} in {counts[frame]} of {DRAWS} draws of segment {k}, not in "
                hint = "the time is (k + torch.rand) * N / T; only this is rounded down"
                tolerance = 75 if wanted[frame] else 0  # five standard deviations
                near = abs(counts[frame] - wanted[frame]) <= tolerance
                require(near, f"{found}about {wanted[frame]}", hint)
        pairs = len({(frames[0], frames[-1]) for frames in drawn})
        found = f"{pairs} pairs of a first and a last frame"
        hint = "T numbers, not one: torch.rand(num_frames, generator=generator)"
        require(pairs == len({f[0] for f in drawn}) * len({f[-1] for f in drawn}), found, hint)


check_sample_evenly = Check(
    sampling_takes_the_middle,
    deterministic(lambda sample: sample(60, 20, torch.Generator().manual_seed(0))),
    sampling_is_fair,
)


def _numbered(*shape: int) -> Tensor:
    """Make a clip (T, C, H, W) in which all numbers are different."""
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(torch.uint8)


def _place(crop_clip: Answer, clip: Tensor, height: int, width: int) -> tuple[int, int]:
    """Check one window, and return its (top, left)."""
    window = crop_clip(clip, (height, width))
    hint = "draw top and left once, and slice: clip[:, :, top : top + height, left : left + width]"
    require(kind(window) == kind(clip[:, :, :height, :width]), kind(window), hint)
    places = (clip[0, 0] == window[0, 0, 0, 0]).nonzero()  # a single one: no number comes twice
    top, left = places[0].tolist() if len(places) else (0, 0)
    wanted = clip[:, :, top : top + height, left : left + width]
    require(wanted.shape == window.shape, "pixels that do not lie side by side there", hint)
    same(window, wanted, hint)
    return top, left


def crop_is_a_fair_window(crop_clip: Answer) -> None:
    """one window of (height, width) = size is cut out of all frames, and its pixels are kept; the
    window lies at each place where it fits, the last ones too, as often as at any other
    """
    torch.manual_seed(0)
    for (*shape, height, width), size in (
        ((2, 3, 4, 6), (2, 3)),
        ((9, 1, 5, 7), (1, 2)),
        ((2, 3, 4, 6), (4, 6)),
    ):
        clip = _numbered(*shape, height, width)
        number = (height - size[0] + 1) * (width - size[1] + 1)
        counts = Counter(_place(crop_clip, clip, *size) for _ in range(100 * number))
        found = f"(top, left) comes so often: {sorted(counts.items())}"
        hint = "top is one of 0 ... H - height, both included, and left is drawn apart; no rounding"
        fair = len(counts) == number and all(50 < count < 150 for count in counts.values())
        require(fair, found[:300], hint)


def crop_draws_from_pytorch(crop_clip: Answer) -> None:
    """torch.manual_seed repeats the place"""
    places = []
    for _ in range(2):
        torch.manual_seed(0)
        places.append([_place(crop_clip, _numbered(2, 3, 4, 6), 2, 3) for _ in range(20)])
    hint = "torch.randint for top and left; other generators may be alike in all workers"
    same(places[1], places[0], hint)


check_crop_clip = Check(
    crop_is_a_fair_window,
    crop_draws_from_pytorch,
    never_seeds(lambda crop: crop(_numbered(2, 3, 4, 6), (2, 3))),
)

ROW, SHAPES = _numbered(1, 1, 1, 3), ((3, 1, 1, 1), (1, 1, 3, 1), (1, 3, 1, 1), (2, 3, 4, 5))
check_flip_clip = Check(
    cases(
        "left and right change places; time, colours and rows stay as they are",
        "the width is the last axis: clip.flip(-1)",
        (ROW, 2, [1, 0, 2, None]),
        *((_numbered(*shape), 2, [1, 0, 2, None]) for shape in SHAPES),
    ),
    cases(
        "the label goes with the picture, and the picture with the label",
        "the mirror image's label is mirror[label]; 0 is a label, too: `if mirror[label]` fails",
        *((ROW, 0, [1, 0, 2, None]), (ROW, 1, [1, 0, 2, None]), (ROW, 2, [None, 1, 3, 2])),
    ),
    cases(
        "a clip without a mirror class (None) keeps its label, and is left alone",
        "where mirror[label] is None, return clip, label as they came",
        *((ROW, 3, [1, 0, 2, None]), (ROW, 0, [None, 1, 3, 2])),
    ),
    by=solutions.flip_clip,
)
