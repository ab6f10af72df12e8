"""Checks of notebook 07: what several processes must agree on."""

import torch
from torch import Tensor

from blvnet_lab.course.checking import Answer, Check, cases, deterministic
from blvnet_lab.course.inputs import rand
from blvnet_lab.course.verdicts import plain, require, same


def _ones(*numbers: float | None) -> list[Tensor | None]:
    """Make gradients for parameters of one number each."""
    return [None if x is None else torch.tensor([x], dtype=torch.float32) for x in numbers]


EACH = [rand(2, 3, seed=rank) for rank in range(4)]  # one parameter's gradients on four processes
check_average_gradients = Check(
    cases(
        "every parameter gets the mean of its own gradients over the processes, not their sum",
        "go through the parameters (zip(*per_rank) does), add up, divide by the number of "
        "processes; return a list as long as that of a single process",
        *(([_ones(3)], _ones(3)), ([_ones(1), _ones(3)], _ones(2))),
        *(([_ones(1, 7), _ones(3, 1)], _ones(2, 4)), ([[x] for x in EACH], [sum(EACH) / 4])),
    ),
    cases(
        "a process without a gradient for a parameter counts as one with zeros; a parameter that "
        "no process has a gradient for stays None",
        "leave None out of the sum, but divide by the number of all processes; with zeros instead "
        "of None, momentum and weight decay would move the parameter",
        *(([_ones(None), _ones(3), _ones(3)], _ones(2)), ([_ones(None), _ones(None)], [None])),
    ),
)


def _batches(
    share: Answer, num_clips: int, batch_size: int, world: int, *, rank: int = 0, epoch: int = 0
) -> list[list[int]]:
    """Check the number and sizes of a process's batches, and return these."""
    batches = plain(share(num_clips, batch_size, rank, world, epoch))
    hint = "one inner list for each step, of batch_size // world clips; a smaller rest is left out"
    is_list = isinstance(batches, list) and all(isinstance(batch, list) for batch in batches)
    require(is_list, batches, hint)
    sizes = [batch_size // world] * (num_clips // batch_size)
    same([len(batch) for batch in batches], sizes, hint)
    return batches


def share_takes_each_clip_once(share: Answer) -> None:
    """every process makes num_clips // batch_size steps of batch_size // world clips, and no clip
    of those from 0 to num_clips - 1 comes twice
    """
    for sizes in ((4, 2, 1), (4, 2, 2), (12, 4, 2), (24, 12, 3), (10, 4, 2), (7, 4, 4)):
        ranks = [_batches(share, *sizes, rank=rank) for rank in range(sizes[2])]
        seen = [clip for batches in ranks for batch in batches for clip in batch]
        found = " and ".join(f"rank {rank}: {batches}" for rank, batches in enumerate(ranks))
        hint = "one torch.randperm(num_clips), the same for all ranks, each takes another part"
        require(len(set(seen)) == len(seen) and set(seen) <= set(range(sizes[0])), found, hint)


def share_shuffles_each_epoch(share: Answer) -> None:
    """every epoch has another order of all clips: other batches, and others that are left out"""
    epochs = [_batches(share, 10, 4, 1, epoch=epoch) for epoch in range(20)]
    found = f"{epochs[0]} in epoch 0, {epochs[1]} in epoch 1"
    different = {frozenset(map(frozenset, batches)) for batches in epochs}
    hint = "shuffle the clips, not the batches, with a generator whose seed is the epoch"
    require(len(different) > 15, f"{found}; {len(different)} different ones in 20 epochs", hint)
    seen = {clip for batches in epochs for batch in batches for clip in batch}
    hint = "shuffle all clips first, then leave out the end of the shuffled order"
    require(len(seen) == 10, f"clips that never come: {sorted(set(range(10)) - seen)}", hint)


def share_keeps_the_global_batch(share: Answer) -> None:
    """a step has the same clips on any number of processes"""
    alone = sorted(_batches(share, 24, 8, 1, epoch=3)[0])
    for world in (2, 4):
        ranks = [_batches(share, 24, 8, world, rank=rank, epoch=3) for rank in range(world)]
        hint = "cut the order into batches first, then each batch into one part for each process"
        same(sorted(clip for batches in ranks for clip in batches[0]), alone, hint)


check_share = Check(
    deterministic(lambda share: share(4, 2, 0, 1, 0)),
    share_takes_each_clip_once,
    share_shuffles_each_epoch,
    share_keeps_the_global_batch,
)


def _padded(processes: int) -> tuple[list[list[tuple[int, bool]]], float]:
    """Pad 29 clips with copies, as DistributedSampler does; return the share that is right, too."""
    clips = [*range(29), *range(-29 % processes)]
    return [[(i, i % 5 < 2) for i in clips[r::processes]] for r in range(processes)], 12 / 29


check_accuracy_of_all = Check(
    cases(
        "the share of clips that are right, a number from 0 to 1, over all processes; every clip "
        "weighs the same, wherever it was evaluated",
        "divide the right clips by all clips; a mean of means gives more weight to the clips of a "
        "process that has few, and fails where a process has none",
        *(([[(0, True)]], 1), ([[(0, True), (1, False)]], 1 / 2)),
        ([[(0, True), (1, False)], [(2, False), (3, False)]], 1 / 4),
        *(([[(0, True), (2, True), (4, True)], [(1, False)]], 3 / 4), ([[(0, True)], []], 1)),
    ),
    cases(
        "a clip that was evaluated twice counts once, and its number says which it is",
        "a dict from the number of a clip to its answer keeps one of each",
        ([[(0, True), (2, False)], [(1, False), (0, True)]], 1 / 3),
        ([[(0, False), (0, False), (1, True)]], 1 / 2),
        ([[(7, True), (3, False)], [(5, False), (9, True)], [(7, True)]], 2 / 4),
        *map(_padded, (1, 2, 4, 8)),
    ),
)
