"""The training loop: one epoch, and a run of them that loses nothing.

    model = build(recipe, num_classes=10)
    result = fit(model, train_set, val_set, recipe, output=Output("runs/first"))

Alone, or as one of several processes that torchrun started (`distributed.py`).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import BUILDERS
from blvnet_lab.paths import written_whole
from blvnet_lab.progress import tqdm
from blvnet_lab.training.checkpoint import (
    BEST,
    LAST,
    LOG,
    RECIPE,
    State,
    digest_rows,
    pack,
    read_checkpoint,
    unpack,
    write_checkpoint,
)
from blvnet_lab.training.distributed import Ranks, dead_rank_error, pick_device
from blvnet_lab.training.evaluation import (
    Predictions,
    Stopped,
    autocast,
    evaluate,
    standard_scores,
)
from blvnet_lab.training.interrupts import Interrupts
from blvnet_lab.training.loading import (
    mixing,
    report_dead_worker,
    timed_batches,
    training_loader,
)
from blvnet_lab.training.metrics import top_k_accuracy
from blvnet_lab.training.recipe import Output, Recipe, recipe_from_json, recipe_to_json
from blvnet_lab.training.schedule import (
    RisingAverage,
    frozen_body,
    make_optimizer,
    make_scheduler,
    set_train_mode,
)

MIN_SCALE = 2.0**-9  # of the loss in float16: from 65536 it falls there in 25 steps that overflow
UNREADABLE = "unreadable.csv"  # videos that were passed over, in a run's folder


def build(recipe: Recipe, num_classes: int) -> VideoNet:
    """The recipe's network, on the CPU, with weights drawn from its seed."""
    torch.manual_seed(recipe.seed)
    arguments = asdict(recipe.network)
    architecture = arguments.pop("architecture")
    if architecture != "blvnet_tam":  # without temporal aggregation
        del arguments["num_taps"], arguments["tap_init"], arguments["causal"]
    if architecture == "tsn":  # without branches
        del arguments["alpha"], arguments["beta"]
    with torch.device("cpu"):  # a GPU as the default device would draw others
        model = BUILDERS[architecture](
            num_frames=recipe.num_frames, num_classes=num_classes, **arguments
        )
    model.set_grad_checkpointing(recipe.hardware.checkpointing)
    return model


@dataclass(frozen=True)
class Step:
    """What one step of training came to, on this process."""

    loss: float  # mean over its clips, before it changed the weights
    clips: int
    waited: float  # seconds until its clips were there
    skipped: bool = False  # in float16, since gradients overflowed: the weights are as before


@report_dead_worker()
def train_one_epoch(
    model: nn.Module,
    loader: Iterable[Sequence[Tensor]],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    device: torch.device,
    recipe: Recipe | None = None,
    *,
    scaler: GradScaler | None = None,
    ranks: Ranks | None = None,
    after_step: Callable[[Step], None] | None = None,
    name_of: Callable[[int], str] = "clip {}".format,
    first_step: int = 0,
) -> float:
    """One pass over the clips; the mean loss over those of this process.

    Args:
        model: a network, or what DistributedDataParallel made of it.
        loader: batches (clips (B, T, C, H, W), labels (B,)), perhaps with the clips' numbers (B,).
        recipe: its precision, accumulation, label smoothing, mixing and longest gradient count
            here; None for plain float32.
        scaler: for float16; None makes one that does nothing otherwise.
        name_of: a clip's name by its number, for messages.
        first_step: of the epoch, with which the loader begins; for messages.

    Raises:
        ValueError: a label that the model has no class for.
        FloatingPointError: the loss is not finite, on any rank; the message says at which step and
            with which clips. The weights are as they were before the step. Or gradients overflow in
            float16, however little the loss is scaled.
        DeadWorkerError: a process that reads clips has died.
    """
    recipe, ranks = recipe or Recipe(), ranks or Ranks()
    accumulate = recipe.hardware.accumulate
    scaler = scaler or _scaler(device, recipe)
    network = model.module if isinstance(model, DistributedDataParallel) else model
    num_classes = network.classifier.out_features
    mix = mixing(recipe, num_classes)
    set_train_mode(model, recipe)
    optimizer.zero_grad()
    total, seen, parts = 0.0, 0, []
    for number, (waited, batch) in enumerate(timed_batches(loader)):
        clips, labels, *numbers = batch
        _check_labels(labels, num_classes)
        step, part = divmod(number, accumulate)
        is_last_part = part == accumulate - 1
        clips, labels = clips.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        clips, targets = mix(clips, labels)
        # Gradients of the parts add up; the ranks' gradients are averaged with the last part.
        waits = isinstance(model, DistributedDataParallel) and not is_last_part
        with model.no_sync() if waits else nullcontext():
            with autocast(device, recipe.hardware):
                logits = model(clips)
                loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            scaler.scale(loss / accumulate).backward()
        parts.append((loss.detach(), len(labels), waited, numbers))
        if not is_last_part:
            continue
        loss = torch.stack([part[0] for part in parts]).mean().item()
        numbers = [n for part in parts for n in part[3]]
        _check_finite(loss, first_step + step, numbers, name_of, ranks)
        skipped = not _update(model, optimizer, scaler, recipe)
        if not skipped:
            scheduler.step()
        elif (scale := scaler.get_scale()) <= MIN_SCALE:
            raise FloatingPointError(
                f"expected finite gradients, but they overflowed in float16 at step "
                f"{first_step + step} of the epoch, with the loss scaled by no more than "
                f"{2 * scale:g}: train in bfloat16 or float32, or lower the learning rate"
            )
        clips, waited = (sum(part[place] for part in parts) for place in (1, 2))
        done = Step(loss, clips, waited, skipped)
        total, seen, parts = total + done.loss * done.clips, seen + done.clips, []
        if after_step is not None:
            after_step(done)
    return total / max(1, seen)


