"""Checks of notebook 04: pairs, twins, and a TAM that sums over pairs."""

from torch import Tensor

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Check, cases, gradients
from blvnet_lab.course.inputs import clip_tensor, depthwise_conv3d, on_taps, rand, taps_tensor

check_route = Check(
    cases(
        "the first frame of each pair of neighbours goes to the little branch, the second to big",
        "return little, big in this order; clip[:, start::2] takes every second frame of axis 1",
        *((clip_tensor(*range(1, 1 + n)),) for n in (2, 4, 8, 18)),
        (rand(3, 4, 2, 5, 6),),
    ),
    by=solutions.route,
)

check_to_both = Check(
    cases(
        "the two frames of a pair stand next to each other: 1, 1, 2, 2, ...; only the axis of time "
        "is doubled, and clips stay apart",
        "repeat_interleave instead of repeat or cat, with dim=1",
        *((clip_tensor(*range(1, 1 + n)),) for n in (2, 3, 9)),
        (rand(2, 3, 2, 4, 5),),
    ),
    by=solutions.to_both,
)


def _on_twins(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute equation 3 on pairs written out as frames: little and big, (B, P, ...)."""
    frames = depthwise_conv3d(x.repeat_interleave(2, dim=1), taps)
    return frames[:, 0::2].relu(), frames[:, 1::2].relu()


check_pair_taps = Check(
    cases(
        "prev and next of a frame reach the frame's twin in the same pair, or the neighbouring "
        "pair; curr stays; taps that reach the same pair are summed, with their signs, for each "
        "channel: (2, C)",
        "frames 2k and 2k + 1 hold the map of pair k: which pair does each tap look into? The ReLU "
        "comes later; torch.stack two rows",
        *((taps_tensor(*taps),) for taps in ((1, 0, 0), (0, 0, 1), (0, 1, 0), (1, 10, 100))),
        *((taps_tensor(-1, -10, -100),), (rand(3, 5),)),
    ),
    gradients(taps=rand(3, 5)),
    by=solutions.pair_taps,
)

check_pair_tam = Check(
    cases(
        "little gets its own pair and the one before, big its own and the next, zeros at the ends",
        "shift(x, -1) is the pair before; curr is in both sums; for the weights see pair_taps",
        *on_taps((1, 2, 3), (0, 1, 0), (1, 0, 0), (0, 0, 1), (1, 10, 100)),
    ),
    cases(
        "a single ReLU comes last in both branches; before it terms may be negative and cancel",
        "one ReLU around each sum, none around x, the taps or a term of the sum",
        *on_taps((1, 2, 3), (0, -1, 0), (1, 1, -1)),
        *on_taps((-1, 2, -3), (0, -1, 0)),
    ),
    cases(
        "every channel has its own taps, and clips stay apart",
        "rows of taps have shape (C,): [:, None, None] makes them fit (C, H, W)",
        (rand(2, 9, 4, 5, 6), rand(3, 4)),  # no two axes are the same
    ),
    gradients(x=rand(2, 9, 4, 5, 6), taps=rand(3, 4)),
    by=_on_twins,
)
