"""The training loop: one epoch, and a run of epochs that loses nothing.

model = build(recipe, num_classes=10)
result = fit(model, train_set, val_set, recipe, output=Output("runs/first"))
"""

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import BUILDERS
from blvnet_lab.progress import tqdm
from blvnet_lab.threads import keep_memory
from blvnet_lab.training import evaluation
from blvnet_lab.training.checkpoint import RunFolder
from blvnet_lab.training.distributed import current_ranks, noted_signals, pick_device
from blvnet_lab.training.evaluation import Predictions, Stopped, autocast, evaluate, standard_scores
from blvnet_lab.training.loading import mixing, report_dead_worker, timed_batches, training_loader
from blvnet_lab.training.recipe import Output, Recipe
from blvnet_lab.training.state import MAIN, NORMS, State, frozen_body, make_state

MIN_SCALE = 2.0**-9  # of the loss in float16, reached from 65536 after 25 steps that overflow


@on_cpu()  # since on a GPU the same seed gives other weights
def build(recipe: Recipe, num_classes: int) -> VideoNet:
    """Build the recipe's network, on the CPU, with weights drawn with its seed."""
    torch.manual_seed(recipe.seed)
    options = asdict(recipe.network)
    options |= {"num_frames": recipe.num_frames, "num_classes": num_classes}
    architecture = options.pop("architecture")
    if options["tap_init"] is None:
        options["tap_init"] = "shift" if architecture == "tam_resnet" else "identity"
    builder = BUILDERS[architecture]
    known = inspect.signature(builder).parameters  # a network without branches has no alpha
    model = builder(**{name: options[name] for name in options if name in known})
    model.set_grad_checkpointing(recipe.hardware.checkpointing)
    return model


# --- One epoch ----------------------------------------------------------------------------------


def train_one_epoch(
    model: nn.Module,
    loader: Iterable[Sequence[Tensor]],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    device: torch.device,
    recipe: Recipe | None = None,
) -> float:
    """Train on the batches of a loader (`training_steps`); return the mean loss per clip."""
    state = State(model, recipe or Recipe(), device, optimizer, scheduler)
    for _ in training_steps(state, loader):
        pass
    return state.so_far.get("loss", 0.0) / max(1, state.so_far.get("clips", 0))


def training_steps(state: State, loader: Iterable[Sequence[Tensor]]) -> Iterator[float]:
    """Train on the batches of a loader; yield the loss of each step, once the state has counted it.

    Args:
        loader: batches (clips (B, T, C, H, W), labels (B,)), optionally with clip numbers (B,);
            those after the last multiple of the recipe's `accumulate` are left out. Labels
            (B, num_classes), for several per clip, are learned by binary cross-entropy.

    Raises:
        ValueError: the model has no class for a label.
        FloatingPointError: the loss is not finite on some rank (weights are as before the step, but
            batch norm statistics are not), or gradients keep overflowing in float16.
    """
    recipe, device, network = state.recipe, state.device, state.network
    accumulate, num_classes = recipe.hardware.accumulate, state.model.classifier.out_features
    mix = mixing(recipe, num_classes)
    network.train()
    keeps_all = recipe.keep_statistics or recipe.body_share == 0
    for norm in (module for module in network.modules() if isinstance(module, NORMS)):
        weights = list(norm.parameters())
        if keeps_all or (weights and not any(weight.requires_grad for weight in weights)):
            norm.eval()  # frozen by the recipe or by the caller
    state.optimizer.zero_grad()
    parts, seen, begin = [], [], time.perf_counter()
    for waited, (clips, labels, *numbers) in timed_batches(loader):
        last = labels.shape[1] - 1 if labels.ndim == 2 else labels.max().item()
        if labels.min() < 0 or last >= num_classes:
            raise ValueError(
                f"expected labels from 0 to {num_classes - 1}, got {labels.min().item():g} to "
                f"{last}: build the model with the data set's num_classes, or correct the manifest"
            )
        clips, targets = mix(*(x.to(device, non_blocking=True) for x in (clips, labels)))
        if recipe.hardware.channels_last and clips.ndim == 5:  # once, or both passes would convert
            clips = clips.movedim(2, -1).contiguous().movedim(-1, 2)
        # Gradients of the parts add up; with the last part they are averaged over ranks.
        is_last, is_alone = len(parts) == accumulate - 1, network is state.model
        with nullcontext() if is_last or is_alone else network.no_sync():
            with autocast(device, recipe.hardware):
                logits = network(clips)
                if labels.ndim == 2:
                    loss = F.binary_cross_entropy_with_logits(logits.float(), targets.float())
                else:
                    loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            state.scaler.scale(loss / accumulate).backward()
        parts.append((loss.detach(), len(labels), waited))
        seen += [number for part in numbers for number in part.tolist()]
        if not is_last:
            continue
        losses, counts, waits = zip(*parts, strict=True)
        loss = torch.stack(losses).mean().item()
        _check_finite(loss, state.step + 1, loader, seen)
        updated = _update_weights(state)
        now = time.perf_counter()
        state.count(loss, sum(counts), sum(waits), now - begin, skipped=not updated)
        yield loss
        parts, seen, begin = [], [], now


