"""The checks of notebook 01: groups of pictures, uniform sampling, one crop, mirror images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from blvnet_lab.course.checking import (
    ask,
    check,
    kind,
    plain,
    require,
    require_chance_kept,
    same,
    state_of_chance,
    told,
    two,
)


def _decoder(wanted: Sequence[int], gop: int) -> int:
    """Walks back from every wanted frame to its keyframe, and counts the frames it has been at."""
    decoded = set()
    for frame in wanted:
        decoded.add(frame)
        while frame % gop:
            frame -= 1
            decoded.add(frame)
    return len(decoded)


@check
def check_frames_to_decode(frames_to_decode: Callable[[Sequence[int], int], int]) -> str:
    """Checks `frames_to_decode(wanted, gop)`: a keyframe at every multiple of gop."""
    twice = "keep the numbers of decoded frames in a set, or keep the furthest of each group"
    cases = [
        ([3], 6, "it runs from the keyframe to the wanted frame, both included, and no further"),
        ([0], 6, "a keyframe stands alone"),
        ([6], 6, "a keyframe stands alone: nothing before it is needed"),
        ([5], 6, "it begins at the last keyframe before it, even if the next one is nearer"),
        ([8], 6, "it begins at the last keyframe before it, not at the beginning of the video"),
        ([3], 1, "with a GOP of 1 every frame is a keyframe"),
        ([2, 4], 6, "a frame on the way to two wanted ones is decoded once"),
        ([4, 2], 6, "the order of the wanted frames does not matter"),
        ([3, 3], 6, "a frame that is wanted twice is decoded once"),
        ([3, 3], 1, "a frame that is wanted twice is decoded once"),
        ([1, 13], 6, "groups in which nothing is wanted are not decoded"),
        ([10, 2], 6, "the order of the wanted frames does not matter"),
        ([9, 27, 45, 63, 81], 12, "each group is decoded up to its last wanted frame"),
        ([9, 27, 45, 63, 81], 30, "each group is decoded up to its last wanted frame"),
        ([9, 27, 45, 63, 81], 250, "each group is decoded up to its last wanted frame"),
        ([100_010], 250, "a video may be as long as it likes"),
        ([], 6, "where nothing is wanted, nothing is decoded"),
    ]
    near = "the keyframe of frame f is f // gop * gop, and range(a, b) stops before b"
    for wanted, gop, broken in cases:
        of = f"wanted = {wanted}, gop = {gop}"
        hint = near if len(wanted) < 2 else twice
        got = ask(frames_to_decode, wanted, gop, of=of)
        same(got, _decoder(wanted, gop), broken, of=of, hint=hint)
    return "one frame, frames of the same and of different groups, GOPs of 1 to 250, no frame"


def _frame_numbers(got: Any, of: str) -> list[int]:
    """The numbers of frames as a list; they must be whole."""
    got = plain(got)
    require(
        isinstance(got, list) and all(isinstance(n, int) for n in got),
        "it returns the numbers of frames, whole ones (int64)",
        of=of,
        found=str(got)[:80] if isinstance(got, list) else kind(got),
        hint="return one tensor of T numbers; .long() rounds down",
    )
    return got


DRAWS = 1000  # enough to see how often each frame of a short segment comes


@check
def check_sample_uniform(
    sample_uniform: Callable[[int, int, torch.Generator | None], Tensor],
) -> str:
    """Checks `sample_uniform(frame_count, num_frames, generator=None)`: a frame of each segment."""
    centre = "without a generator, it is the frame in the middle of each segment"
    cases = [
        (9, 3, [1, 4, 7], centre, "the middle of segment k is at (k + 0.5) * N / T"),
        (24, 8, [1, 4, 7, 10, 13, 16, 19, 22], centre, "the middle of segment k: (k + 0.5) * N/T"),
        (6, 3, [1, 3, 5], centre, "frame 3 is shown from time 3 to time 4: round down"),
        (
            11,
            4,
            [1, 4, 6, 9],
            "the segments cover the whole video, also where T does not divide N",
            "a segment lasts N / T frames, which need not be a whole number: round at the very end",
        ),
        (3, 6, [0, 0, 1, 1, 2, 2], "a video shorter than the clip still gives T frames, in order",
         "with N / T as a fraction, this needs no rule of its own"),
        (1, 4, [0, 0, 0, 0], "a single frame is shown all the time", "no frame beyond the last"),
        (5, 1, [2], "one frame of five: the one in the middle", "(0 + 0.5) * 5 / 1, rounded down"),
        (300, 16, [(2 * k + 1) * 300 // 32 for k in range(16)], centre, "(k + 0.5) * N / T"),
    ]  # fmt: skip
    for frame_count, num_frames, wanted, broken, hint in cases:
        of = f"a video of {frame_count} frames, a clip of {num_frames}, no generator"
        got = _frame_numbers(ask(sample_uniform, frame_count, num_frames, of=of), of)
        same(got, wanted, broken, of=of, hint=hint)

    for frame_count, num_frames in ((6, 2), (5, 3), (10, 4), (24, 8), (3, 6)):
        _check_draws(sample_uniform, frame_count, num_frames)
    return "centres for 8 lengths, short videos; 1000 draws each for 5 lengths, and their generator"


def _check_draws(sample_uniform: Callable, frame_count: int, num_frames: int) -> None:
    of = f"a video of {frame_count} frames, a clip of {num_frames}, a generator"

    def draws(seed: int, count: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [
            _frame_numbers(ask(sample_uniform, frame_count, num_frames, generator, of=of), of)
            for _ in range(count)
        ]

    before = state_of_chance()
    found = draws(0, DRAWS)
    use_it = "torch.rand(num_frames, generator=generator)"
    if frame_count > num_frames:
        broken = "with a generator, each call draws anew"
        hint = f"draw the places: {use_it}; and seed nothing, that is up to who gives it"
        require(len(set(map(tuple, found))) > 1, broken, of=of, found=told(found[0]), hint=hint)
    broken = "chance comes from the generator: the same seed, the same frames"
    again = draws(0, 50)
    i = next((i for i in range(50) if found[i] != again[i]), 0)
    same(again[i], found[i], broken, of=of, hint=use_it)
    require_chance_kept(before, "the global generator is left alone", of=of, hint=use_it)

    # Segment k lasts from k * N / T to (k + 1) * N / T; in whole numbers, to be exact.
    segments = [
        list(range(k * frame_count // num_frames, -(-(k + 1) * frame_count // num_frames)))
        for k in range(num_frames)
    ]
    for frames in found:
        broken, hint = "it returns T frames", f"one for each segment: {use_it}"
        require(len(frames) == num_frames, broken, of=of, found=told(frames), hint=hint)
        strays = [k for k in range(num_frames) if frames[k] not in segments[k]]
        require(
            not strays,
            "a random frame lies in its own segment",
            of=of,
            found=f"{frames}" + "".join(f", segment {k} has {segments[k]}" for k in strays[:1]),
            hint="(k + a number from 0 to 1) * N / T, rounded down; drawn like the centre's 0.5",
        )
    for k, segment in enumerate(segments):
        drawn = sorted({frames[k] for frames in found})
        broken = "every frame of a segment can be drawn"
        hint = "the place in a segment is drawn from all of 0 to 1, the ends too; round at the end"
        told_so = f"in segment {k} only {drawn}, in {DRAWS} draws"
        require(drawn == segment, broken, of=of, found=told_so, hint=hint)
        for frame in segment:
            # How much of the segment shows this frame, in T-ths of a frame out of N.
            begin = max(frame * num_frames, k * frame_count)
            share = (min((frame + 1) * num_frames, (k + 1) * frame_count) - begin) / frame_count
            count = sum(frames[k] == frame for frames in found)
            require(
                abs(count - DRAWS * share) <= 5 * (DRAWS * share * (1 - share)) ** 0.5,
                "every moment of a segment is as likely as any other",
                of=of,
                found=f"frame {frame} in {count} of {DRAWS} draws of segment {k}, of which it is "
                f"{share:.0%}",
                hint="torch.rand is the place in the segment; only the time, the sum, is rounded",
            )
    if frame_count > num_frames:
        pairs = {(frames[0], frames[-1]) for frames in found}
        broken = "each segment draws for itself"
        told_so = f"the first and the last frame only as {sorted(pairs)}"
        enough = len(pairs) == len(segments[0]) * len(segments[-1])
        require(enough, broken, of=of, found=told_so, hint=f"T numbers, not one: {use_it}")


@check
def check_crop_clip(crop_clip: Callable[[Tensor, tuple[int, int]], Tensor]) -> str:
    """Checks `crop_clip(clip, size)`: one random window of (height, width), for all frames."""
    clip, size = _numbered(2, 3, 4, 6), (2, 3)
    of = "a clip (T, C, H, W) = (2, 3, 4, 6), size = (2, 3)"

    def places(count: int) -> list[tuple[int, int]]:
        torch.manual_seed(0)
        return [_place(crop_clip, clip, size, of) for _ in range(count)]

    others_chance = state_of_chance()[1:]  # of Python and NumPy
    first = places(20)
    broken, hint = "each call draws another place", "torch.randint for top and left; seed nothing"
    told_so = f"always (top, left) = {first[0]}"
    require(len(set(first)) > 1, broken, of=of, found=told_so, hint=hint)
    found = places(2 * DRAWS)
    broken = "chance is PyTorch's: torch.manual_seed repeats it"
    hint = "torch.randint; Python's and NumPy's dice may be the same in all of a loader's workers"
    i = next((i for i in range(20) if found[i] != first[i]), 0)
    same(found[i], first[i], f"{broken} (top, left)", of=of, hint=hint)
    broken = "Python's and NumPy's chance is left alone"
    is_kept, told_so = state_of_chance()[1:] == others_chance, "its state is another after the call"
    require(is_kept, broken, of=of, found=told_so, hint="seed nothing: all else draws from it, too")
    for axis, name, last in ((0, "top", 2), (1, "left", 3)):
        drawn = sorted({p[axis] for p in found})
        broken = "the window can lie at every place, up to the last row and column"
        hint = "top is one of 0 ... H - height, both included; randint stops before its end"
        same(drawn, list(range(last + 1)), f"{broken} ({name})", of=of, hint=hint)
        counts = [sum(p[axis] == place for p in found) for place in range(last + 1)]
        fair = len(found) / (last + 1)
        is_fair = all(0.8 * fair < count < 1.2 * fair for count in counts)
        told_so = f"{name} = 0 ... {last} come {counts} times, in {len(found)} draws"
        broken = "every place is as likely as any other"
        hint = "torch.randint; rounding to the nearest halves the chance of the first and last"
        require(is_fair, broken, of=of, found=told_so, hint=hint)
    broken = "top and left are drawn apart"
    told_so = f"{len(set(found))} of the 12 places, in {len(found)} draws"
    hint = "draw two numbers, one after the other"
    require(len(set(found)) == 12, broken, of=of, found=told_so, hint=hint)

    of = "a clip (2, 3, 4, 6), size = (4, 6)"
    broken = "a window as large as the frame is the frame"
    hint = "there is one place then: torch.randint(0 + 1, ())"
    same(ask(crop_clip, clip, (4, 6), of=of), clip, broken, of=of, hint=hint)
    of = "a clip (9, 1, 5, 7), size = (1, 2)"
    found = [_place(crop_clip, _numbered(9, 1, 5, 7), (1, 2), of) for _ in range(DRAWS)]
    lasts = [max(p[axis] for p in found) for axis in (0, 1)]
    broken = "H and W are those of the clip"
    hint = "clip.shape[-2] - height + 1 places for top, clip.shape[-1] - width + 1 for left"
    same(lasts, [4, 5], f"{broken} (the last top and left)", of=of, hint=hint)
    return "3000 windows: their size, pixels and places, the same in all frames; PyTorch's chance"


def _numbered(*shape: int) -> Tensor:
    """A clip (T, C, H, W) whose frames are all different, and so are the pixels of a frame."""
    return torch.arange(math.prod(shape)).reshape(shape).to(torch.uint8)


def _place(crop_clip: Callable, clip: Tensor, size: tuple[int, int], of: str) -> tuple[int, int]:
    """(top, left) of a window, after a look at all that must hold for it."""
    height, width = size
    got = ask(crop_clip, clip, size, of=of)
    broken = "all frames and colours are there, as (height, width) = size"
    hint = "clip[:, :, top : top + height, left : left + width]"
    has_shape = isinstance(got, Tensor) and got.shape == (*clip.shape[:2], height, width)
    require(has_shape, broken, of=of, found=kind(got), hint=hint)
    matches = (clip[0, 0] == got[0, 0, 0, 0]).nonzero().tolist()  # one, as no number comes twice
    top, left = matches[0] if matches else (0, 0)
    window = clip[:, :, top : top + height, left : left + width]
    broken = "a window is cut out: its pixels are those of the frame, side by side as there"
    hint = "slice the last two axes; nothing is resized"
    is_cut = window.shape == got.shape and bool((got[0, 0] == window[0, 0]).all())
    require(is_cut, broken, of=of, found=f"{told(got[0, 0])} in frame 0", hint=hint)
    broken = "all frames of a clip, in all colours, are cut at the same place"
    hint = "draw top and left once, before you look at any frame"
    strays = (got != window).flatten(2).any(2).nonzero().tolist()
    found = "".join(f"frame {t}, colour {c} is cut elsewhere" for t, c in strays[:1])
    require(not strays, broken, of=of, found=found, hint=hint)
    broken, hint = "pixels stay what they are (uint8)", "slices keep the dtype"
    require(got.dtype == clip.dtype, broken, of=of, found=f"{got.dtype}", hint=hint)
    return top, left


@check
def check_flip_clip(
    flip_clip: Callable[[Tensor, int, Sequence[int | None]], tuple[Tensor, int]],
) -> str:
    """Checks `flip_clip(clip, label, mirror)`: the mirror image and its label, or all as it was."""

    def flipped(clip: Tensor, label: int, mirror: Sequence[int | None], of: str) -> tuple[Any, Any]:
        got = ask(flip_clip, clip, label, mirror, of=of)
        return two(got, "clip, label", of=of, tensors=[0])

    mirror, others = [1, 0, 2, None], [None, 1, 3, 2]
    shapes = [
        ((1, 1, 1, 3), "left and right change places"),
        ((3, 1, 1, 1), "time runs on as before: a mirror image is no video played backwards"),
        ((1, 1, 3, 1), "above and below stay where they are"),
        ((1, 3, 1, 1), "colours stay what they are"),
        ((2, 3, 4, 5), "left and right change places, in all frames and colours"),
    ]
    for shape, broken in shapes:
        clip = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.uint8).reshape(shape)
        of = f"a clip (T, C, H, W) = {shape}, label 2, mirror = {mirror}"
        got, label = flipped(clip, 2, mirror, of)
        hint = "the width is the last axis: clip.flip(-1)"
        same(got, clip[..., list(range(shape[-1]))[::-1]], broken, of=of, hint=hint)
        broken = "a class that is its own mirror image keeps its label"
        same(label, 2, broken, of=of, hint="the label of the mirror image is mirror[label]")

    clip = torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(1, 1, 1, 3)
    goes = "the label goes with the picture"
    stays = "a clip without a mirror class (None) keeps its label"
    cases = [
        (mirror, 0, 1, goes, "the mirror image's label is mirror[label]"),
        (mirror, 1, 0, "label 0 is a label like any other", "`if mirror[label]` fails for 0, too"),
        (mirror, 3, 3, stays, "ask for `is None`"),
        (others, 2, 3, goes, "mirror is another list for other classes: mirror[label]"),
        (others, 0, 0, stays, "mirror is another list for other classes: mirror[label] is None"),
    ]
    for images, label, wanted, broken, hint in cases:
        of = f"the clip [1, 2, 3], label {label}, mirror = {images}"
        got, found = flipped(clip, label, images, of)
        require(found is not None, broken, of=of, found="the label None", hint=hint)
        same(found, wanted, broken, of=of, hint=hint)
        whole, hint = "a label is a whole number, as in mirror", "return mirror[label] as it is"
        require(isinstance(plain(found), int), whole, of=of, found=repr(found), hint=hint)
        if images[label] is None:
            broken = "a clip without a mirror class (None) is left alone"
            same(got, clip, broken, of=of, hint="return clip, label as they came")
        else:
            broken = "the picture goes with the label"
            same(got, clip.flip(-1), broken, of=of, hint="flip both or none")
    return "every axis, two lists, labels that change, one that stays, label 0, None"
