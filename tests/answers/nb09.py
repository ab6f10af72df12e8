"""Answers to the exercises of notebook 09: (check, answer, words of the property it breaks)."""

import numpy as np
import torch

from blvnet_lab.course.exercises import (
    check_frames_seen,
    check_occlusion_by_hand,
    check_step_elsewhere,
    check_temporal_centre,
)


def offsets_of(taps):
    return torch.arange(len(taps)).to(taps)[:, None] - len(taps) // 2


def centre_with_signs(taps):
    return (offsets_of(taps) * taps).sum(0) / taps.sum(0)


def centre_from_zero(taps):
    sizes = taps.abs()
    return ((offsets_of(taps) + 1) * sizes).sum(0) / sizes.sum(0).clamp(min=1e-12)


def centre_mirrored(taps):
    return centre_by_sum(taps.flip(0))


def centre_not_divided(taps):
    return (offsets_of(taps) * taps.abs()).sum(0)


def centre_of_the_largest(taps):
    return taps.abs().argmax(0) - len(taps) // 2


def centre_without_guard(taps):
    sizes = taps.abs()
    return (offsets_of(taps) * sizes).sum(0) / sizes.sum(0)


def centre_of_three(taps):
    prev, curr, next = taps[0].abs(), taps[1].abs(), taps[-1].abs()
    return (next - prev) / (prev + curr + next).clamp(min=1e-12)


def centre_of_all_channels(taps):
    sizes = taps.abs().sum(1, keepdim=True).expand(taps.shape)
    return (offsets_of(taps) * sizes).sum(0) / sizes.sum(0).clamp(min=1e-12)


def centre_squared(taps):
    return centre_by_sum(taps.square())


def centre_clamped_at_one(taps):
    sizes = taps.abs()
    return (offsets_of(taps) * sizes).sum(0) / sizes.sum(0).clamp(min=1)


def centre_of_large_taps(taps):
    return torch.where(taps.abs().sum(0) < 0.5, 0.0, centre_by_sum(taps))


def centre_with_an_axis(taps):
    return centre_by_sum(taps)[None]


def centre_by_sum(taps):
    sizes = taps.abs()
    return (offsets_of(taps) * sizes).sum(0) / sizes.sum(0).clamp(min=1e-12)


