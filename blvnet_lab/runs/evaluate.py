"""Evaluate a trained network on all clips of a split.

    python -m blvnet_lab evaluate runs/mine/model.safetensors my_list/manifest.csv --views 3x10
    torchrun --nproc-per-node 4 -m blvnet_lab evaluate ...       # the same figures, sooner

The logits of a video's views, clips x crops, are averaged. `evaluate_file` writes:

    scores.json       the figures, how they were made, and the videos that could not be read
    predictions.csv   a row for every clip, or part of a video (`evaluation.predictions_table`)
    per_class.csv     clips, top-1 and strongest rival of every class; or its average precision
    confusion.csv     counts of true (rows) against predicted class (columns), for single labels
    playing.csv       accuracy with the frames in other orders (--playing)
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from blvnet_lab.data import ClipDataset, DataSet, view_transform
from blvnet_lab.data.dataset_files import PART, clip_names
from blvnet_lab.datasets.motion import CLASSES, REVERSAL
from blvnet_lab.deploy.inference import Precision, compile_for_inference
from blvnet_lab.deploy.live import Stream
from blvnet_lab.models import VideoNet
from blvnet_lab.paths import check_target, free_name, write_files
from blvnet_lab.runs import compare
from blvnet_lab.training.checkpoint import Trained, load_trained
from blvnet_lab.training.distributed import pick_device, process_group
from blvnet_lab.training.evaluation import Predictions, evaluate, predictions_table, standard_scores
from blvnet_lab.training.metrics import confusion_matrix, partner_accuracy, per_class_scores
from blvnet_lab.training.recipe import Hardware, Recipe

SCORES, TABLE = "scores.json", "predictions.csv"
PER_CLASS, CONFUSION, PLAYING = "per_class.csv", "confusion.csv", "playing.csv"
ALONE = compare.Beside()
SHOWN = 10  # how many unreadable videos, and how many of the worst classes, are printed
TITLES = {
    "top_1": "top-1",
    "top_5": "top-5",
    "mean_class": "mean class accuracy",
    "largest_class": "always naming the largest class",
    "map": "mAP",
    "constant": "with the same answer to all clips",
    "average_precision": "average precision",
    "partners": "between partner classes",
}
Opened = tuple[Trained, ClipDataset]  # a network, and the clips prepared for it


@dataclass(frozen=True)
class Computing:
    """The precision that a network computes in, compiled or not."""

    # Precision of a network that is not compiled.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    # Compile it for this processor and batch size first (best 1 at depth 50), in this precision.
    fast: Precision | None = None


NOT_COMPILED = Computing()


@dataclass(frozen=True)
class Evaluation:
    """A network's figures on the clips of a split; the same on every rank."""

    about: dict[str, Any]  # checkpoint, manifest and settings
    clips: int  # in the split, including unreadable ones
    unreadable: dict[str, str]  # clip name -> reason; excluded from all figures
    left_out: dict[str, int]  # rows of the split that the manifest marks as unusable, by status
    scores: dict[str, float]  # evaluation.standard_scores and `partner_score`
    classes: tuple[str, ...]  # names in the order of labels
    per_class: pd.DataFrame  # metrics.per_class_scores
    confusion: Tensor | None  # metrics.confusion_matrix
    table: pd.DataFrame  # evaluation.predictions_table
    predictions: Predictions
    playing: pd.DataFrame | None = None  # compare.playing_table
    comparison: dict[str, Any] | None = None  # compare.compare_answers
    out: Path | None = None  # folder with the files

    def __str__(self) -> str:
        about = self.about
        figures = [
            f"{title} {100 * self.scores[name]:.2f} %"
            for name, title in TITLES.items()
            # Of five classes every clip is a hit.
            if name in self.scores and (name != "top_5" or len(self.classes) > 5)
        ]
        left_out = ", ".join(f"{number} {status}" for status, number in self.left_out.items())
        measure = "average_precision" if self.confusion is None else "top_1"
        worst = self.per_class.sort_values(measure, kind="stable").head(SHOWN)
        lines = [
            ", ".join(figures),
            f'of {self.clips} clips of "{about["split"]}", {len(self.unreadable)} could not be read'
            + (f"; left out by the manifest: {left_out}" if left_out else ""),
            f"{about['views']} views (clips x crops) of {about['num_frames']} frames of "
            f"{about['size'][0]} x {about['size'][1]} pixels, {about['precision']}",
            *(f"  {why}" for why in list(self.unreadable.values())[:SHOWN]),
            f"\nclasses with the lowest {TITLES[measure]}, of {len(self.per_class)}",
            worst.to_string(index=False, float_format="{:.3f}".format),
        ]
        if self.playing is not None:
            lines.append(f"\n{compare.show_playing(self.playing, SHOWN)}")
        if self.comparison is not None:
            lines.append(f"\n{compare.show_comparison(self.comparison)}")
        if self.out is not None:
            lines.append(f"\n{', '.join([SCORES, *self.tables()])} are in {self.out}")
        return "\n".join(lines)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Map file names to the tables that go into them."""
        found = {TABLE: self.table, PER_CLASS: self.per_class}
        if self.confusion is not None:
            names = pd.Index(self.classes, name="true class")
            found[CONFUSION] = pd.DataFrame(self.confusion.numpy(), names, self.classes)
        return found if self.playing is None else found | {PLAYING: self.playing}

    def write(self) -> None:
        """Write the files of `out`, each whole or not at all; older ones get another name."""
        tables, form = self.tables(), {"lineterminator": "\n", "float_format": "%.6g"}
        if (self.out / SCORES).is_file():  # an earlier evaluation: nothing of it may look new
            old, new = self.out / CONFUSION, tables.get(CONFUSION, pd.DataFrame()).to_csv(**form)
            is_same = old.is_file() and old.read_text("utf-8") == new  # then so is its picture
            stale = {CONFUSION, PLAYING} - tables.keys() | (set() if is_same else {"confusion.png"})
            for name in stale & {path.name for path in self.out.iterdir()}:
                (self.out / name).rename(free_name(self.out / name))
        for name, table in tables.items():
            write_files({self.out / name: table.to_csv(index=name == CONFUSION, **form)}, keep=True)
        found = self.about | {"clips": self.clips, "unreadable": self.unreadable}
        found |= {"left_out": self.left_out, "playing": self.playing is not None}
        found |= {} if self.comparison is None else {"comparison": self.comparison}
        found |= {name: round(score, 6) for name, score in self.scores.items()}
        text = json.dumps(found, indent=1, ensure_ascii=False)
        write_files({self.out / SCORES: text + "\n"}, keep=True)  # last: now all is there


def evaluate_file(
    checkpoint: Path,
    manifest: Path,
    /,
    beside: compare.Beside = ALONE,
    *,
    out: Path | None = None,
    split: str = "val",
    views: str | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    computing: Computing = NOT_COMPILED,
) -> Evaluation:
    """Evaluate a trained network on all clips of a split; alone, or started by torchrun.

    Every clip is evaluated exactly once, so any number of processes gives the same figures.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        manifest: manifest.csv of the clips; its labels must mean the same classes as the network's.
        beside: further evaluations of the same clips.
        out: folder for scores.json, predictions.csv, per_class.csv, confusion.csv and .png.
        split: which clips to evaluate.
        views: clips per video x crops per clip (1, 3, 5 or 10), such as 3x10; their logits are
            averaged. The default is the recipe's.
        size: height and width of a view in pixels; the default is the recipe's.
        batch_size: views at once, in each process.
        workers: processes that read clips, per evaluating process; 0 reads in that process itself.
        computing: precision, and whether to compile.

    Raises ValueError for a wrong argument, or if no clip can be read, OSError if `out` cannot be
    written to (before the work), FloatingPointError for logits that are not finite.
    """
    hardware, fast = Hardware(precision=computing.precision, workers=workers), computing.fast
    if fast is not None and computing.precision != "float32":
        raise ValueError(f"expected precision or fast, got {computing.precision} and {fast}")
    with process_group() as (ranks, device):
        data_set = DataSet.read(manifest).one_label("--playing and --against", beside != ALONE)
        if out is not None and ranks.is_first:
            check_target(out / SCORES, ".json")
        paths = filter(None, [checkpoint, beside.against])
        opened = [_open(load_with_views(path, views, size), data_set, split) for path in paths]
        for k, (trained, clips) in enumerate(opened):  # slow, so once all have been checked
            model = compiled(trained.model, trained.recipe.size, fast, batch_size)
            opened[k] = replace(trained, model=model), clips
        (trained, clips), options = opened[0], {"batch_size": batch_size, "hardware": hardware}
        about = {"checkpoint": str(checkpoint), "manifest": str(manifest), "split": split}
        about |= _describe(trained.recipe) | {"compiled": fast is not None}
        about |= {"precision": fast or computing.precision, "device": device.type}
        about |= {"torch": torch.__version__, "sha256": trained.digest}
        found, status = _answer(opened[0], options), data_set.split(split).rows["status"]
        partners = compare.partner_labels(trained.classes, data_set)
        evaluation = Evaluation(
            about=about,
            clips=len(clips),
            unreadable={clips.names[i]: why for i, why in found.unreadable.items()},
            left_out=status[status != "ok"].value_counts().sort_index().to_dict(),
            scores=standard_scores(found) | partner_score(found, partners),
            classes=trained.classes,
            per_class=per_class_scores(found.logits, found.labels, trained.classes),
            confusion=confusion_matrix(found.logits, found.labels),
            table=_table(found, trained.classes, clips),
            predictions=found,
            **_set_beside(beside, opened, found, data_set, options),
            out=out,
        )
        if out is not None and ranks.is_first:
            evaluation.write()
        return evaluation


def _open(trained: Trained, data_set: DataSet, split: str) -> Opened:
    if trained.multi_label != data_set.multi_label:
        kinds = ("one label", "several labels")
        wanted = f"clips with {kinds[data_set.multi_label]}, as those of {data_set.path}"
        got = f"got {trained.file}, for {kinds[trained.multi_label]}: train one on these"
        raise ValueError(f"expected a network trained on {wanted}, {got}")
    names = list(trained.class_names)  # from its file, else from the manifest, else by number
    for label, name in data_set.names:
        known = names[label] if label < len(names) else "no class"
        if known == "no class" or (trained.classes and known != name):
            wanted = f'expected label {label} to be "{known}", as in {trained.file}, got "{name}"'
            raise ValueError(f"{data_set.path}: {wanted}: take a manifest of the network's classes")
        names[label] = name
    trained = replace(trained, classes=tuple(names))
    # All the classes, also where the rows name fewer.
    named = DataSet(data_set.rows, trained.classes, data_set.mirror, data_set.path)
    return trained, view_clips(named, split, trained.recipe)


def _describe(recipe: Recipe) -> dict[str, Any]:
    seen = recipe.evaluation
    about = {"views": f"{seen.num_clips}x{seen.crops}", "size": list(recipe.size)}
    about |= {"short_side": seen.short_side, "read_short_side": recipe.read_short_side}
    return about | {"num_frames": recipe.num_frames, "stride": recipe.stride}


def _answer(opened: Opened, options: dict, order: Tensor | slice = slice(None)) -> Predictions:
    """Evaluate a network on its clips, with their frames in the given order."""
    trained, clips = opened
    model = trained.model.to(memory_format=torch.channels_last)
    with model.register_forward_pre_hook(lambda _, args: args[0][:, order]):
        found = evaluate(model, clips, **options)
    check_finite(found.logits, options["hardware"].precision)
    return found


def _set_beside(
    beside: compare.Beside, opened: list[Opened], found: Predictions, data: DataSet, options: dict
) -> dict[str, Any]:
    """Run the further evaluations; return the fields of `Evaluation` that hold them."""
    (trained, clips), classes, filled = opened[0], opened[0][0].classes, {}
    rows = named_rows(data, clips)
    rows = rows[["class_name"]].assign(video=compare.source_videos(rows))
    if beside.playing:
        answers = {"as-is": found}
        for name in beside.playing:
            if name not in answers:
                order = compare.frame_order(name, trained.recipe.num_frames)
                answers[name] = _answer(opened[0], options, order)
        known = data.reversal or (REVERSAL if classes == CLASSES else [None] * len(classes))
        partners = compare.partner_labels(classes, data)
        filled["playing"] = compare.playing_table(answers, rows, partners, known)
    if beside.against:
        comparison = compare.compare_answers(found, _answer(opened[1], options), rows["video"])
        filled["comparison"] = {"against": str(beside.against)} | comparison
    return filled


def _table(found: Predictions, classes: Sequence[str], clips: ClipDataset) -> pd.DataFrame:
    """Tabulate all clips, with the times of those that are parts of videos."""
    table = predictions_table(found, classes, clips.paths, clips.labels)
    if not np.isnan(clips.parts).all():
        table[PART] = clips.parts
        table = table[["path", *PART, *table.columns[1:-2]]]
    return table


def partner_score(found: Predictions, partners: Tensor) -> dict[str, float]:
    """Compute the accuracy between partner classes; empty without partners or single labels."""
    if found.labels.ndim == 2:
        return {}
    known = partners[found.labels] != found.labels
    score = partner_accuracy(found.logits[known], found.labels[known], partners)
    return {"partners": score} if known.any() else {}


def load_with_views(
    checkpoint: Path, views: str | None, size: tuple[int, int] | None = None
) -> Trained:
    """Load a network, and put the requested views ("3x10") and their size into its recipe."""
    trained = load_trained(checkpoint)
    if (recipe := trained.recipe) is None:
        if size is None:
            raise ValueError(
                f"expected the size of frames beside {trained.file}, which does not say how its "
                "network was trained, got none: give height and width, such as --size 64 64"
            )
        recipe = Recipe(num_frames=trained.model.num_frames, size=size)
    evaluation = recipe.evaluation
    if views is not None:
        parts = re.fullmatch(r"([1-9]\d*)x(1|3|5|10)", views)
        if parts is None:
            wanted = "expected views as clips x crops, the crops being 1, 3, 5 or 10, such as 3x10"
            raise ValueError(f'{wanted}, got "{views}"')
        evaluation = replace(evaluation, num_clips=int(parts[1]), crops=int(parts[2]))
    evaluation = replace(evaluation, size=size or evaluation.size or recipe.size)
    return replace(trained, recipe=replace(recipe, size=evaluation.size, evaluation=evaluation))


def view_clips(data_set: DataSet, split: str, recipe: Recipe) -> ClipDataset:
    """Open a split; its items are (views (V, T, C, H, W), label)."""
    views = recipe.evaluation
    transform = view_transform(recipe.size, views.crops, views.short_side, data_set.mirror)
    taken = {"stride": recipe.stride, "num_clips": views.num_clips}
    taken["short_side"] = recipe.read_short_side
    return ClipDataset(data_set, split, recipe.num_frames, transform, **taken)


def named_rows(data_set: DataSet, clips: ClipDataset) -> pd.DataFrame:
    """Look up each clip's row in the manifest, indexed by clip number."""
    rows = data_set.rows[data_set.rows["status"] == "ok"]
    rows = rows.set_axis(clip_names(rows))
    return rows[~rows.index.duplicated()].loc[[*clips.names]].reset_index(drop=True)


def compiled(
    model: VideoNet | Stream, size: tuple[int, int], fast: Precision | None, batch: int = 1
) -> nn.Module:
    """Compile a network or a stream for this processor, unless `fast` (its precision) is None.

    Raises ValueError where a GPU would compute instead.
    """
    if fast is None:
        return model
    if (device := pick_device()).type != "cpu":
        wanted = f"expected no GPU with fast, which compiles for the processor, got {device}"
        raise ValueError(f"{wanted}: leave fast out, or hide it (CUDA_VISIBLE_DEVICES=)")
    return compile_for_inference(model, size, fast, batch=batch)


def check_finite(found: Tensor, precision: str = "float32", what: str = "logits") -> None:
    """Raise FloatingPointError unless all values (N, ...) are finite."""
    if bad := (~found.isfinite()).any(1).sum().item():
        got = f"got others for {bad} of {len(found)} clips in {precision}"
        remedy = "the training has failed, or float16 is too narrow (take bfloat16)"
        raise FloatingPointError(f"expected finite {what}, {got}: {remedy}")
