"""Answers to the exercises of notebook 02: wrong ones under the property they break, right ones."""

import torch
import torch.nn.functional as F


def shift_forgets_offset_zero(x, offset):
    y = torch.zeros_like(x)
    if offset < 0:
        y[:, -offset:] = x[:, :offset]
    else:
        y[:, :-offset] = x[:, offset:]
    return y


def shift_writes_into_x(x, offset):
    for t in range(x.shape[1]):
        x[:, t] = x[:, t + offset] if 0 <= t + offset < x.shape[1] else 0
    return x


def shift(x, offset):
    num_frames = x.shape[1]
    far = num_frames + abs(offset)
    padded = F.pad(x.transpose(1, -1), (far, far)).transpose(1, -1)
    return padded[:, far + offset : far + offset + num_frames]


def shift_by_matrix(x, offset):
    matrix = torch.zeros(x.shape[1], x.shape[1])
    for t in range(x.shape[1]):
        if 0 <= t + offset < x.shape[1]:
            matrix[t, t + offset] = 1
    return torch.einsum("st,btchw->bschw", matrix, x)


def terms(x, taps, shift=shift):
    prev, curr, next = taps[:, :, None, None]
    return prev * shift(x, -1), curr * x, next * shift(x, 1)


def tam(x, taps, shift=shift):
    return sum(terms(x, taps, shift)).relu()


def tam_conv(x, taps):
    kernel = taps.t()[:, None, :, None, None]
    y = F.conv3d(x.transpose(1, 2), kernel, padding=(1, 0, 0), groups=taps.shape[1])
    return torch.relu(y.transpose(1, 2))


def tsm(channels, moved):
    taps = torch.zeros(3, channels)
    taps[2, :moved] = taps[0, moved : 2 * moved] = taps[1, 2 * moved :] = 1
    return taps


def tsm_by_column(channels, fold):
    moved = channels // fold
    return torch.eye(3)[[2] * moved + [0] * moved + [1] * (channels - 2 * moved)].t()


def tams_needed_loop(num_frames, num_taps):
    count, heard = 0, 1
    while heard < num_frames:
        count, heard = count + 1, heard + num_taps // 2
    return count


WRONG = {
    "shift": {
        "y[t] is x[t + offset]": [
            lambda x, offset: torch.roll(x, -offset, dims=1),
            lambda x, offset: shift(x, -offset),
        ],
        "clips of a batch, channels, rows and columns stay": [
            lambda x, offset: shift(x.flatten(0, 1)[None], offset).reshape(x.shape),
        ],
        "it runs without an error": [shift_forgets_offset_zero],
        "its inputs are left unchanged": [shift_writes_into_x],
    },
    "tam": {
        "curr weighs frame t itself": [
            lambda x, taps: tam(x, taps.flip(0)),
            lambda x, taps: tam(x, taps, lambda x, offset: x.roll(-offset, 1)),
            lambda x, taps: tam(x, taps / 3),
        ],
        "a single ReLU comes last": [
            lambda x, taps: sum(terms(x, taps)),
            lambda x, taps: sum(map(torch.relu, terms(x, taps))),
            lambda x, taps: tam(x.relu(), taps),
            lambda x, taps: tam(x, taps.relu()),
        ],
        "every channel has its own taps": [lambda x, taps: tam(x, taps[:, :1].expand_as(taps))],
        "gradients reach": [
            lambda x, taps: tam(x, taps.detach()),
            lambda x, taps: tam(x.data, taps),
        ],
        "it runs without an error": [lambda x, taps: tam(x, torch.from_numpy(taps.numpy().copy()))],
    },
    "tsm_taps": {
        "the first C // fold channels": [
            lambda channels, fold: tsm(channels, channels // fold).flip(0),
            lambda channels, fold: tsm(channels, -(-channels // fold)),
            lambda channels, fold: tsm(channels, channels // fold).t(),
        ],
    },
    "tams_needed": {
        "information has num_frames - 1 steps": [
            lambda num_frames, num_taps: -(-(num_frames - 1) // num_taps),
            lambda num_frames, num_taps: -(-num_frames // (num_taps // 2)),
            lambda num_frames, num_taps: (num_frames - 1) // (num_taps // 2),
            lambda num_frames, num_taps: round((num_frames - 1) / (num_taps // 2)),
        ],
    },
}

RIGHT = {
    "shift": [shift, shift_by_matrix],
    "tam": [tam, tam_conv],
    "tsm_taps": [lambda channels, fold: tsm(channels, channels // fold), tsm_by_column],
    "tams_needed": [
        tams_needed_loop,
        lambda num_frames, num_taps: torch.tensor((num_frames - 1) / (num_taps // 2)).ceil(),
    ],
}
