"""The checks of notebook 09: where a network looks in time, and controls for saying so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from blvnet_lab.exercises.checking import (
    ask,
    check,
    clip_of,
    kind,
    require,
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
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("pt,btchw->bpchw", self.rows, x)


class _Contrast(_Mix):
    """The left half of a picture counts positive, the right one negative."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.tensor([1.0, -1.0], dtype=x.dtype)


class _Difference(_Contrast):
    """One number for each position: left half minus right half."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum((2, 3, 4))


class _Centred(_Mix):
    """Without the mean over its pixels, as after a layer norm."""

    def forward(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        return maps - maps.mean((3, 4), keepdim=True)


FramesSeen = Callable[[Callable[[Tensor], Tensor], Tensor, int], Tensor]


@check
def check_frames_seen(frames_seen: FramesSeen) -> str:
    """Checks `frames_seen(network, clip, position)`: which frames can change what stands there."""
    apart = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]
    pairs = [[1.0, 1, 1, 0], [0, 1, 1, 1]]
    absolute = "take absolute values first, then sum over channels and pixels"
    mixture = "of a random mixture of what stands there, not of its sum: the sum is always 0 here"
    cases = [
        (
            _Mix(apart),
            "every position sees its own frame",
            1,
            "a network sees what moves its output, and nothing else",
            "the gradient of what stands at [:, position] with respect to the clip",
        ),
        (
            _Mix([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]]),
            "a position sees its own frame and those next to it",
            0,
            "it is asked for one position, not for all together",
            "take network(clip)[:, position] before you sum",
        ),
        (
            _Mix([[1.0, -2, 0], [0, 1, -2], [0, 0, 1]]),
            "position p is frame p - 2 x frame p + 1",
            0,
            "a negative gradient is one, too",
            absolute,
        ),
        (
            _Mix(pairs),
            "4 frames, 2 positions",
            1,
            "the answer has an entry for every frame, not for every position",
            "sum over all axes of the gradient but that of the frames",
        ),
        (
            _Contrast(apart),
            "left half minus right half of a frame",
            1,
            "gradients of opposite sign at two pixels do not cancel",
            absolute,
        ),
        (
            _Difference(apart),
            "one number, left half minus right half of a frame",
            1,
            "gradients of opposite sign at two pixels do not cancel",
            absolute,
        ),
        (
            _Centred(apart),
            "a frame minus its mean over the pixels",
            2,
            "what stands at a position is more than its sum",
            mixture,
        ),
        (
            _Mix([[1.0, 1e-6, 0], [0, 1, 1e-6], [0, 0, 1]]),
            "position p is frame p + 0.000001 x frame p + 1",
            0,
            "however little, it is seen",
            "compare with 0",
        ),
    ]
    generator = torch.Generator().manual_seed(0)
    for network, what, position, broken, hint in cases:
        num_frames = network.rows.shape[1]
        of = f"a network ({what}), {num_frames} frames of 2 x 2 pixels, position {position}"
        clip = torch.randn(1, num_frames, 1, 2, 2, dtype=torch.float64, generator=generator)
        got = ask(frames_seen, network, clip, position, of=of)
        wanted = (network.rows[position] != 0).tolist()
        same(got, wanted, broken, of=of, hint=hint)
        require(
            not clip.requires_grad and clip.grad is None,
            "nothing is left behind: the clip is as it was",
            of=of,
            found=f"clip.requires_grad = {clip.requires_grad}",
            hint="work on clip.detach().clone().requires_grad_()",
        )
        require(
            network.rows.grad is None,
            "nothing is left behind: the network's weights have no gradients",
            of=of,
            found="a weight whose .grad is filled: the next training step would add to it",
            hint="torch.autograd.grad(number, clip) instead of number.backward()",
        )
    return "small networks: signs, pairs, cancelling gradients, a tiny influence"


StepElsewhere = Callable[[Tensor, Tensor, int], Tensor]


@check
def check_step_elsewhere(step_elsewhere: StepElsewhere) -> str:
    """Checks `step_elsewhere(taps, changed, seed)`: the step from taps to changed, both (3, C),
    made in other channels.
    """
    generator = torch.Generator().manual_seed(0)
    one = torch.tensor([[0.0, 0], [1, 1], [0, 0]], dtype=torch.float64)
    two = torch.tensor([[0.5, 0], [0, 1], [-0.5, 0]], dtype=torch.float64)
    large = torch.randn(2, 3, 7, dtype=torch.float64, generator=generator)
    for taps, changed in ((one, one), (one, two), (two, one), (large[0], large[1])):
        channels = taps.shape[1]
        of = f"taps = {told(taps)}, changed = {told(changed)}"
        of = of if channels < 3 else "random taps and changed taps of 7 channels"
        results = []
        for seed in range(8):
            before = state_of_chance()
            got = ask(step_elsewhere, taps, changed, seed, of=f"{of}, seed = {seed}")
            require(
                state_of_chance() == before,
                "the global random state is left as it was",
                of=f"{of}, seed = {seed}",
                found="torch's random numbers go on from another place after the call",
                hint="torch.randperm(..., generator=torch.Generator().manual_seed(seed))",
            )
            again = ask(step_elsewhere, taps, changed, seed, of=f"{of}, seed = {seed}")
            _require_step(taps, changed, got, of=f"{of}, seed = {seed}")
            broken = "the same seed gives the same"
            hint = "the order depends on the seed alone"
            same(again, got, broken, of=f"{of}, seed = {seed}", hint=hint)
            results.append(got)
        if channels < 3:
            continue  # of two orders, chance may draw the same eight times
        require(
            not all(torch.allclose(got.double(), changed) for got in results),
            "the step is made in other channels than the edit makes it in",
            of=f"{of}, seeds 0 to 7",
            found="the changed taps themselves, with every seed",
            hint="the columns of (changed - taps) in another order",
        )
        require(
            not all(torch.allclose(got.double(), results[0].double()) for got in results),
            "another seed chooses other channels",
            of=f"{of}, seeds 0 to 7",
            found="the same with every seed",
            hint="a generator that is seeded with `seed`",
        )
    return "steps of 2 and 7 channels with 8 seeds: as large, whole channels, elsewhere, repeatable"


def _require_step(taps: Tensor, changed: Tensor, got: Tensor, *, of: str) -> None:
    """From `taps` to `got` it is the columns of the step to `changed`, in any order."""
    hint = "step = changed - taps; give taps plus the columns of the step in another order"
    require(
        isinstance(got, Tensor) and got.shape == taps.shape,
        "it returns taps of the same shape",
        of=of,
        found=kind(got),
        hint=hint,
    )
    step, made = (changed - taps).t().tolist(), (got.double() - taps).t().tolist()
    size, made_size = ((x - taps).square().sum() for x in (changed, got))
    same(
        made_size[None], size[None], "the change is as large as that of the edit", of=of, hint=hint
    )
    found = f"steps of the channels {told(sorted(made))} instead of {told(sorted(step))}"
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
    return torch.allclose(torch.tensor(a), torch.tensor(b), atol=1e-6)


class _Reads(nn.Module):
    """Two logits: what the frames hold, each times its weight, and 0."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

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
        network = _Reads(*weights)
        clip = clip_of(*numbers).repeat(1, 1, 3, 2, 2)
        of = (
            f"frames that hold {numbers}, logits: those times {weights}, summed, and 0; "
            f"label = {label}"
        )
        got = ask(occlusion_by_hand, network, clip, label, of=of)
        wanted = _falls(weights, numbers, label, lambda logits: logits.log_softmax(0))
        if isinstance(got, Tensor) and got.shape == wanted.shape and wanted.any():
            got = got.detach().double()
            require(
                torch.allclose(got[wanted == 0], wanted[wanted == 0]),
                "one frame is deleted at a time: a frame that is not looked at has importance 0",
                of=of,
                found=f"{told(got)} instead of {told(wanted)}",
                hint="without = clip.clone(), anew for each frame",
            )
            require(
                not torch.allclose(got, -wanted),
                "a frame that the answer rests on has an importance above 0: before minus after",
                of=of,
                found=f"{told(got)} instead of {told(wanted)}",
                hint="the log-probability with all frames, minus that without this one",
            )
            by_logit = _falls(weights, numbers, label, lambda logits: logits)
            by_share = _falls(weights, numbers, label, lambda logits: logits.softmax(0))
            require(
                not torch.allclose(got, by_logit) and not torch.allclose(got, by_share),
                "it is the log-probability that falls, in nats: no logit, no probability",
                of=of,
                found=f"{told(got)} instead of {told(wanted)}",
                hint="logits.log_softmax(1)",
            )
        same(got, wanted, broken, of=of, hint=hint)
    return "networks that look at one frame, at all of them, either label: pairs, one at a time"


def _falls(
    weights: Sequence[float],
    numbers: Sequence[float],
    label: int,
    scored: Callable[[Tensor], Tensor],
) -> Tensor:
    """By how much the label's score falls for each frame; `scored` makes scores of two logits."""

    def score(shown: Sequence[float]) -> Tensor:
        first = sum(w * x for w, x in zip(weights, shown, strict=True))
        return scored(torch.tensor([first, 0.0], dtype=torch.float64))[label]

    whole, falls = score(numbers), []
    for t in range(len(numbers)):
        shown = list(numbers)
        shown[t] = numbers[t ^ 1]
        falls.append(whole - score(shown))
    return torch.stack(falls)