def _check_finite(loss: float, step: int, loader: Iterable, numbers: list[int]) -> None:
    """Raise FloatingPointError on all ranks if the loss of any is not finite."""
    ranks, is_bad = current_ranks(), not math.isfinite(loss)
    if not ranks.any(is_bad)[0]:
        return
    paths = getattr(getattr(loader, "dataset", None), "paths", None)
    names = [f"clip {number}" if paths is None else paths[number] for number in numbers]
    found = f"got {loss} at step {step} of the epoch"
    found += f" with {', '.join(names)}" if names else ""
    found += f" on rank {ranks.rank}" if ranks.world > 1 else ""
    everywhere = "; ".join(text for text in ranks.gather(found if is_bad else "") if text)
    raise FloatingPointError(
        f"expected a finite loss, {everywhere}: look at these clips, lower the learning rate, or "
        "take a longer warm-up; the last checkpoint is from before"
    )


def _update_weights(state: State) -> bool:
    """Step the optimizer and clear the gradients; return False if they overflowed (no step)."""
    scaler, clip_norm = state.scaler, state.recipe.clip_norm
    state.so_far["rate"] = state.scheduler.get_last_lr()[-1]  # of this step, not of the next
    if clip_norm is not None:
        scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    before = scaler.get_scale()
    scaler.step(state.optimizer)
    scaler.update()
    state.optimizer.zero_grad()
    after = scaler.get_scale()
    if after >= before:
        state.scheduler.step()
    elif after <= MIN_SCALE:
        raise FloatingPointError(
            f"expected finite gradients, but they overflowed in float16 with the loss scaled by no "
            f"more than {before:g}: train in bfloat16 or float32, or lower the learning rate"
        )
    return after >= before


# --- A run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """The result of a run."""

    history: list[dict[str, Any]]  # a line of figures per epoch
    predictions: Predictions | None  # for the validation clips, after the last epoch
    stopped: str  # the signal that ended it early; empty if it finished
    unreadable: pd.DataFrame  # skipped videos: path, reason


