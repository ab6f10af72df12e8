"""The training loop: one epoch, and a run of them that loses nothing.

    model = build(recipe, num_classes=10)
    result = fit(model, train_set, val_set, recipe, output=Output("runs/first"))

Alone, or as one of several processes that torchrun started (`distributed.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import BUILDERS
from blvnet_lab.training.checkpoint import RunFolder, describe_data
from blvnet_lab.training.distributed import (
    current_ranks,
    not_averaged,
    pick_device,
)
from blvnet_lab.training.evaluation import Predictions, Stopped, evaluate, standard_scores
from blvnet_lab.training.interrupts import Interrupts
from blvnet_lab.training.loading import (
    clip_names,
    mixing,
    report_dead_worker,
    timed_batches,
    training_loader,
)
from blvnet_lab.training.metrics import top_k_accuracy
from blvnet_lab.training.precision import autocast, make_scaler, update_weights
from blvnet_lab.training.recipe import Output, Recipe
from blvnet_lab.training.reporting import Report, epoch_line, unreadable_videos
from blvnet_lab.training.schedule import frozen_body, set_train_mode
from blvnet_lab.training.state import State, Step, make_state


def build(recipe: Recipe, num_classes: int) -> VideoNet:
    """Build the recipe's network, on the CPU, with weights drawn from its seed."""
    torch.manual_seed(recipe.seed)
    arguments = asdict(recipe.network)
    architecture = arguments.pop("architecture")
    if architecture != "blvnet_tam":  # without temporal aggregation
        del arguments["num_taps"], arguments["tap_init"], arguments["causal"]
    if architecture == "tsn":  # without branches
        del arguments["alpha"], arguments["beta"]
    with torch.device("cpu"):  # on a GPU the same seed gives other weights
        model = BUILDERS[architecture](
            num_frames=recipe.num_frames, num_classes=num_classes, **arguments
        )
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
    """Train on the batches of a loader (`training_steps`); return the mean loss of a clip."""
    recipe = recipe or Recipe()
    state = State(model, optimizer, scheduler, make_scaler(device, recipe.hardware))
    steps = list(training_steps(state, loader, device, recipe))
    return sum(step.loss * step.clips for step in steps) / max(1, sum(step.clips for step in steps))


def training_steps(
    state: State, loader: Iterable[Sequence[Tensor]], device: torch.device, recipe: Recipe
) -> Iterator[Step]:
    """Train on the batches of a loader; yield each step once it is done and the state counts it.

    Args:
        loader: batches (clips (B, T, C, H, W), labels (B,)), perhaps with the clips' numbers (B,);
            a multiple of the recipe's `accumulate` of them, or the last ones are left out.
        recipe: its precision, accumulation, label smoothing, mixing and longest gradient count.

    Raises:
        ValueError: a label that the model has no class for.
        FloatingPointError: the loss is not finite, on any rank; the message says at which step and
            with which clips. Weights, but not the statistics of batch norms, are as they were
            before the step. Or gradients overflow in float16, however little the loss is scaled.
    """
    accumulate = recipe.hardware.accumulate
    num_classes = state.model.classifier.out_features
    mix = mixing(recipe, num_classes)
    set_train_mode(state.network, recipe)
    state.optimizer.zero_grad()
    parts, seen, begin = [], [], time.perf_counter()
    for waited, (clips, labels, *numbers) in timed_batches(loader):
        _check_labels(labels, num_classes)
        clips, labels = clips.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        clips, targets = mix(clips, labels)
        # Gradients of the parts add up; the ranks' gradients are averaged with the last part.
        is_last = len(parts) == accumulate - 1
        with nullcontext() if is_last else not_averaged(state.network):
            with autocast(device, recipe.hardware):
                logits = state.network(clips)
                loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            state.scaler.scale(loss / accumulate).backward()
        parts.append((loss.detach(), len(labels), waited))
        seen += [number for part in numbers for number in part.tolist()]
        if not is_last:
            continue
        losses, counts, waits = zip(*parts, strict=True)
        loss = torch.stack(losses).mean().item()
        _check_finite(loss, state.step + 1, loader, seen)
        updated = update_weights(state.model, state.optimizer, state.scaler, recipe.clip_norm)
        if updated:
            state.scheduler.step()
        now = time.perf_counter()
        step = Step(loss, sum(counts), sum(waits), now - begin, skipped=not updated)
        state.count(step)
        yield step
        parts, seen, begin = [], [], now


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"expected labels from 0 to {num_classes - 1}, as the model has {num_classes} "
            f"classes, got {labels.min().item()} to {labels.max().item()}: build the model "
            "with the data set's num_classes, or correct the manifest's labels"
        )


def _check_finite(loss: float, step: int, loader: Iterable, numbers: list[int]) -> None:
    ranks, is_bad = current_ranks(), not math.isfinite(loss)
    if not ranks.any(is_bad)[0]:
        return
    found = f"got {loss} at step {step} of the epoch"
    if numbers:
        found += f" with {', '.join(clip_names(loader, numbers))}"
    found += f" on rank {ranks.rank}" if ranks.world > 1 else ""
    everywhere = [text for text in ranks.gather(found if is_bad else "") if text]
    raise FloatingPointError(
        f"expected a finite loss, {'; '.join(everywhere)}: look at these clips, lower the learning "
        "rate, or take a longer warm-up; the last checkpoint is from before"
    )


