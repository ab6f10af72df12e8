"""Evaluate a network on all clips of a data set, on any number of processes.

Logits are averaged over the views of a clip, before any softmax. Each rank takes every n-th clip,
and no clip is evaluated twice, so the figures do not depend on the number of ranks.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from blvnet_lab.data import VideoReadError
from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.data.dataset_files import SEPARATOR
from blvnet_lab.progress import tqdm
from blvnet_lab.training.distributed import current_ranks, pick_device
from blvnet_lab.training.loading import make_loader, report_dead_worker, timed_batches
from blvnet_lab.training.metrics import per_class_scores, ranked, top_k_accuracy
from blvnet_lab.training.recipe import Hardware


@dataclass(frozen=True)
class Predictions:
    """A network's answers to N clips, in the order of the data set, on the CPU."""

    logits: Tensor  # (N, num_classes) float32, averaged over the views of each clip
    labels: Tensor  # (N,); for several labels per clip (N, num_classes), 0 and 1
    indices: Tensor  # (N,) numbers of the clips in the data set
    unreadable: dict[int, str]  # number -> reason, for clips that are not among the N


class Stopped(Exception):
    """The run was asked to stop."""


class _Numbered(Dataset):
    """A data set of (number, clip, label), or (number, reason) for unreadable clips."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Tensor, int] | tuple[int, str]:
        try:
            return index, *self.dataset[index]
        except VideoReadError as error:
            return index, str(error)


@on_cpu()
def _collate(items: list[tuple]) -> tuple[list[Tensor], dict[int, str]]:
    """Collate numbers, clips and labels, if there are any; list those that could not be read."""
    good = [item for item in items if len(item) == 3]
    return default_collate(good) if good else [], dict(item for item in items if len(item) == 2)


@report_dead_worker()
@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 32,
    device: torch.device | None = None,
    hardware: Hardware | None = None,
    stop: Callable[[], bool] | None = None,
) -> Predictions:
    """Evaluate every clip once; inside `process_group`, each rank gets all predictions.

    Leaves the model in eval mode, on `device` (None picks a GPU if there is one).

    Args:
        dataset: items (clip (T, C, H, W), label), or (views (V, T, C, H, W), label).
        batch_size: views at once, at most.
        hardware: for its precision and workers; None for float32 and no workers.
        stop: called after every batch; True stops the evaluation.

    Raises:
        ValueError: no clip could be read, or `batch_size` is not positive.
        DeadWorkerError: a process that reads clips has died.
        Stopped: `stop` returned True on some rank.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size to be positive, got {batch_size}")
    hardware, device, ranks = hardware or Hardware(), device or pick_device(), current_ranks()
    model.eval().to(device)
    own = range(ranks.rank, len(dataset), ranks.world)
    size = max(1, batch_size // count_views(dataset))
    how = {"batch_size": size, "sampler": own, "collate_fn": _collate}
    loader = make_loader(_Numbered(dataset), min(hardware.workers, len(own)), device, **how)
    found, unreadable, stopped, hidden = [], {}, False, not ranks.is_first
    bar = tqdm(total=len(own), desc="evaluating", unit="clip", leave=False, disable=hidden)
    with bar, autocast(device, hardware):
        for _, (good, bad) in timed_batches(loader):
            unreadable |= bad
            if good:
                numbers, clips, labels = good
                labels = labels if labels.ndim == 2 else labels.long()  # from any integer type
                views = clips if clips.ndim == 6 else clips[:, None]  # (B, V, T, C, H, W)
                views = views.to(device, non_blocking=True)
                few = views.flatten(0, 1).split(batch_size)  # all, unless V is larger
                logits = torch.cat([model(some).float() for some in few])  # (B*V, num_classes)
                logits = logits.unflatten(0, views.shape[:2]).mean(1).cpu()
                found.append((logits, labels, numbers))
            bar.update(len(bad) + (len(labels) if good else 0))
            if stopped := stop is not None and stop():
                break
    if ranks.any(stopped)[0]:
        raise Stopped
    everywhere = ranks.gather((found, unreadable))
    parts = zip(*(batch for batches, _ in everywhere for batch in batches), strict=True)
    logits, labels, indices = map(torch.cat, parts)
    order = indices.argsort()
    bad = {index: why for _, bad in everywhere for index, why in bad.items()}
    return Predictions(logits[order], labels[order], indices[order], dict(sorted(bad.items())))


def autocast(device: torch.device, hardware: Hardware) -> torch.autocast:
    """Compute with the hardware's precision inside the `with`."""
    dtype = getattr(torch, hardware.precision)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def count_views(dataset: Dataset) -> int:
    """Count the views of each clip, by reading one; raise ValueError if none can be read."""
    for index in range(len(dataset)):
        with suppress(VideoReadError):
            clip = dataset[index][0]
            return len(clip) if clip.ndim == 5 else 1
    words = f"expected clips to evaluate, but not one of the {len(dataset)} could be read"
    raise ValueError(f"{words}: see whether the manifest is the right one, and their disk there")


def standard_scores(predictions: Predictions) -> dict[str, float]:
    """Return top-1, top-5 and mean class accuracy, and the share of the largest class, in 0..1.

    The last is the accuracy of always naming that class. For several labels per clip: mAP over the
    classes that have clips, and its value for logits that are the same for all clips. If there are
    clips with logits that are not finite, also their number, not_finite.
    """
    logits, labels = predictions.logits, predictions.labels
    bad = {"not_finite": count} if (count := (~logits.isfinite().all(1)).sum().item()) else {}
    if labels.ndim == 2:
        table = per_class_scores(logits, labels)
        constant = float(table["clips"].mean()) / len(labels)
        return bad | {"map": float(table["average_precision"].mean()), "constant": constant}
    return bad | {
        "top_1": top_k_accuracy(logits, labels),
        "top_5": top_k_accuracy(logits, labels, 5),
        "mean_class": float(per_class_scores(logits, labels)["top_1"].mean()),
        "largest_class": labels.bincount().max().item() / len(labels),
    }


def predictions_table(
    predictions: Predictions, classes: Sequence[str], paths: Sequence[str], labels: Sequence[int]
) -> pd.DataFrame:
    """Tabulate all clips, including unreadable ones: the true class and the five best guesses.

    Columns: path, class_name, label, predicted, right, rank (of the right class, from 1), class_1
    and probability_1 to class_5 and probability_5, unreadable (the reason; empty for all others).
    With several labels, the one that ranks highest counts, and probabilities are independent.

    Args:
        classes: names in the order of labels.
        paths, labels: of all clips of the data set.
    """
    names, labels, logits = np.array(classes, dtype=object), np.asarray(labels), predictions.logits
    order, several = ranked(logits), labels.ndim == 2  # (N, num_classes)
    values = logits.sigmoid() if several else logits.softmax(1)
    probabilities = values.gather(1, order).double().numpy().round(6)
    own = predictions.labels  # of readable clips
    is_right = (own.gather(1, order) > 0 if several else order == own[:, None]).numpy()
    found = {"predicted": names[order[:, 0]], "right": is_right[:, 0]}
    found["rank"] = is_right.argmax(1) + 1
    for place in range(min(5, order.shape[1])):
        found[f"class_{place + 1}"] = names[order[:, place]]
        found[f"probability_{place + 1}"] = probabilities[:, place]
    texts = labels if not several else [SEPARATOR.join(map(str, *row.nonzero())) for row in labels]
    full = [SEPARATOR.join(names[row]) for row in labels > 0] if several else names[labels]
    table = pd.DataFrame({"path": list(paths), "class_name": full, "label": texts})
    table = table.join(pd.DataFrame(found, index=predictions.indices.numpy()))
    why = pd.Series(predictions.unreadable, dtype=object).reindex(table.index)
    table["unreadable"] = why.fillna("")
    return table.astype({"right": "boolean", "rank": "Int64"})
