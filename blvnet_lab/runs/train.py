"""Train a network on a manifest, into a folder; and fine-tune.

python -m blvnet_lab train my_list/manifest.csv --out runs/mine --preset classroom
torchrun --nproc-per-node 4 -m blvnet_lab train ...
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from blvnet_lab import training
from blvnet_lab.data import ClipDataset, DataSet, useful_short_side
from blvnet_lab.data.transforms import evaluation_transform, training_transform
from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import LoadReport, load_exactly, read_pickle
from blvnet_lab.paths import check_empty, check_target
from blvnet_lab.training import checkpoint
from blvnet_lab.training.checkpoint import load_trained, save_trained
from blvnet_lab.training.distributed import process_group
from blvnet_lab.training.engine import Fitted, build, fit
from blvnet_lab.training.recipe import Output, Recipe
from blvnet_lab.weights import official


@dataclass(frozen=True)
class Run:
    """The outcome of a training run."""

    fitted: Fitted
    trained: checkpoint.Trained | None  # the best network, as saved; None if the run was stopped
    file: Path  # where that network is
    start: str  # the weights it started from
    published_start: str = ""  # the published recipe's initial weights, if this run had none

    def __str__(self) -> str:
        lines = [f"started from {self.start}"]
        if self.published_start:
            lines.append(f"the published run started from {self.published_start}: expect less")
        if count := len(self.fitted.unreadable):
            lines.append(f"{count} videos were passed over: unreadable.csv names them")
        end = f"{self.file} is the best network, log.jsonl beside it has every epoch"
        if self.fitted.stopped:
            end = f"stopped by {self.fitted.stopped}: run the same again with --resume auto"
        return "\n".join([*lines, end])


def train(
    manifest: Path,
    /,
    output: Output,
    recipe: Recipe | None = None,
    *,
    preset: str = "classroom",
    init: str = "",
    after_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Run:
    """Train a network on a manifest's clips; alone, or started by torchrun on several GPUs.

    A run that is asked to stop (Ctrl-C, SIGTERM, SIGUSR1) ends with a checkpoint; --resume auto
    continues it as if it had not been interrupted. To fine-tune on clips of your own:
    --init runs/other/model.safetensors --body-rate 0.1.

    Args:
        manifest: manifest.csv of the clips; it needs the splits train and val.
        output: where to write, and how often.
        recipe: how to train; without it, as the preset says.
        preset: values of all settings that are not given: classroom, kinetics-subset, a row
            of the paper such as ssv2-50-f8x2 or kinetics400-50-f16x2, or a recipe.json.
        init: start from these weights: a model.safetensors or best.pt (for fewer frames or other
            classes, too), a published checkpoint, a ResNet of torchvision; or "torchvision" or a
            name of docs/weights.md (tam-resnet50-k400), which are downloaded. Empty for random
            weights.
        after_epoch: called with the history after each epoch, as in `engine.fit`.

    Raises ValueError, OSError, FloatingPointError as `fit`, `start_from` and `ClipDataset` do.
    """
    recipe, out = recipe or training.preset(preset), Path(output.folder)
    file = out / checkpoint.MODEL
    with process_group() as (ranks, _):
        data_set = DataSet.read(manifest)
        if not output.resume:
            check_empty(out, "folder for the run", checkpoint.REMEDY)
        if len(data_set.classes) == 1 and not data_set.multi_label:
            wanted = f"expected at least two classes, got {data_set.classes[0]} alone"
            raise ValueError(f"{wanted}: --root of `manifest folder` is the folder of all classes")
        model = build(recipe, len(data_set.classes))
        resumes = output.resume and (out / checkpoint.LAST).is_file()
        start = "a checkpoint of this run" if resumes else "random weights"
        if init and not resumes:
            start = f"{init}\n{start_from(model, init, data_set.classes)}"
        if ranks.is_first:
            check_target(file, file.suffix)
        train_set, val_set = clip_datasets(data_set, recipe)  # last: it may read all of them
        options = {"output": output, "after_epoch": after_epoch}
        fitted, trained = fit(model, train_set, val_set, recipe, **options), None
        if not fitted.stopped and ranks.is_first:
            notes = dict(load_trained(file).notes) if resumes and file.is_file() else {}
            notes["clips"] = {"train": len(train_set), "val": len(val_set)}
            if init or not resumes:
                notes["init"] = _name_of(init) if init else "random weights"
            trained = replace(load_trained(out / checkpoint.BEST), notes=notes)
            save_trained(trained, file)
        return Run(fitted, trained, file, start, "" if init else recipe.starts_from)


def _name_of(init: str) -> str:
    """Name weights without this machine's folders; those cached from the hub by their commit."""
    kept = re.search(r"models--(.+)--(.+)/snapshots/(\w+)/", Path(init).as_posix())
    return "hub:{}/{}@{}".format(*kept.groups()) if kept else "/".join(Path(init).parts[-2:])


