"""Save and restore the whole state of a run, so that nothing is lost and it can continue.

A run's folder:

    recipe.json         how it was trained
    log.jsonl           a line of figures for every epoch
    last.pt             the run as it is now; best.pt, epoch_0010.pt: as it was then
    unreadable.csv      videos that were passed over, if there are any
    model.safetensors   the trained network, once the run has ended

Each file appears only when it is whole, in the place of the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blvnet_lab.models import VideoNet, load_model, load_notes, save_model
from blvnet_lab.models.files import BUILDERS, read_pickle
from blvnet_lab.paths import atomic_write
from blvnet_lab.training.distributed import Ranks, current_ranks
from blvnet_lab.training.recipe import Output, Recipe, recipe_from_json, recipe_to_json
from blvnet_lab.training.state import State

FORMAT = 1  # of the file; another number is another format
LAST, BEST, MODEL = "last.pt", "best.pt", "model.safetensors"
RECIPE, LOG, UNREADABLE = "recipe.json", "log.jsonl", "unreadable.csv"
# Of what an epoch has counted so far: what passes on all ranks at once, and does not add up.
ON_ALL_RANKS_AT_ONCE = {"waited", "seconds", "skipped"}


class RunFolder:
    """The files of one run; none without an `output`.

    Args:
        data: from `describe_data`.
        device: whose random numbers the run draws.
    """

    def __init__(
        self, output: Output | None, recipe: Recipe, data: Mapping[str, Any], device: torch.device
    ):
        self.output, self.recipe, self.data, self.device = output, recipe, data, device
        self.path, self.ranks = None if output is None else Path(output.folder), current_ranks()
        self.saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch."""
        if self.output is None:
            return False
        return time.monotonic() - self.saved_at > 60 * self.output.save_minutes

    def open(self, state: State) -> None:
        """Make the folder, or bring `state` to where the run in it is.

        Raises:
            ValueError: the checkpoint is damaged, or of another recipe, other clips or classes.
            FileExistsError: the folder holds files, and is not to be resumed.
        """
        if self.path is None:
            return
        if self.output.resume and (self.path / LAST).is_file():
            self._resume(state, self.path / LAST)
        elif self.ranks.is_first:
            if not self.output.resume and self.path.exists() and any(self.path.iterdir()):
                raise FileExistsError(
                    f"expected a new or an empty folder for the run, got {self.path}, which holds "
                    "files: continue it with --resume auto, choose another out, or delete it first"
                )
            self.path.mkdir(parents=True, exist_ok=True)
        self.ranks.gather(None)  # no rank writes before all have read
        if self.ranks.is_first:
            for partial in self.path.glob(".*.part"):  # of a run that was killed while it wrote
                partial.unlink()
            self._write(RECIPE, recipe_to_json(self.recipe))
            self._write_log(state)

    def _resume(self, state: State, last: Path) -> None:
        try:
            contents = read_checkpoint(last)
        except ValueError as error:
            raise ValueError(
                f"{error}. To continue this run, put another of its checkpoints (best.pt) in "
                f"place of {LAST}"
            ) from error
        _check_same_recipe(recipe_from_json(contents["recipe"], str(last)), self.recipe, last)
        _check_same_data(contents, self.data)
        unpack(state, contents, self.ranks, self.device)

    def save(self, state: State, unreadable: pd.DataFrame | None = None) -> None:
        """Write last.pt, and best.pt and others if an epoch has ended; call it on every rank.

        Raises:
            FloatingPointError: a weight or a statistic is not finite.
            OSError: see `write_checkpoint`.
        """
        if self.path is None:
            return
        _check_weights(state)
        contents = {
            "format": FORMAT,
            "recipe": recipe_to_json(self.recipe),
            **self.data,
            **pack(state, self.ranks, self.device),
        }
        if self.ranks.is_first:
            ended, names = state.epoch - 1, []
            if state.step == 0 and ended:
                if state.best_epoch == ended:
                    names.append(BEST)
                if self.output.keep_every and ended % self.output.keep_every == 0:
                    names.append(f"epoch_{ended:04}.pt")
            # last.pt comes last: a run that ends in between does this epoch, and so these, again.
            write_checkpoint(contents, *(self.path / name for name in (*names, LAST)))
            self._write_log(state)
            if unreadable is not None and len(unreadable):
                self._write(UNREADABLE, unreadable.to_csv(index=False, lineterminator="\n"))
        self.saved_at = time.monotonic()

    def _write_log(self, state: State) -> None:
        self._write(LOG, "".join(json.dumps(line) + "\n" for line in state.history))

    def _write(self, name: str, text: str) -> None:
        with atomic_write(self.path / name) as partial:
            partial.write_text(text, "utf-8")


