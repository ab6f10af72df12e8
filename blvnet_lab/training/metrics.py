"""Metrics: functions of logits (N, num_classes), wrong if not finite, and labels (N,)."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor


def ranked(logits: Tensor) -> Tensor:
    """Rank labels (N, num_classes), most likely first; ties go to the lower label, as in argmax."""
    # Ties are not rare in bfloat16, and `topk` breaks them differently from argmax.
    return logits.sort(dim=1, descending=True, stable=True).indices


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Return the share of clips whose class is among the k highest logits, in 0..1."""
    is_right = (ranked(logits)[:, :k] == labels[:, None]).any(1)
    return (is_right & logits.isfinite().all(1)).float().mean().item()


def partner_accuracy(logits: Tensor, labels: Tensor, partners: Tensor) -> float:
    """Return the share of clips with a higher logit for their class than for its partner.

    `partners` (num_classes,) holds the label of each class's partner. A model that cannot tell
    partners apart tosses a coin: 0.5. A tie counts half.
    """
    rows = torch.arange(len(labels), device=labels.device)
    margin = logits[rows, labels] - logits[rows, partners.to(labels.device)[labels]]
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor | None:
    """Count clips with finite logits, int64, by true (row) and predicted class.

    None for several labels per clip.
    """
    if labels.ndim == 2:
        return None
    num_classes = logits.shape[1]
    places = (labels * num_classes + logits.argmax(1))[logits.isfinite().all(1)]
    return torch.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def average_precisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute each class's average precision (num_classes,) for labels (N, num_classes), 0 or 1.

    For each clip of the class, take the share of the class among all clips with at least the same
    logit, and average; so no tie is broken in anybody's favour. NaN for a class without clips.
    """
    found, logits = [], logits.where(logits.isfinite().all(1, True), -torch.inf)
    for values, is_own in zip(logits.T.contiguous(), labels.T > 0, strict=True):
        own = values[is_own]
        hits, clips = (len(x) - torch.searchsorted(x.sort().values, own) for x in (own, values))
        found.append((hits.double() / clips).mean())
    return torch.stack(found)


def per_class_scores(
    logits: Tensor, labels: Tensor, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Tabulate each class that has clips: clips, top_1 (in 0..1), taken_for (its main rival).

    The mean of top_1 is the mean class accuracy, in which rare classes count as much as others. For
    several labels per clip: clips and average_precision, whose mean is mAP.
    The classes' `names` are in the order of labels; None numbers them.
    """
    names = names or [str(label) for label in range(logits.shape[1])]
    if (matrix := confusion_matrix(logits, labels)) is None:
        clips, found = labels.sum(0).long(), average_precisions(logits, labels)
        scores = {"average_precision": found.tolist()}
    else:
        clips, wrong = labels.bincount(minlength=len(matrix)), matrix - matrix.diag().diag()
        rivals = zip(wrong.argmax(1).tolist(), wrong.any(1).tolist(), strict=True)
        scores = {"top_1": (matrix.diag() / clips).tolist()}
        scores["taken_for"] = [names[rival] if is_one else "" for rival, is_one in rivals]
    table = pd.DataFrame({"class_name": names, "clips": clips.tolist(), **scores})
    return table.query("clips > 0").reset_index(drop=True)
