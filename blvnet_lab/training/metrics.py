"""How right a model is: functions of logits (N, num_classes) and labels (N,)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor


def ranked(logits: Tensor) -> Tensor:
    """Rank labels (N, num_classes), the likeliest first; of equal logits the lower, as argmax."""
    # Ties are not rare in bfloat16, and `topk` would break them otherwise than argmax does.
    return logits.sort(dim=1, descending=True, stable=True).indices


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Return the share of clips whose class is among the k highest logits, in 0..1."""
    return (ranked(logits)[:, :k] == labels[:, None]).any(1).float().mean().item()


def partner_accuracy(logits: Tensor, labels: Tensor, partners: Tensor) -> float:
    """Return the share of clips with a higher logit for their class than for its partner.

    Args:
        partners: (num_classes,), the label of each class's partner. A model that cannot tell
            partners apart tosses a coin: 0.5. A tie is half.
    """
    rows = torch.arange(len(labels), device=labels.device)
    margin = logits[rows, labels] - logits[rows, partners.to(labels.device)[labels]]
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Count clips, int64 (num_classes, num_classes): rows are true classes, columns predicted."""
    num_classes = logits.shape[1]
    places = labels * num_classes + logits.argmax(1)
    return torch.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_scores(
    logits: Tensor, labels: Tensor, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Tabulate each class that has clips: clips, top_1 (in 0..1), taken_for (its worst rival).

    The mean of top_1 is the mean class accuracy, to which rare classes count as much as others.

    Args:
        names: of the classes, in the order of labels; None numbers them.
    """
    matrix, rows = confusion_matrix(logits, labels), []
    names = names or [str(label) for label in range(len(matrix))]
    wrong = matrix - matrix.diag().diag()
    for label in matrix.sum(1).nonzero().flatten().tolist():
        clips, rival = matrix[label].sum().item(), wrong[label].argmax()
        right = (matrix[label, label] / clips).item()
        rows.append((names[label], clips, right, names[rival] if wrong[label].any() else ""))
    return pd.DataFrame(rows, columns=["class_name", "clips", "top_1", "taken_for"])