def _check_weights(state: State) -> None:
    """A finite loss may have had gradients that are not: no checkpoint holds what came of it."""
    bad = [name for name, t in state.model.state_dict().items() if not t.isfinite().all()]
    if bad:
        raise FloatingPointError(
            f"expected finite weights, but after {state.epoch - 1} epochs and {state.step} steps "
            f"these are not: {', '.join(bad[:5])}{', ...' if bad[5:] else ''}: lower the learning "
            "rate, or limit the gradients with clip_norm; the last checkpoint is from before"
        )


def _check_same_recipe(before: Recipe, now: Recipe, path: Path) -> None:
    old, new = asdict(before), asdict(now)
    changed = [
        f"{name} {old[name]}, got {new[name]}"
        for name in old
        if old[name] != new[name] and name not in ("hardware", "starts_from")
    ]
    if changed:
        raise ValueError(
            f"expected the recipe with which {path.parent} was begun, {'; '.join(changed)}: resume "
            "with the same (only the hardware may change), or start again in another folder with "
            f"--init {path}"
        )


# --- The data of a run --------------------------------------------------------------------------


def describe_data(train_set: Dataset, val_set: Dataset) -> dict[str, Any]:
    """Describe what a run is trained on, as its checkpoints keep it: a run resumes with the same.

    Clips are told apart by digests of their paths and labels, in order, where a data set has them.
    Paths count from the folder that all clips of a split share, so that each can be moved.
    """
    rows = {}
    for name, split in (("train", train_set), ("val", val_set)):
        if not hasattr(split, "paths"):
            continue
        paths = [os.path.abspath(path) for path in split.paths]
        try:
            start = len(os.path.commonpath({os.path.dirname(path) for path in paths}))
        except ValueError:  # none, or several drives
            start = 0
        places = (path[start:].replace(os.sep, "/").strip("/") for path in paths)
        rows[f"clips of {name}"] = _digest(places)
        if hasattr(split, "labels"):
            rows[f"labels of {name}"] = _digest(str(int(label)) for label in split.labels)
    classes = getattr(train_set, "classes", None) or ()
    return {"num_clips": len(train_set), "classes": list(classes), "rows": rows}


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _check_same_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = []
    if before["num_clips"] != now["num_clips"]:  # and "step" would mean another one
        changed.append(f"{now['num_clips']} training clips in the place of {before['num_clips']}")
    old, new = before["classes"], now["classes"]
    if old and new and len(old) != len(new):
        changed.append(f"{len(new)} classes in the place of {len(old)}")
    elif old and new and old != new:
        label = [a != b for a, b in zip(old, new, strict=True)].index(True)
        changed.append(f'the class "{new[label]}" for label {label} in the place of "{old[label]}"')
    rows = before.get("rows", {})  # older checkpoints have none
    changed += [f"other {name}" for name in rows if now["rows"].get(name, rows[name]) != rows[name]]
    if changed:
        raise ValueError(
            f"expected the classes and clips with which this run was begun, got "
            f"{', '.join(changed)}: resume with the same manifest and class list (their folder may "
            "have been moved), or start another run in another folder with --init"
        )


# --- The state of a run -------------------------------------------------------------------------


