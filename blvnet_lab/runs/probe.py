"""What can be read off features: by a linear classifier and by nearest neighbours, with controls.

    python -m blvnet_lab probe features.safetensors --out model.safetensors

The classifier is logistic regression: it minimises mean cross-entropy + strength / 2 * (sum of the
squared weights), for features brought to mean 0 and deviation 1; L-BFGS finds the one optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from blvnet_lab.paths import check_target
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.features import Features
from blvnet_lab.training.checkpoint import save_trained
from blvnet_lab.training.metrics import top_k_accuracy

STRENGTHS, NEIGHBOURS = (10.0, 1.0, 0.1, 0.01, 1e-3), (20, 10, 5, 3, 1)
FOLDS, SHUFFLES = 5, 5


@dataclass(frozen=True)
class Probe:
    """How right a linear classifier and nearest neighbours are, and what they must beat."""

    table: pd.DataFrame  # method, accuracy, low, high (of its interval) in 0..1, how
    weight: Tensor  # (num_classes, C) float64, of the linear classifier
    bias: Tensor  # (num_classes,)
    about: str
    out: Path | None = None  # the network with this classifier

    def __str__(self) -> str:
        percent = self.table.set_index("method") * {
            "accuracy": 100,
            "low": 100,
            "high": 100,
            "how": 1,
        }
        table = percent.to_string(na_rep="", float_format="{:.1f}".format, index_names=False)
        written = f"\n{self.out} is the network with the linear classifier" if self.out else ""
        return f"{self.about}\n\n{table}{written}"


def fit_linear(
    x: Tensor, labels: Tensor, num_classes: int, strength: float
) -> tuple[Tensor, Tensor]:
    """Fit a linear classifier to features (N, C): weights (num_classes, C), biases; in float64."""
    mean, scale = _mean_and_scale(x)
    z = (x.double() - mean) / scale
    weight = z.new_zeros(num_classes, z.shape[1], requires_grad=True)
    bias = z.new_zeros(num_classes, requires_grad=True)
    options = {"tolerance_grad": 1e-5, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=1000, **options)

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = F.cross_entropy(z @ weight.T + bias, labels) + strength / 2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    folded = weight.detach() / scale  # for features as they are
    return folded, bias.detach() - folded @ mean


def linear(x: Tensor, labels: Tensor, num_classes: int, strength: float, queries: Tensor) -> Tensor:
    """Compute the logits of queries (M, C) by a classifier of other features (N, C)."""
    weight, bias = fit_linear(x, labels, num_classes, strength)
    return queries.double() @ weight.T + bias


def nearest(x: Tensor, labels: Tensor, num_classes: int, k: int, queries: Tensor) -> Tensor:
    """Let the k nearest of features (N, C) vote on queries (M, C): (M, num_classes).

    Near is a high cosine of standardised features; a vote is its exponential.
    """
    mean, scale = _mean_and_scale(x)
    known, asked = (F.normalize((part.double() - mean) / scale) for part in (x, queries))
    cosines, found = (asked @ known.T).topk(min(k, len(x)))  # (M, k)
    votes = asked.new_zeros(len(queries), num_classes)
    return votes.scatter_add(1, labels[found], cosines.exp())


def _mean_and_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    deviation, mean = torch.std_mean(x.double(), 0, correction=0)
    return mean, torch.where(deviation > 1e-12, deviation, 1.0)  # of a constant there is none


def source_folds(clips: pd.DataFrame) -> Tensor:
    """Divide clips into folds (N,), every class evenly; clips of one source stay together."""
    sources = clips["source_id"].where(clips["source_id"] != "", clips["path"])
    source = pd.factorize(sources)[0]
    labels = clips["label"].groupby(source).first()  # of each source
    if len(labels) < 2:
        raise ValueError(
            "expected training clips of two or more source videos, so that one can be held out, "
            f"got {len(labels)}: add videos, or see to source_id in the manifest"
        )
    order = np.lexsort((np.random.default_rng(0).random(len(labels)), labels))
    return torch.from_numpy((order.argsort() % FOLDS)[source])


def cross_validated(
    method: Callable[..., Tensor], settings: Sequence[float], features: Features
) -> float:
    """Choose the setting that is most often right on held-out folds; of equals the surest one."""
    labels, folds, scores = features.labels, source_folds(features.clips), {}
    for setting in tqdm(settings, f"cross-validating {method.__name__}", leave=False, delay=2):
        logits = torch.zeros(len(labels), len(features.classes), dtype=torch.float64)
        for fold in folds.unique():
            held = folds == fold
            known = features.values[~held], labels[~held], len(features.classes)
            logits[held] = method(*known, setting, features.values[held])
        right = top_k_accuracy(logits, labels)
        scores[setting] = right, -F.cross_entropy(logits, labels).item()
    return max(scores, key=scores.get)


def interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Compute Wilson's interval (1927), of 95 %, of a share that was found among `count`."""
    middle = share + z**2 / (2 * count)
    width = z * (share * (1 - share) / count + (z / count / 2) ** 2) ** 0.5
    return (middle - width) / (1 + z**2 / count), (middle + width) / (1 + z**2 / count)


