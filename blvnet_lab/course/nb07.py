"""The checks of notebook 07: what several processes must agree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
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
)

Gradients = Sequence[Tensor | None]  # one for each parameter


@check
def check_average_gradients(average_gradients: Callable[[Sequence[Gradients]], Gradients]) -> str:
    """Checks `average_gradients(per_rank)`: a list of gradients for each process, to one list."""
    one, three, five, seven = (torch.tensor([x], dtype=torch.float32) for x in (1.0, 3, 5, 7))
    unused = "PyTorch's optimizers skip a parameter whose gradient is None; with zeros, momentum "
    unused += "and weight decay would move it"
    cases = [
        ([[three]], [three], "a single process keeps its gradients", "a mean over one process"),
        (
            [[one], [three]],
            [torch.tensor([2.0])],
            "the gradients of the processes are averaged, not summed",
            "the loss is a mean over clips: divide the sum by the number of processes",
        ),
        (
            [[one, seven], [three, one]],
            [torch.tensor([2.0]), torch.tensor([4.0])],
            "every parameter gets the mean of its own gradients",
            "go through the parameters (zip(*per_rank) does), and average over the processes",
        ),
        (
            [[five, None], [one, None]],
            [three, None],
            "a parameter that no process has a gradient for stays None",
            unused,
        ),
        (
            [[None], [three], [three]],
            [torch.tensor([2.0])],
            "a process without a gradient for a parameter counts as one with zeros",
            "leave None out of the sum, but divide by the number of all processes",
        ),
    ]
    for given, wanted, broken, hint in cases:
        of = f"per_rank = {told(given)}"
        same(_averaged(average_gradients, given, of=of), wanted, broken, of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    shapes = ((8, 3), (4, 3), (4,), (2, 4), (2,))  # examples, and two layers
    x, *weights = (torch.randn(s, dtype=torch.float32, generator=generator) for s in shapes)
    y = torch.arange(8) % 2

    def gradients(rows: slice) -> list[Tensor]:
        w1, b1, w2, b2 = own = [weight.requires_grad_() for weight in weights]
        logits = F.linear(F.linear(x[rows], w1, b1).relu(), w2, b2)
        return list(torch.autograd.grad(F.cross_entropy(logits, y[rows]), own))

    whole = gradients(slice(None))
    for world in (2, 4):
        of = f"a network of two layers, 8 examples on {world} processes"
        per_rank = [gradients(slice(i * 8 // world, (i + 1) * 8 // world)) for i in range(world)]
        got = _averaged(average_gradients, per_rank, of=of)
        for mine, its in zip(got, whole, strict=True):
            broken = "the step is that of one process with the whole batch"
            hint = "the mean over processes of the gradients of one and the same parameter"
            same(mine, its, broken, of=of, hint=hint)
    return "1 to 4 processes, None gradients, and a network's step against that of one process"


def _averaged(average_gradients: Callable, per_rank: Sequence[Gradients], *, of: str) -> Gradients:
    got = ask(average_gradients, per_rank, of=of)
    is_list = isinstance(got, (list, tuple))
    require(
        is_list and len(got) == len(per_rank[0]),
        "it returns a list with one gradient for each parameter",
        of=of,
        found=f"{len(got)} gradients instead of {len(per_rank[0])}" if is_list else kind(got),
        hint="a list as long as that of a single process; list(...) makes one of a generator",
    )
    return got


Share = Callable[[int, int, int, int, int], Sequence[Sequence[int]]]


@check
def check_share(share: Share) -> str:
    """Checks `share(num_clips, batch_size, rank, world, epoch)`: a process's batches of clips."""
    for sizes in ((4, 2, 1), (4, 2, 2), (12, 4, 2), (24, 12, 3), (10, 4, 2), (7, 4, 4)):
        num_clips, batch_size, world = sizes
        of = f"num_clips = {num_clips}, batch_size = {batch_size}, world = {world}, epoch = 0"
        ranks = [_batches(share, *sizes, rank=rank, epoch=0, of=of) for rank in range(world)]
        again = [_batches(share, *sizes, rank=rank, epoch=0, of=of) for rank in range(world)]
        require(
            ranks == again,
            "asked again, it gives the same: all processes must draw the same order",
            of=of,
            found=f"first {ranks}, then {again}",
            hint="a generator that is seeded with the epoch: torch.Generator().manual_seed(epoch)",
        )
        for batches in ranks:
            same(
                [len(batch) for batch in batches],
                [batch_size // world] * (num_clips // batch_size),
                "every process makes num_clips // batch_size steps of batch_size // world clips",
                of=of,
                hint="batch_size is that of all processes together; a smaller rest is left out",
            )
        seen = [clip for batches in ranks for batch in batches for clip in batch]
        require(
            len(set(seen)) == len(seen),
            "no clip is seen twice in an epoch",
            of=of,
            found=" and ".join(f"rank {rank}: {batches}" for rank, batches in enumerate(ranks)),
            hint="draw one order, the same for all ranks, and let each take another part of it",
        )
        require(
            set(seen) <= set(range(num_clips)),
            "the clips are those from 0 to num_clips - 1",
            of=of,
            found=told(sorted(seen)),
            hint="torch.randperm(num_clips) has each of them once",
        )

    sizes, of = (24, 4, 1), "num_clips = 24, batch_size = 4, world = 1, epochs 0 and 1"
    epochs = [_batches(share, *sizes, rank=0, epoch=epoch, of=of) for epoch in range(40)]
    first, second = epochs[:2]
    for broken, holds, hint in (
        (
            "the clips are shuffled",
            [clip for batch in first for clip in batch] != list(range(24)),
            "torch.randperm(num_clips, generator=generator)",
        ),
        (
            "every epoch has another order",
            first != second,
            "the seed of the generator depends on the epoch",
        ),
        (
            "clips do not always come with the same others",
            {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second},
            "shuffle the clips, not the batches",
        ),
    ):
        require(holds, broken, of=of, found=f"{first}, then {second}", hint=hint)
    different = len(set(map(str, epochs)))
    require(
        different == 40,
        "every epoch has another order",
        of=of.replace("epochs 0 and 1", "epochs 0 to 39"),
        found=f"{different} different orders in 40 epochs",
        hint="the epoch itself is the seed, or is added to it",
    )

    of = "num_clips = 10, batch_size = 4, world = 1, epochs 0 to 39"
    epochs = [_batches(share, 10, 4, 1, rank=0, epoch=epoch, of=of) for epoch in range(40)]
    seen = {clip for batches in epochs for batch in batches for clip in batch}
    require(
        len(seen) == 10,
        "it is not the same clips that are left out in every epoch",
        of=of,
        found=f"clips that never come: {sorted(set(range(10)) - seen)}",
        hint="shuffle all clips first, then leave out the end of the shuffled order",
    )
    of = "num_clips = 24, batch_size = 8, epoch = 3, on 1, 2 and 4 processes"
    steps = []
    for world in (1, 2, 4):
        ranks = [_batches(share, 24, 8, world, rank=rank, epoch=3, of=of) for rank in range(world)]
        together = zip(*ranks, strict=True)
        steps.append([sorted(clip for part in parts for clip in part) for parts in together])
    require(
        steps[0] == steps[1] == steps[2],
        "a step has the same clips on any number of processes",
        of=of,
        found=f"first step: {', then '.join(str(one[0]) for one in steps)}",
        hint="cut the order into batches first, then each batch into one part for each process",
    )
    return "1 to 4 processes: all clips, none twice, equal steps, new epochs, the same global batch"


def _batches(
    share: Share, num_clips: int, batch_size: int, world: int, *, rank: int, epoch: int, of: str
) -> list[list[int]]:
    before = state_of_chance()
    got = ask(share, num_clips, batch_size, rank, world, epoch, of=of)
    broken = "the global random state is left as it was"
    hint = "give torch.randperm a torch.Generator of its own"
    require_chance_kept(before, broken, of=of, hint=hint)
    got = plain(got)
    require(
        isinstance(got, list)
        and all(isinstance(batch, list) for batch in got)
        and all(type(clip) is int for batch in got for clip in batch),
        "it returns a list of batches, each a list of the numbers of clips",
        of=of,
        found=told(got) if isinstance(got, list) else kind(got),
        hint="one inner list for each step: order.reshape(steps, ...), and .tolist() at the end",
    )
    return got


@check
def check_accuracy_of_all(
    accuracy_of_all: Callable[[Sequence[Sequence[tuple[int, bool]]]], float],
) -> str:
    """Checks `accuracy_of_all(per_rank)`: pairs (clip, is_right) of each process, to a share."""
    dividing = "the share of clips that are right: right ones divided by all of them"
    once = "a clip that was judged twice counts once"
    cases: list[tuple[list[list[tuple[int, bool]]], float, str, str]] = [
        ([[(0, True)]], 1, dividing, "a number from 0 to 1"),
        ([[(0, True), (1, False)]], 1 / 2, dividing, "a number from 0 to 1"),
        (
            [[(0, True), (1, False)], [(2, False), (3, False)]],
            1 / 4,
            "the clips of all processes count",
            "go through all processes, not only the first one",
        ),
        (
            [[(0, True), (2, True), (4, True)], [(1, False)]],
            3 / 4,
            "every clip weighs the same, wherever it was judged",
            "a mean of means gives more weight to the clips of a process that has few",
        ),
        (
            [[(0, True)], []],
            1,
            "a process without clips does not count",
            "add up clips over the processes before you divide",
        ),
        (
            [[(0, True), (2, False)], [(1, False), (0, True)]],
            1 / 3,
            once,
            "the number of the clip says whether you have met it before: a dict keeps one of each",
        ),
        ([[(0, False), (0, False), (1, True)]], 1 / 2, once, "also within one process"),
        (
            [[(7, True), (3, False)], [(5, False), (9, True)], [(7, True)]],
            2 / 4,
            "which clips were copied is told by their numbers, not by their place",
            "the number of the clip says whether you have met it before",
        ),
    ]
    for given, wanted, broken, hint in cases:
        of = f"per_rank = {given}"
        same(_accuracy(accuracy_of_all, given, of=of), wanted, broken, of=of, hint=hint)

    right = (torch.rand(29, generator=torch.Generator().manual_seed(0)) < 0.4).tolist()
    for world in (1, 2, 4, 8):
        padded = [*range(29), *range(-29 % world)]  # as PyTorch's DistributedSampler fills up
        given = [[(i, right[i]) for i in padded[rank::world]] for rank in range(world)]
        of = f"29 clips on {world} processes, filled up with copies"
        broken = "the figure does not depend on the number of processes"
        hint = "count every clip once, over all processes"
        got = _accuracy(accuracy_of_all, given, of=of)
        same(got, sum(right) / 29, broken, of=of, hint=hint)
    return "unequal shares, a process without clips, copies, and 29 clips on 1 to 8 processes"


def _accuracy(accuracy_of_all: Callable, per_rank: Sequence[Any], *, of: str) -> Any:
    got = ask(accuracy_of_all, per_rank, of=of)
    return float(got) if isinstance(got, Fraction) else got
