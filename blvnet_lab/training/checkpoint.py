"""The files of a run, each complete or absent, so that it can continue; and of trained networks.

recipe.json         how it was trained
log.jsonl           a line of figures per epoch
last.pt             the state of the run; best.pt, epoch_0010.pt: its state after those epochs
unreadable.csv      skipped videos, if there are any
model.safetensors   the trained network, once the run has finished
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.models import VideoNet, load_model, load_notes, save_model
from blvnet_lab.models.files import BUILDERS, read_pickle
from blvnet_lab.paths import check_empty, write_files
from blvnet_lab.training.distributed import current_ranks
from blvnet_lab.training.recipe import Output, Recipe, recipe_from_json, recipe_to_json
from blvnet_lab.training.state import State

FORMAT = 1  # of checkpoints; to be increased if that changes
LAST, BEST, MODEL, UNREADABLE = "last.pt", "best.pt", "model.safetensors", "unreadable.csv"
REMEDY = "continue it with --resume auto, choose another out, or delete it first"


class RunFolder:
    """The files of a run; none if `output` is None.

    The folder is created, or `state` is restored from the run in it.

    Raises:
        ValueError: the checkpoint is damaged, or belongs to another recipe, clips or classes.
        FileExistsError: the folder holds files, and `output.resume` is not set.
    """

    def __init__(self, output: Output | None, state: State, train_set: Dataset, val_set: Dataset):
        self.output, self.state, self.clips = output, state, (train_set, val_set)
        self.saved_at, self.is_first = time.monotonic(), current_ranks().is_first
        self.skipped = pd.DataFrame(columns=["path", "reason"], dtype="str")  # in earlier parts
        if output is None:
            return
        self.data = _describe_data(train_set, val_set)
        folder, last = output.folder, output.folder / LAST
        if output.resume and last.is_file():
            contents = read_checkpoint(last)
            _check_same(contents, state.recipe, self.data, last)
            state.unpack(contents)
            if (listed := folder / UNREADABLE).is_file():
                self.skipped = pd.read_csv(listed, dtype="str", keep_default_na=False)
        elif self.is_first:
            if not output.resume:
                check_empty(folder, "folder for the run", REMEDY)
            folder.mkdir(parents=True, exist_ok=True)
        current_ranks().gather(None)  # no rank may write before all have read
        if self.is_first:
            for partial in folder.glob(".*.part"):  # of a run that was killed while it wrote
                partial.unlink()
            if output.tensorboard:
                try:
                    from torch.utils.tensorboard import SummaryWriter
                except ImportError as error:
                    raise ValueError(
                        "expected TensorBoard to be installed, as --tensorboard asks for it: pip "
                        "install tensorboard, or leave that out"
                    ) from error
                self.events = SummaryWriter(folder / "tensorboard", purge_step=state.epoch)
            self._write_texts({"recipe.json": recipe_to_json(state.recipe)})

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint within an epoch is due."""
        seconds = time.monotonic() - self.saved_at
        return self.output is not None and seconds > 60 * self.output.save_minutes

    def save(self) -> None:
        """Write last.pt and, after an epoch, best.pt and others; to be called on every rank.

        Raises:
            FloatingPointError: a weight or a statistic is not finite.
            OSError: the disk is full or read-only; the previous files stay.
        """
        if self.output is None:
            return
        state = self.state
        bad = [name for name, t in state.model.state_dict().items() if not t.isfinite().all()]
        if bad:  # gradients of a finite loss may not be finite
            raise FloatingPointError(
                f"expected finite weights, but after {state.epoch - 1} epochs and {state.step} "
                f"steps {len(bad)} tensors are not, first {bad[0]}: lower the learning rate, or "
                "limit the gradients with clip_norm; the last checkpoint is from before"
            )
        recipe, unreadable = recipe_to_json(state.recipe), self.unreadable()
        contents = {"format": FORMAT, "recipe": recipe, **self.data, **state.pack()}
        if self.is_first:
            buffer = io.BytesIO()  # torch.save would hide the disk's error in one of its own
            torch.save(contents, buffer)
            # last.pt comes last: a run killed in between repeats this epoch, and writes all again.
            for name in [*self._of_this_epoch(), LAST]:
                write_files({self.output.folder / name: buffer.getbuffer()})
            table = unreadable.to_csv(index=False, lineterminator="\n")
            self._write_texts({UNREADABLE: table} if len(unreadable) else {})
            if state.step == 0 and self.output.tensorboard:
                for name, value in (line := state.history[-1]).items():
                    if isinstance(value, int | float):
                        self.events.add_scalar(f"epoch/{name}", value, line["epoch"])
                self.events.flush()
        self.saved_at = time.monotonic()

    def unreadable(self) -> pd.DataFrame:
        """List the videos that any rank has skipped in this run, sorted by path: path, reason."""
        own = (clips.unreadable() for clips in self.clips if hasattr(clips, "unreadable"))
        found = pd.concat(current_ranks().gather(pd.concat([*own, self.skipped])))
        return found.drop_duplicates("path").sort_values("path", ignore_index=True)

    def _of_this_epoch(self) -> list[str]:
        """Name the checkpoints to keep of an epoch that has just ended."""
        ended, every, names = self.state.epoch - 1, self.output.keep_every, []
        if self.state.step == 0 and ended:
            names += [BEST] if self.state.best_epoch == ended else []
            names += [f"epoch_{ended:04}.pt"] if every and ended % every == 0 else []
        return names

    def _write_texts(self, texts: dict[str, str]) -> None:
        log = "".join(json.dumps(line) + "\n" for line in self.state.history)
        texts = {"log.jsonl": log, **texts}
        write_files({self.output.folder / name: texts[name] for name in texts})


