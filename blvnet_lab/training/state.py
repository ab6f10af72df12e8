"""What training changes, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blvnet_lab.models import VideoNet
from blvnet_lab.training.distributed import distribute, share_statistics
from blvnet_lab.training.precision import make_scaler
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.schedule import RisingAverage, make_optimizer, make_scheduler


@dataclass(frozen=True)
class Step:
    """One step of training, on this process."""

    loss: float  # mean over its clips, before the weights changed
    clips: int
    waited: float  # seconds until its clips were there
    seconds: float  # since the step before
    skipped: bool = False  # gradients overflowed in float16: the weights are as before


@dataclass
class State:
    """A run at one moment: all that a checkpoint brings back."""

    model: VideoNet
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: GradScaler
    ema: RisingAverage | None = None
    epoch: int = 1  # the current one
    step: int = 0  # steps of it that are done
    so_far: dict[str, float] = field(default_factory=dict)  # sums over them, for its line
    history: list[dict[str, Any]] = field(default_factory=list)  # a line for every epoch that ended
    best_epoch: int = 0  # with the highest top-1; 0 before the first has ended
    network: nn.Module | None = None  # what DistributedDataParallel made of the model

    def __post_init__(self) -> None:
        self.network = self.network or self.model

    @property
    def evaluated(self) -> VideoNet:
        """The network to evaluate and to keep: the average of weights where there is one."""
        return self.model if self.ema is None else self.ema.module

    def count(self, step: Step) -> None:
        """Add a step to the epoch's sums and to the average of weights."""
        values = {**vars(step), "loss": step.loss * step.clips}
        self.so_far = {name: self.so_far.get(name, 0) + value for name, value in values.items()}
        self.step += 1
        if self.ema is not None and not step.skipped:
            self.ema.update_parameters(self.model)

    def end_epoch(self, line: dict[str, Any]) -> None:
        """Add the epoch's line to the history and go to the next epoch."""
        best = max((old.get("top_1", 0) for old in self.history), default=-1)
        if line.get("top_1", 0) > best:
            self.best_epoch = self.epoch
        self.history.append(line)
        self.epoch, self.step, self.so_far = self.epoch + 1, 0, {}


def make_state(model: VideoNet, recipe: Recipe, steps: int, device: torch.device) -> State:
    """Move a model to the device, and make all that trains it; `steps` are those of an epoch."""
    hardware = recipe.hardware
    layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
    model.to(device, memory_format=layout)
    if hardware.sync_batch_norm:
        model = share_statistics(model, device)
    optimizer = make_optimizer(model, recipe)
    scheduler = make_scheduler(optimizer, recipe, steps)
    average = RisingAverage(model, recipe.ema) if recipe.ema else None
    if hardware.compile:
        model.compile()
    scaler, network = make_scaler(device, hardware), distribute(model, device)
    return State(model, optimizer, scheduler, scaler, average, network=network)
