"""The staircase: four architectures, the same clips, and what each step of the paper adds.

    python -m blvnet_lab staircase

TSN and TSN-bLNet see single frames: they toss a coin between partners of either kind. bLVNet sees
two frames together and learns directions. bLVNet-TAM sees beyond a pair and learns the order too.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torchvision
from torch import Tensor

import blvnet_lab
from blvnet_lab.data import ClipDataset, DataSet, evaluation_transform, training_transform
from blvnet_lab.datasets.motion import CLASSES, KINDS
from blvnet_lab.models import VideoNet
from blvnet_lab.models.tam import TAM
from blvnet_lab.paths import data_samples
from blvnet_lab.training.checkpoint import Trained, save_trained
from blvnet_lab.training.distributed import pick_device
from blvnet_lab.training.engine import build, fit
from blvnet_lab.training.evaluation import Predictions
from blvnet_lab.training.metrics import partner_accuracy, top_k_accuracy
from blvnet_lab.training.presets import classroom
from blvnet_lab.training.recipe import Architecture, Recipe

TITLES: dict[Architecture, str] = {
    "tsn": "TSN",
    "tsn_blnet": "TSN-bLNet",
    "blvnet": "bLVNet",
    "blvnet_tam": "bLVNet-TAM",
}
RELATIVES: dict[Architecture, str] = {"tsm": "TSM", "tam_resnet": "TAM-ResNet"}
PARTNER_OF = torch.arange(len(CLASSES), device="cpu") ^ 1  # the label of each class's partner
DECIMALS = 4  # of scores and taps in the log
SUMMARY = "staircase.json"


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute top-1 and, for the kinds of clips there are, accuracy between partners; in 0..1."""
    scores = {"top_1": top_k_accuracy(logits, labels)}
    for kind in ("direction", "order"):
        chosen = torch.tensor([KINDS[CLASSES[label]] == kind for label in labels], device="cpu")
        if chosen.any():
            scores[kind] = partner_accuracy(logits[chosen], labels[chosen], PARTNER_OF)
    return scores


def motion_datasets(
    data_set: DataSet, recipe: Recipe, classes: Sequence[str] = CLASSES
) -> tuple[ClipDataset, ClipDataset]:
    """Read the training and the validation clips, decoded once and kept in memory.

    Args:
        data_set: of motion samples, or ValueError.
        classes: those to use, to make a short run of it; the labels stay as they are.
    """
    if data_set.classes != CLASSES:
        raise ValueError(
            f"expected the motion samples' classes {', '.join(CLASSES)}, got "
            f"{', '.join(data_set.classes)}; make them with `python -m blvnet_lab samples`"
        )
    data_set = data_set.with_rows(data_set.rows[data_set.rows["class_name"].isin(classes)])
    augment, crop = training_transform(recipe.size), evaluation_transform(recipe.size)
    train = ClipDataset(data_set, "train", recipe.num_frames, augment, True, in_memory=True)
    return train, ClipDataset(data_set, "val", recipe.num_frames, crop, in_memory=True)


def with_architecture(recipe: Recipe, architecture: Architecture) -> Recipe:
    """Return the same recipe for another architecture."""
    return replace(recipe, network=replace(recipe.network, architecture=architecture))


def run_one(
    recipe: Recipe, train: ClipDataset, val: ClipDataset, log: Path
) -> tuple[VideoNet, list[dict]]:
    """Train the recipe's network; a line of JSON per epoch goes to `log`, with the taps (r, C).

    Raises InterruptedError when it is stopped, so that no further network is trained.
    """
    model = build(recipe, len(CLASSES))
    log.parent.mkdir(parents=True, exist_ok=True)
    first = {"epoch": 0, "taps": _taps(model)}

    def write(history: list[dict]) -> None:
        log.write_text("".join(json.dumps(line) + "\n" for line in [first, *history]), "utf-8")

    def scores_and_taps(model: VideoNet, found: Predictions) -> dict[str, Any]:
        scores = score(found.logits, found.labels).items()
        return {name: round(share, DECIMALS) for name, share in scores} | {"taps": _taps(model)}

    fitted = fit(model, train, val, recipe, score=scores_and_taps, after_epoch=write)
    if fitted.stopped:
        raise InterruptedError(
            f"stopped by {fitted.stopped} in the training of {log.stem}: the checkpoints of the "
            f"networks before it and all logs are in {log.parent.parent}"
        )
    return model, [first, *fitted.history]