def probe_features(features: Path, /, *, split: str = "val", out: Path | None = None) -> Probe:
    """Train a linear classifier and nearest neighbours on features; show what they must beat.

    They learn from the split "train". The strength of the penalty and the number of neighbours are
    chosen there, by cross-validation in which clips of one source video stay together.

    Args:
        features: the file that `features` wrote.
        split: whose clips are classified.
        out: a .safetensors file for the network with this classifier: for `predict`, `evaluate`.

    Raises:
        ValueError: no such file or split; the network is no longer there, or another.
    """
    if out is not None:
        check_target(out, ".safetensors")
    found = Features.read(features)
    trained = found.network() if out is not None else None
    train, test = found.split("train"), found.split(split)
    (x, labels), num_classes = (train.values, train.labels), len(found.classes)
    strength = cross_validated(linear, STRENGTHS, train)
    k = cross_validated(nearest, NEIGHBOURS, train)
    weight, bias = fit_linear(x, labels, num_classes, strength)
    rows = []
    for method, logits, how in (
        ("linear classifier", test.values.double() @ weight.T + bias, f"strength {strength:g}"),
        ("nearest neighbours", nearest(x, labels, num_classes, k, test.values), f"{k} of them"),
    ):
        right = top_k_accuracy(logits, test.labels)
        rows.append((method, right, *interval(right, len(test.labels)), how))
    shuffled = []
    for seed in range(SHUFFLES):
        draw = torch.randperm(len(x), generator=torch.Generator("cpu").manual_seed(seed))
        logits = linear(x, labels[draw], num_classes, strength, test.values)
        shuffled.append(top_k_accuracy(logits, test.labels))
    spread, how = (min(shuffled), max(shuffled)), f"mean and range of {SHUFFLES} shuffles"
    largest = test.labels.bincount().max().item() / len(test.labels)
    rows += [
        ("linear, labels shuffled", sum(shuffled) / SHUFFLES, *spread, how),
        ("largest class", largest, None, None, "always named"),
        ("chance", 1 / num_classes, None, None, "1 / classes"),
    ]
    about = (
        f'accuracy in % on {len(test.labels)} clips of "{split}", with its 95 % interval; trained '
        f"on {len(x)} clips, {x.shape[1]} features each, of {num_classes} classes"
    )
    if trained is not None:
        trained.model.reset_classifier(num_classes)
        trained.model.classifier.load_state_dict({"weight": weight, "bias": bias})
        save_trained(trained, out)
    table = pd.DataFrame(rows, columns=["method", "accuracy", "low", "high", "how"])
    return Probe(table, weight, bias, about, out)
