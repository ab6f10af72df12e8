"""How right a model is: functions of logits (N, num_classes) and labels (N,)."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

MAIN = ("top_1", "map")  # by which epochs are compared, of one label and of several


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


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor | None:
    """Count clips, int64, by true class (row) and predicted one; None where labels are several."""
    if labels.ndim == 2:
        return None
    num_classes = logits.shape[1]
    places = labels * num_classes + logits.argmax(1)
    return torch.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def average_precisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute each class's average precision (num_classes,), of labels (N, num_classes), 0 or 1.

    The mean, over the clips of the class, of the share that the class has in all clips with at
    least the same logit, so that of equal ones none comes first. NaN for a class without clips.
    """
    found = []
    for values, is_own in zip(logits.T.contiguous(), labels.T > 0, strict=True):
        own = values[is_own]
        hits, clips = (len(x) - torch.searchsorted(x.sort().values, own) for x in (own, values))
        found.append((hits.double() / clips).mean())
    return torch.stack(found)


def per_class_scores(
    logits: Tensor, labels: Tensor, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Tabulate each class that has clips: clips, top_1 (in 0..1), taken_for (its worst rival).

    The mean of top_1 is the mean class accuracy, to which rare classes count as much as others. Of
    several labels a clip: clips and average_precision, the mean of which is mAP.

    Args:
        names: of the classes, in the order of labels; None numbers them.
    """
    names = names or [str(label) for label in range(logits.shape[1])]
    if (matrix := confusion_matrix(logits, labels)) is None:
        clips, found = labels.sum(0).long(), average_precisions(logits, labels)
        scores = {"average_precision": found.tolist()}
    else:
        clips, wrong = matrix.sum(1), matrix - matrix.diag().diag()
        rivals = zip(wrong.argmax(1).tolist(), wrong.any(1).tolist(), strict=True)
        scores = {"top_1": (matrix.diag() / clips).tolist()}
        scores["taken_for"] = [names[rival] if is_one else "" for rival, is_one in rivals]
    table = pd.DataFrame({"class_name": names, "clips": clips.tolist(), **scores})
    return table.query("clips > 0").reset_index(drop=True)
