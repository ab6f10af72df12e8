"""Answers to the exercises of notebook 05: wrong ones under the property they break, right ones."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def hits(logits, labels, k):
    return logits.topk(k, dim=1).indices == labels[:, None]


def top_k(logits, labels, k):
    return hits(logits, labels, k).any(1).double().mean().item()


def top_k_generous(logits, labels, k):
    own = logits.gather(1, labels[:, None])
    return ((logits > own).sum(1) < k).double().mean().item()


def top_k_loop(logits, labels, k):
    found = [y.item() in x.topk(k).indices.tolist() for x, y in zip(logits, labels, strict=True)]
    return sum(found) / len(found)


def margins(logits, labels, partners):
    rows = torch.arange(len(labels))
    return logits[rows, labels] - logits[rows, partners[labels]]


def scored(differences):
    return ((differences.sign() + 1) / 2).mean().item()


def partner_accuracy(logits, labels, partners):
    return scored(margins(logits, labels, partners))


def partner_by_gather(logits, labels, partners):
    own, other = logits.gather(1, torch.stack([labels, partners[labels]], 1)).unbind(1)
    return torch.heaviside(own - other, torch.tensor(0.5, dtype=logits.dtype)).mean()


def epoch_with(
    step="zero backward step",
    loss_of=F.cross_entropy,
    number=lambda loss, labels: loss.item() * len(labels),
    counted=len,
    begin=nn.Module.train,
    move=lambda part, device: part.to(device),
):
    """Make an epoch of exchangeable parts; as it stands it is right."""

    def train_epoch(network, loader, optimizer, device):
        begin(network)
        total, count = 0.0, 0
        for clips, labels in loader:
            clips, labels = move(clips, device), move(labels, device)
            loss = loss_of(network(clips), labels)
            for part in step.split():
                if part == "zero":
                    optimizer.zero_grad()
                elif part == "step":
                    optimizer.step()
                else:
                    (loss if part == "backward" else -loss).backward()
            total, count = total + number(loss, labels), count + counted(labels)
        return total / count

    return train_epoch


def cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


def rate_with(rise=lambda step, warmup: (step + 1) / (warmup + 1), fall=cosine, share=None):
    share = share or (lambda step, total, warmup: (step - warmup) / (total - warmup))

    def rate_at(step, total_steps, warmup_steps, peak):
        if step < warmup_steps:
            return peak * rise(step, warmup_steps)
        return peak * fall(share(step, total_steps, warmup_steps))

    return rate_at


rate = rate_with()


def rate_by_sine(step, total_steps, warmup_steps, peak):
    rise = (step + 1) / (warmup_steps + 1)
    left = (total_steps - step) / (total_steps - warmup_steps)
    return peak * min(rise, 1) * math.sin(math.pi / 2 * min(left, 1)) ** 2


WRONG = {
    "top_k": {
        "the class of the highest logit is a hit": [
            lambda logits, labels, k: top_k(logits, labels, 1),
            lambda logits, labels, k: top_k(-logits, labels, k),
            lambda logits, labels, k: 100 * top_k(logits, labels, k),
            lambda logits, labels, k: hits(logits, labels, k).double().mean(),
            lambda logits, labels, k: hits(logits, labels, k)[:, -1].double().mean(),
        ],
        "share of clips": [lambda logits, labels, k: hits(logits, labels, k).any(1).sum().item()],
        "hit as often as a random guess": [top_k_generous],
    },
    "partner_accuracy": {
        "a logit above that of the partner": [
            lambda logits, labels, partners: top_k(logits, labels, 1),
            lambda logits, labels, partners: partner_accuracy(
                logits, labels, partners.sort()[0] ^ 1
            ),
            lambda logits, labels, partners: partner_accuracy(-logits, labels, partners),
            lambda logits, labels, partners: partner_accuracy(logits.softmax(1), labels, partners),
        ],
        "a tie is half a hit": [
            lambda logits, labels, partners: scored(margins(logits, labels, partners).round()),
        ],
        "it is the mean over clips": [
            lambda logits, labels, partners: scored(
                logits[:, labels] - logits[:, partners[labels]]
            ),
        ],
    },
    "train_epoch": {
        "each batch, the last, smaller one too": [
            epoch_with(begin=nn.Module.eval),
            epoch_with(move=lambda part, device: part),
            epoch_with(move=lambda part, device: part.to(device) if part.ndim > 1 else part),
            lambda network, loader, optimizer, device: 0.0,
        ],
        "each step goes down the gradient": [
            epoch_with("backward step"),
            epoch_with("backward zero step"),
        ],
        "it returns the mean loss of all clips": [
            epoch_with(number=lambda loss, labels: loss * len(labels)),
            epoch_with(number=lambda loss, labels: loss.item(), counted=lambda labels: 1),
        ],
        "the same call gives the same result": [
            epoch_with(begin=lambda network: (torch.manual_seed(0), network.train())),
        ],
    },
    "rate_at": {
        "it rises by equal amounts": [
            rate_with(rise=lambda step, warmup: step / warmup),
            rate_with(rise=lambda step, warmup: (step + 1) / warmup),
            rate_with(share=lambda step, total, warmup: step / total),
            lambda step, total, warmup, peak: peak * cosine(step / total),
        ],
        "from the peak it falls as half a cosine": [
            rate_with(fall=lambda share: 1 - share),
            rate_with(fall=lambda share: math.cos(math.pi / 2 * share)),
            rate_with(share=lambda step, total, warmup: (step - warmup) / total),
        ],
        "it runs without an error": [
            lambda step, total, warmup, peak: peak * min((step + 1) / warmup, cosine(step / total)),
        ],
    },
}

RIGHT = {
    "top_k": [top_k, top_k_loop],
    "partner_accuracy": [partner_accuracy, partner_by_gather],
    "train_epoch": [
        epoch_with(),
        epoch_with("backward step zero"),
    ],
    "rate_at": [rate, rate_by_sine],
}
