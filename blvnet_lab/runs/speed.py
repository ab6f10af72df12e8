"""How many clips a second a recipe's network trains on, measured by a few steps on noise."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch
from torch.optim.lr_scheduler import LambdaLR

from blvnet_lab.progress import tqdm
from blvnet_lab.runs.memory import TrainingMemory
from blvnet_lab.training.engine import build, train_one_epoch
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.schedule import frozen_body, make_optimizer

# Seconds above which a step is not made larger; seconds and steps after which to stop.
QUICK, MEASURED_SECONDS, MEASURED_STEPS = 1.0, 8.0, 20


def measure(
    recipe: Recipe,
    num_classes: int,
    memory: TrainingMemory,
    device: torch.device,
    max_clips: int,
    processes: int = 1,
) -> tuple[float, str, TrainingMemory]:
    """Train the recipe's network on noise for a few steps, not compiled.

    The number of clips at once grows until there are `max_clips` or a step is no longer quick.
    Those steps do not count: in them the libraries also get memory and choose their algorithms.

    Returns:
        Clips a second of all processes; how they were measured; `memory`, on a GPU as measured.
    """
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    # Each batch is a step of its own, which ends when the GPU has done it.
    hardware = replace(recipe.hardware, accumulate=1)
    recipe = replace(recipe, hardware=hardware)
    bar = tqdm(desc="measuring", unit="step", leave=False)
    with torch.random.fork_rng(range(torch.cuda.device_count())), bar:
        model = build(recipe, num_classes)
        layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        model.to(device, memory_format=layout)
        optimizer = make_optimizer(model, recipe)
        still = LambdaLR(optimizer, lambda step: 0.0)  # noise teaches nothing, and breaks nothing

        def seconds(clips: int) -> float:
            shape = (clips, recipe.num_frames, model.in_channels, *recipe.size)
            noise = torch.randn(shape, device="cpu", pin_memory=on_gpu)
            batch = (noise, torch.arange(clips, device="cpu") % num_classes)
            begin = time.perf_counter()
            train_one_epoch(model, [batch], optimizer, still, device, recipe)
            bar.update()
            return time.perf_counter() - begin

        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        number, times = min(2, max_clips), []
        with frozen_body(model, recipe):
            while seconds(number) <= QUICK and number < max_clips:
                number = min(2 * number, max_clips)
            while sum(times) < MEASURED_SECONDS and len(times) < MEASURED_STEPS:
                times.append(seconds(number))
    if on_gpu:
        # Among what was taken is no average of weights: none is kept here.
        taken = torch.cuda.max_memory_allocated(device) - before
        clip = max(1, (taken - memory.model + memory.average) // number)
        memory = replace(memory, clip=clip, origin="measured")
    name = torch.cuda.get_device_name(device) if on_gpu else f"the {device.type.upper()} here"
    origin = f"measured on {name}, {number} clips of noise at once"
    if processes > 1:
        origin += f", times {processes}: an upper bound, as if none waited for another"
    return processes * number / statistics.median(times), origin, memory
