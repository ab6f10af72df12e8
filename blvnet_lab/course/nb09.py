"""The checks of notebook 09: where a network looks in time, and controls for saying so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blvnet_lab.course.checking import (
    RUN_IT,
    TOLERANCE,
    ask,
    check,
    clip_of,
    kind,
    plain,
    require,
    require_chance_kept,
    require_not_seeded,
    same,
    state_of_chance,
    taps_of,
    told,
)


@check
def check_temporal_centre(temporal_centre: Callable[[Tensor], Tensor]) -> str:
    """Checks `temporal_centre(taps)`: where each channel looks, in frames from its own: (C,)."""
    offsets = "the middle tap is the frame's own: offsets from -(r // 2) to r // 2"
    cases = [
        ((0, 1, 0), 0, "a channel that only keeps has its centre at 0", offsets),
        ((0, 0, 1), 1, "next lies one frame ahead: +1", offsets),
        ((1, 0, 0), -1, "prev lies one frame back: -1", offsets),
        ((3, 1, 0), -0.75, "taps weigh by their share in the sum", "divide by the sum of sizes"),
        ((0, 1, -1), 0.5, "a negative tap is a look, too: its size counts", "taps.abs()"),
        ((1, 0, -1), 0, "two looks to either side balance, whatever their signs", "taps.abs()"),
        ((0, 0, 0), 0, "a channel without any taps has its centre at 0, not NaN", "0 / 0 is NaN"),
        (
            (0, 0.1, 0.3),
            0.75,
            "of small taps the centre is as far away as of large ones",
            "only where all sizes are 0 is it 0: .clamp(min=1e-12), nothing larger",
        ),
        ((0, 0, 0, 0, 1), 2, "of five taps the last one lies two frames ahead", offsets),
        ((1, 2, 3, 2, 0), -0.25, "all taps count", "a weighted mean of all offsets"),
    ]
    for taps, wanted, broken, hint in cases:
        of = f"one channel, taps = {taps}"
        got = ask(temporal_centre, taps_of(*taps), of=of)
        same(got, torch.tensor([float(wanted)]), broken, of=of, hint=hint)
    of = "three channels: (0, 0, 2), (8, 0, 0) and (0, 0, 0)"
    taps = torch.cat([taps_of(0, 0, 2), taps_of(8, 0, 0), taps_of(0, 0, 0)], 1)
    broken, hint = "every channel has its own centre", "sum over the taps, which are axis 0"
    same(ask(temporal_centre, taps, of=of), torch.tensor([1.0, -1, 0]), broken, of=of, hint=hint)
    return "single taps, negative ones, five of them, no taps at all, and several channels"


class _Mix(nn.Module):
    """Position p gets the frames times row p: (B, T, C, H, W) to (B, P, C, H, W)."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("pt,btchw->bpchw", self.rows, x)


def _difference(x: Tensor) -> Tensor:
    """One number for each frame: neighbours in height, width and channels have opposite signs."""
    places = (torch.arange(size) for size in x.shape[2:])
    odd = sum(torch.meshgrid(*places, indexing="ij")) % 2
    return (x * (1.0 - 2 * odd)).sum((2, 3, 4))


def _centred(x: Tensor) -> Tensor:
    """Without the mean over its pixels, as after a layer norm."""
    return x - x.mean((3, 4), keepdim=True)


def _shift(x: Tensor) -> Tensor:
    """As TSM does: channel 0 comes from the frame before, 2 from the next."""
    return torch.stack([x[:, :, 0].roll(1, 1), x[:, :, 1], x[:, :, 2].roll(-1, 1)], 2)


def _halves(x: Tensor) -> Tensor:
    """The left half of a picture comes from the frame before, the right one from the next."""
    left, right = x.roll(1, 1).chunk(2, -1)[0], x.roll(-1, 1).chunk(2, -1)[1]
    return torch.cat([left, right], -1)


FramesSeen = Callable[[Callable[[Tensor], Tensor], Tensor, int], Tensor]