def centre_by_loop(taps):
    centres = []
    for column in taps.t().tolist():
        total = sum(abs(weight) for weight in column)
        moment = sum((i - len(column) // 2) * abs(weight) for i, weight in enumerate(column))
        centres.append(moment / total if total else 0.0)
    return torch.tensor(centres)


def centre_by_matrix(taps):
    shares = torch.nan_to_num(taps.abs() / taps.abs().sum(0))
    return offsets_of(taps)[:, 0] @ shares


def gradient_of(network, clip, number):
    """The gradient of a number made of the network's output."""
    clip = clip.detach().clone().requires_grad_()
    return torch.autograd.grad(number(network(clip)), clip)[0]


def seen_gradient_of_sum(network, clip, position):
    gradient = gradient_of(network, clip, lambda maps: maps[:, position].sum())
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_sum_before_abs(network, clip, position):
    return seen_gradient_table(network, clip, position).sum((0, 2, 3, 4)).abs() > 0


def weighted(network, clip, position):
    """The gradient of a mixture with positive weights."""

    def number(maps):
        maps = maps[:, position]
        return (maps * torch.linspace(1, 2, maps.numel()).reshape(maps.shape)).sum()

    return gradient_of(network, clip, number)


def seen_mixture_then_signed_sum(network, clip, position):
    return (
        gradient_of(
            network,
            clip,
            lambda maps: (maps[:, position] * torch.rand_like(maps[:, position])).sum(),
        ).sum((0, 2, 3, 4))
        != 0
    )


def seen_positive_only(network, clip, position):
    return seen_gradient_table(network, clip, position).amax((0, 2, 3, 4)) > 0


def seen_gradient_table(network, clip, position):
    return gradient_of(network, clip, lambda maps: maps[:, position].sum())


def seen_from_all_positions(network, clip, position):
    gradient = gradient_of(network, clip, lambda maps: (maps * torch.rand_like(maps)).sum())
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_above_a_thousandth(network, clip, position):
    return weighted(network, clip, position).abs().sum((0, 2, 3, 4)) > 1e-3


def seen_leaves_a_flag(network, clip, position):
    maps = network(clip.requires_grad_())[:, position]
    gradient = torch.autograd.grad((maps * torch.rand_like(maps)).sum(), clip)[0]
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_fills_the_weights(network, clip, position):
    clip = clip.detach().clone().requires_grad_()
    maps = network(clip)[:, position]
    (maps * torch.rand_like(maps)).sum().backward()
    return clip.grad.abs().sum((0, 2, 3, 4)) > 0


def seen_as_numbers(network, clip, position):
    return weighted(network, clip, position).abs().sum((0, 2, 3, 4))


def seen_as_list_of_frames(network, clip, position):
    return seen_by_mixture(network, clip, position).nonzero()[:, 0].tolist()


def seen_backwards(network, clip, position):
    return seen_by_mixture(network, clip, position).flip(0)


def seen_of_one_number(network, clip, position):
    gradient = gradient_of(network, clip, lambda maps: maps[:, position].flatten()[0])
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_of_the_largest(network, clip, position):
    gradient = gradient_of(network, clip, lambda maps: maps[:, position].max())
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_of_one_pixel(network, clip, position):
    def number(maps):
        maps = maps[:, position].flatten(2)[..., 0] if maps.dim() > 3 else maps[:, position]
        return (maps * torch.rand_like(maps)).sum()

    return gradient_of(network, clip, number).abs().sum((0, 2, 3, 4)) > 0


def seen_channels_cancel(network, clip, position):
    return weighted(network, clip, position).sum(2).abs().sum((0, 2, 3)) > 0


def seen_rows_cancel(network, clip, position):
    return weighted(network, clip, position).sum(3).abs().sum((0, 2, 3)) > 0


def seen_above_a_millionth(network, clip, position):
    return weighted(network, clip, position).abs().sum((0, 2, 3, 4)) > 1e-6


def seen_above_a_billionth(network, clip, position):
    return weighted(network, clip, position).abs().sum((0, 2, 3, 4)) > 1e-9


def seen_unless_close_to_0(network, clip, position):
    sums = weighted(network, clip, position).abs().sum((0, 2, 3, 4))
    return ~torch.isclose(sums, torch.zeros_like(sums))


def seen_by_squares(network, clip, position):
    gradient = gradient_of(network, clip, lambda maps: maps[:, position].pow(2).sum())
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_by_sizes(network, clip, position):
    gradient = gradient_of(network, clip, lambda maps: maps[:, position].abs().sum())
    return gradient.abs().sum((0, 2, 3, 4)) > 0


def seen_at_zeros(network, clip, position):
    return seen_by_mixture(network, torch.zeros_like(clip), position)


def seen_at_ones(network, clip, position):
    return seen_by_mixture(network, torch.ones_like(clip), position)


def seen_at_random(network, clip, position):
    return seen_by_mixture(network, torch.rand_like(clip), position)


def seen_needs_weights(network, clip, position):
    clip = clip.detach().clone().requires_grad_()
    maps = network(clip)[:, position]
    (maps * torch.rand_like(maps)).sum().backward()
    for weight in network.parameters():
        weight.grad = None
    return clip.grad.abs().sum((0, 2, 3, 4)) > 0


def seen_in_eval_mode(network, clip, position):
    if isinstance(network, torch.nn.Module):
        network.eval()
    return seen_by_mixture(network, clip, position)


def seen_in_train_mode(network, clip, position):
    if isinstance(network, torch.nn.Module):
        network.train()
    return seen_by_mixture(network, clip, position)


def seen_freezes(network, clip, position):
    if isinstance(network, torch.nn.Module):
        network.requires_grad_(False)
    return seen_by_mixture(network, clip, position)


def seen_wipes_gradients(network, clip, position):
    if isinstance(network, torch.nn.Module):
        network.zero_grad()
    return seen_by_mixture(network, clip, position)


def seen_seeds_torch(network, clip, position):
    torch.manual_seed(0)
    return seen_by_mixture(network, clip, position)


def seen_turns_gradients_on(network, clip, position):
    seen = seen_by_mixture(network, clip, position)
    torch.set_grad_enabled(False)
    return seen


def seen_with_an_axis(network, clip, position):
    return seen_by_mixture(network, clip, position)[None]


def seen_by_mixture(network, clip, position):
    def number(maps):
        maps = maps[:, position]
        return (maps * torch.rand_like(maps)).sum()

    return gradient_of(network, clip, number).abs().sum((0, 2, 3, 4)) > 0


def seen_by_jacobian(network, clip, position):
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x)[:, position], clip)
    return jacobian.abs().flatten(0, -5).sum((0, 2, 3, 4)) > 0


