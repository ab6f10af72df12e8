"""Checks of notebook 02: a shift in time, temporal aggregation, TSM as a special case."""

import torch
from torch import Tensor

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Check, cases, gradients
from blvnet_lab.course.inputs import clip_tensor, depthwise_conv3d, on_taps, rand

check_shift = Check(
    cases(
        "y[t] is x[t + offset]; before the first frame and after the last there are zeros",
        "a negative offset looks back; torch.roll puts the other end there; x[:, :-0] is empty",
        *((clip_tensor(1, 2, 3), offset) for offset in (0, -1, 1, -2, 5, -5)),
    ),
    cases(
        "clips of a batch, channels, rows and columns stay where they are",
        "time is axis 1; move along it only, and keep the other axes with :",
        *((rand(2, 2, 1, 1, 1), 1), (rand(2, 9, 3, 4, 6), 1)),
    ),
    by=lambda x, offset: depthwise_conv3d(x, torch.eye(11)[:, [5 + offset] * x.shape[2]]),
)

check_tam = Check(
    cases(
        "curr weighs frame t itself, prev the frame before, next the frame after; zeros outside",
        "taps[0] is for the frame before, taps[1] for this one, taps[2] for the next one; beyond "
        "the ends there are zeros (use your shift, not torch.roll); the terms are summed",
        *on_taps((1, 2, 3), (0, 1, 0), (1, 0, 0), (0, 0, 1), (1, 10, 100)),
    ),
    cases(
        "a single ReLU comes last: nothing is negative, and before it terms may cancel",
        "one ReLU around the sum, none around x, the taps or a term of the sum",
        *on_taps((1, 2, 3), (0, -1, 0), (-1, 1, 0)),
        *on_taps((-1, 2, -3), (0, -1, 0)),
    ),
    cases(
        "every channel has its own taps (depthwise), and clips stay apart",
        "taps[0] has shape (C,): give it two more axes, [:, None, None], to stand for H and W",
        (rand(3, 9, 2, 4, 6), rand(3, 2)),  # no two axes are the same
    ),
    gradients(x=rand(3, 9, 2, 4, 6), taps=rand(3, 2)),
    by=lambda x, taps: depthwise_conv3d(x, taps).relu(),
)


def _tsm(channels: int, fold: int) -> Tensor:
    rows = torch.ones(channels, dtype=torch.int64)  # prev 0, curr 1, next 2
    rows[: channels // fold], rows[channels // fold : 2 * (channels // fold)] = 2, 0
    return torch.eye(3)[:, rows]


check_tsm_taps = Check(
    cases(
        "the first C // fold channels come from the next frame, as many from the one before, and "
        "the others stay",
        "begin with torch.zeros(3, channels); each column has one 1: row 0 prev, 1 curr, 2 next",
        *((4, 4), (16, 8), (10, 4), (12, 8), (3, 8)),
    ),
    by=_tsm,
)

check_tams_needed = Check(
    cases(
        "information has num_frames - 1 steps to go, and a TAM of r taps carries it r // 2 frames; "
        "where a shorter way is left at the end, that takes one more TAM",
        "one TAM carries information num_taps // 2 frames far; divide, and round up",
        *((2, 3), (3, 3), (5, 5), (4, 5), (6, 5), (8, 7), (11, 7), (1, 3), (9, 5), (16, 7)),
    ),
    by=solutions.tams_needed,
)
