"""Extract features of clips, the classifier's input, into a file for probes and pictures.

    python -m blvnet_lab features CHECKPOINT MANIFEST --out features.safetensors

They are averaged over space, time and views. Since the classifier is linear, it turns them into the
same logits that `evaluate` averages.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from blvnet_lab.data import DataSet
from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import safetensors_bytes
from blvnet_lab.paths import atomic_write, check_target
from blvnet_lab.runs.evaluate import SHOWN, check_finite, load_with_views, named_rows, view_clips
from blvnet_lab.training.checkpoint import Trained, load_trained
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.evaluation import Predictions, evaluate
from blvnet_lab.training.recipe import Hardware, recipe_from_json

METADATA, COLUMNS = "blvnet_lab_features", ["path", "label", "split", "source_id"]


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
        with atomic_write(path, keep=True) as partial:
            partial.write_bytes(safetensors_bytes(tensors, {METADATA: known}))

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
