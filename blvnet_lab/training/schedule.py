"""Decide how fast which weights learn, and when."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.models import VideoNet
from blvnet_lab.training.recipe import Recipe

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the latter is not a subclass of the former


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
