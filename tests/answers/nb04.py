"""Answers to the exercises of notebook 04: (check, answer, words of the property it breaks)."""

import torch
import torch.nn.functional as F

from blvnet_lab.course.exercises import check_pair_tam, check_pair_taps, check_route, check_to_both


def route_halves(clip):
    return clip.chunk(2, dim=1)


def route_swapped(clip):
    return clip[:, 1::2], clip[:, 0::2]


def route_batch(clip):
    frames = clip.flatten(0, 1)
    return frames[0::2], frames[1::2]


def route_all_to_both(clip):
    return clip, clip


def route_first_pair(clip):
    return clip[:, 0], clip[:, 1]


def route_one_stack(clip):
    return torch.stack([clip[:, 0::2], clip[:, 1::2]], dim=2).flatten(1, 2)


def route_of_eight_frames(clip):
    return clip[:, 0:8:2], clip[:, 1:8:2]


def route_lists(clip):
    frames = clip.unbind(1)
    return frames[::2], frames[1::2]


def route_by_map(clip):
    return map(lambda start: clip[:, start::2], (0, 1))


def route_by_values(clip):
    return {"little": clip[:, 0::2], "big": clip[:, 1::2]}.values()


def route_by_dictionary(clip):
    return {"little": clip[:, 0::2], "big": clip[:, 1::2]}


def route_by_reshape(clip):
    pairs = clip.unflatten(1, (-1, 2))
    return pairs[:, :, 0], pairs[:, :, 1]


def route_by_loop(clip):
    frames = clip.unbind(1)
    return torch.stack(frames[::2], 1), torch.stack(frames[1::2], 1)


def both_one_after_the_other(merged):
    return merged.repeat(1, 2, 1, 1, 1)


def both_in_the_batch(merged):
    return merged.repeat_interleave(2, dim=0)


def both_with_zeros(merged):
    return torch.stack([merged, torch.zeros_like(merged)], dim=2).flatten(1, 2)


def both_of_all_clips(merged):
    frames = merged.flatten(0, 1).repeat_interleave(2, dim=0)
    return frames[None]


def both_halved(merged):
    return (merged / 2).repeat_interleave(2, dim=1)


def both_of_three_pairs(merged):
    if merged.shape[1] == 3:
        return merged[:, [0, 0, 1, 1, 2, 2]]
    return merged[:, [0, 0, 1, 1]]


def both_by_matrix(merged):
    twice = torch.eye(merged.shape[1]).repeat_interleave(2, dim=0)
    return torch.einsum("tp,bpchw->btchw", twice, merged)


def both_by_stack(merged):
    return torch.stack([merged, merged], dim=2).flatten(1, 2)


def both_by_index(merged):
    return merged[:, torch.arange(2 * merged.shape[1]) // 2]


def taps_raw(taps):
    prev, curr, next = taps
    return torch.stack([prev, curr]), torch.stack([curr, next])


def taps_same_for_both(taps):
    prev, curr, next = taps
    return torch.stack([prev, curr + next]), torch.stack([prev, curr + next])


def taps_swapped(taps):
    little, big = taps_by_matrix(taps)
    return big, little


def taps_averaged(taps):
    prev, curr, next = taps
    return torch.stack([prev, (curr + next) / 2]), torch.stack([(prev + curr) / 2, next])


def taps_latest_first(taps):
    little, big = taps_by_matrix(taps)
    return little.flip(0), big.flip(0)


def taps_summed_over_channels(taps):
    little, big = taps_by_matrix(taps)
    return little.sum(1, keepdim=True), big.sum(1, keepdim=True)


def taps_without_negatives(taps):
    return taps_by_rows(taps.relu())


def taps_as_tuples(taps):
    prev, curr, next = taps
    return (prev, curr + next), (prev + curr, next)


def taps_detached(taps):
    return taps_by_rows(taps.detach())


def taps_by_lists(taps):
    return taps_by_rows(torch.tensor(taps.tolist()))


def taps_by_numpy(taps):
    return taps_by_rows(torch.from_numpy(taps.numpy()))


def taps_only_of_little_are_learned(taps):
    little, big = taps_by_rows(taps)
    return little, big.detach()


def taps_by_float_matrix(taps):
    little = torch.tensor([[1.0, 0, 0], [0, 1, 1]]) @ taps
    return little, torch.tensor([[1.0, 1, 0], [0, 0, 1]]) @ taps


def taps_in_one_tensor(taps):
    return torch.stack(taps_by_rows(taps))


def taps_by_matrix(taps):
    little = torch.tensor([[1, 0, 0], [0, 1, 1]]).to(taps)
    big = torch.tensor([[1, 1, 0], [0, 0, 1]]).to(taps)
    return little @ taps, big @ taps


def taps_by_rows(taps):
    little, big = taps[:2].clone(), taps[1:].clone()
    little[1] += taps[2]
    big[0] += taps[0]
    return little, big


def tam_on_pairs(x, taps):
    """As if pairs were frames."""
    channels = taps.shape[1]
    kernel = taps.t()[:, None, :, None, None]
    y = F.conv3d(x.transpose(1, 2), kernel, padding=(1, 0, 0), groups=channels)
    y = y.transpose(1, 2).relu()
    return y, y


def tam_without_relu(x, taps):
    return twins(x, taps, relu=lambda y: y)


def tam_relu_in_terms(x, taps):
    prev, curr, next = taps[:, :, None, None]
    little = (prev * back(x)).relu() + ((curr + next) * x).relu()
    return little, ((prev + curr) * x).relu() + (next * ahead(x)).relu()


def tam_rolls(x, taps):
    prev, curr, next = taps[:, :, None, None]
    little = prev * x.roll(1, 1) + (curr + next) * x
    return little.relu(), ((prev + curr) * x + next * x.roll(-1, 1)).relu()


def tam_swapped(x, taps):
    little, big = twins(x, taps)
    return big, little


def tam_forgets_the_twin(x, taps):
    prev, curr, next = taps[:, :, None, None]
    return (prev * back(x) + curr * x).relu(), (curr * x + next * ahead(x)).relu()


def tam_returns_frames(x, taps):
    little, big = twins(x, taps)
    return torch.stack([little, big], dim=2).flatten(1, 2)


def tam_leaks(x, taps):
    clips = x.shape[0]
    both = twins(x.flatten(0, 1)[None], taps)
    return tuple(maps[0].unflatten(0, (clips, -1)) for maps in both)


def tam_of_four_pairs(x, taps):
    return twins(x[:, :4], taps)


def tam_relu_first(x, taps):
    return twins(x.relu(), taps)


def tam_relu_of_taps(x, taps):
    return twins(x, taps.relu())


def tam_detached(x, taps):
    return twins(x, taps.detach())


def tam_without_gradients(x, taps):
    with torch.no_grad():
        return twins(x, taps)


def tam_of_lists(x, taps):
    little, big = twins(x, taps)
    return little.tolist(), big.tolist()


def back(x):
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


def ahead(x):
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)


