"""Which weights learn how fast, and when."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

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
