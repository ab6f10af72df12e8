"""What training changes: a run's state, made of optimizer, schedule and average of weights."""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.models import VideoNet
from blvnet_lab.training.distributed import current_ranks
from blvnet_lab.training.recipe import Recipe

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the latter is not a subclass of the former
WITH_STATES = ("model", "optimizer", "scheduler", "scaler", "ema")
PLACE = ("epoch", "step", "history")
MAIN = ("top_1", "map")  # by which epochs are compared, for one label and for several

log = logging.getLogger(__name__)


def make_optimizer(model: VideoNet, recipe: Recipe) -> Optimizer:
    """Make SGD with Nesterov momentum, as published; it steps all weights at once, on CPUs too.

    Weights are grouped by rate (body, classifier) and weight decay (with, without).
    """
    groups = {}
    for name, weight in model.named_parameters():
        place, _, kind = name.rpartition(".")
        if isinstance(model.get_submodule(place), NORMS):
            kind = "norm"
        in_head, undecayed = place == "classifier", kind in recipe.no_decay
        rate = recipe.peak_rate * (1.0 if in_head else recipe.body_share)
        options = {"lr": rate, "weight_decay": 0.0 if undecayed else recipe.weight_decay}
        group = groups.setdefault((in_head, undecayed), {"params": [], **options})
        group["params"].append(weight)
    ordered = [groups[key] for key in sorted(groups)]  # as in checkpoints
    return SGD(ordered, momentum=recipe.momentum, nesterov=recipe.momentum > 0, foreach=True)