# --- A run --------------------------------------------------------------------------------------

Score = Callable[[VideoNet, Predictions], dict[str, Any]]


@dataclass(frozen=True)
class Fitted:
    """What came of a run."""

    history: list[dict[str, Any]]  # the line of figures of every epoch
    predictions: Predictions | None  # of the validation clips after the last epoch
    stopped: str  # the signal that ended it early; empty if it came to its end
    unreadable: pd.DataFrame  # videos that were passed over: path, reason


@report_dead_worker()
def fit(
    model: VideoNet,
    train_set: Dataset,
    val_set: Dataset,
    recipe: Recipe,
    *,
    output: Output | None = None,
    device: torch.device | None = None,
    score: Score | None = None,
    after_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Fitted:
    """Train `model` as the recipe says, and evaluate it after every epoch.

    Within `process_group`, the processes train together. Seeds PyTorch's global generator. A
    SIGTERM, SIGUSR1 or the stop button ends the run after the current step, with a checkpoint; the
    model, in eval mode, can be used as it is then.

    Args:
        train_set, val_set: items (clip (T, C, H, W), label). If they have `paths`, messages name
            clips; `classes` (names by label) are kept with the weights.
        output: where to write log, checkpoints and recipe; None writes nothing.
        device: None picks a GPU if there is one. The model stays there afterwards.
        score: what is written down after every epoch; None for top-1, top-5, mean class accuracy.
            The epoch with the highest "top_1" is the best.
        after_epoch: called with the history after every epoch, for live pictures.

    Returns:
        The history has a line for every epoch (`reporting.epoch_line`).

    Raises:
        ValueError: settings that contradict each other, the data or the checkpoint.
        FileExistsError: the folder holds files, and `output.resume` is False.
        OSError: a checkpoint could not be written; the one before it is whole.
        FloatingPointError: see `training_steps`; or the weights are not finite, which are never
            saved.
        DeadWorkerError: a process that reads clips has died.
    """
    with frozen_body(model, recipe):
        device = device or pick_device()
        score = score or (lambda model, predictions: standard_scores(predictions))
        run = _Run(model, train_set, val_set, recipe, output, device, score)
        return run.go(after_epoch)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: VideoNet,
        train_set: Dataset,
        val_set: Dataset,
        recipe: Recipe,
        output: Output | None,
        device: torch.device,
        score: Score,
    ):
        self.train_set, self.val_set, self.recipe, self.device = train_set, val_set, recipe, device
        self.score, self.ranks = score, current_ranks()
        self.loader, self.batches = training_loader(train_set, recipe, self.ranks, device)
        self.state = make_state(model, recipe, self.batches.steps, device)
        torch.manual_seed(recipe.seed + self.ranks.rank)  # dropout and mixing
        self.folder = RunFolder(output, recipe, describe_data(train_set, val_set), device)
        self.folder.open(self.state)
        self.report = Report(self.state, recipe, self.batches.steps, output)
        self.interrupts = Interrupts()
        self.predictions: Predictions | None = None

    @report_dead_worker()  # as `fit` is: a signal may come again while the first is handled
    def go(self, after_epoch: Callable[[list[dict[str, Any]]], None] | None) -> Fitted:
        state, stopped = self.state, ""
        with self.interrupts, self.report:
            try:
                while state.epoch <= self.recipe.epochs:
                    self.train()
                    self.evaluate()
                    if after_epoch is not None and self.ranks.is_first:
                        after_epoch(state.history)
            except Stopped:
                stopped = self.interrupts.asked or "a signal to another process"
                self.folder.save(state)
        state.model.eval()
        return Fitted(state.history, self.predictions, stopped, unreadable_videos(self.train_set))

    def train(self) -> None:
        """Take the steps that are left of the epoch; raise Stopped between two of them."""
        state, batches = self.state, self.batches
        batches.epoch, batches.first_step = state.epoch, state.step
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        for step in training_steps(state, self.loader, self.device, self.recipe):
            self.report.step(step)
            stop, save = self.ranks.any(bool(self.interrupts.asked), self.folder.is_due)
            if stop:
                raise Stopped
            if save:
                self.folder.save(state)

    def evaluate(self) -> None:
        """Evaluate, write the epoch's line, and go to the next epoch."""
        state, begin, raw = self.state, time.perf_counter(), {}
        if state.ema is not None:
            found = self.predict(state.model)
            raw = {"raw_top_1": top_k_accuracy(found.logits, found.labels)}
        self.predictions = self.predict(state.evaluated)
        scores = self.score(state.evaluated, self.predictions) | raw
        seconds, unreadable = time.perf_counter() - begin, unreadable_videos(self.train_set)
        line = epoch_line(state, scores, seconds, self.batches.steps, len(unreadable))
        state.end_epoch(line)
        self.report.epoch(line)
        self.folder.save(state, unreadable)

    def predict(self, network: VideoNet) -> Predictions:
        self.ranks.share_buffers(network)
        # Evaluation needs less memory than training, so the batch of training fits.
        return evaluate(
            network,
            self.val_set,
            batch_size=self.batches.at_once,
            device=self.device,
            hardware=self.recipe.hardware,
            stop=lambda: bool(self.interrupts.asked),
        )