def pack(state: State, ranks: Ranks, device: torch.device) -> dict[str, Any]:
    """Return a state as tensors and plain containers; call it on every rank."""
    return {
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
        "rng": ranks.gather(_rng_states(device)),
    }


def unpack(state: State, contents: Mapping[str, Any], ranks: Ranks, device: torch.device) -> None:
    """Bring a state to that of a checkpoint.

    With as many ranks as then every generator goes on as it was; with another number the order of
    clips and what is drawn for them stay the same, but dropout and mixup draw other numbers.
    """
    state.model.load_state_dict(contents["model"])
    state.optimizer.load_state_dict(contents["optimizer"])
    state.scheduler.load_state_dict(contents["scheduler"])
    if contents["scaler"]:  # it is empty where the run had another precision until now
        state.scaler.load_state_dict(contents["scaler"])
    if state.ema is not None:
        state.ema.load_state_dict(contents["ema"])
    shares = contents["so_far"]
    if len(shares) != ranks.world:  # the first goes on with the sums of all
        sums = {name: sum(share.get(name, 0) for share in shares) for name in shares[0]}
        for name in sums.keys() & ON_ALL_RANKS_AT_ONCE:
            sums[name] /= len(shares)
        shares = [sums] + [{}] * (ranks.world - 1)
    state.so_far = dict(shares[ranks.rank])
    state.history = [dict(line) for line in contents["history"]]
    for name in ("epoch", "step", "best_epoch"):
        setattr(state, name, contents[name])
    if len(contents["rng"]) == ranks.world:
        _set_rng_states(contents["rng"][ranks.rank], device)


def _rng_states(device: torch.device) -> dict[str, Any]:
    name, keys, *place = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *place],
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _set_rng_states(states: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *place = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *place))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


# --- Files --------------------------------------------------------------------------------------


def write_checkpoint(contents: Mapping[str, Any], *paths: Path) -> None:
    """Write the same contents under each of the names, each whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written to; what was there before stays.
    """
    buffer = io.BytesIO()  # torch.save hides what the disk says in an error of its own
    torch.save(dict(contents), buffer)
    for path in paths:
        try:
            with atomic_write(path) as partial:
                partial.write_bytes(buffer.getbuffer())
        except OSError as error:
            raise OSError(
                error.errno,
                f"{path} could not be written ({error.strerror}); the checkpoint before it is "
                "whole: make room, then run the same command again with --resume auto",
            ) from error


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint of a run, onto the CPU.

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
    """Return whether these are the contents of a checkpoint of a run."""
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
    """Load the network in `model.safetensors` or in a checkpoint (`best.pt`) of a run.

    Of a checkpoint with an average of weights, that average.

    Raises:
        ValueError: there is no such file, or it is none of these.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        notes = load_notes(path)
        with torch.device("cpu"):
            model = load_model(path)
        recipe = json.dumps(notes["recipe"]) if "recipe" in notes else None
        classes = notes.get("classes", ())
    else:
        contents = read_checkpoint(path)
        with torch.device("cpu"):
            model = BUILDERS[contents["architecture"]](**contents["arguments"])
        model.load_state_dict(_evaluated_weights(contents))
        recipe, classes = contents["recipe"], contents["classes"]
    recipe = None if recipe is None else recipe_from_json(recipe, str(path))
    return Trained(model.eval(), recipe, tuple(classes), path)


def _evaluated_weights(contents: Mapping[str, Any]) -> dict[str, Tensor]:
    if contents["ema"] is None:
        return contents["model"]
    return {
        name.removeprefix("module."): tensor
        for name, tensor in contents["ema"].items()
        if name.startswith("module.")
    }


def save_trained(trained: Trained, path: str | os.PathLike) -> None:
    """Write a network with its recipe and the names of its classes (a `.safetensors` file)."""
    notes: dict[str, Any] = {"classes": list(trained.classes)}
    if trained.recipe is not None:
        notes["recipe"] = json.loads(recipe_to_json(trained.recipe))
    save_model(trained.model, path, notes)