def _describe_data(train_set: Dataset, val_set: Dataset) -> dict[str, Any]:
    """Describe the data of a run, which resumes only with the same.

    Paths are relative to the folder that all clips of a split share, so that it can be moved.
    """

    def digest(texts: Iterable[str]) -> str:
        whole = "".join(f"{text}\0" for text in texts)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

    rows = {}
    for name, split in (("train", train_set), ("val", val_set)):
        names = getattr(split, "names", getattr(split, "paths", ()))
        if paths := [os.path.abspath(name) for name in names]:
            on_one_drive = len({os.path.splitdrive(path)[0] for path in paths}) == 1
            folders = {os.path.dirname(path) for path in paths}
            shared = os.path.commonpath(folders) if on_one_drive else ""
            places = (path[len(shared) :].replace(os.sep, "/").strip("/") for path in paths)
            rows[f"clips of {name}"] = digest(places)
            labels = np.asarray(getattr(split, "labels", ()))
            found = map(np.flatnonzero, labels) if labels.ndim == 2 else labels
            rows[f"labels of {name}"] = digest(str(label.tolist()) for label in found)
    return {
        "num_clips": len(train_set),
        "classes": list(getattr(train_set, "classes", None) or ()),
        "rows": rows,
    }


def _check_same(
    contents: Mapping[str, Any], recipe: Recipe, data: Mapping[str, Any], path: Path
) -> None:
    """Raise ValueError if a checkpoint has another recipe or other data (older ones say less)."""
    old, new = asdict(recipe_from_json(contents["recipe"], str(path))), asdict(recipe)
    old["training clips"], new["training clips"] = contents["num_clips"], data["num_clips"]
    names = [name for name in old if name not in ("hardware", "starts_from")]
    changed = [f"{n} {old[n]}, got {new[n]}" for n in names if old[n] != new[n]]
    old, new = ({"classes": d["classes"], **d.get("rows", {})} for d in (contents, data))
    names = [name for name in old if old[name] and new.get(name)]
    changed += [f"got other {name}" for name in names if old[name] != new[name]]
    if changed:
        raise ValueError(
            f"expected the recipe and the clips with which {path.parent} was begun, "
            f"{'; '.join(changed)}: resume with the same (the hardware may change, and the clips' "
            f"folder may have been moved), or start again in another folder with --init {path}"
        )


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a run's checkpoint, onto the CPU; raise ValueError if it is damaged or not ours."""
    contents = read_pickle(path)
    if not is_checkpoint(contents):
        wanted = "a checkpoint of `python -m blvnet_lab train`"
        raise ValueError(f"{path}: expected {wanted}, got another file (for --init it may do)")
    return contents


def is_checkpoint(contents: Any) -> bool:
    """Return whether these are the contents of a run's checkpoint."""
    return isinstance(contents, dict) and contents.get("format") == FORMAT


@dataclass(frozen=True)
class Trained:
    """A trained network, with everything needed to use it."""

    model: VideoNet  # on the CPU, in eval mode
    recipe: Recipe | None = None  # how it was trained; None if unknown
    classes: tuple[str, ...] = ()  # names in the order of labels; empty if unknown
    file: Path | None = None  # where it was read from
    notes: Mapping[str, Any] = field(default_factory=dict)  # other notes in that file
    multi_label: bool = False  # whether a clip may have several classes

    def __post_init__(self) -> None:
        self.model.multi_label = self.multi_label

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of labels; "class 3" and so on if unknown."""
        numbers = range(self.model.classifier.out_features)
        return self.classes or tuple(f"class {label}" for label in numbers)

    @property
    def digest(self) -> str:
        """The SHA-256 of its file."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (..., num_classes) into probabilities: softmax, or sigmoid if multi-label."""
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)


@on_cpu()
def load_trained(path: str | os.PathLike) -> Trained:
    """Load the network in `model.safetensors` or in a run's checkpoint (`best.pt`).

    If a checkpoint has averaged weights, these are loaded. Raises ValueError for other files.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        model, notes = load_model(path), load_notes(path)
    else:
        contents = read_checkpoint(path)
        weights = contents["model"]
        model = BUILDERS[contents["architecture"]](**contents["arguments"])
        if average := contents["ema"]:
            weights = {name: average[f"module.{name}"] for name in weights}
        model.load_state_dict(weights)
        notes = {name: contents[name] for name in ("classes", "multi_label") if name in contents}
        notes["recipe"] = json.loads(contents["recipe"])
    classes, multi_label = tuple(notes.pop("classes", ())), notes.pop("multi_label", False)
    if (recipe := notes.pop("recipe", None)) is not None:
        recipe = recipe_from_json(json.dumps(recipe), str(path))
    return Trained(model.eval(), recipe, classes, path, notes, multi_label)


def save_trained(trained: Trained, path: str | os.PathLike) -> None:
    """Write a network with its recipe, classes and notes (a `.safetensors` file)."""
    notes = {**trained.notes, "classes": list(trained.classes)}
    if trained.recipe is not None:
        notes["recipe"] = asdict(trained.recipe)
    save_model(trained.model, path, notes)
