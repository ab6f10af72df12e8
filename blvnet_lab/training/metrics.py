"""How right a model is: functions of logits (N, num_classes) and labels (N,)."""

from __future__ import annotations

import torch
from torch import Tensor


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of clips whose class is among the k highest logits, in 0..1."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices  # (N, k)
    return (best == labels[:, None]).any(1).float().mean().item()


def partner_accuracy(logits: Tensor, labels: Tensor, partners: Tensor) -> float:
    """Share of clips that get a higher logit for their class than for its partner; a tie is half.

    Args:
        partners: (num_classes,), the label of each class's partner. A model that cannot tell
            partners apart tosses a coin: 0.5.
    """
    rows = torch.arange(len(labels), device=labels.device)
    margin = logits[rows, labels] - logits[rows, partners.to(labels.device)[labels]]
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """(num_classes, num_classes) int64 counts; rows are true classes, columns predicted ones."""
    num_classes = logits.shape[1]
    places = labels * num_classes + logits.argmax(1)
    return torch.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)
