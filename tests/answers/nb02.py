"""Answers to the exercises of notebook 02: (check, answer, words of the property it breaks)."""

import torch
import torch.nn.functional as F
from torch import nn

from blvnet_lab.course.exercises import check_shift, check_tam, check_tams_needed, check_tsm_taps


def shift_rolls(x, offset):
    return torch.roll(x, -offset, dims=1)


def shift_backwards(x, offset):
    return shift_padded(x, -offset)


def shift_repeats_the_ends(x, offset):
    last = x.shape[1] - 1
    return x[:, [min(max(t + offset, 0), last) for t in range(last + 1)]]


def shift_forgets_offset_zero(x, offset):
    y = torch.zeros_like(x)
    if offset < 0:
        y[:, -offset:] = x[:, :offset]
    else:
        y[:, :-offset] = x[:, offset:]
    return y


def shift_leaks_between_clips(x, offset):
    return shift_padded(x.flatten(0, 1)[None], offset).reshape(x.shape)


def shift_writes_into_x(x, offset):
    y = x
    for t in range(x.shape[1]):
        y[:, t] = x[:, t + offset] if 0 <= t + offset < x.shape[1] else 0
    return y


def shift_moves_rows_too(x, offset):
    return shift_padded(x, offset).roll(1, dims=3)


def shift_padded(x, offset):
    num_frames = x.shape[1]
    far = num_frames + abs(offset)
    padded = F.pad(x.transpose(1, -1), (far, far)).transpose(1, -1)
    return padded[:, far + offset : far + offset + num_frames]


def shift_by_matrix(x, offset):
    ones = torch.ones(max(0, x.shape[1] - abs(offset)), dtype=x.dtype)
    matrix = torch.diag(ones, offset)[: x.shape[1], : x.shape[1]]
    return torch.einsum("st,bt...->bs...", matrix, x)


def shift_by_zeros_and_ones(x, offset):
    num_frames = x.shape[1]
    matrix = torch.zeros(num_frames, num_frames)
    for t in range(num_frames):
        if 0 <= t + offset < num_frames:
            matrix[t, t + offset] = 1
    return torch.einsum("st,btchw->bschw", matrix, x)


def shift_by_conv(x, offset):
    far = abs(offset)
    kernel = torch.zeros(x.shape[2], 1, 2 * far + 1, 1, 1)
    kernel[:, :, far + offset] = 1
    y = F.conv3d(x.transpose(1, 2), kernel, padding=(far, 0, 0), groups=x.shape[2])
    return y.transpose(1, 2)


def tam_without_relu(x, taps):
    y = tam_loop(x, taps, relu=lambda z: z)
    return y


def tam_swapped(x, taps):
    return tam_loop(x, taps.flip(0))


def tam_rolls(x, taps):
    prev, curr, next = taps[:, :, None, None]
    return (prev * x.roll(1, 1) + curr * x + next * x.roll(-1, 1)).relu()


def tam_averages(x, taps):
    return tam_loop(x, taps / 3)


def tam_relu_in_every_term(x, taps):
    prev, curr, next = taps[:, :, None, None]
    before, after = shift_padded(x, -1), shift_padded(x, 1)
    return (prev * before).relu() + (curr * x).relu() + (next * after).relu()


def tam_one_set_of_taps(x, taps):
    return tam_loop(x, taps[:, :1].expand_as(taps))


def tam_along_width(x, taps):
    prev, curr, next = taps[:, None, None, :]  # broadcasts along W
    if x.shape[-1] % taps.shape[1]:
        return tam_conv(x, taps)
    repeats = x.shape[-1] // taps.shape[1]
    prev, curr, next = (tap.repeat(1, 1, repeats) for tap in (prev, curr, next))
    return (prev * shift_padded(x, -1) + curr * x + next * shift_padded(x, 1)).relu()


def tam_relu_first(x, taps):
    return tam_conv(x.relu(), taps)


def tam_relu_of_taps(x, taps):
    return tam_conv(x, taps.relu())


def tam_detached(x, taps):
    return tam_conv(x, taps.detach())


def tam_of_data(x, taps):
    return tam_conv(x.data, taps)


def tam_keeps_prev_fixed(x, taps):
    return tam_conv(x, torch.cat([taps[:1].detach(), taps[1:]]))


def tam_without_gradients(x, taps):
    with torch.no_grad():
        return tam_conv(x, taps)


def tam_by_lists(x, taps):
    return tam_conv(x, torch.tensor(taps.tolist()))


def tam_by_numpy(x, taps):
    return tam_conv(x, torch.from_numpy(taps.numpy().copy()))


def tam_of_eight_frames(x, taps):
    return tam_conv(x[:, :8], taps)


def tam_not_finished(x, taps):
    if x.shape[2] > 1:
        raise NotImplementedError
    return tam_conv(x, taps)


def tam_loop(x, taps, relu=torch.relu):
    y = torch.zeros_like(x)
    num_frames = x.shape[1]
    for t in range(num_frames):
        for row, offset in enumerate((-1, 0, 1)):
            if 0 <= t + offset < num_frames:
                y[:, t] += taps[row][:, None, None] * x[:, t + offset]
    return relu(y)


def tam_conv(x, taps):
    kernel = taps.t()[:, None, :, None, None]
    y = F.conv3d(x.transpose(1, 2), kernel, padding=(1, 0, 0), groups=taps.shape[1])
    return torch.relu(y.transpose(1, 2))


