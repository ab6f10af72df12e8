"""Answers to the exercises of notebook 07: wrong ones under the property they break, right ones."""

import torch


def parameter_by_parameter(mean):
    """Make an answer of the mean of a parameter's gradients, one for each process."""
    return lambda per_rank: [mean(gradients) for gradients in zip(*per_rank, strict=True)]


def known(gradients):
    return [gradient for gradient in gradients if gradient is not None]


def total(gradients, scale=1.0):
    return scale * sum(known(gradients)) if known(gradients) else None


average = parameter_by_parameter(lambda gradients: total(gradients, 1 / len(gradients)))


def gradients_by_loop(per_rank):
    averaged = [None] * len(per_rank[0])
    for gradients in per_rank:
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                part = gradient / len(per_rank)
                averaged[i] = part if averaged[i] is None else averaged[i] + part
    return tuple(averaged)


def shuffled(n, epoch):
    return torch.randperm(n, generator=torch.Generator().manual_seed(epoch))


def share_with(order=lambda n, epoch, rank: shuffled(n, epoch), end=list):
    """Make an answer of an order of the clips; as it stands it is right."""

    def share(num_clips, batch_size, rank, world, epoch):
        clips, steps = order(num_clips, epoch, rank), num_clips // batch_size
        batches = clips[: steps * batch_size].reshape(steps, world, batch_size // world)
        return end(batches[:, rank].tolist())

    return share


share = share_with()


def seeds_everything(n, epoch, rank):
    torch.manual_seed(epoch)
    return torch.randperm(n)


def share_in_halves(num_clips, size, rank, world, epoch):
    steps = num_clips // size
    order = shuffled(num_clips, epoch)[: steps * size]
    return order.reshape(world, steps, size // world)[rank].tolist()


def share_every_nth(num_clips, size, rank, world, epoch):
    steps, part = num_clips // size, size // world
    mine = shuffled(num_clips, epoch + 5)[: steps * size][rank::world]
    return torch.stack([mine[i * part : (i + 1) * part] for i in range(steps)])


def pairs_of(per_rank):
    return [pair for pairs in per_rank for pair in pairs]


def mean(answers):
    answers = list(answers)
    return sum(answers) / len(answers)


def accuracy(per_rank):
    return mean(dict(pairs_of(per_rank)).values())


def accuracy_counts_copies(per_rank):
    return mean(is_right for _, is_right in pairs_of(per_rank))


def accuracy_by_set(per_rank):
    return torch.tensor([is_right for _, is_right in set(pairs_of(per_rank))]).double().mean()


WRONG = {
    "average_gradients": {
        "every parameter gets the mean of its own gradients": [
            parameter_by_parameter(total),
            lambda per_rank: list(per_rank[0]),
            lambda per_rank: (gradient for gradient in average(per_rank)),
        ],
        "a parameter that no process has a gradient for": [
            parameter_by_parameter(
                lambda gradients: (
                    sum(torch.zeros(1) if g is None else g for g in gradients) / len(gradients)
                )
            ),
        ],
        "a process without a gradient for a parameter": [
            parameter_by_parameter(lambda gs: mean(known(gs)) if known(gs) else None),
        ],
        "it runs without an error": [parameter_by_parameter(lambda gs: torch.stack(gs).mean(0))],
    },
    "share": {
        "the same call gives the same result": [share_with(seeds_everything)],
        "every process makes num_clips // batch_size steps": [
            share_with(lambda n, epoch, rank: shuffled(n, epoch + rank)),
            share_with(end=lambda batches: [clip for batch in batches for clip in batch]),
            lambda n, size, rank, world, epoch: share(n, size, 0, world, epoch),
            lambda n, size, rank, world, epoch: share(n, size * world, rank, world, epoch),
            lambda n, size, rank, world, epoch: [
                part.tolist() for part in shuffled(n, epoch)[rank::world].split(size // world)
            ],
        ],
        "every epoch has another order of all clips": [
            share_with(lambda n, epoch, rank: torch.arange(n)),
            share_with(lambda n, epoch, rank: shuffled(n, 0)),
            share_with(lambda n, epoch, rank: shuffled(n, 0).roll(epoch)),
            lambda n, size, rank, world, epoch: share(n // size * size, size, rank, world, epoch),
        ],
        "a step has the same clips on any number": [share_in_halves],
    },
    "accuracy_of_all": {
        "the share of clips that are right": [
            lambda per_rank: accuracy(per_rank[:1]),
            lambda per_rank: 100 * accuracy(per_rank),
            lambda per_rank: sum(dict(pairs_of(per_rank)).values()),
        ],
        "every clip weighs the same": [
            lambda per_rank: mean(accuracy([pairs]) for pairs in per_rank if pairs),
            lambda per_rank: mean(accuracy([pairs]) for pairs in per_rank),
        ],
        "a clip that was evaluated twice counts once": [
            lambda per_rank: accuracy_counts_copies([dict(pairs).items() for pairs in per_rank]),
            lambda per_rank: sum(y for _, y in pairs_of(per_rank)) / len(dict(pairs_of(per_rank))),
        ],
    },
}

RIGHT = {
    "average_gradients": [average, gradients_by_loop],
    "share": [share, share_every_nth],
    "accuracy_of_all": [accuracy, accuracy_by_set],
}
