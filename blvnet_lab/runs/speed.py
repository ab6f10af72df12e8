"""How many clips a second a recipe's network takes, measured by a few steps on noise."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import LambdaLR

from blvnet_lab.progress import tqdm
from blvnet_lab.training.engine import build, train_one_epoch
from blvnet_lab.training.evaluation import autocast
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.schedule import frozen_body, make_optimizer

# A backward pass computes two products, by weights and by maps, where a forward pass computes one.
TRAINING_COST = 3  # in forward passes
# Seconds above which a step is not made larger; seconds and steps after which to stop.
QUICK, MEASURED_SECONDS, MEASURED_STEPS = 1.0, 8.0, 20


@dataclass(frozen=True)
class Rate:
    """Clips a second, of all processes together."""

    training: float
    evaluation: float  # forward only, at the size of evaluation
    origin: str
    evaluation_origin: str


def rate_of_training(clips_per_second: float, recipe: Recipe) -> Rate:
    """Complete a rate of training: in evaluation a pixel is taken to cost a third as much."""
    pixels = math.prod(recipe.size) / math.prod(recipe.evaluation.size or recipe.size)
    evaluation = clips_per_second * TRAINING_COST * pixels
    origin = "taken to cost a third of training, for each pixel"
    return Rate(clips_per_second, evaluation, "given", origin)


def measure(
    recipe: Recipe, num_classes: int, device: torch.device, max_clips: int, processes: int = 1
) -> tuple[Rate, int, int]:
    """Train and evaluate the recipe's network on noise for a few steps, not compiled.

    Args:
        max_clips: to take at once; steps that are slow anyway are measured with fewer.

    Returns:
        The rate, times the number of processes; clips at once in training; peak of GPU memory
        (bytes; elsewhere 0).
    """
    on_gpu, before, peak = device.type == "cuda", 0, 0
    if on_gpu:
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    # Each batch is a step of its own, which ends when the GPU has done it.
    hardware = dataclasses.replace(recipe.hardware, accumulate=1)
    recipe = dataclasses.replace(recipe, hardware=hardware)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        model = build(recipe, num_classes)
        layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        model.to(device, memory_format=layout)
        optimizer = make_optimizer(model, recipe)
        still = LambdaLR(optimizer, lambda step: 0.0)  # noise teaches nothing, and breaks nothing

        def noise(clips: int, size: tuple[int, int]) -> torch.Tensor:
            shape = (clips, recipe.num_frames, model.in_channels, *size)
            return torch.randn(shape, device="cpu", pin_memory=on_gpu)

        def train(clips: int) -> None:
            labels = torch.arange(clips, device="cpu") % num_classes
            batch = (noise(clips, recipe.size), labels)
            train_one_epoch(model, [batch], optimizer, still, device, recipe)

        def evaluate(clips: int) -> None:
            images = noise(clips, recipe.evaluation.size or recipe.size)
            with torch.no_grad(), autocast(device, hardware):
                model(images.to(device, non_blocking=True)).float().cpu()

        with frozen_body(model, recipe):
            training, number = measure_rate(train, max_clips, "training")
        if on_gpu:
            peak = torch.cuda.max_memory_allocated(device) - before
        model.eval()
        evaluation, _ = measure_rate(evaluate, max_clips, "evaluation")
    name = torch.cuda.get_device_name(device) if on_gpu else f"the {device.type.upper()} here"
    origin = f"measured on {name}, {number} clips of noise at once"
    if processes > 1:
        origin += f", times {processes}: an upper bound, as if none waited for another"
    rate = Rate(processes * training, processes * evaluation, origin, "measured alike")
    return rate, number, peak


def measure_rate(step: Callable[[int], None], max_clips: int, name: str) -> tuple[float, int]:
    """Measure the clips a second of a step, and with how many clips at once.

    They grow until there are `max_clips` or a step is no longer quick. Those steps do not count: in
    them the libraries also get memory and choose their algorithms.
    """

    def seconds(clips: int) -> float:
        begin = time.perf_counter()
        step(clips)
        bar.update()
        return time.perf_counter() - begin

    with tqdm(desc=f"measuring {name}", unit="step", leave=False) as bar:
        number = min(2, max_clips)
        while seconds(number) <= QUICK and number < max_clips:
            number = min(2 * number, max_clips)
        times: list[float] = []
        while sum(times) < MEASURED_SECONDS and len(times) < MEASURED_STEPS:
            times.append(seconds(number))
    return number / statistics.median(times), number
