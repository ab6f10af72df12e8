"""The checks of notebook 02: a shift in time, temporal aggregation, TSM as a case of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blvnet_lab.course.checking import (
    STAY,
    ask,
    check,
    clip_of,
    depthwise_conv3d,
    kind,
    require,
    same,
    same_gradients,
    taps_of,
    told,
)


@check
def check_shift(shift: Callable[[Tensor, int], Tensor]) -> str:
    """Checks `shift(x, offset)`: y[t] = x[t + offset], zeros where that is outside the clip."""
    cases = [
        (-1, (0, 1, 2, 3), "y[t] is the frame before, x[t - 1]; before the first there are zeros"),
        (+1, (2, 3, 4, 0), "y[t] is the frame after, x[t + 1]; after the last there are zeros"),
        (0, (1, 2, 3, 4), "offset 0 changes nothing"),
        (-2, (0, 0, 1, 2), "offset -2 looks two frames back"),
        (+5, (0, 0, 0, 0), "an offset beyond the clip finds nothing: zeros"),
        (-5, (0, 0, 0, 0), "an offset beyond the clip finds nothing: zeros"),
    ]
    hints = {
        1: "where there is no such frame: zeros. torch.roll puts the other end of the clip there",
        0: "beware of slices that end in -0: x[:, :-0] is empty",
        5: "slices with x.shape[1] - offset go wrong once that is negative",
    }
    for offset, wanted, broken in cases:
        of = f"a clip of 4 frames [1, 2, 3, 4] (one number a frame), offset {offset}"
        got = ask(shift, clip_of(1, 2, 3, 4), offset, of=of)
        if isinstance(got, Tensor) and got.shape == (1, 4, 1, 1, 1):
            inner = [t for t in range(4) if 0 <= t + offset < 4]
            same(
                got[:, inner],
                clip_of(*(1 + t + offset for t in inner)),
                f"wherever there is such a frame, y[t] is x[t + offset] (t = {inner})",
                of=of,
                hint="the first axis after the batch is time; a negative offset looks back",
            )
        same(got, clip_of(*wanted), broken, of=of, hint=hints.get(abs(offset), hints[1]))

    of = "a batch of two clips, [1, 2] and [3, 4], offset -1"
    x = torch.cat([clip_of(1, 2), clip_of(3, 4)])
    same(
        ask(shift, x, -1, of=of),
        torch.cat([clip_of(0, 1), clip_of(0, 3)]),
        "clips of a batch stay apart: the second one's first frame gets zeros, too",
        of=of,
        hint="time is axis 1; axis 0 is the batch",
    )
    of = "random x of shape (2, 9, 3, 4, 6), offset 2"
    x = torch.randn(2, 9, 3, 4, 6, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    two_ahead = torch.zeros(5, 3, dtype=torch.float32)
    two_ahead[4] = 1
    same(
        ask(shift, x, 2, of=of),
        depthwise_conv3d(x, two_ahead),
        "channels, rows and columns stay where they are",
        of=of,
        hint="move along axis 1 only, and keep the other axes with :",
    )
    return "offsets from -5 to 5, zeros outside the clip, clips that stay apart, every other axis"


@check
def check_tam(tam: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks `tam(x, taps)`: equation 3 of the paper, taps (3, C) in the order prev, curr, next."""
    order = "taps[0] is for the frame before, taps[1] for this one, taps[2] for the next one"
    ends = "beyond the ends of the clip there are zeros: use your shift, not torch.roll"
    one_relu = "one ReLU around the sum, none around x, the taps or a term of the sum"
    cases = [
        ((1, 2, 3), (0, 1, 0), (1, 2, 3), "curr takes frame t itself", order),
        (
            (1, 2, 3),
            (1, 0, 0),
            (0, 1, 2),
            "prev takes the frame before, zeros before the first",
            ends,
        ),
        ((1, 2, 3), (0, 0, 1), (2, 3, 0), "next takes the frame after, zeros after the last", ends),
        ((1, 2, 3), (1, 10, 100), (210, 321, 32), "the terms are summed, not averaged", order),
        ((1, 2, 3), (0, -1, 0), (0, 0, 0), "a ReLU ends it: nothing is negative", one_relu),
        (
            (-1, 2, -3),
            (0, -1, 0),
            (1, 0, 3),
            "x and taps may be negative: -1 times -1 is 1",
            one_relu,
        ),
        (
            (1, 2, 3),
            (-1, 1, 0),
            (1, 1, 1),
            "the ReLU comes after the sum: terms may cancel each other",
            one_relu,
        ),
    ]
    for frames, taps, wanted, broken, hint in cases:
        of = f"a clip of 3 frames {[*frames]} with one channel, (prev, curr, next) = {taps}"
        got = ask(tam, clip_of(*frames), taps_of(*taps), of=of)
        same(got, clip_of(*wanted), broken, of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 9, 2, 4, 6, generator=generator)  # no two axes are the same
    taps = torch.randn(3, 2, generator=generator)
    of = "random x of shape (3, 9, 2, 4, 6) and taps of shape (3, 2)"
    broken = "every channel has its own taps (depthwise), and clips stay apart"
    hint = "taps[0] has shape (C,): give it two more axes, [:, None, None], to stand for H and W"
    wanted = depthwise_conv3d(x, taps).clamp(min=0)
    same(ask(tam, x, taps, of=of, hint=hint), wanted, broken, of=of, hint=hint)
    leaves = {
        "the taps: they are to be learned": taps.requires_grad_(),
        "x: it comes out of layers that are to be learned": x.requires_grad_(),
    }
    got, wanted = ask(tam, x, taps, of=of, hint=STAY), depthwise_conv3d(x, taps).clamp(min=0)
    same_gradients(got, wanted, leaves, of=of)
    return "each tap alone, their sum, the ReLU after it, PyTorch's depthwise conv3d, gradients"


