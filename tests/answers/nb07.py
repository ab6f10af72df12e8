"""Answers to the exercises of notebook 07: (check, answer, words of the property it breaks)."""

import random
from fractions import Fraction

import numpy as np
import torch

from blvnet_lab.course.exercises import check_accuracy_of_all, check_average_gradients, check_share


def gradients_summed(per_rank):
    return [total(gradients) for gradients in zip(*per_rank, strict=True)]


def gradients_of_those_that_have_one(per_rank):
    averaged = []
    for gradients in zip(*per_rank, strict=True):
        known = [gradient for gradient in gradients if gradient is not None]
        averaged.append(sum(known) / len(known) if known else None)
    return averaged


def gradients_of_rank_0(per_rank):
    return list(per_rank[0])


def gradients_all_in_one(per_rank):
    mean = torch.stack([g for gradients in per_rank for g in gradients if g is not None]).mean(0)
    return [mean for _ in per_rank[0]]


def gradients_over_parameters(per_rank):
    return [sum(gradients) / len(gradients) for gradients in per_rank]


def gradients_forget_none(per_rank):
    return [torch.stack(gradients).mean(0) for gradients in zip(*per_rank, strict=True)]


def gradients_of_all_elements(per_rank):
    def mean(gradients):
        known = [g for g in gradients if g is not None]
        return sum(g.mean() * torch.ones_like(g) for g in known) / len(gradients) if known else None

    return [mean(gradients) for gradients in zip(*per_rank, strict=True)]


def gradients_none_to_zero(per_rank):
    zeros = torch.zeros(1, dtype=torch.float64)
    filled = [[zeros if g is None else g for g in gradients] for gradients in per_rank]
    return [sum(gradients) / len(gradients) for gradients in zip(*filled, strict=True)]


def gradients_in_place(per_rank):
    for gradients in zip(*per_rank, strict=True):
        for other in gradients[1:]:
            gradients[0].add_(other)
        gradients[0].div_(len(gradients))
    return per_rank[0]


def gradients_halved(per_rank):
    scale = 1 / min(2, len(per_rank))
    return [total(gradients, scale) for gradients in zip(*per_rank, strict=True)]


def gradients_without_return(per_rank):
    [total(gradients) for gradients in zip(*per_rank, strict=True)]


def gradients_one_by_one(per_rank):
    yield from gradients_by_loop(per_rank)


def gradients_by_number(per_rank):
    return dict(enumerate(gradients_by_loop(per_rank)))


def total(gradients, scale=1.0):
    known = [gradient for gradient in gradients if gradient is not None]
    return scale * sum(known) if known else None


def gradients_by_loop(per_rank):
    averaged = [None] * len(per_rank[0])
    for gradients in per_rank:
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                part = gradient / len(per_rank)
                averaged[i] = part if averaged[i] is None else averaged[i] + part
    return averaged


def gradients_stacked(per_rank):
    def mean(gradients):
        like = next((g for g in gradients if g is not None), None)
        if like is None:
            return None
        return torch.stack([torch.zeros_like(like) if g is None else g for g in gradients]).mean(0)

    return tuple(mean(gradients) for gradients in zip(*per_rank, strict=True))


def order_of(num_clips, epoch):
    return torch.randperm(num_clips, generator=torch.Generator().manual_seed(epoch))


