"""From a manifest and a recipe to a trained network in a folder; and fine-tuning.

python -m blvnet_lab train my_list/manifest.csv --out runs/mine --preset classroom
torchrun --nproc-per-node 4 -m blvnet_lab train ...
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blvnet_lab.data import (
    ClipDataset,
    DataSet,
    evaluation_transform,
    training_transform,
    useful_short_side,
)
from blvnet_lab.data.dataset_files import CLASS_LIST
from blvnet_lab.training.checkpoint import (
    BEST,
    LAST,
    MODEL,
    Trained,
    load_trained,
    save_trained,
)
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.engine import Fitted, build, fit
from blvnet_lab.training.recipe import Output, Recipe
from blvnet_lab.runs.start import start_from


@dataclass(frozen=True)
class Run:
    """What `train` did."""

    fitted: Fitted
    trained: Trained | None  # the best network, as in the file; None if the run was stopped
    file: Path  # of that network
    start: str  # where the network started from


def train(
    manifest: str | os.PathLike,
    out: str | os.PathLike,
    recipe: Recipe,
    *,
    init: str = "",
    resume: bool = False,
    save_minutes: float = 10.0,
    keep_every: int | None = None,
    tensorboard: bool = False,
    after_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Run:
    """Trains the recipe's network on a manifest's clips of "train", judged on those of "val".

    Call it alone, or in each of the processes that torchrun starts. Files in `out` are listed in
    `checkpoint.py`; the network at its best becomes `model.safetensors` when the run has ended.

    Args:
        init: where the network starts from (`start.start_from`); empty for chance.
        resume, save_minutes, keep_every, tensorboard: as in `recipe.Output`.
        after_epoch: as in `engine.fit`.

    Raises:
        What `engine.fit`, `start.start_from` and `ClipDataset` raise.
    """
    out = Path(out)
    with process_group() as (ranks, device):
        train_set, val_set, classes = clip_datasets(manifest, recipe)
        model = build(recipe, len(classes))
        going_on = resume and (out / LAST).is_file()
        start = "a checkpoint of this run" if going_on else "chance"
        if init and not going_on:
            start = f"{init}\n{start_from(model, init, classes)}"
        fitted = fit(
            model,
            train_set,
            val_set,
            recipe,
            device=device,
            output=Output(out, resume, save_minutes, keep_every, tensorboard),
            after_epoch=after_epoch,
        )
        trained = None
        if not fitted.stopped and ranks.is_first:
            trained = load_trained(out / BEST)
            save_trained(trained, out / MODEL)
        return Run(fitted, trained, out / MODEL, start)


def clip_datasets(
    manifest: str | os.PathLike, recipe: Recipe
) -> tuple[ClipDataset, ClipDataset, tuple[str, ...]]:
    """Training and validation clips of a manifest, and the names of its classes.

    Unreadable videos are passed over in training (`ClipDataset.unreadable` names them).

    Raises:
        ValueError: no such manifest or split, or it has no class list, which mirroring needs.
    """
    data_set = DataSet.read(manifest)
    if recipe.augmentation.mirror and data_set.mirror is None:
        raise ValueError(
            f"expected {CLASS_LIST} beside {manifest}, which says of every class what its mirror "
            "image is, found none: write it with `python -m blvnet_lab manifest`, or leave out "
            "augmentation.mirror"
        )
    names = data_set.classes
    changes = recipe.augmentation
    train_set = ClipDataset(
        data_set,
        "train",
        recipe.num_frames,
        training_transform(
            recipe.size,
            crop=changes.crop,
            jitter=changes.jitter,
            rand_augment=changes.rand_augment,
            erase=changes.erase,
        ),
        random_frames=True,
        in_memory=recipe.hardware.in_memory,
        stride=recipe.stride,
        mirror=changes.mirror,
        short_side=recipe.read_short_side or useful_short_side(recipe.size, changes.crop),
        skip_unreadable=True,
    )
    judged = recipe.evaluation
    val_set = ClipDataset(
        data_set,
        "val",
        recipe.num_frames,
        evaluation_transform(judged.size or recipe.size, judged.short_side),
        in_memory=recipe.hardware.in_memory,
        stride=recipe.stride,
        short_side=recipe.read_short_side,
    )
    return train_set, val_set, names