@check
def check_tsm_taps(tsm_taps: Callable[[int, int], Tensor]) -> str:
    """Checks `tsm_taps(channels, fold)`: the taps (3, C) that make a TAM do what TSM does.

    The first C // fold channels come from the next frame, as many from the frame before, the
    others stay.
    """
    for channels, fold in ((4, 4), (16, 8), (10, 4), (12, 8), (3, 8)):
        of = f"channels = {channels}, fold = {fold}"
        moved = channels // fold
        x = torch.rand(1, 6, channels, 2, 2, dtype=torch.float32) + 1
        taps = ask(tsm_taps, channels, fold, of=of)
        require(
            isinstance(taps, Tensor) and taps.shape == (3, channels),
            "it returns taps of shape (3, channels): a row each for prev, curr, next",
            of=of,
            found=kind(taps),
            hint="start with torch.zeros(3, channels)",
        )
        y = depthwise_conv3d(x, taps.float())
        parts = [
            (slice(2 * moved, None), 0, "the other channels stay as they are (curr)"),
            (slice(moved), 1, "the first C // fold channels come from the next frame"),
            (slice(moved, 2 * moved), -1, "the second C // fold come from the frame before"),
        ]
        for which, offset, broken in parts:
            differ = (y[:, 1:-1] != x[:, 1 + offset : 5 + offset]).flatten(3).any(3).any(1)[0]
            wrong = [c for c in range(channels)[which] if differ[c]]
            require(
                not wrong,
                broken,
                of=of,
                found="".join(
                    f"(prev, curr, next) = {told(taps[:, c])} in channel {c}" for c in wrong[:1]
                ),
                hint="in each column of the taps there is one 1: row 0 prev, 1 curr, 2 next",
            )
    return "what these taps do to maps, for 3 to 16 channels, also where fold does not divide them"


@check
def check_tams_needed(tams_needed: Callable[[int, int], int]) -> str:
    """Checks `tams_needed(num_frames, num_taps)`: how many TAMs, one after the other, until the
    first frame of a clip has heard of the last one.
    """
    sides = "a TAM of r taps reaches r // 2 frames to either side"
    rest = "where a rest of the way is left, one more TAM carries the news there"
    cases = [
        (2, 3, "the news has num_frames - 1 steps to go"),
        (3, 3, sides),
        (5, 5, sides),
        (4, 5, rest),
        (6, 5, rest),
        (8, 7, rest),
        (11, 7, rest),
        (1, 3, "a single frame need not hear of any other"),
        (9, 5, sides),
        (16, 7, sides),
        (16, 3, sides),
    ]
    for num_frames, num_taps, broken in cases:
        of = f"{num_frames} frame{'s' * (num_frames > 1)}, TAMs of {num_taps} taps"
        x = torch.zeros(1, num_frames, 1, 1, 1)
        x[0, -1] = 1
        wanted = 0
        while not x[0, 0]:  # apply one more: this is what the number means
            x, wanted = (depthwise_conv3d(x, torch.ones(num_taps, 1)) > 0).float(), wanted + 1
        hint = "one TAM carries news num_taps // 2 frames far; divide, and round up"
        same(ask(tams_needed, num_frames, num_taps, of=of), wanted, broken, of=of, hint=hint)
    return "clips of 1 to 16 frames with 3, 5 and 7 taps, against a 1 sent through the clip"