def _taps(model: VideoNet) -> dict[str, list[list[float]]]:
    return {
        name: [[round(weight, DECIMALS) for weight in tap] for tap in module.taps.tolist()]
        for name, module in model.named_modules()
        if isinstance(module, TAM)
    }


@dataclass(frozen=True)
class StaircaseResult:
    """What the networks of a staircase reached."""

    summary: dict[str, Any]  # as in staircase.json
    out: Path

    def __str__(self) -> str:
        return (
            f"{as_table(self.summary).to_string(index=False)}\n"
            "direction, order: accuracy between partners; 50 % is the toss of a coin\n"
            f"checkpoints, logs and {SUMMARY} are in {self.out}"
        )


def run_staircase(
    *,
    out: Path = Path("runs/staircase"),
    manifest: Path | None = None,
    architectures: tuple[Architecture, ...] = tuple(TITLES),
    seeds: tuple[int, ...] = (0, 1, 2),
    recipe: Recipe | None = None,
) -> StaircaseResult:
    """Train TSN, TSN-bLNet, bLVNet and bLVNet-TAM on the same clips and compare them.

    Args:
        out: folder for a checkpoint and a log of each architecture (first seed), the logs of all
            seeds, staircase.json and staircase.png.
        manifest: of the clips; without it, the shipped samples.
        architectures: which to train; tsm and tam_resnet are available too.
        seeds: one run of every architecture for each; the first one's checkpoints are kept.
        recipe: how to train; without it, as in the classroom. Seed and architecture are replaced by
            each of those above.

    Raises:
        FileExistsError: `out` holds files, perhaps of an earlier run.
    """
    if not architectures or not seeds:
        raise ValueError("expected at least one architecture and one seed, got none")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(
            f"expected a new or an empty folder for the run, got {out}, which holds files: "
            "choose another out, or delete it first"
        )
    recipe = recipe or classroom()
    for architecture in architectures:  # what cannot be built fails now, not an hour later
        build(with_architecture(recipe, architecture), len(CLASSES))
    data_set = DataSet.read(manifest or data_samples() / "motion" / "manifest.csv")
    train, val = motion_datasets(data_set, recipe)
    runs = []
    for architecture, seed in product(architectures, seeds):
        chosen = with_architecture(replace(recipe, seed=seed), architecture)
        log = out / "logs" / f"{architecture}_seed{seed}.jsonl"
        model, lines = run_one(chosen, train, val, log)
        seconds = sum(line["seconds"] + line["evaluation_seconds"] for line in lines[1:])
        last = {name: lines[-1][name] for name in ("top_1", "direction", "order")}
        run = {"architecture": architecture, "seed": seed, "seconds": round(seconds, 1)}
        runs.append(run | last)
        if seed == seeds[0]:
            save_trained(Trained(model, chosen, CLASSES), out / f"{architecture}.safetensors")
            (out / f"{architecture}.jsonl").write_text(log.read_text())
    typed = shlex.join(["python", "-m", "blvnet_lab", *sys.argv[1:]])
    modules = {"blvnet_lab": blvnet_lab, "torch": torch, "torchvision": torchvision}
    versions = {name: module.__version__ for name, module in modules.items()}
    summary = {
        "command": typed if "staircase" in sys.argv[1:2] else "run_staircase(...)",
        "recipe": asdict(recipe),
        "seeds": seeds,
        "made": date.today().isoformat(),
        "versions": versions | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {pick_device().type}",
        "runs": runs,
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    return StaircaseResult(json.loads((out / SUMMARY).read_text()), out)


def as_table(summary: dict) -> pd.DataFrame:
    """Make a row for each architecture: mean and range over the seeds, in percent; seconds."""
    rows = []
    for architecture, runs in pd.DataFrame(summary["runs"]).groupby("architecture", sort=False):
        row = {"model": (TITLES | RELATIVES)[architecture]}
        for name, percent in (100 * runs[["direction", "order", "top_1"]]).items():
            row[f"{name} %"] = round(percent.mean(), 1)
            row[f"{name} range"] = f"{percent.min():.1f}-{percent.max():.1f}"
        row["seconds"] = f"{runs['seconds'].min():.0f}-{runs['seconds'].max():.0f}"
        rows.append(row)
    return pd.DataFrame(rows)
