"""Plan a training run before it begins: steps, hours, memory, disk, and the largest batch.

python -m blvnet_lab plan MANIFEST --preset kinetics400-50-f8x2 --processes 8
print(plan_training(preset="ssv2-50-f8x2", clips_per_second=60))
"""

import math
import os
import statistics
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from torch.optim.lr_scheduler import LambdaLR

from blvnet_lab import training
from blvnet_lab.data import DataSet, useful_short_side
from blvnet_lab.data.dataset import KEPT_SHARE, smaller_size, usable_rows
from blvnet_lab.data.dataset_files import clip_names
from blvnet_lab.data.sharing import free_memory
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.memory import TrainingMemory, count_memory
from blvnet_lab.threads import keep_memory
from blvnet_lab.training.distributed import Ranks, pick_device
from blvnet_lab.training.engine import build, train_one_epoch
from blvnet_lab.training.loading import Batches
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.state import frozen_body, make_optimizer

# Share of a GPU's memory, and of the CPU's free memory, that may be planned with. The rest is for
# what is not counted: workspaces of libraries, CUDA's context, fragmentation.
USABLE, USABLE_CPU = 0.9, 0.5
# A process that trains and evaluates the tiny network on Linux grew by 2.1 times what was counted,
# by 1.9 to 2.0 without `keep_memory` (by 1.03 to 1.05 times, training alone, with the variable
# MALLOC_MMAP_THRESHOLD_=65536: then the C library gives memory back).
CPU_GROWTH = 2.1
# Measured with 1080p H.264: the decoder, a clip of 8 full frames, and what a worker does not share
# with its parent.
READER_BYTES = 100_000_000
TRAINING_COST = 3  # in forward passes: a backward pass costs two of them
# Batches grow until a step takes QUICK seconds; measuring stops after so much time, or steps.
QUICK, MEASURED_SECONDS, MEASURED_STEPS = 1.0, 8.0, 20
BATCHES_AHEAD = 3  # per worker: two that wait, and one being read
Row = tuple[str, str, str]  # label, value, and the value's source

BYTES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "bytes": 1}
TIMES = {"h": 3600, "min": 60, "s": 1}
RATES = {"clips/s": 1}


@dataclass(frozen=True)
class DataSize:
    """The size of a data set to train on."""

    num_clips: int | None = None  # Clips for training.
    num_val_clips: int | None = None  # Clips for evaluation after every epoch.
    num_classes: int | None = None  # Number of classes.
    # Average size of a video file; the default is measured on the manifest's files.
    bytes_per_clip: float | None = None


UNKNOWN = DataSize()
COUNTS = "--num-clips, --num-val-clips and --num-classes"
# Something-Something v2: 168,913 + 24,777 + 27,157 videos, 19.4 GB. Kinetics-400: the CVDF mirror
# has 240,258 + 19,881 + 38,685 videos in 301 parts of about 1.6 GB.
PUBLISHED_SIZES = {
    "ssv2": (DataSize(168_913, 24_777, 174, 19.4e9 / 220_847), "as published"),
    "kinetics400": (DataSize(240_258, 19_881, 400, 301 * 1.6e9 / 298_824), "on the public mirror"),
}


def _in(units: dict[str, float], number: float) -> str:
    """Format a number with three digits, in the largest unit that it reaches."""
    name = next((name for name, unit in units.items() if number >= unit), [*units][-1])
    return f"{float(f'{number / units[name]:.3g}'):,.12g} {name}"


