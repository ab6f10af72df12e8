"""All that a run is at one moment, in a file: so that nothing is lost and it can go on.

A run's folder:

    recipe.json         how it was trained
    log.jsonl           a line of figures for every epoch
    last.pt             the run as it is now; best.pt, epoch_0010.pt: as it was then
    model.safetensors   the trained network, once the run has ended

Each file appears only when it is whole, in the place of the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from blvnet_lab.models import VideoNet, load_model, load_notes, save_model
from blvnet_lab.models.files import BUILDERS, read_pickle
from blvnet_lab.paths import written_whole
from blvnet_lab.training.distributed import Ranks
from blvnet_lab.training.recipe import Recipe, recipe_from_json, recipe_to_json

ON_ALL_RANKS_AT_ONCE = {"waited", "seconds", "skipped"}  # of what an epoch has counted so far

FORMAT = 1  # of the file; another number is another format
LAST, BEST, MODEL, RECIPE, LOG = (
    "last.pt",
    "best.pt",
    "model.safetensors",
    "recipe.json",
    "log.jsonl",
)


@dataclass
class State:
    """What training changes, step by step."""

    model: VideoNet  # itself, not what DistributedDataParallel wraps it in
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: GradScaler
    ema: AveragedModel | None = None
    epoch: int = 1  # the one that is going on
    step: int = 0  # steps of it that are done
    so_far: dict[str, float] = field(default_factory=dict)  # sums over them, for its line
    history: list[dict[str, Any]] = field(default_factory=list)  # a line for every epoch that ended
    best_epoch: int = 0  # with the highest top-1; 0 before the first has ended

    @property
    def judged(self) -> VideoNet:
        """The network to evaluate and to keep: the average of weights where there is one."""
        return self.model if self.ema is None else self.ema.module


def pack(
    state: State,
    recipe: Recipe,
    *,
    num_clips: int,
    classes: tuple[str, ...],
    ranks: Ranks,
    device: torch.device,
    rows: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The contents of a checkpoint: tensors and plain containers. Call it on every rank."""
    return {
        "format": FORMAT,
        "architecture": state.model.architecture,
        "arguments": state.model.arguments,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "ema": None if state.ema is None else state.ema.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "so_far": ranks.gather(state.so_far),
        "history": state.history,
        "best_epoch": state.best_epoch,
        "num_clips": num_clips,
        "classes": list(classes),
        "rows": dict(rows or {}),
        "recipe": recipe_to_json(recipe),
        "rng": ranks.gather(_generator_states(device)),
    }


def unpack(
    state: State,
    contents: Mapping[str, Any],
    *,
    num_clips: int,
    ranks: Ranks,
    device: torch.device,
    classes: Sequence[str] = (),
    rows: Mapping[str, str] | None = None,
) -> None:
    """Puts a checkpoint's contents back in place.

    With as many ranks as then every generator goes on as it was; with another number the order of
    clips and what is drawn for them stay the same, but dropout and mixup draw anew.

    Args:
        classes, rows: of the data to go on with, as given to `pack`; empty ones, here or there, are
            not compared.

    Raises:
        ValueError: the training set has another number of clips, so that "step" means another one;
            or the classes or clips are others than those with which the run was begun.
    """
    if contents["num_clips"] != num_clips:
        raise ValueError(
            f"expected the {contents['num_clips']} training clips with which this run was begun, "
            f"got {num_clips}: resume with the same manifest, or start anew with --init"
        )
    _check_same_data(contents, classes, rows or {})
    state.model.load_state_dict(contents["model"])
    state.optimizer.load_state_dict(contents["optimizer"])
    state.scheduler.load_state_dict(contents["scheduler"])
    if contents["scaler"]:  # it is empty where the run had another precision until now
        state.scaler.load_state_dict(contents["scaler"])
    if state.ema is not None:
        state.ema.load_state_dict(contents["ema"])
    state.epoch, state.step = contents["epoch"], contents["step"]
    shares = contents["so_far"]
    if len(shares) != ranks.world:  # the first goes on with the sums of all
        sums = {name: sum(share.get(name, 0) for share in shares) for name in shares[0]}
        for name in sums.keys() & ON_ALL_RANKS_AT_ONCE:
            sums[name] /= len(shares)
        shares = [sums] + [{}] * (ranks.world - 1)
    state.so_far = dict(shares[ranks.rank])
    state.history = [dict(line) for line in contents["history"]]
    state.best_epoch = contents["best_epoch"]
    if len(contents["rng"]) == ranks.world:
        _set_generators(contents["rng"][ranks.rank], device)