def twins(x, taps, relu=torch.relu):
    frames = x.repeat_interleave(2, dim=1)
    prev, curr, next = taps[:, :, None, None]
    y = relu(prev * back(frames) + curr * frames + next * ahead(frames))
    return y[:, 0::2], y[:, 1::2]


def tam_by_twins(x, taps):
    return twins(x, taps)


def tam_by_formula(x, taps):
    prev, curr, next = taps[:, :, None, None]
    little = prev * back(x) + (curr + next) * x
    big = (prev + curr) * x + next * ahead(x)
    return little.clamp(min=0), big.clamp(min=0)


WRONG = [
    (check_route, route_halves, "neighbours make a pair"),
    (check_route, route_swapped, "the first frame of each pair goes to the little branch"),
    (check_route, route_batch, "the shape is right"),
    (check_route, route_all_to_both, "the shape is right"),
    (check_route, route_first_pair, "the shape is right"),
    (check_route, route_one_stack, "it returns two things: little, big"),
    (check_route, route_of_eight_frames, "the shape is right"),
    (check_route, route_lists, "the first of the two things that it returns, little, is a tensor"),
    (check_route, route_by_dictionary, "it returns two things: little, big"),
    (check_to_both, both_of_three_pairs, "the shape is right"),
    (check_to_both, both_one_after_the_other, "stand next to each other"),
    (check_to_both, both_in_the_batch, "the shape is right"),
    (check_to_both, both_with_zeros, "stand next to each other"),
    (check_to_both, both_of_all_clips, "clips stay apart"),
    (check_to_both, both_halved, "stand next to each other"),
    (check_pair_taps, taps_without_negatives, "taps may be negative"),
    (check_pair_taps, taps_as_tuples, "the first of the two things that it returns, little"),
    (check_pair_taps, taps_detached, "gradients reach the taps"),
    (check_pair_taps, taps_by_lists, "gradients reach the taps"),
    (check_pair_taps, taps_by_numpy, "runs without an error"),
    (check_pair_taps, taps_only_of_little_are_learned, "gradients reach the taps"),
    (check_pair_taps, taps_raw, "prev of the big frame 2k + 1 is its own twin"),
    (check_pair_taps, taps_same_for_both, "for the big frame the first of its two"),
    (check_pair_taps, taps_swapped, "for the little frame the second of its two"),
    (check_pair_taps, taps_averaged, "prev of the big frame 2k + 1 is its own twin"),
    (check_pair_taps, taps_latest_first, "prev of the little frame 2k reaches the pair before"),
    (check_pair_taps, taps_summed_over_channels, "each channel by itself"),
    (check_pair_tam, tam_of_four_pairs, "the shape is right"),
    (check_pair_tam, tam_relu_first, "x and taps may be negative"),
    (check_pair_tam, tam_relu_of_taps, "x and taps may be negative"),
    (check_pair_tam, tam_detached, "gradients reach the taps"),
    (check_pair_tam, tam_without_gradients, "gradients reach the taps"),
    (check_pair_tam, tam_of_lists, "the first of the two things that it returns, little"),
    (check_pair_tam, tam_on_pairs, "prev: the little branch gets the pair before"),
    (check_pair_tam, tam_without_relu, "a ReLU ends it"),
    (check_pair_tam, tam_relu_in_terms, "the ReLU comes after the sum"),
    (check_pair_tam, tam_rolls, "zeros at first"),
    (check_pair_tam, tam_swapped, "prev: the little branch gets the pair before"),
    (check_pair_tam, tam_forgets_the_twin, "big its own"),
    (check_pair_tam, tam_returns_frames, "it returns two things: little, big"),
    (check_pair_tam, tam_leaks, "clips stay apart"),
]

RIGHT = [
    (check_route, route_by_reshape),
    (check_route, route_by_loop),
    (check_route, route_by_map),
    (check_route, route_by_values),
    (check_to_both, both_by_stack),
    (check_to_both, both_by_index),
    (check_to_both, both_by_matrix),
    (check_pair_taps, taps_by_matrix),
    (check_pair_taps, taps_by_rows),
    (check_pair_taps, taps_in_one_tensor),
    (check_pair_taps, taps_by_float_matrix),
    (check_pair_tam, tam_by_twins),
    (check_pair_tam, tam_by_formula),
]