@dataclass(frozen=True)
class TrainingPlan:
    """What a training run takes; prints as a table with the source of each number."""

    recipe: Recipe
    data: DataSize
    batches: Batches  # of one process
    rate: float  # training clips per second, all processes together
    memory: TrainingMemory  # per process
    limit: int  # bytes that each process may use
    origins: dict[str, str]  # sources of data, rate and limit
    main_memory: int  # bytes per process in the machine's main memory
    kept_frames: int  # bytes of those that hold frames kept in memory
    all_frames: int | None  # bytes that keeping all frames would take; None if unknown
    keep_every: int | None

    def __str__(self) -> str:
        recipe, network = self.recipe, self.recipe.network
        lines = [
            f"{network.architecture}, depth {network.depth}, for clips of {recipe.num_frames} "
            f"frames of {recipe.size[0]} x {recipe.size[1]} pixels, in {recipe.hardware.precision}"
        ]
        whole = {"break_long_words": False, "break_on_hyphens": False}  # keeps paths in one piece
        for label, value, origin in self.rows():
            row = f"{label:<15}{value:<22}{origin}"
            lines += textwrap.wrap(row, 100, subsequent_indent=" " * 37, **whole)
        return "\n".join(lines)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table."""
        yield from self._work()
        yield from self._memory()
        data, every = self.data, self.keep_every
        checkpoint = self.memory.model - self.memory.gradients
        total = (2 + (self.recipe.epochs // every if every else 0)) * checkpoint
        kept = "last and best" + (f" and one every {every} epochs" if every else "")
        origin = f"for the run's folder: {_in(BYTES, checkpoint)} each for {kept}; the network"
        yield "disk", _in(BYTES, total + self.memory.weights), origin
        if size := data.bytes_per_clip:
            videos = _in(BYTES, (data.num_clips + data.num_val_clips) * size)
            yield "", videos, f"for the videos, {_in(BYTES, size)} each on average"

    def _work(self) -> Iterator[Row]:
        recipe, data, batches, rate = self.recipe, self.data, self.batches, self.rate
        epochs, processes = recipe.epochs, batches.ranks.world
        size, steps = batches.batch_size, batches.steps
        clips = f"{data.num_clips:,} + {data.num_val_clips:,}"
        yield "clips", clips, f"train + val, of {data.num_classes} classes, {self.origins['data']}"
        shares = f"{processes} x {batches.accumulate} x {batches.at_once}"
        yield "batch", f"{size} clips", f"processes x parts x clips at once: {shares}"
        left = data.num_clips - steps * size
        yield "steps", f"{steps:,} an epoch", f"{left} clips, no whole batch, left out"
        yield "", f"{epochs * steps:,} in all", f"{epochs} epochs"
        rule = f"{recipe.learning_rate:g} for a batch of {recipe.rate_batch}, in proportion"
        yield "learning rate", f"{recipe.peak_rate:.4g} at most", rule
        pixels = math.prod(recipe.size) / math.prod(recipe.evaluation.size or recipe.size)
        times = epochs * (2 if recipe.ema else 1)  # averaged weights are evaluated as well
        evaluation = times * data.num_val_clips / (rate * TRAINING_COST * pixels)
        seconds = epochs * steps * size / rate + evaluation
        yield "clip rate", _in(RATES, rate), f"in training, {self.origins['rate']}"
        after = ", after all have been decoded" if recipe.hardware.in_memory else ""
        yield "time", _in(TIMES, seconds), f"in all, if the network never waits for clips{after}"
        cost = "taken to cost a third of training for each pixel"
        yield "", _in(TIMES, evaluation), f"of it for {epochs} evaluations, {cost}"
        advice = "for each process, or it waits; loader-benchmark says what a core gives"
        yield "clips to load", _in(RATES, rate / processes), advice

    def _memory(self) -> Iterator[Row]:
        memory, limit, at_once = self.memory, self.limit, self.batches.at_once
        names = ("weights", "gradients", "momentum", "average")
        parts = [f"{name} {_in(BYTES, size)}" for name in names if (size := getattr(memory, name))]
        yield "memory", _in(BYTES, memory.model), f"on each device: {', '.join(parts)}"
        yield "", f"+ {_in(BYTES, memory.clip)} a clip", f"in training, {memory.origin}"
        yield "", f"+ {_in(BYTES, memory.evaluation_clip)} a clip", "in evaluation, counted"
        for label in ("training", "evaluation"):
            needed = getattr(memory, label)(at_once)
            fit = ("fits in" if needed <= limit else "does NOT fit in") + f" {_in(BYTES, limit)}"
            origin = f"{at_once} clips at once: {fit}, {self.origins['limit']}"
            yield label, _in(BYTES, needed), origin
        largest, share = memory.largest(limit), at_once * self.batches.accumulate
        yield "largest batch", f"{largest:,} clips", "that a process can take at once"
        # The smallest number of equal parts into which a process's share can be split so that each
        # fits; 0 if there is none.
        parts = (n for n in range(1, share + 1) if share % n == 0 and share // n <= largest)
        if not (parts := next(parts, 0)):
            yield "", "none", "take smaller or shorter clips, less depth, or a larger device"
        elif parts > self.batches.accumulate:
            advice = f"at once: the batch fits with --hardware.accumulate {parts}"
            yield "", f"{share // parts} of {share} clips", advice
        readers = f"with {self.recipe.hardware.workers} workers to read clips"
        yield "main memory", _in(BYTES, self.main_memory), f"of each process at most, {readers}"
        if self.recipe.hardware.in_memory and self.all_frames is None:
            yield "", "and frames", "kept in memory: only a manifest can say how large they are"
        elif self.all_frames:
            origin = f"of it for frames kept in memory, out of {_in(BYTES, self.all_frames)}"
            yield "", _in(BYTES, self.kept_frames), origin


def plan_training(
    manifest: Path | None = None,
    /,
    recipe: Recipe | None = None,
    *,
    preset: str = "classroom",
    data: DataSize = UNKNOWN,
    processes: int = 1,
    clips_per_second: float | None = None,
    memory_gb: float | None = None,
    keep_every: int | None = None,
) -> TrainingPlan:
    """Plan a training run: steps, hours, memory, disk, and the largest batch.

    Without --clips-per-second it trains on noise for some steps first, to measure this machine;
    that takes a minute or more for a large network on a CPU.

    Args:
        manifest: of the clips; without it, --num-clips, --num-val-clips and --num-classes, or the
            published counts for the presets of ssv2 and kinetics400.
        recipe: how to train; without it, as the preset says.
        preset: values of all settings that are not given (train --help).
        data: size of the data set, where there is no manifest.
        processes: that train together, each on a device of its own (on CPUs they share memory).
        clips_per_second: training rate of all processes together, as in a run's log.jsonl.
        memory_gb: memory of each device in 10^9 bytes; the default is this machine's.
        keep_every: keep every n-th epoch's checkpoint; the default keeps only the last and best.

    Raises ValueError if a number is not positive, or the data's size is unknown or not divisible.
    """
    recipe, given = recipe or training.preset(preset), {"processes": processes}
    given |= {"clips_per_second": clips_per_second, "memory_gb": memory_gb}
    for name, value in (vars(data) | given | {"keep_every": keep_every}).items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be a positive number, got {value}")
    data, origin, frames = known_size(manifest, preset, data, recipe)
    how = {"seed": 0, "ranks": Ranks(0, processes), "accumulate": recipe.hardware.accumulate}
    batches = Batches(data.num_clips, recipe.batch_size, **how)
    device, memory = pick_device(), count_memory(recipe, data.num_classes)
    free, kept = free_memory() // processes, 0
    for size in frames or ():  # as `ClipDataset` does, one split after the other
        kept += min(size, int(KEPT_SHARE * (free - kept)))
    on_cpu = device.type == "cpu" and memory_gb is None
    main_memory = kept + _main_memory(recipe, batches.at_once, memory if on_cpu else None)
    origins = {"data": origin, "rate": "given"}
    limit, origins["limit"] = _usable_memory(device, processes, free - kept)
    if (rate := clips_per_second) is None:
        clips = max(1, min(batches.at_once, memory.largest(limit)))
        what = (recipe, data.num_classes, memory, device, clips, processes)
        rate, origins["rate"], memory = measure(*what)
    if memory_gb is not None:
        limit, origins["limit"] = int(USABLE * memory_gb * 1e9), f"{USABLE:.0%} of {memory_gb:g} GB"
    limits = (limit, origins, main_memory, kept, None if frames is None else sum(frames))
    return TrainingPlan(recipe, data, batches, rate, memory, *limits, keep_every)


def known_size(
    manifest: Path | None, preset: str, given: DataSize, recipe: Recipe
) -> tuple[DataSize, str, tuple[int, int] | None]:
    """Find the size of a data set: the given one, else the manifest's, else the preset's.

    Returns the size, its source, and `frames_in_memory`, None if these are not known.
    """
    counts, frames = (given.num_clips, given.num_val_clips, given.num_classes), None
    if counts != (None, None, None) and (manifest is not None or None in counts):
        got = "both" if manifest else "only some"
        raise ValueError(f"expected a manifest, or {COUNTS}, all three of them, got {got}")
    if manifest is not None:
        data_set = DataSet.read(manifest)
        found, origin = manifest_size(data_set), f"in {manifest}"
        frames = frames_in_memory(data_set, recipe)
    elif None in counts:
        found, origin = published_size(preset)
    else:
        found, origin = given, "given"
    mean = given.bytes_per_clip or found.bytes_per_clip
    return replace(found, bytes_per_clip=mean), origin, frames


def published_size(preset: str) -> tuple[DataSize, str]:
    """Find the size of the data set that a preset was published for, and its source."""
    if (name := preset.partition("-")[0]) not in PUBLISHED_SIZES:
        raise ValueError(
            f"expected a manifest, or a preset for {' or '.join(PUBLISHED_SIZES)}, got the preset "
            f"{preset} alone: name the manifest, or give {COUNTS}"
        )
    return PUBLISHED_SIZES[name]


def manifest_size(data_set: DataSet) -> DataSize:
    """Count the usable clips of a data set and its classes, and average the sizes of the files."""
    train, val = (usable_rows(data_set, split)["path"] for split in ("train", "val"))
    paths = [path for path in (*train, *val) if os.path.isfile(path)]
    # Several parts may share a video.
    mean = sum(map(os.path.getsize, {*paths})) / len(paths) if paths else None
    return DataSize(len(train), len(val), len(data_set.classes), mean)


def frames_in_memory(data_set: DataSet, recipe: Recipe) -> tuple[int, int] | None:
    """Count the bytes of training and of validation frames that a recipe keeps in memory.

    None if the manifest does not give the number and size of frames.
    """
    if not recipe.hardware.in_memory:
        return 0, 0
    train, val = (usable_rows(data_set, split) for split in ("train", "val"))
    train, val = (rows[~clip_names(rows).duplicated()] for rows in (train, val))
    shapes = train[["num_frames", "height", "width"]]
    if shapes.isna().any(axis=None):
        return None
    side = recipe.read_short_side or useful_short_side(recipe.size, recipe.augmentation.crop)
    shapes = shapes.itertuples(index=False)
    training = sum(3 * count * math.prod(smaller_size(size, side)) for count, *size in shapes)
    pixels = math.prod(recipe.evaluation.size or recipe.size)
    return training, 3 * len(val) * recipe.num_frames * pixels


def _main_memory(recipe: Recipe, at_once: int, memory: TrainingMemory | None) -> int:
    """Count a process's bytes in main memory; `memory` is given if the network is there, too."""
    workers = recipe.hardware.workers
    batch = at_once * 4 * 3 * recipe.num_frames * math.prod(recipe.size)  # float32
    taken = READER_BYTES + workers * (READER_BYTES + BATCHES_AHEAD * batch)
    if memory is not None:
        taken += int(CPU_GROWTH * max(memory.training(at_once), memory.evaluation(at_once)))
    return psutil.Process().memory_info().rss + taken