@check
def check_frames_seen(frames_seen: FramesSeen) -> str:
    """Checks `frames_seen(network, clip, position)`: which frames can change what stands there."""
    absolute = "take absolute values first, then sum over channels and pixels"
    mixture = "the gradient of a random mixture of all that stands at [:, position]"
    any_function = "a network is any function of a clip: it need not have weights, nor a mode"
    generator = torch.Generator().manual_seed(0)
    three, four = (
        torch.randn(1, t, 3, 2, 2, dtype=torch.float32, generator=generator) for t in (3, 4)
    )
    cases: list[tuple[Callable, str, Tensor, int, list[bool], str, str]] = [
        (
            _Mix([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
            "every position sees its own frame",
            three,
            1,
            [False, True, False],
            "a network sees what moves its output, and nothing else",
            "the gradient of what stands at [:, position] with respect to the clip",
        ),
        (
            _Mix([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]]).eval(),
            "a position sees its own frame and those next to it",
            three,
            0,
            [True, True, False],
            "it is asked for one position, not for all together",
            "take network(clip)[:, position] before you sum",
        ),
        (
            _Mix([[1.0, -2, 0], [0, 1, -2], [0, 0, 1]]),
            "position p is frame p - 2 x frame p + 1",
            three,
            0,
            [True, True, False],
            "a negative gradient is one, too",
            absolute,
        ),
        (
            _Mix([[1.0, 1, 1, 0], [0, 1, 1, 1]]),
            "4 frames, 2 positions",
            four,
            1,
            [False, True, True, True],
            "the answer has an entry for every frame, not for every position",
            "sum over all axes of the gradient but that of the frames",
        ),
        (
            _Mix([[0.0, 1e-12, 0], [0, 0, 1e-12], [1, 0, 0]]),
            "position p is 0.000000000001 x frame p + 1",
            three,
            0,
            [False, True, False],
            "however little, it is seen",
            "compare with 0, and with nothing larger; torch.isclose has a tolerance",
        ),
        (
            _difference,
            "one number of each frame: its pixels and channels, added with alternating signs",
            three[:, :, :2],
            1,
            [False, True, False],
            "gradients of opposite sign at two pixels, or in two channels, do not cancel",
            absolute,
        ),
        (
            _centred,
            "a frame minus its mean over the pixels",
            three,
            2,
            [False, False, True],
            "what stands at a position is more than its sum",
            f"{mixture}, not of its sum: the sum is always 0 here",
        ),
        (
            _shift,
            "channel 0 of the frame before, channel 1 of its own, channel 2 of the next",
            four,
            1,
            [True, True, True, False],
            "all channels of what stands at a position count",
            mixture,
        ),
        (
            _halves,
            "the left half of the frame before, the right half of the next",
            four,
            1,
            [True, False, True, False],
            "all pixels of what stands at a position count",
            mixture,
        ),
        (
            lambda x: x - x.roll(1, 1),
            "a frame minus the one before, and a still clip: all 0",
            clip_of(1, 1, 1),
            1,
            [True, True, False],
            "what is 0 in this clip can change, too",
            "random numbers *times* what stands there: squares and sizes have no slope at 0",
        ),
        (
            lambda x: x * x.roll(-1, 1),
            "a frame times the next one, and the frames of the clip hold 3, 0 and 2",
            clip_of(3, 0, 2),
            0,
            [False, True, False],
            "it is asked about this clip: what is multiplied by 0 changes nothing",
            "the gradient *at the clip*, not at zeros, ones or random numbers",
        ),
    ]
    for network, what, clip, position, wanted, broken, hint in cases:
        of = f"a network ({what}), {len(wanted)} frames, position {position}"
        first = network is cases[0][0]  # here what is left behind is told by name
        got = ask(
            frames_seen,
            network,
            clip,
            position,
            of=of,
            hint=RUN_IT if isinstance(network, nn.Module) else any_function,
            changes=(network,) if first else (),
        )
        values = plain(got)
        require(
            not (isinstance(values, list) and any(isinstance(value, float) for value in values)),
            "it says yes or no, True or False, for each frame",
            of=of,
            found=told(got),
            hint="compare the sums with 0",
        )
        same(got, _as(got, wanted), broken, of=of, hint=hint)
        require(
            not clip.requires_grad and clip.grad is None,
            "nothing is left behind: the clip is as it was",
            of=of,
            found=f"clip.requires_grad = {clip.requires_grad}",
            hint="work on clip.detach().clone().requires_grad_()",
        )
        require(
            not first or network.rows.grad is None,
            "nothing is left behind: the network's weights have no gradients",
            of=of,
            found="a weight whose .grad is filled: the next training step would add to it",
            hint="torch.autograd.grad(number, clip) instead of number.backward()",
        )
        if first:  # next time it has gradients already, which must stay
            network.rows.grad = torch.ones_like(network.rows)
    network, _, clip, position, *_ = cases[0]
    of = "a network whose weights have gradients"
    require_not_seeded(
        lambda: ask(frames_seen, network, clip, position, of=of),
        "nothing is left behind: the global random numbers are not begun anew",
        of=of,
    )
    return "signs, channels, pixels, a tiny influence, a still clip, what is left behind"


def _as(got: Any, wanted: list[bool]) -> Tensor | list[bool]:
    """Of a tensor the shape is looked at, too."""
    return torch.tensor(wanted).to(got.dtype) if isinstance(got, Tensor) else wanted


StepElsewhere = Callable[[Tensor, Tensor, int], Tensor]


@check
def check_step_elsewhere(step_elsewhere: StepElsewhere) -> str:
    """Checks `step_elsewhere(taps, changed, seed)`: the step from taps to changed, both (3, C),
    made in other channels.
    """
    generator = torch.Generator().manual_seed(0)
    one = torch.tensor([[0.0, 0], [1, 1], [0, 0]], dtype=torch.float32)
    two = torch.tensor([[0.5, 0], [0, 1], [-0.5, 0]], dtype=torch.float32)
    large = torch.randn(2, 3, 7, dtype=torch.float32, generator=generator)
    for taps, changed in ((one, one), (one, two), (two, one), (large[0], large[1])):
        channels = taps.shape[1]
        of = f"taps = {told(taps)}, changed = {told(changed)}"
        of = of if channels < 3 else "random taps and changed taps of 7 channels"
        results = []
        for seed in range(8):
            before = state_of_chance()
            got = ask(step_elsewhere, taps, changed, seed, of=f"{of}, seed = {seed}")
            broken = "the global random state is left as it was"
            hint = "torch.randperm(..., generator=torch.Generator().manual_seed(seed))"
            require_chance_kept(before, broken, of=f"{of}, seed = {seed}", hint=hint)
            again = ask(step_elsewhere, taps, changed, seed, of=f"{of}, seed = {seed}")
            _require_step(taps, changed, got, of=f"{of}, seed = {seed}")
            broken = "the same seed gives the same"
            hint = "the order depends on the seed alone"
            same(again, got, broken, of=f"{of}, seed = {seed}", hint=hint)
            results.append(got)
        if channels < 3:
            continue  # of two orders, chance may draw the same eight times
        require(
            not all(_near(got.tolist(), changed.tolist()) for got in results),
            "the step is made in other channels than the edit makes it in",
            of=f"{of}, seeds 0 to 7",
            found="the changed taps themselves, with every seed",
            hint="the columns of (changed - taps) in another order",
        )
        different = len({str(got.double().round(decimals=4).tolist()) for got in results})
        require(
            different > 3,
            "another seed chooses other channels",
            of=f"{of}, seeds 0 to 7",
            found=f"different results with the 8 seeds: {different}",
            hint="a generator that is seeded with `seed` itself",
        )
    return "steps of 2 and 7 channels with 8 seeds: as large, whole channels, elsewhere, repeatable"


def _require_step(taps: Tensor, changed: Tensor, got: Tensor, *, of: str) -> None:
    """From `taps` to `got` it is the columns of the step to `changed`, in any order."""
    hint = "step = changed - taps; give taps plus the columns of the step in another order"
    require(
        isinstance(got, Tensor) and got.shape == taps.shape,
        "it returns taps of the same shape",
        of=of,
        found=f"{kind(got)} instead of {tuple(taps.shape)}",
        hint=hint,
    )
    step, made = ((x - taps).t().tolist() for x in (changed, got))
    size, made_size = ((x - taps).square().sum() for x in (changed, got))
    same(
        made_size[None], size[None], "the change is as large as that of the edit", of=of, hint=hint
    )
    found = f"steps of the channels {told(sorted(made))} instead of {told(sorted(step))}"
    if not _near(sorted(step), sorted(made)):
        require(
            not _near(sorted(step), sorted((taps - got).t().tolist())),
            "the step leads from taps to changed, and not back",
            of=of,
            found=found,
            hint="taps + step, where step = changed - taps",
        )
    rows = [[sorted(row) for row in zip(*columns, strict=True)] for columns in (step, made)]
    require(
        _near(*rows),
        "prev stays prev, curr curr, and next next: a step moves to another channel only",
        of=of,
        found=found,
        hint="[:, order] reorders the columns and leaves the rows",
    )
    require(
        _near(sorted(step), sorted(made)),
        "the three taps of a channel move together",
        of=of,
        found=found,
        hint="one order for all three rows",
    )


def _near(a: list[list[float]], b: list[list[float]]) -> bool:
    return _close(torch.tensor(a), torch.tensor(b))


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, TOLERANCE, TOLERANCE)