@report_dead_worker()
def fit(
    model: VideoNet,
    train_set: Dataset,
    val_set: Dataset,
    recipe: Recipe,
    *,
    output: Output | None = None,
    device: torch.device | None = None,
    score: Callable[[VideoNet, Predictions], dict[str, Any]] | None = None,
    after_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Fitted:
    """Train `model` according to the recipe, and evaluate it after every epoch.

    Inside `process_group`, the processes train together. Seeds PyTorch's generator and calls
    `keep_memory`. SIGTERM, SIGUSR1 or the stop button ends the run after the current step, with a
    checkpoint. The model is left in eval mode, on the device, with the averaged weights, if any.

    Args:
        train_set, val_set: items (clip (T, C, H, W), label). If they have `paths`, messages name
            clips; `classes` (names by label) and `multi_label` are stored with the weights.
        output: where to write log, checkpoints and recipe; None writes nothing.
        device: None picks a GPU if there is one.
        score: the figures to log after every epoch; None for `standard_scores`. The epoch with the
            highest "top_1" (or "map", for several labels) is the best; that is added if not given.
        after_epoch: called with the history (`State.end_epoch`) after every epoch.

    Raises:
        ValueError: no validation clip can be read; or as `RunFolder` and `training_steps` do.
        OSError, FloatingPointError: as `RunFolder`, its `save` and `training_steps` do.
        DeadWorkerError: a process that reads clips has died.
    """
    device, ranks, predictions, stopped = device or pick_device(), current_ranks(), None, ""
    keep_memory()
    evaluation.count_views(val_set)  # raises now, rather than after an epoch
    model.multi_label = getattr(train_set, "multi_label", False)
    loader, batches = training_loader(train_set, recipe, ranks, device)
    # A dead worker's signal may come again while the first is being handled, hence the second one.
    with report_dead_worker(), frozen_body(model, recipe), noted_signals() as asked:
        state = make_state(model, recipe, batches.steps, device)
        torch.manual_seed(recipe.seed + ranks.rank)  # dropout and mixing
        folder = RunFolder(output, state, train_set, val_set)
        with _bar(state) as bar:
            try:
                while state.epoch <= recipe.epochs:
                    batches.epoch, batches.first_step = state.epoch, state.step
                    for loss in training_steps(state, loader):
                        _describe(bar, state, state.epoch, loss)
                        bar.update()
                        stop, save = ranks.any(bool(asked), folder.is_due)
                        if stop:
                            raise Stopped
                        if save:
                            folder.save()
                    begin = time.perf_counter()
                    predictions, scores = _evaluate(state, val_set, batches.at_once, score, asked)
                    seconds = time.perf_counter() - begin
                    state.end_epoch(scores, seconds, len(folder.unreadable()))
                    line = state.history[-1]
                    _describe(bar, state, line["epoch"], line["train_loss"])
                    bar.refresh()
                    folder.save()
                    if after_epoch is not None and ranks.is_first:
                        after_epoch(state.history)
            except Stopped:
                stopped = asked[-1] if asked else "a signal to another process"
                folder.save()
    model.load_state_dict(state.evaluated.state_dict())
    model.eval()
    return Fitted(state.history, predictions, stopped, folder.unreadable())


def _evaluate(
    state: State, val_set: Dataset, at_once: int, score: Callable | None, asked: list[str]
) -> tuple[Predictions, dict[str, Any]]:
    """Evaluate the network to keep and, if that is an average, also the current weights."""
    figures = {}
    for network in dict.fromkeys((state.model, state.evaluated)):
        for buffer in network.buffers() if current_ranks().world > 1 else ():
            dist.broadcast(buffer, 0)  # running statistics; weights are equal on all ranks
        # Evaluation needs less memory than training, so training's batch size fits.
        how = {"batch_size": at_once, "device": state.device, "hardware": state.recipe.hardware}
        found = evaluate(network, val_set, stop=partial(bool, asked), **how)
        scores, kind = standard_scores(found), "" if network is state.evaluated else "raw_"
        figures |= {kind + name: scores[name] for name in MAIN if name in scores}
    return found, figures | (score(network, found) if score else scores)


def _bar(state: State) -> tqdm:
    return tqdm(
        total=state.recipe.epochs * state.steps,
        initial=(state.epoch - 1) * state.steps + state.step,
        desc=f"training {state.recipe.network.architecture}, seed {state.recipe.seed}",
        unit="step",
        disable=not current_ranks().is_first,
    )


def _describe(bar: tqdm, state: State, epoch: int, loss: float) -> None:
    """Set the text after the bar: epoch, loss, and the last evaluation's figure."""
    last = state.history[-1] if state.history else {}
    scores = {name: f"{last[name]:.1%}" for name in MAIN if name in last}
    bar.set_postfix(epoch=epoch, loss=f"{loss:.2f}", **scores, refresh=False)
