"""The checks of notebook 09: where a network looks in time, and controls for saying so."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blvnet_lab.course.checking import (
    Answer,
    Check,
    cases,
    clip_tensor,
    kind,
    rand,
    require,
    same,
    taps_tensor,
)


def _centres(*examples: tuple) -> list[tuple]:
    return [(taps_tensor(*taps), torch.tensor([float(centre)])) for taps, centre in examples]


check_temporal_centre = Check(
    "temporal_centre",
    cases(
        "next lies one frame ahead: +1, curr is the frame's own: 0, prev one frame back: -1",
        "offsets go from -(r // 2) to r // 2: the middle tap is the frame's own",
        *_centres(((0, 1, 0), 0), ((0, 0, 1), 1), ((1, 0, 0), -1), ((0, 0, 0, 0, 1), 2)),
    ),
    cases(
        "taps weigh by the share of their size in the sum, negative and small ones, too",
        "the mean of all offsets, weighted by taps.abs(): divide by the sum of the sizes",
        *_centres(((3, 1, 0), -0.75), ((0, 1, -1), 0.5), ((1, 0, -1), 0), ((0, 0.1, 0.3), 0.75)),
        *_centres(((1, 2, 3, 2, 0), -0.25)),
    ),
    cases(
        "a channel without any taps has its centre at 0, not NaN",
        "0 / 0 is NaN; only where all sizes are 0: .clamp(min=1e-12), nothing larger",
        *_centres(((0, 0, 0), 0)),
    ),
    cases(
        "every channel has its own centre",
        "sum over the taps, which are axis 0",
        (torch.tensor([[0.0, 8, 0], [0, 0, 0], [2, 0, 0]]), torch.tensor([1.0, -1, 0])),
    ),
)


class _Mix(nn.Module):
    """Position p gets the frames times row p: (B, T, C, H, W) to (B, P, C, H, W)."""

    def __init__(self, *rows: list[float]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))
        self.rows.grad = torch.ones_like(self.rows)  # of somebody else, and must stay

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("pt,btchw->bpchw", self.rows, x)

    def __repr__(self) -> str:
        return f"(each position is a sum of frames, times {self.rows.tolist()})"


class _Function:
    """Any function of a clip, under its description: it has neither weights nor a mode."""

    def __init__(self, what: str, function: Callable[[Tensor], Tensor]) -> None:
        self.what, self.function = what, function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def __repr__(self) -> str:
        return f"({self.what})"


def _alternate(x: Tensor) -> Tensor:
    odd = sum(torch.meshgrid(*map(torch.arange, x.shape[2:]), indexing="ij")) % 2
    return (x * (1.0 - 2 * odd)).sum((2, 3, 4))


def _shift_channels(x: Tensor) -> Tensor:
    return torch.stack([x[:, :, 0].roll(1, 1), x[:, :, 1], x[:, :, 2].roll(-1, 1)], 2)


def _shift_halves(x: Tensor) -> Tensor:
    return torch.cat([x.roll(1, 1)[..., :1], x.roll(-1, 1)[..., 1:]], -1)


def _seen(network: Callable, position: int, wanted: str, clip: Tensor | None = None) -> tuple:
    """Make an example; `wanted` has a letter for each frame, x if it is seen."""
    clip = rand(1, len(wanted), 3, 2, 2) if clip is None else clip
    return network, clip, position, [letter == "x" for letter in wanted]


ALTERNATING = _Function("pixels and channels, added with alternating signs", _alternate)
MIXTURE = "the gradient of a random mixture of all that stands at [:, position]"
SUM = _Function(
    "a frame minus its mean over the pixels", lambda x: x - x.mean((3, 4), keepdim=True)
)


def seen_leaves_nothing_behind(frames_seen: Answer) -> None:
    """nothing is left behind: the network keeps its gradients, and the global random generators
    are not seeded
    """
    frames_seen.never_seeds(_Mix([1.0, 0.0]), rand(1, 2, 1, 2, 2), 0)


check_frames_seen = Check(
    "frames_seen",
    cases(
        "True or False for each frame: it is seen if it moves what stands at this one position",
        "the gradient of network(clip)[:, position] with respect to clip.detach().clone(), by "
        "torch.autograd.grad; compare its sizes with 0",
        _seen(_Mix([1.0, 0, 0], [0, 1, 0], [0, 0, 1]), 1, "-x-"),
        _seen(_Mix([1.0, 1, 0], [1, 1, 1], [0, 1, 1]).eval(), 0, "xx-"),
        _seen(_Mix([1.0, 1, 1, 0], [0, 1, 1, 1]), 1, "-xxx"),
    ),
    cases(
        "a gradient counts if it is negative, and however small it is",
        "absolute values; compare with 0, and with nothing larger: torch.isclose has a tolerance",
        _seen(_Mix([1.0, -2, 0], [0, 1, -2], [0, 0, 1]), 0, "xx-"),
        _seen(_Mix([0.0, 1e-12, 0], [0, 0, 1e-12], [1, 0, 0]), 0, "-x-"),
    ),
    cases(
        "gradients of opposite sign at two pixels, or in two channels, do not cancel",
        "take absolute values first, then sum over channels and pixels",
        _seen(ALTERNATING, 1, "-x-", rand(1, 3, 2, 2, 2)),
    ),
    cases(
        "all that stands at a position counts, each channel and pixel, not only its sum",
        f"{MIXTURE}, not of its sum, which may always be 0",
        _seen(SUM, 2, "--x"),
        _seen(
            _Function(
                "channel 0 of the frame before, 1 of its own, 2 of the next", _shift_channels
            ),
            1,
            "xxx-",
        ),
        _seen(
            _Function("the left half of the frame before, the right of the next", _shift_halves),
            1,
            "x-x-",
        ),
    ),
    cases(
        "it is asked about this clip: what is 0 in it can change, what is multiplied by 0 cannot",
        "the gradient *at the clip*; squares and sizes have no slope at 0, a mixture has",
        _seen(
            _Function("a frame minus the one before", lambda x: x - x.roll(1, 1)),
            1,
            "xx-",
            clip_tensor(1, 1, 1),
        ),
        _seen(
            _Function("a frame times the next", lambda x: x * x.roll(-1, 1)),
            0,
            "-x-",
            clip_tensor(3, 0, 2),
        ),
    ),
    seen_leaves_nothing_behind,
)


TAPS = [
    (torch.tensor([[0.0, 0], [1, 1], [0, 0]]), torch.tensor([[0.5, 0], [0, 1], [-0.5, 0]])),
    (rand(3, 7), rand(3, 7, seed=1)),
]


def step_moves_whole_columns(step_elsewhere: Answer) -> None:
    """the steps of the channels are those from taps to changed, whole columns in another order"""
    for taps, changed in TAPS:
        for seed in range(8):
            got = step_elsewhere(taps, changed, seed)
            hint = "taps + step[:, order], where step = changed - taps: one order for all rows"
            same(kind(got), kind(taps), hint)
            made, step = (sorted((x - taps).t().tolist()) for x in (got, changed))
            same(made, step, hint)


def step_repeats_itself(step_elsewhere: Answer) -> None:
    """the same seed gives the same, and the global random state is left as it was"""
    step_elsewhere.keeps_rng(*TAPS[0], 0)
    first, again = (step_elsewhere(*TAPS[1], 3) for _ in range(2))
    same(again, first, "the order depends on the seed alone")


def step_depends_on_the_seed(step_elsewhere: Answer) -> None:
    """another seed chooses other channels than those of the edit"""
    results = [step_elsewhere(*TAPS[1], seed) for seed in range(8)]
    different = len({str(got.double().round(decimals=4).tolist()) for got in results})
    hint = "a generator that is seeded with `seed` itself"
    require(different > 3, f"different results with the 8 seeds: {different}", hint)


check_step_elsewhere = Check(
    "step_elsewhere", step_moves_whole_columns, step_repeats_itself, step_depends_on_the_seed
)


class _Reads(nn.Module):
    """Two logits: what the frames hold, each times its weight, and 0."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, clips: Tensor) -> Tensor:
        first = clips.mean((2, 3, 4)) @ self.weights
        return torch.stack([first, torch.zeros_like(first)], 1)

    def __repr__(self) -> str:
        return f"(logits: the frames' values times {self.weights.tolist()}, summed, and 0)"