def clip_datasets(data_set: DataSet, recipe: Recipe) -> tuple[ClipDataset, ClipDataset]:
    """Open the training and validation clips of a data set.

    Unreadable videos are passed over in training (`ClipDataset.unreadable` names them). Raises
    ValueError for no such split, or no class list, which mirroring needs.
    """
    changes, views, side = recipe.augmentation, recipe.evaluation, recipe.read_short_side
    shared = {"stride": recipe.stride, "in_memory": recipe.hardware.in_memory}
    names = ("crop", "jitter", "rand_augment", "erase")
    augment = training_transform(recipe.size, **{name: getattr(changes, name) for name in names})
    random = {"random_frames": True, "mirror": changes.mirror, "skip_unreadable": True}
    random["short_side"] = side or useful_short_side(recipe.size, changes.crop)
    train_set = ClipDataset(data_set, "train", recipe.num_frames, augment, **random, **shared)
    crop = evaluation_transform(views.size or recipe.size, views.short_side)
    val_set = ClipDataset(data_set, "val", recipe.num_frames, crop, short_side=side, **shared)
    return train_set, val_set


def start_from(model: VideoNet, source: str, classes: Sequence[str] = ()) -> LoadReport:
    """Load weights into a model, and report which were loaded and which were not.

    The source is as `init` of `train`; "torchvision" is its ResNet of the model's depth (ImageNet).
    A published classifier is loaded if it has as many classes; that of a network trained here, if
    they are the same: `classes` are the model's, in the order of labels.

    Raises ValueError if the file is missing or does not fit (the model is unchanged), OSError if
    the download failed.
    """
    if source == "torchvision":
        official.check_depth(model)
        return official.load_resnet(model, official.torchvision_resnet(model.arguments["depth"]))
    source = official.released_file(source)
    if not Path(source).is_file():
        raise ValueError(
            'expected a file with weights to start from, "torchvision" or a name out of '
            f"{', '.join(official.RELEASED)}, but there is no file {source}"
        )
    if Path(source).suffix != ".safetensors":
        contents = read_pickle(source)
        if not checkpoint.is_checkpoint(contents):
            if official.is_resnet(contents):
                return official.load_resnet(model, contents)
            found = official.read_published(source)
            _check_kind(model, found)
            theirs = found.weights.get("classifier.weight")
            is_other = theirs is None or theirs.shape != model.classifier.weight.shape
            return official.load_official(model, found, keeps_classifier=is_other)
    trained = load_trained(source)
    weights, report = trained.model.state_dict(), LoadReport("own")
    _check_taps(model, trained.model.architecture, trained.model.causal, weights)
    if not classes or tuple(classes) != trained.classes:
        report.ignored = [name for name in weights if name.startswith("classifier.")]
        report.kept = [*report.ignored]
        weights = {name: t for name, t in weights.items() if name not in report.kept}
    if not any(name.endswith(".taps") for name in weights):
        # A network without temporal aggregation can initialise one with it.
        report.kept += [name for name in model.state_dict() if name.endswith(".taps")]
    remedy = (
        f"It holds a {trained.model.architecture} built with {trained.model.arguments}: build the "
        "same but for num_frames, num_classes and dropout"
    )
    return load_exactly(model, weights, report, remedy)


def _check_kind(model: VideoNet, found: official.Published) -> None:
    """Raise ValueError if a published network is of another kind or depth than the model."""
    kind, depth, theirs = model.architecture, model.arguments["depth"], found.sizes["depth"]
    fitting = {"tsn": ("tsn", "tsm", "tam_resnet"), "tsm": ("tsm", "tam_resnet")}
    if found.layout == "image":
        fitting[found.architecture] = ("tsn_blnet", "blvnet", "blvnet_tam")
    if kind not in fitting.get(found.architecture, (found.architecture,)) or depth != theirs:
        raise ValueError(
            f"expected weights of a {kind} of depth {depth}, got those of a {found.architecture} "
            f"of depth {theirs}: build that (--network.architecture {found.architecture} "
            f"--network.depth {theirs})"
        )
    _check_taps(model, found.architecture, False, found.weights)


def _check_taps(model: VideoNet, kind: str, causal: bool, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError if loaded taps would mean something else in the model."""
    has_taps = any(name.endswith(".taps") for name in weights)
    if has_taps and model.causal != causal:
        raise ValueError(
            f"expected taps of a network with causal={model.causal}, got those of one with "
            f"causal={causal}, which are of other frames: set --network.causal as they were learned"
        )
    if has_taps and model.architecture == "tsm" and kind != "tsm":
        raise ValueError(
            f"expected the fixed shift of a tsm, got the learned taps of a {kind}: start a "
            "tam_resnet from them (--network.architecture tam_resnet)"
        )