def share_cut(order, batch_size, rank, world):
    """The batches of a rank from an order of clips: a right way to cut."""
    steps = len(order) // batch_size
    batches = order[: steps * batch_size].reshape(steps, world, batch_size // world)
    return batches[:, rank].tolist()


def share_by_own_seed(num_clips, batch_size, rank, world, epoch):
    return share_cut(order_of(num_clips, epoch + rank), batch_size, rank, world)


def share_of_nobody(num_clips, batch_size, rank, world, epoch):
    return share_cut(order_of(num_clips, epoch), batch_size, 0, world)


def share_unseeded(num_clips, batch_size, rank, world, epoch):
    generator = torch.Generator()
    generator.seed()
    return share_cut(torch.randperm(num_clips, generator=generator), batch_size, rank, world)


def share_seeds_everything(num_clips, batch_size, rank, world, epoch):
    torch.manual_seed(epoch)
    return share_cut(torch.randperm(num_clips), batch_size, rank, world)


def share_seeds_python(num_clips, batch_size, rank, world, epoch):
    random.seed(epoch)
    order = random.sample(range(num_clips), num_clips)
    return share_cut(torch.tensor(order), batch_size, rank, world)


def share_same_epoch(num_clips, batch_size, rank, world, epoch):
    return share_cut(order_of(num_clips, 0), batch_size, rank, world)


def share_turn_about(num_clips, batch_size, rank, world, epoch):
    return share_cut(order_of(num_clips, epoch % 2), batch_size, rank, world)


def share_in_order(num_clips, batch_size, rank, world, epoch):
    return share_cut(torch.arange(num_clips), batch_size, rank, world)


def share_shuffles_batches(num_clips, batch_size, rank, world, epoch):
    steps = num_clips // batch_size
    batches = torch.arange(steps * batch_size).reshape(steps, batch_size)
    return share_cut(batches[order_of(steps, epoch)].flatten(), batch_size, rank, world)


def share_batch_for_each(num_clips, batch_size, rank, world, epoch):
    return share_cut(order_of(num_clips, epoch), batch_size * world, rank, world)


def share_fills_up(num_clips, batch_size, rank, world, epoch):
    order = order_of(num_clips, epoch)
    order = torch.cat([order, order[: -num_clips % batch_size]])
    return share_cut(order, batch_size, rank, world)


def share_keeps_the_rest(num_clips, batch_size, rank, world, epoch):
    mine = order_of(num_clips, epoch)[rank::world]
    return [part.tolist() for part in mine.split(batch_size // world)]


def share_leaves_out_the_last(num_clips, batch_size, rank, world, epoch):
    whole = num_clips // batch_size * batch_size
    return share_cut(order_of(whole, epoch), batch_size, rank, world)


def share_from_one(num_clips, batch_size, rank, world, epoch):
    return share_cut(order_of(num_clips, epoch) + 1, batch_size, rank, world)


def share_in_halves(num_clips, batch_size, rank, world, epoch):
    steps = num_clips // batch_size
    order = order_of(num_clips, epoch)[: steps * batch_size]
    return order.reshape(world, steps, batch_size // world)[rank].tolist()


def share_flat(num_clips, batch_size, rank, world, epoch):
    return order_of(num_clips, epoch)[rank::world].tolist()


def share_every_nth(num_clips, batch_size, rank, world, epoch):
    steps, part = num_clips // batch_size, batch_size // world
    mine = order_of(num_clips, epoch)[: steps * batch_size][rank::world]
    return [mine[i * part : (i + 1) * part].tolist() for i in range(steps)]


def share_by_numpy(num_clips, batch_size, rank, world, epoch):
    order = np.random.default_rng(epoch).permutation(num_clips)
    part = batch_size // world
    starts = range(0, num_clips - batch_size + 1, batch_size)
    return [order[start + rank * part : start + (rank + 1) * part] for start in starts]


def share_by_tensor(num_clips, batch_size, rank, world, epoch):
    return torch.tensor(share_every_nth(num_clips, batch_size, rank, world, epoch + 5))


def accuracy_mean_of_means(per_rank):
    means = [sum(is_right for _, is_right in pairs) / len(pairs) for pairs in per_rank if pairs]
    return sum(means) / len(means)


def accuracy_counts_copies(per_rank):
    answers = [is_right for pairs in per_rank for _, is_right in pairs]
    return sum(answers) / len(answers)


def accuracy_of_rank_0(per_rank):
    return accuracy_counts_copies(per_rank[:1])


def accuracy_of_equal_shares(per_rank):
    right = sum(is_right for pairs in per_rank for _, is_right in pairs)
    return right / (len(per_rank) * len(per_rank[0]))


def accuracy_in_percent(per_rank):
    return 100 * accuracy_by_dict(per_rank)


def accuracy_counts_right_ones(per_rank):
    return sum(dict(pair for pairs in per_rank for pair in pairs).values())


def accuracy_copies_still_right(per_rank):
    clips = {clip for pairs in per_rank for clip, _ in pairs}
    return sum(is_right for pairs in per_rank for _, is_right in pairs) / len(clips)


def accuracy_once_in_each_rank(per_rank):
    return accuracy_counts_copies([list(dict(pairs).items()) for pairs in per_rank])


def accuracy_cuts_the_end(per_rank):
    answers = [pair for pairs in per_rank for pair in pairs]
    clips = 1 + max(clip for clip, _ in answers)
    return sum(is_right for _, is_right in answers[:clips]) / min(clips, len(answers))


def accuracy_divides_by_nothing(per_rank):
    return sum(sum(dict(pairs).values()) / len(pairs) for pairs in per_rank) / len(per_rank)


def accuracy_with_an_axis(per_rank):
    return torch.tensor([accuracy_by_dict(per_rank)])


def accuracy_by_dict(per_rank):
    judged = {}
    for pairs in per_rank:
        judged.update(pairs)
    return sum(judged.values()) / len(judged)


def accuracy_as_fraction(per_rank):
    judged = {clip: is_right for pairs in per_rank for clip, is_right in pairs}
    return Fraction(sum(judged.values()), len(judged))


def accuracy_by_set(per_rank):
    judged = {pair for pairs in per_rank for pair in pairs}
    return torch.tensor([is_right for _, is_right in judged]).double().mean()


WRONG = [
    (check_average_gradients, gradients_summed, "averaged, not summed"),
    (check_average_gradients, gradients_of_those_that_have_one, "counts as one with zeros"),
    (check_average_gradients, gradients_of_rank_0, "averaged, not summed"),
    (check_average_gradients, gradients_all_in_one, "the mean of its own gradients"),
    (check_average_gradients, gradients_over_parameters, "one gradient for each parameter"),
    (check_average_gradients, gradients_forget_none, "runs without an error"),
    (check_average_gradients, gradients_of_all_elements, "one process with the whole batch"),
    (check_average_gradients, gradients_none_to_zero, "stays None"),
    (check_average_gradients, gradients_in_place, "left as it was"),
    (check_average_gradients, gradients_halved, "counts as one with zeros"),
    (check_average_gradients, gradients_without_return, "it returns something"),
    (check_average_gradients, gradients_one_by_one, "it returns a list"),
    (check_average_gradients, gradients_by_number, "it returns a list"),
    (check_share, share_by_own_seed, "no clip is seen twice"),
    (check_share, share_of_nobody, "no clip is seen twice"),
    (check_share, share_unseeded, "asked again, it gives the same"),
    (check_share, share_seeds_everything, "global random state"),
    (check_share, share_seeds_python, "global random state"),
    (check_share, share_same_epoch, "every epoch has another order"),
    (check_share, share_turn_about, "every epoch has another order"),
    (check_share, share_in_order, "the clips are shuffled"),
    (check_share, share_shuffles_batches, "do not always come with the same others"),
    (check_share, share_batch_for_each, "steps of batch_size // world clips"),
    (check_share, share_fills_up, "steps of batch_size // world clips"),
    (check_share, share_keeps_the_rest, "steps of batch_size // world clips"),
    (check_share, share_leaves_out_the_last, "not the same clips that are left out"),
    (check_share, share_from_one, "from 0 to num_clips - 1"),
    (check_share, share_in_halves, "the same clips on any number of processes"),
    (check_share, share_flat, "a list of batches"),
    (check_accuracy_of_all, accuracy_mean_of_means, "every clip weighs the same"),
    (check_accuracy_of_all, accuracy_counts_copies, "judged twice counts once"),
    (check_accuracy_of_all, accuracy_of_rank_0, "the clips of all processes count"),
    (check_accuracy_of_all, accuracy_of_equal_shares, "every clip weighs the same"),
    (check_accuracy_of_all, accuracy_in_percent, "the share of clips that are right"),
    (check_accuracy_of_all, accuracy_counts_right_ones, "the share of clips that are right"),
    (check_accuracy_of_all, accuracy_copies_still_right, "judged twice counts once"),
    (check_accuracy_of_all, accuracy_once_in_each_rank, "judged twice counts once"),
    (check_accuracy_of_all, accuracy_cuts_the_end, "judged twice counts once"),
    (check_accuracy_of_all, accuracy_with_an_axis, "the share of clips that are right"),
    (check_accuracy_of_all, accuracy_divides_by_nothing, "every clip weighs the same"),
]

RIGHT = [
    (check_average_gradients, gradients_by_loop),
    (check_average_gradients, gradients_stacked),
    (check_share, share_every_nth),
    (check_share, share_by_numpy),
    (check_share, share_by_tensor),
    (check_accuracy_of_all, accuracy_by_dict),
    (check_accuracy_of_all, accuracy_by_set),
    (check_accuracy_of_all, accuracy_as_fraction),
]