@torch.no_grad()
def seen_by_change(network, clip, position):
    before, seen = network(clip)[:, position], []
    for t in range(clip.shape[1]):
        other = clip.clone()
        other[:, t] += torch.randn_like(other[:, t])
        seen.append(not torch.equal(network(other)[:, position], before))
    return seen


def order_of(taps, seed):
    return torch.randperm(taps.shape[1], generator=torch.Generator().manual_seed(seed))


def step_deals_the_taps(taps, changed, seed):
    return taps[:, order_of(taps, seed)]


def step_deals_the_edited(taps, changed, seed):
    return changed[:, order_of(taps, seed)]


def step_as_it_is(taps, changed, seed):
    return changed.clone()


def step_of_noise(taps, changed, seed):
    noise = torch.randn(taps.shape, generator=torch.Generator().manual_seed(seed)).to(taps)
    return taps + noise * (changed - taps).std()


def step_of_every_tap(taps, changed, seed):
    step = changed - taps
    order = torch.randperm(step.numel(), generator=torch.Generator().manual_seed(seed))
    return taps + step.flatten()[order].reshape(step.shape)


def step_row_by_row(taps, changed, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = [row[torch.randperm(len(row), generator=generator)] for row in changed - taps]
    return taps + torch.stack(rows)


def step_in_other_rows(taps, changed, seed):
    return taps + (changed - taps).flip(0)


def step_alone(taps, changed, seed):
    return (changed - taps)[:, order_of(taps, seed)]


def step_backwards(taps, changed, seed):
    return taps + (taps - changed)[:, order_of(taps, seed)]


def step_transposed(taps, changed, seed):
    return step_by_order(taps, changed, seed).t()


def step_without_seed(taps, changed, seed):
    generator = torch.Generator()
    generator.seed()
    order = torch.randperm(taps.shape[1], generator=generator)
    return taps + (changed - taps)[:, order]


def step_seeds_everything(taps, changed, seed):
    torch.manual_seed(seed)
    return taps + (changed - taps)[:, torch.randperm(taps.shape[1])]


def step_seeds_numpy(taps, changed, seed):
    np.random.seed(seed)
    return taps + (changed - taps)[:, np.random.permutation(taps.shape[1])]


def step_with_or_without_a_seed(taps, changed, seed):
    return step_by_order(taps, changed, int(seed > 0))


def step_always_the_same(taps, changed, seed):
    return taps + (changed - taps).roll(1, 1)


def step_in_place(taps, changed, seed):
    taps += (changed - taps)[:, order_of(taps, seed)]
    return taps


def step_by_order(taps, changed, seed):
    return taps + (changed - taps)[:, order_of(taps, seed)]


def step_by_rolling(taps, changed, seed):
    return taps + (changed - taps).roll(seed + 1, dims=1)


def step_by_numpy(taps, changed, seed):
    step = np.random.default_rng(seed).permutation((changed - taps).numpy(), axis=1)
    return taps + torch.from_numpy(step)


def score_of(network, clip, label):
    return network(clip).log_softmax(1)[0, label]


def falls_when(network, clip, label, replaced):
    """The fall for each frame, where `replaced(clip, t)` shows something else at t."""
    whole = score_of(network, clip, label)
    frames = range(clip.shape[1])
    return torch.stack([whole - score_of(network, replaced(clip, t), label) for t in frames])


def with_frame(clip, t, frame):
    without = clip.clone()
    without[:, t] = frame
    return without


def occlusion_black(network, clip, label):
    return falls_when(network, clip, label, lambda clip, t: with_frame(clip, t, 0.0))


def occlusion_mean(network, clip, label):
    return falls_when(network, clip, label, lambda clip, t: with_frame(clip, t, clip.mean(1)))


def occlusion_frame_before(network, clip, label):
    def replaced(clip, t):
        return with_frame(clip, t, clip[:, max(t - 1, 0)])

    return falls_when(network, clip, label, replaced)


def occlusion_rises(network, clip, label):
    return -occlusion_by_index(network, clip, label)


def occlusion_of_logits(network, clip, label):
    whole = network(clip)[0, label]
    frames = range(clip.shape[1])
    shown = [with_frame(clip, t, clip[:, t ^ 1]) for t in frames]
    return torch.stack([whole - network(one)[0, label] for one in shown])


def occlusion_of_probabilities(network, clip, label):
    whole = network(clip).softmax(1)[0, label]
    frames = range(clip.shape[1])
    shown = [with_frame(clip, t, clip[:, t ^ 1]) for t in frames]
    return torch.stack([whole - network(one).softmax(1)[0, label] for one in shown])


def occlusion_adds_up(network, clip, label):
    whole, shown, falls = score_of(network, clip, label), clip.clone(), []
    for t in range(clip.shape[1]):
        shown[:, t] = clip[:, t ^ 1]
        falls.append(whole - score_of(network, shown, label))
    return torch.stack(falls)


def occlusion_in_place(network, clip, label):
    whole, falls = score_of(network, clip, label), []
    for t in range(clip.shape[1]):
        clip[:, t] = clip[:, t ^ 1]
        falls.append(whole - score_of(network, clip, label))
    return torch.stack(falls)


def occlusion_of_the_best(network, clip, label):
    return occlusion_by_index(network, clip, int(network(clip)[0].argmax()))


def occlusion_exchanges(network, clip, label):
    def replaced(clip, t):
        order = list(range(clip.shape[1]))
        order[t], order[t ^ 1] = order[t ^ 1], order[t]
        return clip[:, order]

    return falls_when(network, clip, label, replaced)


def occlusion_sum(network, clip, label):
    return occlusion_by_index(network, clip, label).sum()


def occlusion_of_clips(network, clip, label):
    """The softmax goes over the clips, of which there is one."""
    frames = range(clip.shape[1])
    whole = network(clip).log_softmax(0)[0, label]
    shown = [with_frame(clip, t, clip[:, t ^ 1]) for t in frames]
    return torch.stack([whole - network(one).log_softmax(0)[0, label] for one in shown])


def occlusion_in_bits(network, clip, label):
    return occlusion_by_index(network, clip, label) / np.log(2)


def occlusion_positive_part(network, clip, label):
    return occlusion_by_index(network, clip, label).clamp(min=0)


def occlusion_without_sign(network, clip, label):
    return occlusion_by_index(network, clip, label).abs()


def occlusion_afterwards(network, clip, label):
    return score_of(network, clip, label) - occlusion_by_index(network, clip, label)


def occlusion_of_the_twin(network, clip, label):
    return falls_when(network, clip, label, lambda clip, t: with_frame(clip, t ^ 1, clip[:, t]))


def occlusion_forgets_without(network, clip, label):
    return falls_when(network, clip, label, lambda clip, t: clip)


def occlusion_with_an_axis(network, clip, label):
    return occlusion_by_index(network, clip, label)[None]


def occlusion_turns_gradients_off(network, clip, label):
    torch.set_grad_enabled(False)
    return occlusion_by_index(network, clip, label)


def occlusion_fills_the_weights(network, clip, label):
    falls = occlusion_by_index(network, clip, label)
    falls.sum().backward()
    return falls.detach()


def occlusion_ends_the_network(network, clip, label):
    falls = occlusion_in_one_batch(network, clip, label)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(0)
    return falls


def occlusion_freezes(network, clip, label):
    return occlusion_by_index(network.requires_grad_(False), clip, label)


def occlusion_in_eval_mode(network, clip, label):
    return occlusion_by_index(network.eval(), clip, label)


def occlusion_in_train_mode(network, clip, label):
    return occlusion_by_index(network.train(), clip, label)


def occlusion_leaves_a_hook(network, clip, label):
    scores = []
    network.register_forward_hook(lambda module, args, out: scores.append(out.log_softmax(1)))
    network(clip)
    for t in range(clip.shape[1]):
        network(with_frame(clip, t, clip[:, t ^ 1]))
    return scores[0][0, label] - torch.stack([score[0, label] for score in scores[1:]])


def occlusion_by_index(network, clip, label):
    def replaced(clip, t):
        order = torch.arange(clip.shape[1])
        order[t] = t ^ 1
        return clip[:, order]

    return falls_when(network, clip, label, replaced)


@torch.no_grad()
def occlusion_in_one_batch(network, clip, label):
    num_frames = clip.shape[1]
    shown = clip.repeat(num_frames, 1, 1, 1, 1)
    for t in range(num_frames):
        shown[t, t] = clip[0, t + 1 if t % 2 == 0 else t - 1]
    scores = network(torch.cat([clip, shown])).log_softmax(1)[:, label]
    return scores[0] - scores[1:]


WRONG = [
    (check_temporal_centre, centre_with_signs, "a negative tap is a look"),
    (check_temporal_centre, centre_from_zero, "has its centre at 0"),
    (check_temporal_centre, centre_mirrored, "next lies one frame ahead"),
    (check_temporal_centre, centre_not_divided, "weigh by their share"),
    (check_temporal_centre, centre_of_the_largest, "the kind of number is right"),
    (check_temporal_centre, centre_without_guard, "at 0, not NaN"),
    (check_temporal_centre, centre_of_three, "the last one lies two frames ahead"),
    (check_temporal_centre, centre_of_all_channels, "every channel has its own centre"),
    (check_temporal_centre, centre_squared, "weigh by their share"),
    (check_temporal_centre, centre_clamped_at_one, "of small taps"),
    (check_temporal_centre, centre_of_large_taps, "of small taps"),
    (check_temporal_centre, centre_with_an_axis, "the shape is right"),
    (check_frames_seen, seen_gradient_of_sum, "more than its sum"),
    (check_frames_seen, seen_sum_before_abs, "do not cancel"),
    (check_frames_seen, seen_mixture_then_signed_sum, "of opposite sign at two pixels"),
    (check_frames_seen, seen_positive_only, "a negative gradient is one"),
    (check_frames_seen, seen_gradient_table, "sees what moves its output"),
    (check_frames_seen, seen_from_all_positions, "sees what moves its output"),
    (check_frames_seen, seen_above_a_thousandth, "however little"),
    (check_frames_seen, seen_leaves_a_flag, "the clip is as it was"),
    (check_frames_seen, seen_fills_the_weights, "weights have no gradients"),
    (check_frames_seen, seen_as_numbers, "it says yes or no"),
    (check_frames_seen, seen_as_list_of_frames, "sees what moves its output"),
    (check_frames_seen, seen_backwards, "asked for one position"),
    (check_frames_seen, seen_of_one_number, "all channels"),
    (check_frames_seen, seen_of_the_largest, "all channels"),
    (check_frames_seen, seen_of_one_pixel, "all pixels"),
    (check_frames_seen, seen_channels_cancel, "in two channels"),
    (check_frames_seen, seen_rows_cancel, "at two pixels"),
    (check_frames_seen, seen_above_a_millionth, "however little"),
    (check_frames_seen, seen_above_a_billionth, "however little"),
    (check_frames_seen, seen_unless_close_to_0, "however little"),
    (check_frames_seen, seen_by_squares, "what is 0 in this clip can change"),
    (check_frames_seen, seen_by_sizes, "what is 0 in this clip can change"),
    (check_frames_seen, seen_at_zeros, "asked about this clip"),
    (check_frames_seen, seen_at_ones, "asked about this clip"),
    (check_frames_seen, seen_at_random, "asked about this clip"),
    (check_frames_seen, seen_needs_weights, "runs without an error"),
    (check_frames_seen, seen_in_eval_mode, "left as it was"),
    (check_frames_seen, seen_in_train_mode, "left as it was"),
    (check_frames_seen, seen_freezes, "left as it was"),
    (check_frames_seen, seen_wipes_gradients, "left as it was"),
    (check_frames_seen, seen_seeds_torch, "not begun anew"),
    (check_frames_seen, seen_turns_gradients_on, "PyTorch's settings"),
    (check_frames_seen, seen_with_an_axis, "the shape is right"),
    (check_step_elsewhere, step_deals_the_taps, "as large as that of the edit"),
    (check_step_elsewhere, step_deals_the_edited, "as large as that of the edit"),
    (check_step_elsewhere, step_as_it_is, "in other channels than the edit"),
    (check_step_elsewhere, step_of_noise, "as large as that of the edit"),
    (check_step_elsewhere, step_of_every_tap, "prev stays prev"),
    (check_step_elsewhere, step_row_by_row, "move together"),
    (check_step_elsewhere, step_in_other_rows, "prev stays prev"),
    (check_step_elsewhere, step_alone, "as large as that of the edit"),
    (check_step_elsewhere, step_backwards, "from taps to changed, and not back"),
    (check_step_elsewhere, step_transposed, "taps of the same shape"),
    (check_step_elsewhere, step_without_seed, "the same seed gives the same"),
    (check_step_elsewhere, step_seeds_everything, "global random state"),
    (check_step_elsewhere, step_seeds_numpy, "global random state"),
    (check_step_elsewhere, step_with_or_without_a_seed, "another seed chooses"),
    (check_step_elsewhere, step_always_the_same, "another seed chooses other channels"),
    (check_step_elsewhere, step_in_place, "left as it was"),
    (check_occlusion_by_hand, occlusion_black, "can stand for each other"),
    (check_occlusion_by_hand, occlusion_mean, "what the other frame of its pair shows"),
    (check_occlusion_by_hand, occlusion_frame_before, "says something else"),
    (check_occlusion_by_hand, occlusion_rises, "before minus after"),
    (check_occlusion_by_hand, occlusion_of_logits, "no logit, no probability"),
    (check_occlusion_by_hand, occlusion_of_probabilities, "no logit, no probability"),
    (check_occlusion_by_hand, occlusion_adds_up, "one frame is deleted at a time"),
    (check_occlusion_by_hand, occlusion_in_place, "left as it was"),
    (check_occlusion_by_hand, occlusion_of_the_best, "the label that is asked for"),
    (check_occlusion_by_hand, occlusion_exchanges, "one frame is deleted at a time"),
    (check_occlusion_by_hand, occlusion_sum, "the shape is right"),
    (check_occlusion_by_hand, occlusion_of_clips, "says something else"),
    (check_occlusion_by_hand, occlusion_forgets_without, "says something else"),
    (check_occlusion_by_hand, occlusion_in_bits, "in nats"),
    (check_occlusion_by_hand, occlusion_positive_part, "an importance may be below 0"),
    (check_occlusion_by_hand, occlusion_without_sign, "an importance may be below 0"),
    (check_occlusion_by_hand, occlusion_afterwards, "before minus after"),
    (check_occlusion_by_hand, occlusion_of_the_twin, "not its twin"),
    (check_occlusion_by_hand, occlusion_with_an_axis, "the shape is right"),
    (check_occlusion_by_hand, occlusion_turns_gradients_off, "PyTorch's settings"),
    (check_occlusion_by_hand, occlusion_fills_the_weights, "left as it was"),
    (check_occlusion_by_hand, occlusion_ends_the_network, "left as it was"),
    (check_occlusion_by_hand, occlusion_freezes, "left as it was"),
    (check_occlusion_by_hand, occlusion_in_eval_mode, "left as it was"),
    (check_occlusion_by_hand, occlusion_in_train_mode, "left as it was"),
    (check_occlusion_by_hand, occlusion_leaves_a_hook, "left as it was"),
]

RIGHT = [
    (check_temporal_centre, centre_by_sum),
    (check_temporal_centre, centre_by_loop),
    (check_temporal_centre, centre_by_matrix),
    (check_frames_seen, seen_by_mixture),
    (check_frames_seen, seen_by_jacobian),
    (check_frames_seen, seen_by_change),
    (check_step_elsewhere, step_by_order),
    (check_step_elsewhere, step_by_rolling),
    (check_step_elsewhere, step_by_numpy),
    (check_occlusion_by_hand, occlusion_by_index),
    (check_occlusion_by_hand, occlusion_in_one_batch),
]
