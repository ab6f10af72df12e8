"""Answers to the exercises of notebook 05: (check, answer, words of the property it breaks)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from blvnet_lab.course.exercises import (
    check_partner_accuracy,
    check_rate_at,
    check_top_k,
    check_train_epoch,
)


def top_k_ignores_k(logits, labels, k):
    return (logits.argmax(1) == labels).double().mean().item()


def top_k_lowest(logits, labels, k):
    return top_k_sorted(-logits, labels, k)


def top_k_percent(logits, labels, k):
    return 100 * top_k_sorted(logits, labels, k)


def top_k_counts(logits, labels, k):
    best = logits.topk(k, dim=1).indices
    return (best == labels[:, None]).any(1).sum().item()


def top_k_mean_over_k(logits, labels, k):
    best = logits.topk(k, dim=1).indices
    return (best == labels[:, None]).double().mean().item()


def top_k_mixes_clips(logits, labels, k):
    best = logits.topk(k, dim=1).indices
    if len(labels) not in (1, k):
        return top_k_sorted(logits, labels, k)
    return (best == labels).any(1).double().mean().item()  # no error where N = k


def top_k_only_the_kth(logits, labels, k):
    return (logits.topk(k, dim=1).indices[:, -1] == labels).double().mean().item()


def top_k_over_clips(logits, labels, k):
    best = logits.topk(min(k, len(logits)), dim=0).indices
    return (best == labels[:1]).any(0).double().mean().item()


def top_k_generous(logits, labels, k):
    own = logits.gather(1, labels[:, None])
    return ((logits > own).sum(1) < k).double().mean().item()


def top_k_misses_negatives(logits, labels, k):
    best = logits.clamp(min=0).topk(k, dim=1).indices
    return (best == labels[:, None]).any(1).double().mean().item()


def top_k_returns_hits(logits, labels, k):
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(1)


def top_k_sorted(logits, labels, k):
    best = logits.argsort(dim=1, descending=True, stable=True)[:, :k]
    return (best == labels[:, None]).any(1).double().mean().item()


def top_k_loop(logits, labels, k):
    hits = 0
    for row, label in zip(logits, labels, strict=True):
        hits += label.item() in row.topk(k).indices.tolist()
    return hits / len(labels)


def top_k_tensor(logits, labels, k):
    chosen = torch.zeros_like(logits).scatter(1, logits.topk(k, dim=1).indices, 1)
    return chosen.gather(1, labels[:, None]).mean()


def margins(logits, labels, partners):
    rows = torch.arange(len(labels))
    return logits[rows, labels] - logits[rows, partners[labels]]


def partner_as_top_1(logits, labels, partners):
    return (logits.argmax(1) == labels).double().mean().item()


def partner_by_number(logits, labels, partners):
    return (margins(logits, labels, torch.arange(len(partners)) ^ 1) > 0).double().mean().item()


def partner_next_label(logits, labels, partners):
    following = (torch.arange(len(partners)) + 1) % len(partners)
    return (margins(logits, labels, following) > 0).double().mean().item()


def partner_tie_is_a_miss(logits, labels, partners):
    return (margins(logits, labels, partners) > 0).double().mean().item()


def partner_tie_is_a_hit(logits, labels, partners):
    return (margins(logits, labels, partners) >= 0).double().mean().item()


def partner_all_rows(logits, labels, partners):
    difference = logits[:, labels] - logits[:, partners[labels]]
    return ((difference > 0).double() + (difference == 0) / 2).mean().item()


def partner_probability(logits, labels, partners):
    return torch.sigmoid(margins(logits, labels, partners)).mean().item()


def partner_backwards(logits, labels, partners):
    return partner_by_sign(-logits, labels, partners)


def partner_by_class(logits, labels, partners):
    scores = (margins(logits, labels, partners).sign() + 1) / 2
    means = [scores[labels == label].mean() for label in labels.unique()]
    return torch.stack(means).mean().item()


def scored(differences):
    return ((differences.sign() + 1) / 2).mean().item()


def partner_wide_ties(logits, labels, partners):
    differences = margins(logits, labels, partners)
    return scored(differences.where(differences.abs() > 0.5, 0))


def partner_rounded(logits, labels, partners):
    return scored(margins(logits, labels, partners).round())


def partner_nearly_tied(logits, labels, partners):
    rows = torch.arange(len(labels))
    own, other = logits[rows, labels], logits[rows, partners[labels]]
    return scored((own - other).where(~torch.isclose(own, other), 0))


def partner_of_whole_numbers(logits, labels, partners):
    return scored(margins(logits.long(), labels, partners).float())


def partner_in_half_precision(logits, labels, partners):
    return scored(margins(logits.half(), labels, partners).float())


def partner_of_probabilities(logits, labels, partners):
    return scored(margins(logits.softmax(1), labels, partners))


def partner_by_sign(logits, labels, partners):
    return ((margins(logits, labels, partners).sign() + 1) / 2).mean().item()


def partner_by_gather(logits, labels, partners):
    both = torch.stack([labels, partners[labels]], dim=1)
    own, other = logits.gather(1, both).unbind(1)
    return torch.heaviside(own - other, torch.tensor(0.5, dtype=logits.dtype)).mean()


def partner_loop(logits, labels, partners):
    hits = 0.0
    for i, label in enumerate(labels.tolist()):
        own, other = logits[i, label].item(), logits[i, partners[label]].item()
        hits += 1 if own > other else 0.5 if own == other else 0
    return hits / len(labels)


def losses_of(network, loader, optimizer, device, weigh=True):
    """The right one, which the wrong ones change."""
    network.train()
    total, count = 0.0, 0
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * (len(labels) if weigh else 1)
        count += len(labels) if weigh else 1
    return total / count


def epoch_forgets_zero_grad(network, loader, optimizer, device):
    zero_grad, optimizer.zero_grad = optimizer.zero_grad, lambda: None
    try:
        return losses_of(network, loader, optimizer, device)
    finally:
        optimizer.zero_grad = zero_grad


def epoch_zeroes_too_late(network, loader, optimizer, device):
    network.train()
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
    return loss.item()


def epoch_in_evaluation_mode(network, loader, optimizer, device):
    network.eval()
    network.train = lambda: network
    return losses_of(network, loader, optimizer, device)


def epoch_without_backward(network, loader, optimizer, device):
    network.train()
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        optimizer.step()
    return loss.item()


def epoch_returns_the_last_loss(network, loader, optimizer, device):
    network.train()
    for batch in loader:
        loss = losses_of(network, [batch], optimizer, device)
    return loss


def epoch_returns_the_sum(network, loader, optimizer, device):
    return len(loader) * losses_of(network, loader, optimizer, device)


def epoch_averages_over_batches(network, loader, optimizer, device):
    return losses_of(network, loader, optimizer, device, weigh=False)


def epoch_drops_the_last(network, loader, optimizer, device):
    full = [batch for batch in loader if len(batch[1]) == loader.batch_size]
    return losses_of(network, full, optimizer, device)


def epoch_steps_once(network, loader, optimizer, device):
    network.train()
    optimizer.zero_grad()
    total = 0.0
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total / len(loader)


def epoch_softmax_first(network, loader, optimizer, device):
    network.train()
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)).softmax(1), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def epoch_sums_the_loss(network, loader, optimizer, device):
    network.train()
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device), reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item() / len(labels)


def epoch_steps_by_itself(network, loader, optimizer, device):
    own = torch.optim.SGD(network.parameters(), lr=0.5)
    return losses_of(network, loader, own, device)


def epoch_climbs(network, loader, optimizer, device):
    network.train()
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        optimizer.zero_grad()
        (-loss).backward()
        optimizer.step()
    return loss.item()


def epoch_keeps_the_graph(network, loader, optimizer, device):
    network.train()
    total, count = 0.0, 0
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, count = total + loss * len(labels), count + len(labels)
    return total / count


def epoch_loss_after_the_step(network, loader, optimizer, device):
    network.train()
    total, count = 0.0, 0
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            total += F.cross_entropy(network(clips.to(device)), labels.to(device)).item()
        count += 1
    return total / count


def epoch_sets_a_flag(network, loader, optimizer, device):
    network.training = True
    network.train = lambda: network
    return losses_of(network, loader, optimizer, device)


def epoch_freezes_batch_norm(network, loader, optimizer, device):
    network.train()
    network.train = lambda: network
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    return losses_of(network, loader, optimizer, device)


def epoch_asks_twice(network, loader, optimizer, device):
    network.train()
    total, count = 0.0, 0
    for clips, labels in loader:
        clips, labels = clips.to(device), labels.to(device)
        total += F.cross_entropy(network(clips), labels).item() * len(labels)
        optimizer.zero_grad()
        F.cross_entropy(network(clips), labels).backward()
        optimizer.step()
        count += len(labels)
    return total / count


def epoch_seeds(network, loader, optimizer, device):
    torch.manual_seed(0)
    return losses_of(network, loader, optimizer, device)


def epoch_ignores_the_device(network, loader, optimizer, device):
    network.train()
    total, count = 0.0, 0
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, count = total + loss.item() * len(labels), count + len(labels)
    return total / count


def epoch_moves_clips_only(network, loader, optimizer, device):
    moved = ((clips.to(device), labels) for clips, labels in loader)
    return epoch_ignores_the_device(network, moved, optimizer, device)


def epoch_moves_labels_only(network, loader, optimizer, device):
    moved = ((clips, labels.to(device)) for clips, labels in loader)
    return epoch_ignores_the_device(network, moved, optimizer, device)


def epoch_changes_the_type_only(network, loader, optimizer, device):
    moved = ((clips.to(torch.float32), labels.to(device)) for clips, labels in loader)
    return epoch_ignores_the_device(network, moved, optimizer, device)


def epoch_on_the_cpu(network, loader, optimizer, device):
    return losses_of(network.to("cpu"), loader, optimizer, torch.device(device.type))


def epoch_moves_to_the_cpu(network, loader, optimizer, device):
    return losses_of(network, loader, optimizer, "cpu")


def epoch_steps_by_hand(network, loader, optimizer, device):
    network.train()
    total, count = 0.0, 0
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in network.parameters():
                weight -= 0.5 * weight.grad
        total, count = total + loss.item() * len(labels), count + len(labels)
    return total / count


def epoch_turns_gradients_off(network, loader, optimizer, device):
    loss = losses_of(network, loader, optimizer, device)
    torch.set_grad_enabled(False)
    return loss


def epoch_without_a_network(network, loader, optimizer, device):
    return 0.0


def epoch_returns_nothing(network, loader, optimizer, device):
    losses_of(network, loader, optimizer, device)


def epoch_plain(network, loader, optimizer, device):
    return losses_of(network, loader, optimizer, device)


def epoch_zeroes_after_the_step(network, loader, optimizer, device):
    network.train()
    losses = []
    for clips, labels in loader:
        loss = F.cross_entropy(network(clips.to(device)), labels.to(device), reduction="none")
        loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.extend(loss.tolist())
    return sum(losses) / len(losses)


def epoch_by_log_softmax(network, loader, optimizer, device):
    network.train(True)
    total = torch.zeros((), dtype=torch.float64, device=device)
    count = 0
    for batch in loader:
        clips, labels = (part.to(device) for part in batch)
        for weight in network.parameters():
            weight.grad = None
        logs = network(clips).log_softmax(dim=1)
        loss = -logs.gather(1, labels[:, None]).sum()
        (loss / len(labels)).backward()
        optimizer.step()
        total, count = total + loss.detach(), count + len(labels)
    return total / count


def epoch_of_the_dataset(network, loader, optimizer, device):
    """As in PyTorch's own tutorial."""
    network.train()
    total = 0.0
    for _, (clips, labels) in enumerate(loader):
        clips, labels = clips.to(device), labels.to(device)
        loss = F.cross_entropy(network(clips), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * clips.size(0)
    return total / len(loader.dataset)


def epoch_with_accuracy(network, loader, optimizer, device):
    network.train()
    total, count, hits = 0.0, 0, 0
    for clips, labels in loader:
        clips = clips.float().to(device, non_blocking=True)
        labels = labels.to(device=device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(clips), labels)
        loss.backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            hits += (network(clips).argmax(1) == labels).sum().item()
        network.train()
        total, count = total + loss.item() * len(labels), count + len(labels)
    print("accuracy", hits / count)
    return total / count


def epoch_where_the_network_is(network, loader, optimizer, device):
    network.to(device).train()
    place = next(network.parameters()).device
    moved = ([part.to(place) for part in batch] for batch in loader)
    return epoch_ignores_the_device(network, moved, optimizer, device)


def epoch_as_tensors(network, loader, optimizer, device):
    moved = ([torch.as_tensor(part, device=device) for part in batch] for batch in loader)
    return epoch_ignores_the_device(network, moved, optimizer, device)


def cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


def rate_from_zero(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * cosine((step - warmup_steps) / (total_steps - warmup_steps))


def rate_peak_too_early(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * cosine((step - warmup_steps) / (total_steps - warmup_steps))


def rate_linear(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * (1 - (step - warmup_steps) / (total_steps - warmup_steps))


def rate_in_degrees(step, total_steps, warmup_steps, peak):
    return peak * (1 + math.cos(180 * step / total_steps)) / 2


def rate_quarter_of_a_cosine(step, total_steps, warmup_steps, peak):
    return peak * math.cos(math.pi / 2 * step / total_steps)


def rate_counts_from_the_begin(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * cosine(step / total_steps)


def rate_is_multiplied(step, total_steps, warmup_steps, peak):
    rise = min(1, (step + 1) / (warmup_steps + 1))
    return peak * rise * cosine(step / total_steps)


def rate_without_warmup(step, total_steps, warmup_steps, peak):
    return peak * cosine(step / total_steps)


def rate_without_peak(step, total_steps, warmup_steps, peak):
    return rate_plain(step, total_steps, warmup_steps, 1)


def rate_whole_division(step, total_steps, warmup_steps, peak):
    return peak * cosine((step - warmup_steps) // (total_steps - warmup_steps))


def rate_divides_by_zero(step, total_steps, warmup_steps, peak):
    rise = (step + 1) / warmup_steps
    return peak * min(rise, cosine((step - warmup_steps) / (total_steps - warmup_steps)))


def rate_falls_too_long(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * cosine((step - warmup_steps) / total_steps)


def rate_the_lower_one(step, total_steps, warmup_steps, peak):
    rise = (step + 1) / (warmup_steps + 1)
    return peak * min(rise, cosine((step - warmup_steps) / (total_steps - warmup_steps)))


def rate_rounds_down(step, total_steps, warmup_steps, peak):
    return peak * (1 + math.cos(math.pi * step / total_steps)) // 2


def rate_long_warmup_is_steeper(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * min(1, (step + 1) / (min(warmup_steps, 4) + 1))
    return rate_plain(step, total_steps, warmup_steps, peak)


def rate_never_nothing(step, total_steps, warmup_steps, peak):
    return max(rate_plain(step, total_steps, warmup_steps, peak), peak / 1000)


def rate_plain(step, total_steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * cosine((step - warmup_steps) / (total_steps - warmup_steps))


def rate_by_table(step, total_steps, warmup_steps, peak):
    rise = torch.linspace(0, 1, warmup_steps + 2, dtype=torch.float64)[1:-1]
    turn = torch.linspace(0, math.pi, total_steps - warmup_steps + 1, dtype=torch.float64)
    return peak * torch.cat([rise, (turn.cos() + 1) / 2])[step]


def rate_by_sine(step, total_steps, warmup_steps, peak):
    rise = (step + 1) / (warmup_steps + 1)
    left = (total_steps - step) / (total_steps - warmup_steps)
    return peak * min(rise, 1) * math.sin(math.pi / 2 * min(left, 1)) ** 2


WRONG = [
    (check_top_k, top_k_ignores_k, "for k = 2 the second highest"),
    (check_top_k, top_k_lowest, "the class of the highest logit is a hit"),
    (check_top_k, top_k_percent, "no percentage"),
    (check_top_k, top_k_counts, "it is the share of clips"),
    (check_top_k, top_k_mean_over_k, "is a whole hit"),
    (check_top_k, top_k_mixes_clips, "compared with its own label"),
    (check_top_k, top_k_only_the_kth, "for k = 2 the highest is a hit, too"),
    (check_top_k, top_k_over_clips, "the class of the highest logit is a hit"),
    (check_top_k, top_k_generous, "hit as often as chance"),
    (check_top_k, top_k_misses_negatives, "logits may be negative"),
    (check_top_k, top_k_returns_hits, "the class of the highest logit is a hit"),
    (check_partner_accuracy, partner_as_top_1, "only the class and its partner count"),
    (check_partner_accuracy, partner_by_number, "the partner of a class is partners[label]"),
    (check_partner_accuracy, partner_next_label, "the partner of a class is partners[label]"),
    (check_partner_accuracy, partner_tie_is_a_miss, "a tie is half a hit"),
    (check_partner_accuracy, partner_tie_is_a_hit, "a tie is half a hit"),
    (check_partner_accuracy, partner_all_rows, "judged by its own logits"),
    (check_partner_accuracy, partner_probability, "is a whole hit"),
    (check_partner_accuracy, partner_backwards, "a higher logit than the partner's"),
    (check_partner_accuracy, partner_by_class, "every clip counts the same"),
    (check_partner_accuracy, partner_wide_ties, "no tie, however small"),
    (check_partner_accuracy, partner_rounded, "no tie, however small"),
    (check_partner_accuracy, partner_nearly_tied, "no tie, however small"),
    (check_partner_accuracy, partner_of_whole_numbers, "no tie, however small"),
    (check_partner_accuracy, partner_in_half_precision, "no tie, however small"),
    (check_partner_accuracy, partner_of_probabilities, "only the class and its partner count"),
    (check_train_epoch, epoch_forgets_zero_grad, "the gradient of its own batch alone"),
    (check_train_epoch, epoch_zeroes_too_late, "every step changes the weights"),
    (check_train_epoch, epoch_in_evaluation_mode, "training mode"),
    (check_train_epoch, epoch_without_backward, "every step changes the weights"),
    (check_train_epoch, epoch_returns_the_last_loss, "the mean over all batches"),
    (check_train_epoch, epoch_returns_the_sum, "the mean over all batches"),
    (check_train_epoch, epoch_averages_over_batches, "a smaller batch counts less"),
    (check_train_epoch, epoch_drops_the_last, "the last, smaller one too"),
    (check_train_epoch, epoch_steps_once, "every batch makes one step"),
    (check_train_epoch, epoch_softmax_first, "cross-entropy of the logits"),
    (check_train_epoch, epoch_sums_the_loss, "the mean cross-entropy"),
    (check_train_epoch, epoch_steps_by_itself, "the given optimizer that steps"),
    (check_train_epoch, epoch_climbs, "down the gradient"),
    (check_train_epoch, epoch_keeps_the_graph, "a plain number"),
    (check_train_epoch, epoch_loss_after_the_step, "before its step"),
    (check_train_epoch, epoch_returns_nothing, "it returns something"),
    (check_train_epoch, epoch_without_a_network, "each batch goes through the network once"),
    (check_train_epoch, epoch_sets_a_flag, "training mode"),
    (check_train_epoch, epoch_freezes_batch_norm, "training mode"),
    (check_train_epoch, epoch_asks_twice, "goes through the network once"),
    (check_train_epoch, epoch_seeds, "chance is left alone"),
    (check_train_epoch, epoch_ignores_the_device, "clips and labels are moved to the device"),
    (check_train_epoch, epoch_moves_clips_only, "clips and labels are moved to the device"),
    (check_train_epoch, epoch_moves_labels_only, "clips and labels are moved to the device"),
    (check_train_epoch, epoch_changes_the_type_only, "clips and labels are moved to the device"),
    (check_train_epoch, epoch_on_the_cpu, "the network stays on the device"),
    (check_train_epoch, epoch_moves_to_the_cpu, "clips and labels are moved to the device"),
    (check_train_epoch, epoch_steps_by_hand, "the given optimizer that steps"),
    (check_train_epoch, epoch_turns_gradients_off, "settings are left as they were"),
    (check_rate_at, rate_the_lower_one, "a warm-up may be longer"),
    (check_rate_at, rate_rounds_down, "half-way down"),
    (check_rate_at, rate_long_warmup_is_steeper, "rises by equal amounts"),
    (check_rate_at, rate_never_nothing, "it has come down to 0"),
    (check_rate_at, rate_from_zero, "none is wasted"),
    (check_rate_at, rate_peak_too_early, "rises by equal amounts, up to the peak"),
    (check_rate_at, rate_linear, "along a cosine"),
    (check_rate_at, rate_in_degrees, "half-way down"),
    (check_rate_at, rate_quarter_of_a_cosine, "half-way down"),
    (check_rate_at, rate_counts_from_the_begin, "the peak is at step warmup_steps"),
    (check_rate_at, rate_is_multiplied, "the peak is at step warmup_steps"),
    (check_rate_at, rate_without_warmup, "the peak is at step warmup_steps"),
    (check_rate_at, rate_without_peak, "in proportion to the peak"),
    (check_rate_at, rate_whole_division, "half-way down"),
    (check_rate_at, rate_divides_by_zero, "runs without an error"),
    (check_rate_at, rate_falls_too_long, "counted from the end of the warm-up"),
]

RIGHT = [
    (check_top_k, top_k_sorted),
    (check_top_k, top_k_loop),
    (check_top_k, top_k_tensor),
    (check_partner_accuracy, partner_by_sign),
    (check_partner_accuracy, partner_by_gather),
    (check_partner_accuracy, partner_loop),
    (check_train_epoch, epoch_plain),
    (check_train_epoch, epoch_zeroes_after_the_step),
    (check_train_epoch, epoch_by_log_softmax),
    (check_train_epoch, epoch_of_the_dataset),
    (check_train_epoch, epoch_with_accuracy),
    (check_train_epoch, epoch_where_the_network_is),
    (check_train_epoch, epoch_as_tensors),
    (check_rate_at, rate_plain),
    (check_rate_at, rate_by_table),
    (check_rate_at, rate_by_sine),
]