def _usable_memory(device: torch.device, processes: int, free: int) -> tuple[int, str]:
    """Find the bytes that each process may use for its network, and how to describe them."""
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return int(USABLE * gpu.total_memory), f"{USABLE:.0%} of the {gpu.name} here"
    shared = f", for each of {processes} processes" if processes > 1 else ""
    return int(USABLE_CPU * max(0, free)), f"{USABLE_CPU:.0%} of what is free here now{shared}"


def measure(
    recipe: Recipe,
    num_classes: int,
    memory: TrainingMemory,
    device: torch.device,
    max_clips: int,
    processes: int = 1,
) -> tuple[float, str, TrainingMemory]:
    """Train the recipe's network on noise for a few steps, not compiled.

    The batch grows up to `max_clips`, or until a step is no longer quick; these steps, in which
    libraries allocate memory and choose algorithms, are not counted. Returns the clips per second
    of all processes, how they were measured, and `memory`, updated on a GPU.
    """
    on_gpu = device.type == "cuda"
    keep_memory()  # as in training
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    # Without accumulation each batch is a step, which ends when the GPU has finished it.
    recipe = replace(recipe, hardware=replace(recipe.hardware, accumulate=1))
    bar = tqdm(desc="measuring", unit="step", leave=False)
    with torch.random.fork_rng(range(torch.cuda.device_count())), bar:
        model = build(recipe, num_classes)
        layout = torch.channels_last if recipe.hardware.channels_last else torch.contiguous_format
        model.to(device, memory_format=layout)
        optimizer = make_optimizer(model, recipe)
        still = LambdaLR(optimizer, lambda step: 0.0)  # so that noise does not spoil the weights

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
    if on_gpu:  # the memory taken includes no average of weights, since none is kept here
        taken = torch.cuda.max_memory_allocated(device) - before
        clip = max(1, (taken - memory.model + memory.average) // number)
        memory = replace(memory, clip=clip, origin="measured")
    name = torch.cuda.get_device_name(device) if on_gpu else f"the {device.type.upper()} here"
    bound = f", times {processes}: an upper bound, as if none waited for another"
    origin = f"measured on {name}, {number} clips of noise at once{bound * (processes > 1)}"
    return processes * number / statistics.median(times), origin, memory