class _Reads(nn.Module):
    """Two logits: what the frames hold, each times its weight, and 0."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, clips: Tensor) -> Tensor:
        first = clips.mean((2, 3, 4)) @ self.weights
        return torch.stack([first, torch.zeros_like(first)], 1)


Occlusion = Callable[[nn.Module, Tensor, int], Tensor]


@check
def check_occlusion_by_hand(occlusion_by_hand: Occlusion) -> str:
    """Checks `occlusion_by_hand(network, clip, label)`: the fall of the label's log-probability, in
    nats, when a frame shows its pair's other frame; (T,).
    """
    alike = "two frames that show the same can stand for each other: importance 0"
    pair = "the deleted frame shows what the other frame of its pair shows: frame t ^ 1"
    asked = "the label that is asked for counts, whichever is the best one"
    cases = [
        ((0, 1), (5, 5), 0, alike, "no black frames: without[:, t] = clip[:, t ^ 1]"),
        ((0, 1), (1, 3), 0, pair, "without[:, t] = clip[:, t ^ 1]"),
        ((1, 0), (3, 1), 0, pair, "without[:, t] = clip[:, t ^ 1]"),
        ((1, 0), (3, 1), 1, asked, "logits.log_softmax(1)[0, label]"),
        ((0.1, 0.2, -0.3, 0.4), (1, 2, 4, 8), 0, pair, "frames 0 and 1 are a pair, 2 and 3, ..."),
        ((0.5, -1, 0.3, 2), (1, -2, 0.1, 0.7), 1, pair, "frames 0 and 1 are a pair, 2 and 3, ..."),
    ]
    for weights, numbers, label, broken, hint in cases:
        network = _Reads(*weights).train(label == 1)
        clip = clip_of(*numbers).repeat(1, 1, 3, 2, 2)
        of = (
            f"frames that hold {numbers}, logits: those times {weights}, summed, and 0; "
            f"label = {label}"
        )
        got = ask(occlusion_by_hand, network, clip, label, of=of)
        before, after = _scores(weights, numbers, label, lambda logits: logits.log_softmax(0))
        wanted = before - after
        if isinstance(got, Tensor) and got.shape == wanted.shape:
            got = got.detach().double()
            for wrong, *words in _mistakes(weights, numbers, label):
                mistaken = not _close(got, wanted) and _close(got, wrong)
                found = f"{told(got)} instead of {told(wanted)}"
                require(not mistaken, words[0], of=of, found=found, hint=words[1])
            require(
                not wanted.any() or _close(got[wanted == 0], wanted[wanted == 0]),
                "one frame is deleted at a time: a frame that is not looked at has importance 0",
                of=of,
                found=f"{told(got)} instead of {told(wanted)}",
                hint="without = clip.clone(), anew for each frame",
            )
        same(got, wanted, broken, of=of, hint=hint)
    return "networks that look at one frame, at all of them, either label: pairs, one at a time"


def _mistakes(
    weights: Sequence[float], numbers: Sequence[float], label: int
) -> list[tuple[Tensor, str, str]]:
    """What answers give that make a mistake: numbers, what must hold, and a hint."""

    def falls(scored: Callable[[Tensor], Tensor]) -> Tensor:
        before, after = _scores(weights, numbers, label, scored)
        return before - after

    _, after = _scores(weights, numbers, label, lambda logits: logits.log_softmax(0))
    right = falls(lambda logits: logits.log_softmax(0))
    twins = right[[t ^ 1 for t in range(len(numbers))]]
    difference = "a frame that the answer rests on has an importance above 0: before minus after"
    minus = "the log-probability with all frames, minus that without this one"
    signs = "an importance may be below 0: without the frame the network is surer of the label"
    nats = "it is the log-probability that falls, in nats: no logit, no probability, no bits"
    log = "logits.log_softmax(1)"
    return [
        (after, difference, minus),
        *(
            (wrong, signs, "keep the sign: no abs, no clamp")
            for wrong in (right.abs(), right.relu())
        ),
        (-right, difference, minus),
        (
            0 * right,
            "without a frame that it looks at the network says something else",
            "does without[:, t] show another frame? Does the network get it? The softmax goes over "
            "classes, axis 1",
        ),
        (falls(lambda logits: logits), nats, log),
        (falls(lambda logits: logits.softmax(0)), nats, log),
        (right / math.log(2), nats, "log_softmax and log are natural logarithms, log2 is not"),
        (
            twins,
            "frame t is the one that is deleted, not its twin",
            "without[:, t] = clip[:, t ^ 1]",
        ),
    ]


def _scores(
    weights: Sequence[float],
    numbers: Sequence[float],
    label: int,
    scored: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The label's score with all frames, and without each; `scored` makes scores of two logits."""

    def score(shown: Sequence[float]) -> Tensor:
        first = sum(w * x for w, x in zip(weights, shown, strict=True))
        return scored(torch.tensor([first, 0.0], dtype=torch.float64))[label]

    after = []
    for t in range(len(numbers)):
        shown = list(numbers)
        shown[t] = numbers[t ^ 1]
        after.append(score(shown))
    return score(numbers), torch.stack(after)