def tam_by_layer(x, taps):
    layer = nn.Conv3d(x.shape[2], x.shape[2], (3, 1, 1), padding=(1, 0, 0), groups=x.shape[2])
    kernel = taps.t()[:, None, :, None, None]
    weights = {"weight": kernel, "bias": torch.zeros(x.shape[2])}
    return torch.func.functional_call(layer, weights, x.transpose(1, 2)).relu().transpose(1, 2)


def tsm_taps_swapped(channels, fold):
    return tsm_taps_by_column(channels, fold).flip(0)


def tsm_taps_keeps_a_copy(channels, fold):
    taps = tsm_taps_by_column(channels, fold)
    taps[1] = 1  # the moved channels stay, too
    return taps


def tsm_taps_rounds_up(channels, fold):
    moved = -(-channels // fold)
    return tsm_taps_of(channels, moved)


def tsm_taps_rounds_to_the_nearest(channels, fold):
    return tsm_taps_of(channels, round(channels / fold))


def tsm_taps_transposed(channels, fold):
    return tsm_taps_by_column(channels, fold).t()


def tsm_taps_of(channels, moved):
    taps = torch.zeros(3, channels)
    taps[2, :moved] = taps[0, moved : 2 * moved] = taps[1, 2 * moved :] = 1
    return taps


def tsm_taps_by_row(channels, fold):
    return tsm_taps_of(channels, channels // fold)


def tsm_taps_by_column(channels, fold):
    moved = channels // fold
    kind = [2] * moved + [0] * moved + [1] * (channels - 2 * moved)
    return torch.eye(3)[kind].t().contiguous()


def tams_needed_counts_taps(num_frames, num_taps):
    return -(-(num_frames - 1) // num_taps)


def tams_needed_counts_frames(num_frames, num_taps):
    return -(-num_frames // (num_taps // 2))


def tams_needed_rounds_down(num_frames, num_taps):
    return (num_frames - 1) // (num_taps // 2)


def tams_needed_rounds_to_the_nearest(num_frames, num_taps):
    return round((num_frames - 1) / (num_taps // 2))


def tams_needed_rounds_half_up(num_frames, num_taps):
    return int((num_frames - 1) / (num_taps // 2) + 0.5)


def tams_needed_loop(num_frames, num_taps):
    count, heard = 0, 1
    while heard < num_frames:
        count, heard = count + 1, heard + num_taps // 2
    return count


def tams_needed_by_ceiling(num_frames, num_taps):
    return int(torch.ceil(torch.tensor((num_frames - 1) / (num_taps // 2))))


WRONG = [
    (check_shift, shift_rolls, "before the first there are zeros"),
    (check_shift, shift_backwards, "y[t] is x[t + offset]"),
    (check_shift, shift_repeats_the_ends, "before the first there are zeros"),
    (check_shift, shift_forgets_offset_zero, "runs without an error"),
    (check_shift, shift_leaks_between_clips, "clips of a batch stay apart"),
    (check_shift, shift_writes_into_x, "left as it was"),
    (check_shift, shift_moves_rows_too, "channels, rows and columns stay"),
    (check_tam, tam_without_relu, "nothing is negative"),
    (check_tam, tam_swapped, "prev takes the frame before"),
    (check_tam, tam_rolls, "zeros before the first"),
    (check_tam, tam_averages, "curr takes frame t itself"),
    (check_tam, tam_relu_in_every_term, "the ReLU comes after the sum"),
    (check_tam, tam_one_set_of_taps, "every channel has its own taps"),
    (check_tam, tam_along_width, "every channel has its own taps"),
    (check_tam, tam_relu_first, "x and taps may be negative"),
    (check_tam, tam_relu_of_taps, "x and taps may be negative"),
    (check_tam, tam_detached, "gradients reach the taps"),
    (check_tam, tam_of_data, "gradients reach x"),
    (check_tam, tam_keeps_prev_fixed, "gradients reach the taps"),
    (check_tam, tam_without_gradients, "gradients reach the taps"),
    (check_tam, tam_by_lists, "gradients reach the taps"),
    (check_tam, tam_by_numpy, "runs without an error"),
    (check_tam, tam_of_eight_frames, "the shape is right"),
    (check_tam, tam_not_finished, "runs without an error"),
    (check_tsm_taps, tsm_taps_swapped, "come from the next frame"),
    (check_tsm_taps, tsm_taps_keeps_a_copy, "come from the next frame"),
    (check_tsm_taps, tsm_taps_rounds_up, "the other channels stay"),
    (check_tsm_taps, tsm_taps_rounds_to_the_nearest, "the other channels stay"),
    (check_tsm_taps, tsm_taps_transposed, "(3, channels)"),
    (check_tams_needed, tams_needed_counts_taps, "r // 2 frames to either side"),
    (check_tams_needed, tams_needed_counts_frames, "num_frames - 1 steps to go"),
    (check_tams_needed, tams_needed_rounds_down, "one more TAM"),
    (check_tams_needed, tams_needed_rounds_to_the_nearest, "one more TAM"),
    (check_tams_needed, tams_needed_rounds_half_up, "one more TAM"),
]

RIGHT = [
    (check_shift, shift_padded),
    (check_shift, shift_by_matrix),
    (check_shift, shift_by_zeros_and_ones),
    (check_shift, shift_by_conv),
    (check_tam, tam_loop),
    (check_tam, tam_conv),
    (check_tam, tam_by_layer),
    (check_tsm_taps, tsm_taps_by_row),
    (check_tsm_taps, tsm_taps_by_column),
    (check_tams_needed, tams_needed_loop),
    (check_tams_needed, tams_needed_by_ceiling),
]
