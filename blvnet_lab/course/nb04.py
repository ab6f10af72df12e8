"""The checks of notebook 04: pairs, twins, and a TAM that sums over pairs."""

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
    require,
    same,
    same_gradients,
    taps_of,
    two,
)


@check
def check_route(route: Callable[[Tensor], tuple[Tensor, Tensor]]) -> str:
    """Checks `route(clip)`: frames 0, 2, 4, ... and frames 1, 3, 5, ...; (B, P, C, H, W) each."""
    for num_frames in (2, 4, 8, 18):
        frames = range(1, 1 + num_frames)
        of = f"a clip of {num_frames} frames {list(frames)}"
        got = ask(route, clip_of(*frames), of=of)
        little, big = two(got, "little, big", of=of, tensors=[0, 1])
        require(
            not torch.equal(little, clip_of(*frames[1::2])),
            "the first frame of each pair goes to the little branch",
            of=of,
            found="the first frames in the second place",
            hint="return little, big in this order",
        )
        pairs = "neighbours make a pair: the little branch gets frames 0, 2, 4, ..."
        hint = "clip[:, start::2] takes every second frame"
        same(little, clip_of(*frames[0::2]), pairs, of=of, hint=hint)
        same(big, clip_of(*frames[1::2]), "and the big one frames 1, 3, 5, ...", of=of, hint=hint)
    of = "3 clips of 4 frames, 2 channels of 5 x 6 pixels"
    x = torch.arange(3 * 4 * 2 * 5 * 6, dtype=torch.float32).reshape(3, 4, 2, 5, 6)
    little, big = two(ask(route, x, of=of), "little, big", of=of, tensors=[0, 1])
    apart = "clips stay apart, and every other axis as it is: (B, P, C, H, W)"
    hint = "time is axis 1; axis 0 is the batch"
    for got, wanted in ((little, x[:, [0, 2]]), (big, x[:, [1, 3]])):
        same(got, wanted, apart, of=of, hint=hint)
    return "clips of 2 to 18 frames, and a batch"


@check
def check_to_both(to_both: Callable[[Tensor], Tensor]) -> str:
    """Checks `to_both(merged)`: (B, P, C, H, W) to (B, 2P, C, H, W), each map twice in a row."""
    for num_pairs in (2, 3, 9):
        pairs = range(1, 1 + num_pairs)
        of = f"merged maps of {num_pairs} pairs {list(pairs)}"
        same(
            ask(to_both, clip_of(*pairs), of=of),
            clip_of(*sorted([*pairs, *pairs])),
            "the two frames of a pair stand next to each other: 1, 1, 2, 2, ...",
            of=of,
            hint="repeat_interleave instead of repeat or cat",
        )
    of = "2 clips of 3 pairs, 2 channels of 4 x 5 pixels"
    x = torch.arange(2 * 3 * 2 * 4 * 5, dtype=torch.float32).reshape(2, 3, 2, 4, 5)
    same(
        ask(to_both, x, of=of),
        x[:, [0, 0, 1, 1, 2, 2]],
        "only the axis of time is doubled, and clips stay apart",
        of=of,
        hint="dim=1",
    )
    return "the order of the copies of 2 to 9 pairs, and a batch"


