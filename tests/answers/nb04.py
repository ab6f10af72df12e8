"""Answers to the exercises of notebook 04: wrong ones under the property they break, right ones."""

import torch


def route(clip):
    return clip[:, 0::2], clip[:, 1::2]


def both_by_matrix(merged):
    twice = torch.eye(merged.shape[1]).repeat_interleave(2, dim=0)
    return torch.einsum("tp,bpchw->btchw", twice, merged)


def pairs_of(little, big):
    """Make an answer of two functions that give rows (2, C) of the rows (C,) of prev, curr, next"""
    return lambda taps: (torch.stack(little(*taps)), torch.stack(big(*taps)))


pair_taps = pairs_of(lambda p, c, n: [p, c + n], lambda p, c, n: [p + c, n])


def taps_by_matrix(taps):
    little = torch.tensor([[1.0, 0, 0], [0, 1, 1]]) @ taps
    return little, torch.tensor([[1.0, 1, 0], [0, 0, 1]]) @ taps


def back(x):
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


def ahead(x):
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)


def terms(x, taps, back=back, ahead=ahead):
    prev, curr, next = taps[:, :, None, None]
    return prev * back(x), (curr + next) * x, (prev + curr) * x, next * ahead(x)


def tam(x, taps, back=back, ahead=ahead, relu=torch.relu):
    before, own, own_big, after = terms(x, taps, back, ahead)
    return relu(before + own), relu(own_big + after)


def tam_leaks(x, taps):
    return tuple(y[0].unflatten(0, (len(x), -1)) for y in tam(x.flatten(0, 1)[None], taps))


def tam_by_twins(x, taps):
    frames = x.repeat_interleave(2, dim=1)
    prev, curr, next = taps[:, :, None, None]
    return route((prev * back(frames) + curr * frames + next * ahead(frames)).relu())


WRONG = {
    "route": {
        "the first frame of each pair of neighbours": [
            lambda clip: clip.chunk(2, dim=1),
            lambda clip: (clip[:, 1::2], clip[:, 0::2]),
            lambda clip: (clip.flatten(0, 1)[0::2], clip.flatten(0, 1)[1::2]),
            lambda clip: (clip.unbind(1)[::2], clip.unbind(1)[1::2]),
        ],
        "it returns two things": [
            lambda clip: torch.stack(route(clip), dim=2).flatten(1, 2),
            lambda clip: {"little": clip[:, 0::2], "big": clip[:, 1::2]},
        ],
    },
    "to_both": {
        "the two frames of a pair stand next to each other": [
            lambda merged: merged.repeat(1, 2, 1, 1, 1),
            lambda merged: merged.repeat_interleave(2, dim=0),
            lambda merged: torch.stack([merged, 0 * merged], dim=2).flatten(1, 2),
        ],
        "1, 1, 2, 2, ...": [lambda merged: merged.flatten(0, 1).repeat_interleave(2, dim=0)[None]],
    },
    "pair_taps": {
        "prev and next of a frame reach": [
            pairs_of(lambda p, c, n: [p, c], lambda p, c, n: [c, n]),
            pairs_of(lambda p, c, n: [p, c + n], lambda p, c, n: [p, c + n]),
            lambda taps: pair_taps(taps)[::-1],
        ],
        "are summed, with their signs": [
            lambda taps: tuple(rows.sum(1, keepdim=True) for rows in pair_taps(taps)),
            lambda taps: pair_taps(taps.relu()),
        ],
        "gradients reach": [
            lambda taps: pair_taps(taps.detach()),
            lambda taps: pair_taps(torch.tensor(taps.tolist())),
        ],
        "it runs without an error": [lambda taps: pair_taps(torch.from_numpy(taps.numpy()))],
    },
    "pair_tam": {
        "little gets its own pair and the one before": [
            lambda x, taps: tam(x, taps)[::-1],
            lambda x, taps: tam(x, taps, lambda x: x.roll(1, 1), lambda x: x.roll(-1, 1)),
        ],
        "a single ReLU comes last in both branches": [
            lambda x, taps: tam(x, taps, relu=lambda y: y),
            lambda x, taps: tam(x.relu(), taps),
            lambda x, taps: tam(x, taps.relu()),
        ],
        "every channel has its own taps": [tam_leaks],
        "gradients reach": [
            lambda x, taps: tam(x, taps.detach()),
            torch.no_grad()(lambda x, taps: tam(x, taps)),
        ],
        "it returns two things": [lambda x, taps: torch.stack(tam(x, taps), dim=2).flatten(1, 2)],
    },
}

RIGHT = {
    "route": [route, lambda clip: clip.unflatten(1, (-1, 2)).unbind(2)],
    "to_both": [both_by_matrix, lambda merged: torch.stack([merged, merged], dim=2).flatten(1, 2)],
    "pair_taps": [pair_taps, taps_by_matrix],
    "pair_tam": [lambda x, taps: tam(x, taps), tam_by_twins],
}
