"""Checks of notebook 09: where a network looks in time, and controls for saying so."""

import torch
from torch import Tensor

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Answer, Check, cases, deterministic, never_seeds
from blvnet_lab.course.inputs import ToyNetwork, clip_tensor, rand, taps_tensor
from blvnet_lab.course.verdicts import kind, require, same


def _centres(*examples: tuple) -> list[tuple]:
    return [(taps_tensor(*taps), torch.tensor([float(centre)])) for taps, centre in examples]


check_temporal_centre = Check(
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
        "every channel has its own centre; without any taps it is at 0, not NaN",
        "sum over the taps, which are axis 0; 0 / 0 is NaN: .clamp(min=1e-12), nothing larger",
        *_centres(((0, 0, 0), 0)),
        (torch.tensor([[0.0, 8, 0], [0, 0, 0], [2, 0, 0]]), torch.tensor([1.0, -1, 0])),
    ),
)


def _mix(*rows: list[float]) -> ToyNetwork:
    """Make position p a sum of frames weighted by row p: (B, T, C, H, W) to (B, P, C, H, W)."""

    def mix(x: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("pt,btchw->bpchw", weights, x)

    return ToyNetwork(f"each position is a sum of frames, times {rows}", mix, torch.tensor(rows))


def _halves(x: Tensor) -> Tensor:
    return torch.cat([x.roll(1, 1)[..., :1], x.roll(-1, 1)[..., 1:]], -1)


CLIP, LONG = rand(1, 3, 3, 2, 2), rand(1, 4, 3, 2, 2)
SIGNS = torch.tensor([[1.0, -1], [-1, 1]])
SIGNED = ToyNetwork("pixels with alternating signs, summed", lambda x: (x * SIGNS).sum((3, 4)))
COLOURS = ToyNetwork("channel 0 minus channel 1", lambda x: x[:, :, 0] - x[:, :, 1])
CENTRED = ToyNetwork("a frame minus its mean", lambda x: x - x.mean((3, 4), keepdim=True))
HALVES = ToyNetwork("left half of the frame before, right half of the next", _halves)
DIFFERENCE = ToyNetwork("a frame minus the one before", lambda x: x - x.roll(1, 1))
PRODUCT = ToyNetwork("a frame times the next", lambda x: x * x.roll(-1, 1))
MIXTURE = "the gradient of a random mixture of all that stands at [:, position]"
check_frames_seen = Check(
    cases(
        "True or False for each frame: it is seen if it moves what stands at this one position",
        "the gradient of network(clip)[:, position] with respect to clip.detach().clone(), by "
        "torch.autograd.grad; compare its sizes with 0",
        (_mix([1.0, 0, 0], [0, 1, 0], [0, 0, 1]), CLIP, 1),
        (_mix([1.0, 1, 0], [1, 1, 1], [0, 1, 1]).eval(), CLIP, 0),
        (_mix([1.0, 1, 1, 0], [0, 1, 1, 1]), LONG, 1),
    ),
    cases(
        "a gradient counts if it is negative, and however small it is; gradients of opposite sign "
        "at two pixels, or in two channels, do not cancel",
        "absolute values first, then sum over channels and pixels; compare with 0, and with "
        "nothing larger: torch.isclose has a tolerance",
        (_mix([1.0, -2, 0], [0, 1, -2], [0, 0, 1]), CLIP, 0),
        (_mix([0.0, 1e-12, 0], [0, 0, 1e-12], [1, 0, 0]), CLIP, 0),
        *((SIGNED, CLIP, 1), (COLOURS, CLIP[:, :, :2], 1)),
    ),
    cases(
        "all that stands at a position counts, each channel and pixel, not only its sum",
        f"{MIXTURE}, not of its sum, which may always be 0",
        *((CENTRED, CLIP, 2), (HALVES, LONG, 1)),
    ),
    cases(
        "it is asked about this clip: what is 0 in it can change, what is multiplied by 0 cannot",
        "the gradient *at the clip*; squares and sizes have no slope at 0, a mixture has",
        *((DIFFERENCE, clip_tensor(1, 1, 1), 1), (PRODUCT, clip_tensor(3, 0, 2), 0)),
    ),
    never_seeds(lambda seen: seen(_mix([1.0, 0.0]), rand(1, 2, 1, 2, 2), 0)),
    by=lambda *given: solutions.frames_seen(*given).tolist(),
)

TAPS = [
    (torch.tensor([[0.0, 0], [1, 1], [0, 0]]), torch.tensor([[0.5, 0], [0, 1], [-0.5, 0]])),
    (rand(3, 7), rand(3, 7, seed=1)),
]


def step_moves_whole_columns(step_elsewhere: Answer) -> None:
    """the steps of the channels are those from taps to changed, whole columns in another order"""
    for taps, changed in TAPS:
        got = step_elsewhere(taps, changed, 0)
        hint = "taps + step[:, order], where step = changed - taps: one order for all rows"
        same(kind(got), kind(taps), hint)
        made, step = (sorted((x - taps).t().tolist()) for x in (got, changed))
        same(made, step, hint)


def step_depends_on_the_seed(step_elsewhere: Answer) -> None:
    """another seed chooses other channels than those of the edit"""
    results = [step_elsewhere(*TAPS[1], seed) for seed in range(8)]
    different = len({str(got.double().round(decimals=4).tolist()) for got in results})
    hint = "a generator that is seeded with `seed` itself"
    require(different > 3, f"different results with the 8 seeds: {different}", hint)


check_step_elsewhere = Check(
    step_moves_whole_columns,
    deterministic(lambda step_elsewhere: step_elsewhere(*TAPS[1], 3)),
    step_depends_on_the_seed,
)


def _occluded(weights: tuple, numbers: tuple, label: int) -> tuple:
    """Make an example with a network that weighs frames."""

    def logits(clips: Tensor, weights: Tensor) -> Tensor:
        first = clips.mean((2, 3, 4)) @ weights
        return torch.stack([first, torch.zeros_like(first)], 1)

    what = f"(logits: the frames' values times {list(weights)}, summed, and 0)"
    network = ToyNetwork(what, logits, torch.tensor(weights, dtype=torch.float32))
    return network.train(label == 1), clip_tensor(*numbers), label


check_occlusion_by_hand = Check(
    cases(
        "the deleted frame t shows what the other frame of its pair shows, t ^ 1: where both show "
        "the same its importance is 0",
        "without[:, t] = clip[:, t ^ 1]; no black frames",
        _occluded((0, 1), (5, 5), 0),
    ),
    cases(
        "it is the log-probability of the label with all frames minus that without frame t alone, "
        "in nats and with its sign; frames 0 and 1 are a pair, 2 and 3, ...",
        "logits.log_softmax(1)[0, label], before minus after; clip.clone() for each frame",
        *(_occluded((1, 0), (3, 1), label) for label in (0, 1)),
        _occluded((0.5, -1, 0.3, 2), (1, -2, 0.1, 0.7), 1),
    ),
    by=solutions.occlusion_by_hand,
)