def _falls(network: _Reads, clip: Tensor, label: int) -> Tensor:
    """Work out the falls from the values of the frames alone."""
    values, weights = clip.mean((0, 2, 3, 4)), network.weights.detach()
    shown = [values]
    for t in range(len(values)):
        order = torch.arange(len(values))
        order[t] = t ^ 1
        shown.append(values[order])
    first = torch.stack(shown) @ weights
    scores = torch.stack([first, 0 * first], 1).log_softmax(1)[:, label]
    return scores[0] - scores[1:]


def _occluded(weights: tuple, numbers: tuple, label: int) -> tuple:
    return _Reads(*map(float, weights)).train(label == 1), clip_tensor(*numbers), label


check_occlusion_by_hand = Check(
    "occlusion_by_hand",
    cases(
        "the deleted frame t shows what the other frame of its pair shows, t ^ 1: where both show "
        "the same its importance is 0",
        "without[:, t] = clip[:, t ^ 1]; no black frames",
        _occluded((0, 1), (5, 5), 0),
        by=_falls,
    ),
    cases(
        "it is the log-probability of the label with all frames minus that without frame t alone, "
        "in nats and with its sign; frames 0 and 1 are a pair, 2 and 3, ...",
        "logits.log_softmax(1)[0, label], before minus after; clip.clone() for each frame",
        _occluded((0, 1), (1, 3), 0),
        _occluded((1, 0), (3, 1), 0),
        _occluded((1, 0), (3, 1), 1),
        _occluded((0.1, 0.2, -0.3, 0.4), (1, 2, 4, 8), 0),
        _occluded((0.5, -1, 0.3, 2), (1, -2, 0.1, 0.7), 1),
        by=_falls,
    ),
)