def digest_rows(splits: Mapping[str, Dataset]) -> dict[str, str]:
    """Digest the clips of each split and their labels, in order; of data sets that name them.

    Paths count from the folder that all clips of a split share, so that each can be moved.
    """
    found = {}
    for name, split in splits.items():
        if not hasattr(split, "paths"):
            continue
        paths = [os.path.abspath(path) for path in split.paths]
        try:
            start = len(os.path.commonpath({os.path.dirname(path) for path in paths}))
        except ValueError:  # none, or several drives
            start = 0
        places = (path[start:].replace(os.sep, "/").strip("/") for path in paths)
        found[f"clips of {name}"] = _digest(places)
        if hasattr(split, "labels"):
            found[f"labels of {name}"] = _digest(str(int(label)) for label in split.labels)
    return found


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _check_same_data(
    contents: Mapping[str, Any], classes: Sequence[str], rows: Mapping[str, str]
) -> None:
    before, now = contents["classes"], list(classes)
    changed = []
    if before and now and before != now:
        label = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
        changed.append(
            f"{len(now)} classes in the place of {len(before)}"
            if label is None
            else f'the class "{now[label]}" for label {label} in the place of "{before[label]}"'
        )
    kept = contents.get("rows", {})  # older checkpoints have none
    changed += [f"other {name}" for name in kept if rows.get(name, kept[name]) != kept[name]]
    if changed:
        raise ValueError(
            f"expected the classes and clips with which this run was begun, got "
            f"{', '.join(changed)}: resume with the same manifest and class list (their folder may "
            "have been moved), or start another run in another folder with --init"
        )


def _generator_states(device: torch.device) -> dict[str, Any]:
    name, keys, *place = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *place],
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _set_generators(states: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *place = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *place))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def write_checkpoint(contents: Mapping[str, Any], *paths: Path) -> None:
    """The same contents under each of the names, each whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written to; what was there before stays.
    """
    buffer = io.BytesIO()  # torch.save hides what the disk says in an error of its own
    torch.save(dict(contents), buffer)
    for path in paths:
        try:
            with written_whole(path) as unfinished:
                unfinished.write_bytes(buffer.getbuffer())
        except OSError as error:
            raise OSError(
                error.errno,
                f"{path} could not be written ({error.strerror}); the checkpoint before it is "
                "whole: make room, then run the same command again with --resume auto",
            ) from error


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """What `write_checkpoint` wrote, on the CPU.

    Raises:
        ValueError: there is no such file, or it is damaged, or it is none of ours.
    """
    contents = read_pickle(path)
    if not is_checkpoint(contents):
        raise ValueError(
            f"{path}: expected a checkpoint of `python -m blvnet_lab train`, got another file: "
            "published checkpoints are read by blvnet_lab.weights.official.load_official"
        )
    return contents


def is_checkpoint(contents: Any) -> bool:
    """Whether these are the contents of a checkpoint of a run."""
    return isinstance(contents, dict) and contents.get("format") == FORMAT


@dataclass(frozen=True)
class Trained:
    """A trained network, and what is needed to use it."""

    model: VideoNet  # on the CPU, in eval mode
    recipe: Recipe | None = None  # how it was trained; None if the file does not say
    classes: tuple[str, ...] = ()  # names in the order of labels; empty if the file does not say
    file: Path | None = None  # which it was read from

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of labels; "class 3" where the file has none."""
        return self.classes or tuple(
            f"class {label}" for label in range(self.model.classifier.out_features)
        )


def load_trained(path: str | os.PathLike) -> Trained:
    """The network in `model.safetensors` or in a checkpoint (`best.pt`) of a run.

    Of a checkpoint with an average of weights, that average.

    Raises:
        ValueError: there is no such file, or it is none of these.
    """
    if Path(path).suffix == ".safetensors":
        notes = load_notes(path)
        recipe = notes.get("recipe")
        with torch.device("cpu"):
            model = load_model(path)
        return Trained(
            model,
            None if recipe is None else recipe_from_json(json.dumps(recipe), str(path)),
            tuple(notes.get("classes", ())),
            Path(path),
        )
    contents = read_checkpoint(path)
    with torch.device("cpu"):
        model = BUILDERS[contents["architecture"]](**contents["arguments"])
    model.load_state_dict(_judged_weights(contents))
    recipe = recipe_from_json(contents["recipe"], str(path))
    return Trained(model.eval(), recipe, tuple(contents["classes"]), Path(path))


def _judged_weights(contents: Mapping[str, Any]) -> dict[str, Tensor]:
    if contents["ema"] is None:
        return contents["model"]
    return {
        name.removeprefix("module."): tensor
        for name, tensor in contents["ema"].items()
        if name.startswith("module.")
    }


def save_trained(trained: Trained, path: str | os.PathLike) -> None:
    """Writes a network with its recipe and the names of its classes."""
    notes: dict[str, Any] = {"classes": list(trained.classes)}
    if trained.recipe is not None:
        notes["recipe"] = json.loads(recipe_to_json(trained.recipe))
    save_model(trained.model, path, notes)