def _update(model: nn.Module, optimizer: Optimizer, scaler: GradScaler, recipe: Recipe) -> bool:
    """Change the weights; False if the scaler skipped that, since gradients overflowed."""
    if recipe.clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    stepped = []
    hook = optimizer.register_step_post_hook(lambda *_: stepped.append(True))
    scaler.step(optimizer)
    hook.remove()
    scaler.update()
    optimizer.zero_grad()
    return bool(stepped)


def _scaler(device: torch.device, recipe: Recipe) -> GradScaler:
    """Scales the loss in float16, so that small gradients are not lost; does nothing otherwise."""
    return GradScaler(device.type, enabled=recipe.hardware.precision == "float16")


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"expected labels from 0 to {num_classes - 1}, as the model has {num_classes} "
            f"classes, got {labels.min().item()} to {labels.max().item()}: build the model "
            "with the data set's num_classes, or mend the manifest's labels"
        )


def _check_finite(
    loss: float, step: int, numbers: list[Tensor], name_of: Callable[[int], str], ranks: Ranks
) -> None:
    is_bad = not math.isfinite(loss)
    if not ranks.any(is_bad)[0]:
        return
    names = [name_of(number) for part in numbers for number in part.tolist()]
    found = [
        f"got {loss} at step {step} of the epoch"
        + (f" with {', '.join(names)}" if names else "")
        + (f" on rank {ranks.rank}" if ranks.world > 1 else "")
    ]
    told = [text for texts in ranks.gather(found if is_bad else []) for text in texts]
    raise FloatingPointError(
        f"expected a finite loss, {'; '.join(told)}: look at these clips, lower the learning rate, "
        "or take a longer warm-up; the last checkpoint is from before"
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


def fit(
    model: VideoNet,
    train_set: Dataset,
    val_set: Dataset,
    recipe: Recipe,
    *,
    device: torch.device | None = None,
    ranks: Ranks | None = None,
    output: Output | None = None,
    classes: Sequence[str] = (),
    score: Score | None = None,
    after_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
    title: str = "training",
) -> Fitted:
    """Train `model` as the recipe says, evaluating after every epoch.

    Seeds PyTorch's global generator. A SIGTERM, SIGUSR1 or the stop button ends the run after the
    step that is going on, with a checkpoint; the model, in eval mode, can be used as it is then.

    Args:
        device: None picks a GPU if there is one. The model stays there afterwards.
        ranks: the processes that train together, as `process_group` gives them.
        output: where to write log, checkpoints and recipe; None writes nothing.
        classes: names in the order of labels, to be kept with the weights.
        score: what is written down after every epoch; None for top-1, top-5, mean class accuracy.
            The epoch with the highest "top_1" is the best.
        after_epoch: called with the history after every epoch, for live pictures.
        title: of the progress bar.

    Returns:
        The history has for every epoch: epoch, train_loss, what `score` says, learning_rate,
        seconds (of training), evaluation_seconds, clips_per_second, wait_share (of the time, for
        clips), memory_gb (peak of the GPU, or resident), unreadable (videos passed over). With an
        average of weights, which `score` gets, also raw_top_1 (of the weights themselves, which
        doubles evaluation_seconds); in float16 skipped_steps (whose gradients overflowed).

    Raises:
        ValueError: settings that contradict each other, the data or the checkpoint.
        FileExistsError: the folder holds files, and `output.resume` is False.
        OSError: a checkpoint could not be written; the one before it is whole.
        FloatingPointError, DeadWorkerError: see `train_one_epoch`; weights that are not finite are
            no checkpoint either.
        DeadRankError: another process of the run has died.
    """
    try:
        with frozen_body(model, recipe):
            run = _Run(
                model,
                train_set,
                val_set,
                recipe,
                device=device or pick_device(),
                ranks=ranks or Ranks(),
                output=output,
                classes=tuple(classes),
                score=score or (lambda model, predictions: standard_scores(predictions)),
            )
            return run.go(after_epoch, title)
    except RuntimeError as error:
        raise dead_rank_error(error) or error from error


class _Run:
    """One call of `fit`: what does not change in it, and its State."""

    def __init__(
        self,
        model: VideoNet,
        train_set: Dataset,
        val_set: Dataset,
        recipe: Recipe,
        *,
        device: torch.device,
        ranks: Ranks,
        output: Output | None,
        classes: tuple[str, ...],
        score: Score,
    ):
        self.train_set, self.val_set, self.recipe = train_set, val_set, recipe
        self.device, self.ranks, self.output, self.classes = device, ranks, output, classes
        self.out, self.score = None if output is None else Path(output.folder), score
        self.rows = digest_rows({"train": train_set, "val": val_set})
        self.loader, self.batches = training_loader(train_set, recipe, ranks, device)
        hardware = recipe.hardware
        layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        model.to(device, memory_format=layout)
        if hardware.sync_batch_norm:
            model = self._with_shared_statistics(model)
        optimizer = make_optimizer(model, recipe)
        self.state = State(
            model,
            optimizer,
            make_scheduler(optimizer, recipe, self.batches.steps),
            _scaler(device, recipe),
            RisingAverage(model, recipe.ema) if recipe.ema else None,
        )
        if hardware.compile:
            model.compile()
        self.wrapped: nn.Module = model
        if ranks.world > 1:
            places = [device] if device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(model, places, gradient_as_bucket_view=True)
        self.predictions: Predictions | None = None
        self.unreadable = pd.DataFrame({"path": [], "reason": []}, dtype="str")
        self.saved_at = time.monotonic()

    def _with_shared_statistics(self, model: VideoNet) -> VideoNet:
        if self.device.type != "cuda" or self.ranks.world == 1:
            raise ValueError(
                "expected several processes with a GPU each for sync_batch_norm, got "
                f"{self.ranks.world} on {self.device.type}: leave it out"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    # --- from begin to end

    @report_dead_worker()
    def go(
        self,
        after_epoch: Callable[[list[dict[str, Any]]], None] | None,
        title: str,
    ) -> Fitted:
        state, ranks, steps = self.state, self.ranks, self.batches.steps
        torch.manual_seed(self.recipe.seed + ranks.rank)  # dropout and mixing
        stopped = ""
        if self.out is not None:
            self._open_folder(self.output.resume)
        with ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts())
            writer = self._writer(stack)
            bar = stack.enter_context(
                tqdm(
                    total=self.recipe.epochs * steps,
                    initial=(state.epoch - 1) * steps + state.step,
                    desc=title,
                    unit="step",
                    disable=not ranks.is_first,
                )
            )
            try:
                while state.epoch <= self.recipe.epochs:
                    self._train(interrupts, bar, writer)
                    self._end_epoch(interrupts, bar, writer)
                    if after_epoch is not None and ranks.is_first:
                        after_epoch(state.history)
            except Stopped:
                stopped = interrupts.asked or "a signal to another process"
                self._save()
        state.model.eval()
        return Fitted(state.history, self.predictions, stopped, self.unreadable)

    def _train(self, interrupts: Interrupts, bar: tqdm, writer: Any) -> None:
        """What is left of the epoch. Raises Stopped, between two steps."""
        state, batches = self.state, self.batches
        batches.epoch, batches.first_step = state.epoch, state.step
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        begin = time.perf_counter()
        scores = _top_1(state.history[-1]) if state.history else {}

        def after_step(step: Step) -> None:
            nonlocal begin
            now = time.perf_counter()
            for name, value in (
                ("loss", step.loss * step.clips),
                ("clips", step.clips),
                ("waited", step.waited),
                ("seconds", now - begin),
                ("skipped", step.skipped),
            ):
                state.so_far[name] = state.so_far.get(name, 0) + value
            begin = now
            state.step += 1
            if state.ema is not None and not step.skipped:
                state.ema.update_parameters(state.model)
            if writer is not None:
                done = (state.epoch - 1) * batches.steps + state.step
                writer.add_scalar("step/loss", step.loss, done)
            bar.set_postfix(epoch=state.epoch, loss=f"{step.loss:.2f}", **scores, refresh=False)
            bar.update()
            is_due = (
                self.output is not None
                and time.monotonic() - self.saved_at > 60 * self.output.save_minutes
            )
            stop, save = self.ranks.any(bool(interrupts.asked), is_due)
            if stop:
                raise Stopped
            if save:
                self._save()

        train_one_epoch(
            self.wrapped,
            self.loader,
            state.optimizer,
            state.scheduler,
            self.device,
            self.recipe,
            scaler=state.scaler,
            ranks=self.ranks,
            after_step=after_step,
            name_of=self._name_of,
            first_step=batches.first_step,
        )

    def _name_of(self, number: int) -> str:
        paths = getattr(self.train_set, "paths", None)
        return f"clip {number}" if paths is None else paths[number]

    def _end_epoch(self, interrupts: Interrupts, bar: tqdm, writer: Any) -> None:
        """Evaluates, writes the epoch's line, and begins the next one."""
        state = self.state
        begin, raw = time.perf_counter(), {}
        if state.ema is not None:
            found = self._evaluate(state.model, interrupts)
            raw = {"raw_top_1": top_k_accuracy(found.logits, found.labels)}
        self.predictions = self._evaluate(state.judged, interrupts)
        scores = self.score(state.judged, self.predictions) | raw
        line = self._line(scores, time.perf_counter() - begin)
        best = max((old.get("top_1", 0) for old in state.history), default=-1)
        if line.get("top_1", 0) > best:
            state.best_epoch = state.epoch
        state.history.append(line)
        state.epoch, state.step, state.so_far = state.epoch + 1, 0, {}
        if writer is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "epoch":
                    writer.add_scalar(f"epoch/{name}", value, line["epoch"])
        bar.set_postfix(
            epoch=line["epoch"],
            loss=f"{line['train_loss']:.2f}",
            **_top_1(line),
            refresh=False,
        )
        bar.refresh()
        self._save()

    def _evaluate(self, network: VideoNet, interrupts: Interrupts) -> Predictions:
        self.ranks.share_buffers(network)
        return evaluate(
            network,
            self.val_set,
            # As many as in training: whatever memory that takes, evaluation takes less.
            batch_size=max(1, self.batches.batch_size // self.batches.parts),
            device=self.device,
            hardware=self.recipe.hardware,
            ranks=self.ranks,
            stop=lambda: bool(interrupts.asked),
        )

    def _line(self, scores: dict[str, Any], evaluation_seconds: float) -> dict[str, Any]:
        state = self.state
        shares = [share for share in self.ranks.gather(state.so_far) if share]
        sums = {name: sum(share[name] for share in shares) for name in shares[0]}
        seconds = max(share["seconds"] for share in shares)
        self.unreadable = self._passed_over()
        skipped = int(max(share.get("skipped", 0) for share in shares))
        if 2 * skipped > self.batches.steps and self.ranks.is_first:
            logging.getLogger(__name__).warning(
                "gradients overflowed in %d of the %d steps of epoch %d, which so changed no "
                "weights: usual in the first steps of a run in float16; if it goes on, train in "
                "bfloat16 or lower the learning rate",
                skipped,
                self.batches.steps,
                state.epoch,
            )
        return {
            "epoch": state.epoch,
            "train_loss": round(sums["loss"] / sums["clips"], 6),
            **scores,
            "learning_rate": state.scheduler.get_last_lr()[-1],
            "seconds": round(seconds, 2),
            "evaluation_seconds": round(evaluation_seconds, 2),
            "clips_per_second": round(sums["clips"] / seconds, 2),
            "wait_share": round(max(share["waited"] / share["seconds"] for share in shares), 4),
            "memory_gb": round(max(self.ranks.gather(self._memory())) / 1e9, 3),
            "unreadable": len(self.unreadable),
            **({"skipped_steps": skipped} if state.scaler.is_enabled() else {}),
        }

    def _memory(self) -> int:
        """Bytes: the peak of the GPU, or what this process and its readers hold now."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        process, held = psutil.Process(), 0
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                held += one.memory_info().rss
        return held

    def _passed_over(self) -> pd.DataFrame:
        unreadable = getattr(self.train_set, "unreadable", None)
        if unreadable is None:
            return self.unreadable
        tables = pd.concat(self.ranks.gather(unreadable()))
        return tables.drop_duplicates("path").sort_values("path", ignore_index=True)

    # --- files

    def _open_folder(self, resume: bool) -> None:
        """Makes the folder, or goes on with the run in it."""
        out, last = self.out, self.out / LAST
        if resume and last.is_file():
            try:
                contents = read_checkpoint(last)
            except ValueError as error:
                raise ValueError(
                    f"{error}. To go on with this run, put another of its checkpoints (best.pt) in "
                    f"the place of {LAST}"
                ) from error
            _check_same(recipe_from_json(contents["recipe"], str(last)), self.recipe, last)
            unpack(
                self.state,
                contents,
                num_clips=len(self.train_set),
                ranks=self.ranks,
                device=self.device,
                classes=self.classes,
                rows=self.rows,
            )
        elif self.ranks.is_first:
            if not resume and out.exists() and any(out.iterdir()):
                raise FileExistsError(
                    f"expected a new or an empty folder for the run, got {out}, which holds files: "
                    "go on with it by --resume auto, choose another out, or delete it first"
                )
            out.mkdir(parents=True, exist_ok=True)
        self.ranks.gather(None)  # no rank writes before all have read
        if self.ranks.is_first:
            for unfinished in out.glob(".*.part"):  # of a run that was killed while it wrote
                unfinished.unlink()
            with written_whole(out / RECIPE) as unfinished:
                unfinished.write_text(recipe_to_json(self.recipe), "utf-8")
            self._write_log()

    def _write_log(self) -> None:
        with written_whole(self.out / LOG) as unfinished:
            lines = [json.dumps(line) + "\n" for line in self.state.history]
            unfinished.write_text("".join(lines), "utf-8")
        if len(self.unreadable):
            with written_whole(self.out / UNREADABLE) as unfinished:
                self.unreadable.to_csv(unfinished, index=False, lineterminator="\n")

    def _save(self) -> None:
        """last.pt, and the others whose turn it is."""
        if self.out is None:
            return
        state = self.state
        _check_weights(state)
        contents = pack(
            state,
            self.recipe,
            num_clips=len(self.train_set),
            classes=self.classes,
            ranks=self.ranks,
            device=self.device,
            rows=self.rows,
        )
        if self.ranks.is_first:
            ended = state.epoch - 1
            paths = []
            if state.step == 0 and ended:
                if state.best_epoch == ended:
                    paths.append(self.out / BEST)
                if self.output.keep_every and ended % self.output.keep_every == 0:
                    paths.append(self.out / f"epoch_{ended:04}.pt")
            # last.pt comes last: a run that ends in between does this epoch, and so these, again.
            write_checkpoint(contents, *paths, self.out / LAST)
            self._write_log()
        self.saved_at = time.monotonic()

    def _writer(self, stack: ExitStack) -> Any:
        if self.output is None or not self.output.tensorboard or not self.ranks.is_first:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "expected TensorBoard to be installed, but it is not: pip install tensorboard, or "
                "leave tensorboard out (log.jsonl has the same figures)"
            ) from error
        done = (self.state.epoch - 1) * self.batches.steps + self.state.step
        writer = SummaryWriter(self.out / "tensorboard", purge_step=done + 1)
        stack.callback(writer.close)
        return writer


def _check_weights(state: State) -> None:
    """A finite loss may have had gradients that are not: no checkpoint shall hold what came of it.

    Raises:
        FloatingPointError: a weight or a statistic is not finite.
    """
    bad = [name for name, t in state.model.state_dict().items() if not t.isfinite().all()]
    if bad:
        raise FloatingPointError(
            f"expected finite weights, but after {state.epoch - 1} epochs and {state.step} steps "
            f"these are not: {', '.join(bad[:5])}{', ...' if bad[5:] else ''}: lower the learning "
            "rate, or limit the gradients with clip_norm; the last checkpoint is from before"
        )


def _top_1(line: dict[str, Any]) -> dict[str, str]:
    """For the progress bar."""
    return {"top_1": f"{line['top_1']:.1%}"} if "top_1" in line else {}


def _check_same(before: Recipe, now: Recipe, path: Path) -> None:
    """Raises ValueError if a run was begun with another recipe; the hardware may be another."""
    old, new = asdict(before), asdict(now)
    for values in (old, new):
        del values["hardware"], values["starts_from"]
    changed = [f"{name} {old[name]}, got {new[name]}" for name in old if old[name] != new[name]]
    if changed:
        raise ValueError(
            f"expected the recipe with which {path.parent} was begun, {'; '.join(changed)}: resume "
            "with the same (only the hardware may change), or start anew in another folder with "
            f"--init {path}"
        )
