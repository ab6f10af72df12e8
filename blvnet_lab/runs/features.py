"""Extract features of clips, the classifier's input, and probe what can be read off them.

    python -m blvnet_lab features CHECKPOINT MANIFEST --out features.safetensors
    python -m blvnet_lab probe features.safetensors --out model.safetensors

Features are averaged over space, time and views. Since the classifier is linear, it turns them into
the same logits that `evaluate` averages.

A probe is a linear classifier, or nearest neighbours, beside controls. The classifier is logistic
regression: it minimises mean cross-entropy + strength / 2 * (sum of the squared weights), on
standardised features.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from blvnet_lab.data import DataSet
from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import safetensors_bytes
from blvnet_lab.paths import check_target, write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.compare import is_right, mean_over_videos, source_videos
from blvnet_lab.runs.evaluate import SHOWN, check_finite, load_with_views, named_rows, view_clips
from blvnet_lab.training.checkpoint import Trained, load_trained, save_trained
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.evaluation import Predictions, evaluate
from blvnet_lab.training.metrics import top_k_accuracy
from blvnet_lab.training.recipe import Hardware, recipe_from_json

METADATA, COLUMNS = "blvnet_lab_features", ["path", "label", "split", "source_id"]
STRENGTHS, NEIGHBOURS = (10.0, 1.0, 0.1, 0.01, 1e-3), (20, 10, 5, 3, 1)
FOLDS, SHUFFLES = 5, 5
AT_ONCE = 256  # queries at once: the matrix of distances has to fit into memory


@dataclass(frozen=True)
class Features:
    """The input of a network's classifier for N clips, and a description of these."""

    values: Tensor  # (N, C) float32
    clips: pd.DataFrame  # path (or a part's name), label, split, source_id (may be empty)
    classes: tuple[str, ...]  # names in the order of labels
    about: dict[str, Any]  # checkpoint, its sha256, recipe (the views), unreadable videos

    def __str__(self) -> str:
        counts = self.clips["split"].value_counts(sort=False).items()
        splits = ", ".join(f"{number} of {name}" for name, number in counts)
        reasons = [f"\n  {why}" for why in self.about["unreadable"].values()]
        return (
            f"{self.values.shape[1]} features of each of {len(self.clips)} clips ({splits}), of "
            f"{len(self.classes)} classes; {len(reasons)} videos could not be read"
        ) + "".join(reasons[:SHOWN])

    @property
    def labels(self) -> Tensor:  # (N,)
        return torch.tensor([*self.clips["label"]], device="cpu")

    def split(self, name: str) -> Self:
        """Choose the clips of one split; raise ValueError if there are none."""
        chosen, there = self.clips["split"] == name, ", ".join(self.clips["split"].unique())
        if not chosen.any():
            raise ValueError(f'expected features of split "{name}", got only {there}: extract both')
        return replace(self, values=self.values[[*chosen]], clips=self.clips[chosen])

    def network(self) -> Trained:
        """Load the network they come from; ValueError if its file is gone or has changed."""
        trained = load_trained(self.about["checkpoint"])
        if trained.digest != self.about["sha256"]:
            wanted = f"{trained.file}: expected the network that the features are from"
            raise ValueError(f"{wanted}, got another: extract them again")
        recipe = recipe_from_json(json.dumps(self.about["recipe"]))
        notes = {"clips": self.clips["split"].value_counts().to_dict()}
        notes["init"] = "/".join(trained.file.parts[-2:])
        return replace(trained, recipe=recipe, classes=self.classes, notes=notes, multi_label=False)

    def save(self, path: Path) -> None:
        """Write tensors `features` (N, C) and `labels` (N,); the rest goes into JSON metadata."""
        known = {"clips": self.clips.to_dict("list"), "classes": self.classes, "about": self.about}
        tensors = {"features": self.values, "labels": self.labels}
        write_files({path: safetensors_bytes(tensors, {METADATA: known})}, keep=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `save` wrote; raise ValueError if the file is missing or of another kind."""
        try:
            with safe_open(path, framework="pt") as file:
                text = json.loads((file.metadata() or {})[METADATA])
                values = file.get_tensor("features")
        except (SafetensorError, OSError, KeyError) as error:
            wanted = f"{path}: expected a file of `python -m blvnet_lab features`"
            raise ValueError(f"{wanted}, got none, a damaged one or another: {error}") from error
        return cls(values, pd.DataFrame(text["clips"]), tuple(text["classes"]), text["about"])


def features_of(model: VideoNet, dataset: Dataset, **options: Any) -> Predictions:
    """Run `evaluate` without the classifier, so that its `logits` are the features (N, C)."""
    with model.classifier.register_forward_hook(lambda _, inputs, logits: inputs[0]):
        return evaluate(model, dataset, **options)


def extract_features(
    checkpoint: Path,
    manifest: Path,
    /,
    *,
    out: Path,
    split: tuple[str, ...] = ("train", "val"),
    views: str | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Features:
    """Compute the features of a manifest's clips, the input of the network's classifier.

    The manifest's classes need not be the network's. Clips are not augmented.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        manifest: manifest.csv of the clips.
        out: the .safetensors file to write.
        split: one or more, which clips to take.
        views: clips per video x crops per clip (1, 3, 5 or 10), such as 3x3; their features are
            averaged. The default is the recipe's.
        size: height and width of a view in pixels; the default is the recipe's.
        batch_size: views at once, in each process.
        workers: processes that read clips, per computing process; 0 reads in that process itself.

    Raises ValueError if an argument is wrong or no clip can be read, OSError if `out` cannot be
    written to (before the work), FloatingPointError for features that are not finite.
    """
    check_target(out, ".safetensors", read=[checkpoint])
    with process_group() as (ranks, _):
        trained = load_with_views(checkpoint, views, size)
        data_set = DataSet.read(manifest).one_label("features")
        options = {"batch_size": batch_size, "hardware": Hardware(workers=workers)}
        values, tables, unreadable = [], [], {}
        # All splits are opened first, so that a misspelled one fails before the work.
        for clips in [view_clips(data_set, name, trained.recipe) for name in split]:
            found = features_of(trained.model, clips, **options)
            check_finite(found.logits, what="features")
            values.append(found.logits)
            unreadable |= {clips.names[i]: why for i, why in found.unreadable.items()}
            rows = named_rows(data_set, clips).assign(path=clips.names.tolist())
            tables.append(rows[COLUMNS].iloc[found.indices])
        about = {"checkpoint": str(checkpoint.absolute()), "sha256": trained.digest}
        about |= {"recipe": asdict(trained.recipe), "unreadable": unreadable}
        table = pd.concat(tables, ignore_index=True)
        features = Features(torch.cat(values), table, data_set.classes, about)
        if ranks.is_first:
            features.save(out)
        return features


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear classifier and of nearest neighbours, beside their controls."""

    table: pd.DataFrame  # method, accuracy, its interval's low and high (0..1), how
    weight: Tensor  # (num_classes, C) float64, the linear classifier's
    bias: Tensor  # (num_classes,)
    about: str
    out: Path | None = None  # the network with this classifier

    def __str__(self) -> str:
        percent = self.table.set_index("method") * [100, 100, 100, 1]
        table = percent.to_string(na_rep="", float_format="{:.1f}".format, index_names=False)
        written = f"\n{self.out} is the network with the linear classifier" if self.out else ""
        return f"{self.about}\n\n{table}{written}"


def fit_linear(
    x: Tensor, labels: Tensor, num_classes: int, strength: float
) -> tuple[Tensor, Tensor]:
    """Fit a linear classifier to features (N, C); return weights (num_classes, C) and biases."""
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
    folded = weight.detach() / scale  # for features that are not standardised
    return folded, bias.detach() - folded @ mean


def linear(x: Tensor, labels: Tensor, num_classes: int, strength: float, queries: Tensor) -> Tensor:
    """Fit a classifier to features (N, C), and compute the logits of queries (M, C)."""
    weight, bias = fit_linear(x, labels, num_classes, strength)
    return queries.double() @ weight.T + bias


def nearest(x: Tensor, labels: Tensor, num_classes: int, k: int, queries: Tensor) -> Tensor:
    """Let the k nearest of (standardised) features (N, C) vote on queries: (M, num_classes).

    A vote counts 1, plus less than 1 / k, more the nearer it is: that only breaks ties.
    """
    mean, scale = _mean_and_scale(x)
    known, asked = ((part.double() - mean) / scale for part in (x, queries))
    votes, k = asked.new_zeros(len(queries), num_classes), min(k, len(x))
    for some, counts in zip(asked.split(AT_ONCE), votes.split(AT_ONCE), strict=True):
        distances, found = torch.cdist(some, known).topk(k, largest=False)  # (AT_ONCE, k)
        counts.scatter_add_(1, labels[found], 1 + 1 / ((k + 1) * (1 + distances)))
    return votes


def _mean_and_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    deviation, mean = torch.std_mean(x.double(), 0, correction=0)
    return mean, torch.where(deviation > 1e-12, deviation, 1.0)  # constant features stay 0


def source_folds(clips: pd.DataFrame) -> Tensor:
    """Assign clips to folds (N,), balanced by class; clips of one source stay together."""
    source = pd.factorize(source_videos(clips))[0]
    labels = clips["label"].groupby(source).first()  # of each source
    if len(labels) < 2:
        wanted = "expected training clips of two or more source videos, so that one can be held out"
        raise ValueError(f"{wanted}, got 1: add videos, or see to source_id in the manifest")
    order = np.lexsort((np.random.default_rng(0).random(len(labels)), labels))
    return torch.from_numpy((order.argsort() % FOLDS)[source])


def cross_validated(
    method: Callable[..., Tensor], settings: Sequence[float], features: Features
) -> float:
    """Choose the setting with the best held-out accuracy; cross-entropy breaks ties."""
    x, labels, classes = features.values, features.labels, len(features.classes)
    folds, scores = source_folds(features.clips), {}
    for setting in tqdm(settings, f"cross-validating {method.__name__}", leave=False, delay=2):
        logits = torch.zeros(len(labels), classes, dtype=torch.float64)
        for held in (folds == fold for fold in folds.unique()):
            logits[held] = method(x[~held], labels[~held], classes, setting, x[held])
        right = top_k_accuracy(logits, labels)
        scores[setting] = right, -F.cross_entropy(logits, labels).item()
    return max(scores, key=scores.get)


def ask_neighbours(train: Features, queries: Tensor) -> tuple[Tensor, int]:
    """Choose the number of neighbours; return their votes (M, num_classes), and their number."""
    k = min(cross_validated(nearest, NEIGHBOURS, train), len(train.labels))
    return nearest(train.values, train.labels, len(train.classes), k, queries), k


@on_cpu()
def probe_features(features: Path, /, *, split: str = "val", out: Path | None = None) -> Probe:
    """Fit a linear classifier and nearest neighbours to features; compare them with controls.

    They are fitted to the split "train". The penalty's strength and the number of neighbours are
    chosen there, by cross-validation that keeps clips of one source video together.

    Args:
        features: the file that `features` wrote.
        split: which clips to classify.
        out: a .safetensors file for the network with this classifier, for `predict` and `evaluate`.

    Raises ValueError for a missing file or split; with `out`, if the network's file has changed.
    """
    found = Features.read(features)
    if out is not None:
        check_target(out, ".safetensors", read=[features, found.about["checkpoint"]])
    trained = found.network() if out is not None else None
    train, test = found.split("train"), found.split(split)
    labels, classes, count = train.labels, len(found.classes), len(test.labels)
    strength = cross_validated(linear, STRENGTHS, train)
    weight, bias = fit_linear(train.values, labels, classes, strength)
    votes, k = ask_neighbours(train, test.values)
    sources = source_videos(test.clips.reset_index(drop=True))
    made = test.values.double() @ weight.T + bias
    shares = [mean_over_videos(is_right(logits, test.labels), sources) for logits in (made, votes)]
    shuffled = []
    for seed in range(SHUFFLES):
        draw = torch.randperm(len(labels), generator=torch.Generator("cpu").manual_seed(seed))
        logits = linear(train.values, labels[draw], classes, strength, test.values)
        shuffled.append(top_k_accuracy(logits, test.labels))
    how = f"mean and range of {SHUFFLES} shuffles"
    spread = sum(shuffled) / SHUFFLES, min(shuffled), max(shuffled)
    largest = test.labels.bincount().max().item() / count
    rows = [
        ("linear classifier", *shares[0], f"strength {strength:g}"),
        ("nearest neighbours", *shares[1], f"{k} of them"),
        ("linear, labels shuffled", *spread, how),
        ("largest class", largest, None, None, "always named"),
        ("chance", 1 / classes, None, None, "1 / classes"),
    ]
    about = (
        f'accuracy in % on {count} clips of "{split}", with its 95 % interval over source videos; '
        f"trained on {len(labels)} clips, {len(weight[0])} features each, of {classes} classes"
    )
    if trained is not None:
        trained.model.reset_classifier(classes)
        trained.model.classifier.load_state_dict({"weight": weight, "bias": bias})
        save_trained(trained, out)
    table = pd.DataFrame(rows, columns=["method", "accuracy", "low", "high", "how"])
    return Probe(table, weight, bias, about, out)


@on_cpu()
def flat_features(features: Features, split: str = "val") -> tuple[pd.DataFrame, str]:
    """Project features onto the first two principal components of "train"; say what that loses.

    Returns the clips with the columns x, y and class_name, for `viz.embedding_hover`, and a title.
    """
    mean, scale = _mean_and_scale(features.split("train").values)
    scaled = replace(features, values=(features.values.double() - mean) / scale)
    _, sizes, axes = torch.linalg.svd(scaled.split("train").values, full_matrices=False)
    flat = replace(features, values=scaled.values @ axes[:2].T)
    right = []
    for found in (flat, features):
        test = found.split(split)
        votes, _ = ask_neighbours(found.split("train"), test.values)
        right.append(top_k_accuracy(votes, test.labels))
    share = (sizes[:2].square().sum() / sizes.square().sum()).item()
    title = (
        f"2 of {len(mean)} dimensions, with {share:.0%} of the variance; nearest neighbours right: "
        f"{right[0]:.0%} here, {right[1]:.0%} in all dimensions"
    )
    names = [features.classes[label] for label in features.clips["label"]]
    x, y = flat.values.T.tolist()
    return features.clips.assign(x=x, y=y, class_name=names), title
