"""Answers to the exercises of notebook 01: wrong ones under the property they break, right ones."""

import random

import numpy as np
import torch
from torchvision.transforms import v2


def spans(first, last):
    """Count the frames from `first(frame, gop)` to before `last(frame)`, each once."""
    return lambda wanted, gop: len({f for n in wanted for f in range(first(n, gop), last(n))})


def frames_by_groups(wanted, gop):
    furthest = {}
    for frame in wanted:
        furthest[frame // gop] = max(furthest.get(frame // gop, 0), frame % gop + 1)
    return sum(furthest.values())


def frames_by_mask(wanted, gop):
    decoded = torch.zeros(max(wanted, default=0) + 1, dtype=torch.bool)
    for frame in wanted:
        decoded[frame - frame % gop : frame + 1] = True
    return decoded.sum()


def sampled(n, t, place):
    return ((torch.arange(t) + place) * n / t).long()


def rand(t, g, centre=0.5):
    return centre if g is None else torch.rand(t, generator=g)


def sample(n, t, g=None):
    return sampled(n, t, rand(t, g))


def sample_by_loop(n, t, g=None):
    return [int((k + float(rand((), g))) * (n / t)) for k in range(t)]


def window(clip, top, left, size):
    return clip[..., top : top + size[0], left : left + size[1]]


def crop(draw, clip, size):
    """Cut a window at places that are drawn one after the other, each from a number of them."""
    top, left = (int(draw(clip.shape[i - 2] - size[i] + 1)) for i in (0, 1))
    return window(clip, top, left, size)


def after(seed, answer):
    return lambda *given: (seed(0), answer(*given))[1]


def flipped(clip, label, mirror, axes=-1):
    return (clip, label) if mirror[label] is None else (clip.flip(axes), mirror[label])


def flip_along(*axes):
    return lambda clip, label, mirror: flipped(clip, label, mirror, axes)


WRONG = {
    "frames_to_decode": {
        "it runs from the last keyframe before": [
            spans(lambda n, gop: n // gop * gop + 1, lambda n: n + 1),
            spans(lambda n, gop: n // gop * gop, lambda n: n),
            lambda wanted, gop: max(wanted, default=-1) + 1,
        ],
        "a frame that is needed twice": [
            lambda wanted, gop: sum(n % gop + 1 for n in wanted),
            lambda wanted, gop: sum({n // gop: n % gop + 1 for n in wanted}.values()),
            lambda wanted, gop: max(wanted) - min(wanted) // gop * gop + 1,
        ],
    },
    "sample_evenly": {
        "without a generator it takes the middle frame": [
            lambda n, t, g=None: sampled(n, t, rand(t, g, 0.0)),
            lambda n, t, g=None: torch.linspace(0, n - 1, t).long(),
            lambda n, t, g=None: sample(n, min(t, n), g),
            lambda n, t, g=None: sample(n, t, g).float(),
        ],
        "the same call": [lambda n, t, g=None: sampled(n, t, 0.5 if g is None else torch.rand(t))],
        "with a generator each call draws again, independently for each segment": [
            lambda n, t, g=None: sampled(n, t, 0.5),
            lambda n, t, g=None: sampled(n, t, rand(1, g)),
            lambda n, t, g=None: sampled(n, t, rand(t, g, 1.0) / 2),
        ],
    },
    "crop_clip": {
        "one window of (height, width) = size is cut out": [
            lambda clip, size: torch.stack([v2.RandomCrop(size)(frame) for frame in clip]),
            lambda clip, size: torch.stack([v2.RandomCrop(size)(c) for c in clip.unbind(1)], 1),
            lambda clip, size: v2.RandomCrop(size)(clip).float(),
        ],
        "torch.manual_seed repeats the place": [
            lambda clip, size: crop(np.random.randint, clip, size),
            lambda clip, size: crop(random.randrange, clip, size),
        ],
        "generators are not": [after(random.seed, lambda clip, size: v2.RandomCrop(size)(clip))],
        "the window lies at each place where it fits": [
            v2.functional.center_crop,
            after(torch.manual_seed, lambda clip, size: v2.RandomCrop(size)(clip)),
            lambda clip, size: crop(lambda n: torch.randint(max(1, n - 1), ()), clip, size),
        ],
    },
    "flip_clip": {
        "left and right change places": [
            flip_along(0),
            flip_along(-2),
            lambda clip, label, mirror: flipped(clip, label, mirror)[::-1],
        ],
        "the label goes with the picture": [
            lambda clip, label, mirror: flipped(clip, label, [1, 0, 2, None]),
            lambda clip, label, mirror: (clip.flip(-1), label),
            lambda clip, label, mirror: (
                (clip.flip(-1), mirror[label]) if mirror[label] else (clip, label)
            ),
        ],
        "without a mirror class": [lambda clip, label, mirror: (clip.flip(-1), mirror[label])],
        "it returns two things": [lambda clip, label, mirror: clip.flip(-1)],
    },
}

RIGHT = {
    "frames_to_decode": [frames_by_groups, frames_by_mask],
    "sample_evenly": [sample, sample_by_loop],
    "crop_clip": [
        lambda clip, size: v2.RandomCrop(size)(clip),
        lambda clip, size: crop(lambda n: torch.rand(()) * n, clip, size),
    ],
    "flip_clip": [flipped, lambda clip, label, mirror: list(flipped(clip, label, mirror))],
}
