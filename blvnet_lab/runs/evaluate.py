"""How good a trained network is, on all clips of a split.

    python -m blvnet_lab evaluate runs/mine/model.safetensors my_list/manifest.csv --views 3x10
    torchrun --nproc-per-node 4 -m blvnet_lab evaluate ...       # the same figures, sooner

A video is judged by its views, num_clips x crops, whose logits are averaged. `judge` writes:

    scores.json       the figures, how they were made, and the videos that could not be read
    predictions.csv   a row for every clip (`evaluation.predictions_table`)
    per_class.csv     clips, top-1 and worst rival of every class
    confusion.csv     how many clips of each class (rows) were taken for which (columns)
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from blvnet_lab.data import ClipDataset, DataSet, view_transform
from blvnet_lab.data.dataset_files import CLASS_LIST
from blvnet_lab.paths import written_whole
from blvnet_lab.training.checkpoint import Trained, load_trained
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.evaluation import (
    Predictions,
    evaluate,
    predictions_table,
    standard_scores,
)
from blvnet_lab.training.metrics import per_class_scores, confusion_matrix
from blvnet_lab.training.recipe import Hardware, Recipe

SCORES, TABLE = "scores.json", "predictions.csv"
PER_CLASS, CONFUSION = "per_class.csv", "confusion.csv"
TITLES = {"top_1": "top-1", "top_5": "top-5", "mean_class": "mean class accuracy"}


@dataclass(frozen=True)
class Judged:
    """How a network did on the clips of a split; the same on every rank."""

    about: dict[str, Any]  # what was judged, and how
    clips: int  # of the split, the unreadable ones among them
    unreadable: dict[str, str]  # those that could not be read, by path, and why: in no figure
    left_out: dict[str, int]  # rows of the split that the manifest says are of no use, by status
    scores: dict[str, float]  # top_1, top_5, mean_class; in 0..1
    classes: tuple[str, ...]  # names in the order of labels
    per_class: pd.DataFrame  # metrics.per_class_scores
    confusion: Tensor  # (num_classes, num_classes) counts; rows are true classes
    table: pd.DataFrame  # evaluation.predictions_table
    predictions: Predictions

    def __str__(self) -> str:
        about = self.about
        figures = [
            f"{title} {100 * self.scores[name]:.2f} %"
            for name, title in TITLES.items()
            if name != "top_5" or len(self.classes) > 5  # of five classes every clip is a hit
        ]
        left_out = [f"{number} {status}" for status, number in self.left_out.items()]
        return (
            f"{', '.join(figures)}\n"
            f'of {self.clips} clips of "{about["split"]}", {len(self.unreadable)} could not be read'
            + (f"; left out by the manifest: {', '.join(left_out)}" if left_out else "")
            + f"\n{about['views']} views (clips x crops) of {about['num_frames']} frames of "
            f"{about['size'][0]} x {about['size'][1]} pixels, {about['precision']}"
        )


def judge(
    checkpoint: str | os.PathLike,
    manifest: str | os.PathLike,
    *,
    split: str = "val",
    views: str | None = None,
    size: tuple[int, int] | None = None,
    out: str | os.PathLike | None = None,
    batch_size: int = 32,
    hardware: Hardware | None = None,
) -> Judged:
    """Judges every clip of a split once. Call it alone, or in each process that torchrun starts.

    Args:
        checkpoint: `model.safetensors` or `best.pt` of a run.
        views: "3x10" for three clips of each video in ten crops; None as the recipe says.
        size: height and width of a view in pixels; None as the recipe says. A file without a recipe
            needs it.
        out: folder for the files named at the top of this file; None writes none.
        batch_size: views at once, on each process.
        hardware: its precision, workers and channels_last; None for float32 and no workers.

    Raises:
        ValueError: no such files or split; the manifest's labels mean other classes than the
            network's; views that there are not; no clip could be read.
        OSError: the folder cannot be written to; found out before anything is judged.
        FloatingPointError: logits that are not finite.
    """
    hardware = hardware or Hardware()
    with process_group() as (ranks, device):
        trained = load_trained(checkpoint)
        recipe = settled(trained, views, size)
        data_set = DataSet.read(manifest)
        classes = _common_classes(trained, data_set, manifest)
        if recipe.evaluation.crops == 10 and data_set.mirror is None:
            raise ValueError(
                f"expected {CLASS_LIST} beside {manifest}, which says of every class what its "
                "mirror image is, for 10 crops of which 5 are mirrored; found none: write it with "
                "`python -m blvnet_lab manifest`, or take 5 crops"
            )
        dataset = viewed(data_set, split, recipe)
        if out is not None and ranks.is_first:
            make_folder(out)
        layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        predictions = evaluate(
            trained.model.to(memory_format=layout),
            dataset,
            batch_size=batch_size,
            device=device,
            hardware=hardware,
            ranks=ranks,
        )
        check_finite(predictions, dataset.paths, hardware.precision)
        logits, labels = predictions.logits, predictions.labels
        status = data_set.split(split).rows["status"]
        judged = Judged(
            about={
                "checkpoint": os.fspath(checkpoint),
                "manifest": os.fspath(manifest),
                "split": split,
                "views": f"{recipe.evaluation.num_clips}x{recipe.evaluation.crops}",
                "num_frames": recipe.num_frames,
                "stride": recipe.stride,
                "size": list(recipe.size),
                "short_side": recipe.evaluation.short_side,
                "read_short_side": recipe.read_short_side,
                "precision": hardware.precision,
                "device": device.type,
                "torch": torch.__version__,
            },
            clips=len(dataset),
            unreadable={dataset.paths[i]: why for i, why in predictions.unreadable.items()},
            left_out=status[status != "ok"].value_counts().sort_index().to_dict(),
            scores=standard_scores(predictions),
            classes=classes,
            per_class=per_class_scores(logits, labels, classes),
            confusion=confusion_matrix(logits, labels),
            table=predictions_table(predictions, classes, dataset.paths, dataset.labels),
            predictions=predictions,
        )
        if out is not None and ranks.is_first:
            _write(judged, Path(out))
        return judged


def parse_views(text: str) -> tuple[int, int]:
    """ "3x10" as (3, 10): clips of a video, crops of a clip."""
    parts = re.fullmatch(r"([1-9]\d*)x(1|3|5|10)", text)
    if parts is None:
        raise ValueError(
            "expected views as clips x crops, the crops being 1, 3, 5 or 10, such as 3x10, got "
            f'"{text}"'
        )
    return int(parts[1]), int(parts[2])


def settled(
    trained: Trained, views: str | None, size: tuple[int, int] | None
) -> Recipe:
    """The recipe with what was asked for in it; its size is that of a view."""
    recipe = trained.recipe
    if recipe is None:
        if size is None:
            raise ValueError(
                f"expected the size of the frames beside {trained.file}, which does not say how its "
                "network was trained, got none: give the height and width of the training clips "
                "in pixels, such as --size 64 64"
            )
        recipe = Recipe(num_frames=trained.model.num_frames, size=size)
    judged = recipe.evaluation
    if views is not None:
        num_clips, crops = parse_views(views)
        judged = replace(judged, num_clips=num_clips, crops=crops)
    return replace(recipe, size=size or judged.size or recipe.size, evaluation=judged)


def _common_classes(
    trained: Trained,
    data_set: DataSet,
    manifest: str | os.PathLike,
) -> tuple[str, ...]:
    """Names of the network's classes; what the file does not name, the manifest does, or a number.

    Raises ValueError if a label of the manifest means another class to the network, or none.
    """
    names = list(trained.class_names)
    for label, name in data_set.names:
        if label >= len(names):
            known = f"labels from 0 to {len(names) - 1}, as {trained.file} has {len(names)} classes"
        elif trained.classes and names[label] != name:
            known = f'label {label} to be "{names[label]}", as in {trained.file}'
        else:
            names[label] = name
            continue
        raise ValueError(
            f'{manifest}: expected {known}, got label {label} "{name}": take a manifest '
            "with the labels and names of the classes that the network was trained on"
        )
    return tuple(names)


def viewed(data_set: DataSet, split: str, recipe: Recipe) -> ClipDataset:
    """Items (views (V, T, C, H, W), label)."""
    judged = recipe.evaluation
    return ClipDataset(
        data_set,
        split,
        recipe.num_frames,
        view_transform(recipe.size, judged.crops, judged.short_side, data_set.mirror),
        stride=recipe.stride,
        num_clips=judged.num_clips,
        short_side=recipe.read_short_side,
    )


def check_finite(predictions: Predictions, paths: Sequence[str], precision: str) -> None:
    bad = (~predictions.logits.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise FloatingPointError(
            f"expected finite logits, got others for {len(bad)} of {len(predictions.indices)} "
            f"clips in {precision}, first for {paths[predictions.indices[bad[0]]]}: the network's "
            "training has failed, or float16 is too narrow for it (take bfloat16 or float32)"
        )


def make_folder(out: str | os.PathLike) -> None:
    """Makes it; raises OSError if nothing can be written there, before hours of work are lost."""
    with _remedied(out):
        Path(out).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


@contextmanager
def _remedied(out: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"expected a folder that can be written to, got {out} ({error.strerror}): make room "
            "there, or take another folder"
        ) from error


def _write(judged: Judged, out: Path) -> None:
    """The files of `out`, each whole or not at all."""
    names = list(judged.classes)
    confusion = pd.DataFrame(judged.confusion.numpy(), index=names, columns=names)
    contents = {
        **judged.about,
        "clips": judged.clips,
        "unreadable": judged.unreadable,
        "left_out": judged.left_out,
        **{name: round(score, 6) for name, score in judged.scores.items()},
    }
    texts = {
        TABLE: judged.table.to_csv(index=False, lineterminator="\n"),
        PER_CLASS: judged.per_class.to_csv(index=False, lineterminator="\n", float_format="%.6g"),
        CONFUSION: confusion.to_csv(index_label="true class", lineterminator="\n"),
        SCORES: json.dumps(contents, indent=1, ensure_ascii=False) + "\n",  # last: all is there
    }
    with _remedied(out):
        for name, text in texts.items():
            with written_whole(out / name) as unfinished:
                unfinished.write_text(text, "utf-8")
