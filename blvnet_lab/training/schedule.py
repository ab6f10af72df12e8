"""Which weights learn how fast, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from blvnet_lab.models import TAM, VideoNet
from blvnet_lab.training.recipe import Recipe

WARMUP_START = 0.1  # share of the peak rate with which a warm-up begins
STEP_FACTOR = 0.1  # of the schedule "steps"
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the latter is no subclass of the former


def make_optimizer(model: VideoNet, recipe: Recipe) -> Optimizer:
    """SGD with Nesterov momentum, as published."""
    return SGD(
        parameter_groups(model, recipe),
        recipe.peak_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
    )


def parameter_groups(model: VideoNet, recipe: Recipe) -> list[dict]:
    """The weights by rate (body, classifier) and penalty (decayed, spared); no group is empty."""
    spared = {id(weight) for kind in recipe.no_decay for weight in _weights_of_kind(model, kind)}
    head = {id(weight) for weight in model.classifier.parameters()}
    groups = []
    for rate, in_head in ((recipe.body_rate, False), (1.0, True)):
        for decay, is_spared in ((recipe.weight_decay, False), (0.0, True)):
            weights = [
                weight
                for weight in model.parameters()
                if (id(weight) in head) == in_head and (id(weight) in spared) == is_spared
            ]
            if weights:
                rate_here = recipe.peak_rate * rate
                groups.append({"params": weights, "lr": rate_here, "weight_decay": decay})
    return groups


def _weights_of_kind(model: nn.Module, kind: str) -> list[nn.Parameter]:
    modules = list(model.modules())
    norms = [module for module in modules if isinstance(module, NORMS)]
    if kind == "norm":
        return [weight for module in norms for weight in module.parameters()]
    if kind == "taps":
        return [module.taps for module in modules if isinstance(module, TAM)]
    return [
        module.bias
        for module in modules
        if not isinstance(module, NORMS) and getattr(module, "bias", None) is not None
    ]


@contextmanager
def frozen_body(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Freeze all but the classifier within `with`, if the recipe's body_rate is 0.

    No gradient is computed for frozen weights, so the body costs a forward pass only.
    """
    head = {id(weight) for weight in model.classifier.parameters()}
    names = [
        name
        for name, weight in model.named_parameters()
        if recipe.body_rate == 0 and weight.requires_grad and id(weight) not in head
    ]
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    try:
        yield
    finally:
        for name in names:
            model.get_parameter(name).requires_grad_(True)


def set_train_mode(model: nn.Module, recipe: Recipe) -> None:
    """Put a model in train mode, but for batch norms that are to keep their statistics.

    Those are all of them if the recipe says so or freezes the body, else those whose own weights
    are frozen (`requires_grad` is False).
    """
    model.train()
    keeps_all = recipe.keep_statistics or recipe.body_rate == 0
    for module in model.modules():
        if isinstance(module, NORMS):
            weights = list(module.parameters())
            is_frozen = weights and not any(weight.requires_grad for weight in weights)
            module.train(not (keeps_all or is_frozen))


class RisingAverage(AveragedModel):
    """An exponential moving average of weights and statistics whose decay rises with the steps.

    With the full decay from the first step on, the random start would be most of the average for
    1 / (1 - decay) steps.
    """

    def __init__(self, model: nn.Module, decay: float):
        with torch.device("cpu"):  # where the steps are counted
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
    """To be stepped after every step of the optimizer."""
    if recipe.schedule == "one-cycle":
        return OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=recipe.epochs * steps_per_epoch,
            cycle_momentum=False,
        )
    return LambdaLR(optimizer, lambda step: rate_factor(step, recipe, steps_per_epoch))


def rate_factor(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """The share of the peak learning rate at a step of the run (from 0), for "cosine" and "steps".

    A warm-up rises linearly from `WARMUP_START`. (The published code lowers its cosine once an
    epoch; here it falls with every step, and so ends a little lower.)
    """
    warmup = recipe.warmup * steps_per_epoch
    if step < warmup:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup
    if recipe.schedule == "steps":
        return STEP_FACTOR ** (step // (recipe.step_epochs * steps_per_epoch))
    total = recipe.epochs * steps_per_epoch
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