@contextmanager
def frozen_body(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Inside the `with`, freeze all but the classifier if the recipe says so: no backward pass."""
    head = set(model.classifier.parameters())
    body = [weight for weight in model.parameters() if weight.requires_grad and weight not in head]
    for weight in body if recipe.body_share == 0 else ():
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in body:
            weight.requires_grad_(True)


class RisingAverage(AveragedModel):
    """An exponential moving average of weights and statistics whose decay rises with the steps.

    Otherwise the random start would dominate the average for 1 / (1 - decay) steps.
    """

    @on_cpu()  # where steps are counted
    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, multi_avg_fn=self._move, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def _move(self, averages: list[Tensor], tensors: list[Tensor], _: Tensor) -> None:
        steps = self.n_averaged.item()
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, tensors, share)
        else:  # batch norm's count of batches
            torch._foreach_copy_(averages, tensors)


def make_scheduler(optimizer: Optimizer, recipe: Recipe, steps_per_epoch: int) -> LRScheduler:
    """Make the recipe's schedule, to be stepped after every step of the optimizer."""
    if recipe.schedule == "one-cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        steps = max(2, recipe.epochs * steps_per_epoch)  # the last one's rate is nearly 0
        return OneCycleLR(optimizer, rates, total_steps=steps, cycle_momentum=False)
    return LambdaLR(optimizer, lambda step: rate_factor(step, recipe, steps_per_epoch))


def rate_factor(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """Return the share of the peak rate at a step of the run (from 0), for "cosine" and "steps".

    A warm-up rises linearly from a tenth. (The published code lowers its cosine once per epoch;
    here it falls with every step, and so ends a little lower.)
    """
    warmup = recipe.warmup * steps_per_epoch
    if step < warmup:
        return 0.1 + 0.9 * step / warmup
    if recipe.schedule == "steps":
        return 0.1 ** (step // (recipe.step_epochs * steps_per_epoch))
    total = recipe.epochs * steps_per_epoch
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


@dataclass
class State:
    """A run at one moment."""

    model: VideoNet
    recipe: Recipe
    device: torch.device
    optimizer: Optimizer
    scheduler: LRScheduler
    ema: RisingAverage | None = None
    network: nn.Module | None = None  # the model, wrapped by DistributedDataParallel if needed
    steps: int = 1  # per epoch
    epoch: int = 1  # the current one
    step: int = 0  # steps of it that are done
    so_far: dict[str, float] = field(default_factory=dict)  # sums over these, and the last rate
    history: list[dict[str, Any]] = field(default_factory=list)  # a line per finished epoch

    def __post_init__(self) -> None:
        self.network = self.network or self.model
        is_scaled = self.recipe.hardware.precision == "float16"  # or small gradients would be 0
        self.scaler = GradScaler(self.device.type, enabled=is_scaled)

    @property
    def evaluated(self) -> VideoNet:
        """The network to evaluate and keep: the averaged one, if there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest top-1 (or mAP); 0 before any has finished."""
        figures = [sum(line.get(name, 0) for name in MAIN) for line in self.history]
        return figures.index(max(figures)) + 1 if figures else 0

    def count(self, loss: float, clips: int, waited: float, seconds: float, skipped: bool) -> None:
        """Add a step to the epoch's sums and, unless it was skipped, to the average of weights.

        `loss` is the mean over its clips, `waited` the seconds spent waiting for them, out of the
        `seconds` since the last step; a step is skipped if gradients overflow in float16.
        """
        values = {"loss": loss * clips, "clips": clips, "waited": waited, "seconds": seconds}
        for name, value in (values | {"skipped": skipped}).items():
            self.so_far[name] = self.so_far.get(name, 0) + value
        self.step += 1
        if self.ema is not None and not skipped:
            self.ema.update_parameters(self.model)

    def end_epoch(self, scores: Mapping[str, Any], seconds: float, unreadable: int) -> None:
        """Add a line about all ranks to the history, and move on to the next epoch.

        Its `seconds` are those of training, wait_share is the part spent waiting for clips,
        memory_gb the GPU's peak, or the current memory of the process, learning_rate the
        classifier's at the last step.
        """
        memory, ranks = psutil.Process().memory_info().rss, current_ranks()
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)  # the next epoch has its own
        found = _together(ranks.gather(self.so_far))
        line = {
            "epoch": self.epoch,
            "train_loss": round(found["loss"] / found["clips"], 6),
            **scores,
            "learning_rate": found.get("rate"),  # an older checkpoint's epoch may lack it
            "seconds": round(found["seconds"], 2),
            "evaluation_seconds": round(seconds, 2),
            "clips_per_second": round(found["clips"] / found["seconds"], 2),
            "wait_share": round(found["waited"] / found["seconds"], 4),
            "memory_gb": round(max(ranks.gather(memory)) / 1e9, 3),
            "unreadable": unreadable,
            **({"skipped_steps": found["skipped"]} if self.scaler.is_enabled() else {}),
        }
        if 2 * found.get("skipped", 0) > self.steps and ranks.is_first:
            words = "%d of %d steps were skipped, as gradients overflowed in float16: take bfloat16"
            log.warning(words, found["skipped"], self.steps)
        self.history.append(line)
        self.epoch, self.step, self.so_far = self.epoch + 1, 0, {}

    def pack(self) -> dict[str, Any]:
        """Return the state as tensors and plain containers; to be called on every rank."""
        ranks, rng = current_ranks(), {"torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        parts = {name: getattr(self, name) for name in WITH_STATES}
        return {
            "architecture": self.model.architecture,
            "arguments": self.model.arguments,
            "multi_label": self.model.multi_label,
            **{name: None if part is None else part.state_dict() for name, part in parts.items()},
            **{name: getattr(self, name) for name in PLACE},
            "so_far": ranks.gather(self.so_far),
            "rng": ranks.gather(rng),
        }

    def unpack(self, contents: Mapping[str, Any]) -> None:
        """Restore what `pack` returned.

        With another number of ranks, the order of clips and what is drawn for them stay the same,
        but dropout and mixup draw other numbers.
        """
        ranks = current_ranks()
        for name in WITH_STATES:
            if contents[name]:  # there may be no average, or no scale from another precision
                getattr(self, name).load_state_dict(contents[name])
        for name in PLACE:
            setattr(self, name, contents[name])
        self.so_far = _together(contents["so_far"]) if ranks.is_first else {}
        if len(contents["rng"]) == ranks.world:
            rng = contents["rng"][ranks.rank]
            torch.set_rng_state(rng["torch"])
            if self.device.type == "cuda" and "cuda" in rng:
                torch.cuda.set_rng_state(rng["cuda"], self.device)


def _together(shares: list[dict[str, float]]) -> dict[str, float]:
    """Combine the sums of ranks: losses and clips add up, time passes on all ranks at once."""
    return {
        name: (sum if name in ("loss", "clips") else max)(share.get(name, 0) for share in shares)
        for name in shares[0]
    }


def make_state(model: VideoNet, recipe: Recipe, steps: int, device: torch.device) -> State:
    """Move a model to the device, and make what is needed to train it; `steps` are per epoch."""
    hardware = recipe.hardware
    layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
    model.to(device, memory_format=layout)
    if hardware.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = make_optimizer(model, recipe)
    scheduler = make_scheduler(optimizer, recipe, steps)
    ema = RisingAverage(model, recipe.ema) if recipe.ema else None
    if hardware.compile:
        model.compile()
    network = None
    if current_ranks().world > 1:
        places = [device] if device.type == "cuda" else None
        network = DistributedDataParallel(model, places, gradient_as_bucket_view=True)
    return State(model, recipe, device, optimizer, scheduler, ema, network, steps)
