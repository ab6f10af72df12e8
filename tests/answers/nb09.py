"""Answers to the exercises of notebook 09: wrong ones under the property they break, right ones."""

import numpy as np
import torch


def offsets(taps):
    return torch.arange(len(taps)).to(taps)[:, None] - len(taps) // 2


def centre(taps, first=0, least=1e-12):
    sizes = taps.abs()
    return ((offsets(taps) + first) * sizes).sum(0) / sizes.sum(0).clamp(min=least)


def centre_by_loop(taps):
    centres = []
    for column in taps.t().tolist():
        total = sum(abs(weight) for weight in column)
        moment = sum((i - len(column) // 2) * abs(weight) for i, weight in enumerate(column))
        centres.append(moment / total if total else 0.0)
    return torch.tensor(centres)


def mixture(maps):
    return (maps * torch.rand_like(maps)).sum()


def gradient(network, clip, position, number=mixture):
    clip = clip.detach().clone().requires_grad_()
    return torch.autograd.grad(number(network(clip)[:, position]), clip)[0]


def seen_with(number=mixture, seen=lambda gradient: gradient.abs().sum((0, 2, 3, 4)) > 0):
    """Make an answer of a number of what stands at the position, and a look at its gradient."""
    return lambda *given: seen(gradient(*given, number))


seen = seen_with()


def seen_above(least):
    return seen_with(seen=lambda gradient: gradient.abs().sum((0, 2, 3, 4)) > least)


def seen_at(other):
    return lambda network, clip, position: seen(network, other(clip), position)


@torch.no_grad()
def seen_by_change(network, clip, position):
    before, found = network(clip)[:, position], []
    for t in range(clip.shape[1]):
        other = clip.clone()
        other[:, t] += torch.randn_like(other[:, t])
        found.append(not torch.equal(network(other)[:, position], before))
    return found


def order(taps, seed):
    return torch.randperm(taps.shape[1], generator=torch.Generator().manual_seed(seed))


def step(taps, changed, seed):
    return taps + (changed - taps)[:, order(taps, seed)]


def step_seeds_everything(taps, changed, seed):
    torch.manual_seed(seed)
    return taps + (changed - taps)[:, torch.randperm(taps.shape[1])]


def step_by_numpy(taps, changed, seed):
    moved = np.random.default_rng(seed).permutation((changed - taps).numpy(), axis=1)
    return taps + torch.from_numpy(moved)


def log_probability(logits):
    return logits.log_softmax(1)


def show(clip, t, frame):
    without = clip.clone()
    without[:, t] = frame
    return without


def occlusion_with(shown=lambda clip, t: show(clip, t, clip[:, t ^ 1]), score=log_probability):
    """Make an answer of what is shown where frame t is deleted, and a score of logits."""

    def occlusion_by_hand(network, clip, label):
        clips = [clip, *(shown(clip, t) for t in range(clip.shape[1]))]
        whole, *without = [score(network(x))[0, label] for x in clips]
        return whole - torch.stack(without)

    return occlusion_by_hand


occlusion = occlusion_with()


def then(change):
    return lambda *given: change(occlusion(*given))


def of_network(change):
    return lambda network, clip, label: occlusion(change(network), clip, label)


def occlusion_adds_up(network, clip, label, copy=torch.clone):
    whole, shown, falls = network(clip).log_softmax(1)[0, label], copy(clip), []
    for t in range(clip.shape[1]):
        shown[:, t] = clip[:, t ^ 1]
        falls.append(whole - network(shown).log_softmax(1)[0, label])
    return torch.stack(falls)


@torch.no_grad()
def occlusion_in_one_batch(network, clip, label):
    num_frames = clip.shape[1]
    shown = clip.repeat(num_frames, 1, 1, 1, 1)
    for t in range(num_frames):
        shown[t, t] = clip[0, t + 1 if t % 2 == 0 else t - 1]
    scores = network(torch.cat([clip, shown])).log_softmax(1)[:, label]
    return scores[0] - scores[1:]


WRONG = {
    "temporal_centre": {
        "next lies one frame ahead": [
            lambda taps: centre(taps, first=1),
            lambda taps: centre(taps.flip(0)),
            lambda taps: taps.abs().argmax(0) - len(taps) // 2,
            lambda taps: centre(taps)[None],
        ],
        "taps weigh by the share of their size": [
            lambda taps: (offsets(taps) * taps).sum(0) / taps.sum(0),
            lambda taps: (offsets(taps) * taps.abs()).sum(0),
            lambda taps: centre(taps.square()),
            lambda taps: centre(taps, least=1),
        ],
        "without any taps it is": [lambda taps: centre(taps, least=0)],
        "its own centre": [lambda taps: centre(taps.abs().sum(1, keepdim=True).expand(taps.shape))],
    },
    "frames_seen": {
        "True or False for each frame": [
            lambda network, clip, position: seen(network, clip, position).nonzero()[:, 0].tolist(),
            lambda network, clip, position: seen(network, clip, position).flip(0),
        ],
        "a gradient counts if it is negative": [
            seen_with(torch.sum, lambda gradient: gradient.amax((0, 2, 3, 4)) > 0),
            seen_above(1e-3),
        ],
        "gradients of opposite sign at two pixels": [
            seen_with(torch.sum, lambda gradient: gradient.sum((0, 2, 3, 4)).abs() > 0),
            seen_with(seen=lambda gradient: gradient.sum(2).abs().sum((0, 2, 3)) > 0),
        ],
        "all that stands at a position counts": [seen_with(torch.sum), seen_with(torch.max)],
        "it is asked about this clip": [
            seen_with(lambda maps: maps.pow(2).sum()),
            seen_with(lambda maps: maps.abs().sum()),
            seen_at(torch.zeros_like),
        ],
        "random generators are not": [lambda *given: (torch.manual_seed(0), seen(*given))[1]],
    },
    "step_elsewhere": {
        "the steps of the channels are those": [
            lambda taps, changed, seed: taps[:, order(taps, seed)],
            lambda taps, changed, seed: changed[:, order(taps, seed)],
            lambda taps, changed, seed: taps + torch.randn_like(taps) * (changed - taps).std(),
        ],
        "the same call gives the same result": [step_seeds_everything],
        "another seed chooses other channels": [
            lambda taps, changed, seed: changed.clone(),
            lambda taps, changed, seed: step(taps, changed, int(seed > 0)),
        ],
    },
    "occlusion_by_hand": {
        "the deleted frame t shows what the other frame": [
            occlusion_with(lambda clip, t: show(clip, t, 0.0)),
            then(torch.sum),
        ],
        "it is the log-probability of the label": [
            occlusion_with(lambda clip, t: show(clip, t, clip.mean(1))),
            occlusion_with(lambda clip, t: show(clip, t ^ 1, clip[:, t])),
            occlusion_adds_up,
            then(torch.neg),
            then(lambda falls: falls / np.log(2)),
            then(lambda falls: falls.clamp(min=0)),
            lambda network, clip, label: occlusion(network, clip, network(clip)[0].argmax()),
        ],
        "its inputs are left unchanged": [
            of_network(lambda network: network.requires_grad_(False)),
            of_network(lambda network: network.eval()),
            lambda *given: occlusion_adds_up(*given, copy=lambda clip: clip),
        ],
    },
}

RIGHT = {
    "temporal_centre": [centre, centre_by_loop],
    "frames_seen": [seen, seen_by_change],
    "step_elsewhere": [step, step_by_numpy],
    "occlusion_by_hand": [occlusion, occlusion_in_one_batch],
}