def _on_twins(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3 without its ReLU on pairs written out as frames: little and big, (B, P, ...)."""
    frames = depthwise_conv3d(torch.stack([x, x], dim=2).flatten(1, 2), taps)
    return frames[:, 0::2], frames[:, 1::2]


@check
def check_pair_taps(pair_taps: Callable[[Tensor], tuple[Tensor, Tensor]]) -> str:
    """Checks `pair_taps(taps)`: (3, C) to two of (2, C).

    little: weights of the pair before and of this pair; big: of this pair and of the next one.
    """
    cases = [
        (
            (1, 0, 0),
            "prev of the little frame 2k reaches the pair before, k - 1",
            "prev of the big frame 2k + 1 is its own twin: it stays in pair k",
        ),
        (
            (0, 0, 1),
            "next of the little frame 2k is its own twin: it stays in pair k",
            "next of the big frame 2k + 1 reaches the next pair, k + 1",
        ),
        (
            (0, 1, 0),
            "curr stays in its pair, for the little frame the second of its two: (k - 1, k)",
            "curr stays in its pair, for the big frame the first of its two: (k, k + 1)",
        ),
        ((1, 10, 100), *["taps that reach the same pair are summed"] * 2),
        ((-1, -10, -100), *["taps may be negative, and stay so: the ReLU comes later"] * 2),
    ]
    hint = "frames 2k and 2k + 1 hold the map of pair k: which pair does each tap look into?"
    for numbers, of_little, of_big in cases:
        of = f"(prev, curr, next) = {numbers}, one channel"
        taps = taps_of(*numbers)
        little, big = two(ask(pair_taps, taps, of=of), "little, big", of=of, tensors=[0, 1])
        # Send a 1 from each pair in turn, and see what arrives at the two frames of pair 1.
        sent = torch.eye(3, dtype=torch.float32)[:, :, None, None, None]  # one clip for each pair
        at_little, at_big = (maps[:, 1, :, 0, 0] for maps in _on_twins(sent, taps))  # (3, 1)
        same(little, at_little[:2], of_little, of=of, hint=hint)
        same(big, at_big[1:], of_big, of=of, hint=hint)
    of = "random taps of 5 channels"
    taps = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    got = two(ask(pair_taps, taps, of=of, hint=STAY), "little, big", of=of, tensors=[0, 1])
    prev, curr, next = taps
    wanted = torch.stack([prev, curr + next]), torch.stack([prev + curr, next])
    for mine, right, name in zip(got, wanted, ("little", "big"), strict=True):
        broken = f"each channel by itself: {name} is (2, C)"
        same(mine, right, broken, of=of, hint="torch.stack two rows")
    same_gradients(got, wanted, {"the taps: they are to be learned": taps}, of=of)
    return "each tap alone against equation 3 on frames, sums, several channels, gradients"


@check
def check_pair_tam(pair_tam: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> str:
    """Checks `pair_tam(x, taps)`: maps (B, P, C, H, W) of pairs to those of both branches."""
    one_relu = "one ReLU around each sum, none around x, the taps or a term of the sum"
    three = (1, 2, 3)
    cases = [
        (
            three,
            (0, 1, 0),
            "curr alone gives both branches the map of their pair",
            "curr is in both sums",
        ),
        (
            three,
            (1, 0, 0),
            "prev: the little branch gets the pair before (zeros at first), big its own",
            "shift(x, -1) is the pair before",
        ),
        (
            three,
            (0, 0, 1),
            "next: the little branch gets its own pair, big the next one (zeros at last)",
            "shift(x, +1) is the next pair",
        ),
        (three, (1, 10, 100), "what the taps bring is summed", "see pair_taps"),
        (three, (0, -1, 0), "a ReLU ends it, for both branches", "torch.relu around each sum"),
        ((-1, 2, -3), (0, -1, 0), "x and taps may be negative: -1 times -1 is 1", one_relu),
        (three, (1, 1, -1), "the ReLU comes after the sum: terms may cancel each other", one_relu),
    ]
    for pairs, numbers, broken, hint in cases:
        of = f"3 pairs {[*pairs]} with one channel, (prev, curr, next) = {numbers}"
        _same_as_twins(pair_tam, clip_of(*pairs), taps_of(*numbers), broken, of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 4, 5, 6, generator=generator)  # no two axes are the same
    taps = torch.randn(3, 4, generator=generator)
    of = "2 clips of 9 pairs, 4 channels of 5 x 6 pixels, random taps"
    broken = "every channel has its own taps, and clips stay apart"
    hint = "rows of taps have shape (C,): [:, None, None] makes them fit (C, H, W)"
    _same_as_twins(pair_tam, x, taps, broken, of=of, hint=hint)
    leaves = {
        "the taps: they are to be learned": taps.requires_grad_(),
        "x: it comes out of layers that are to be learned": x.requires_grad_(),
    }
    got = two(ask(pair_tam, x, taps, of=of, hint=STAY), "little, big", of=of)
    same_gradients(got, [maps.clamp(min=0) for maps in _on_twins(x, taps)], leaves, of=of)
    return "each tap alone, sums, the ReLU, conv3d on maps that were written out twice, gradients"


def _same_as_twins(
    pair_tam: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    taps: Tensor,
    broken: str,
    *,
    of: str,
    hint: str,
) -> None:
    got = two(ask(pair_tam, x, taps, of=of, hint=hint), "little, big", of=of, tensors=[0, 1])
    for maps, wanted, branch in zip(got, _on_twins(x, taps), ("little", "big"), strict=True):
        same(maps, wanted.clamp(min=0), f"{broken} ({branch})", of=of, hint=hint)
