"""Plan a training run before it begins: steps, hours, memory, disk, and the largest batch.

    python -m blvnet_lab plan MANIFEST --preset kinetics400-50-f8x2 --processes 8
    print(plan_training(preset="ssv2-50-f8x2", clips_per_second=60))

The clip rate is a run's own (`clips_per_second` in its log.jsonl), or it is measured here
(`speed.py`). Memory is counted (`memory.py`).
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from blvnet_lab.data.sharing import free_memory
from blvnet_lab.runs.memory import MainMemory, TrainingMemory, count_main_memory, count_memory
from blvnet_lab.runs.sizes import DataSize, check_positive, known_size
from blvnet_lab.runs.speed import Rate, measure, rate_of_training
from blvnet_lab.training import presets
from blvnet_lab.training.distributed import Ranks, pick_device
from blvnet_lab.training.loading import Batches
from blvnet_lab.training.recipe import Recipe

# Of a GPU's memory, and of what is free on a CPU. The rest is for what is not counted: workspaces
# of libraries, CUDA's context, gaps between tensors. The first is a choice; `memory.CPU_GROWTH` has
# the reason of the second.
USABLE, USABLE_CPU = 0.9, 0.5
UNKNOWN = DataSize()
Row = tuple[str, str, str]  # label, value, and where the value is from


@dataclass(frozen=True)
class TrainingPlan:
    """What a training run takes; prints as a table that says where each number comes from."""

    recipe: Recipe
    data: DataSize
    data_origin: str
    batches: Batches  # of one process
    rate: Rate
    memory: TrainingMemory  # of each process
    memory_limit: int  # bytes that each process may use
    limit_origin: str
    main_memory: MainMemory  # of each process
    keep_every: int | None

    def __str__(self) -> str:
        recipe, network = self.recipe, self.recipe.network
        title = (
            f"{network.architecture}, depth {network.depth}, for clips of {recipe.num_frames} "
            f"frames of {recipe.size[0]} x {recipe.size[1]} pixels, in {recipe.hardware.precision}"
        )
        return "\n".join([title, *(_line(*row) for row in self.rows())])

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table."""
        yield from self._steps()
        yield from self._time()
        yield from self._memory()
        yield from self._disk()

    def _steps(self) -> Iterator[Row]:
        recipe, data, batches = self.recipe, self.data, self.batches
        size, steps = batches.batch_size, batches.steps
        clips = f"{data.num_clips:,} + {data.num_val_clips:,}"
        yield "clips", clips, f"train + val, {self.data_origin}"
        yield "classes", f"{data.num_classes}", self.data_origin
        share = "on one process"
        if (processes := batches.ranks.world) > 1:
            share = f"{size // processes} on each of {processes} processes"
        if batches.accumulate > 1:
            share += f", in {batches.accumulate} parts of {batches.at_once}"
        yield "batch", f"{size} clips", share
        left = f"{data.num_clips - steps * size} clips, no whole batch, left out"
        yield "steps", f"{steps:,} an epoch", left
        yield "", f"{recipe.epochs * steps:,} in all", f"{recipe.epochs} epochs"
        rule = f"{recipe.learning_rate:g} for a batch of {recipe.rate_batch}, in proportion"
        yield "learning rate", f"{recipe.peak_rate:.4g} at most", rule
        if recipe.schedule == "one-cycle":
            yield "warm-up", "in the schedule", "one-cycle"
        else:
            rising = math.ceil(recipe.warmup * steps)
            value = f"{rising:,} steps" if rising else "none"
            yield "warm-up", value, f"{recipe.warmup:g} epochs"

    def _time(self) -> Iterator[Row]:
        recipe, data, batches, rate = self.recipe, self.data, self.batches, self.rate
        epochs, processes = recipe.epochs, batches.ranks.world
        times = epochs * (2 if recipe.ema else 1)  # with an average of weights, both are evaluated
        evaluation = times * data.num_val_clips / rate.evaluation
        seconds = epochs * batches.steps * batches.batch_size / rate.training + evaluation
        digits = 3 if rate.origin == "given" else 2
        yield "clip rate", f"{_about(rate.training, digits)} clips/s", f"in training, {rate.origin}"
        value = f"{_about(rate.evaluation, 2)} clips/s"
        yield "", value, f"in evaluation, {rate.evaluation_origin}"
        yield "time", _duration(seconds), "in all, if the network never waits for clips"
        value = _duration(evaluation)
        yield "", value, f"of it for {epochs} evaluations, one view of each clip"
        if processes > 1:
            value = f"{_about(seconds / 3600 * processes, 2)} h"
            yield "device hours", value, f"{processes} processes, a device each"
        each, clip = rate.training / processes, _clip_bytes(recipe)
        advice = "for each process, or it waits; loader-benchmark says what a core gives"
        yield "clips to load", f"{_about(each, 2)} clips/s", advice
        value = f"{_bytes(each * clip, 2)}/s"
        yield "", value, f"to each device, {_bytes(clip)} a clip in float32"
        if data.bytes_per_clip:
            value = f"{_bytes(rate.training * data.bytes_per_clip, 2)}/s"
            yield "", value, "from disk, all processes, if files are read in full"

    def _memory(self) -> Iterator[Row]:
        memory, limit, at_once = self.memory, self.memory_limit, self.batches.at_once
        names = ("weights", "gradients", "momentum", "average")
        parts = [f"{name} {_bytes(size)}" for name in names if (size := getattr(memory, name))]
        yield "memory", _bytes(memory.model), f"on each device: {', '.join(parts)}"
        yield "", f"+ {_bytes(memory.clip)} a clip", f"in training, {memory.origin}"
        yield "", f"+ {_bytes(memory.evaluation_clip)} a clip", "in evaluation, counted"
        needed, evaluation = memory.training(at_once), memory.evaluation(at_once)
        fit = _fits(needed, limit)
        origin = f"{at_once} clips at once: {fit} in {_bytes(limit)}, {self.limit_origin}"
        yield "training", _bytes(needed), origin
        fit = _fits(evaluation, limit)
        fit += "" if evaluation <= limit else ": take a smaller batch_size or more processes"
        yield "evaluation", _bytes(evaluation), f"{at_once} clips at once: {fit}"
        yield from self._main_memory()
        largest, share = memory.largest(limit), at_once * self.batches.accumulate
        yield "largest batch", f"{largest:,} clips", "with which a process can train at once"
        # The fewest equal parts of the share of a process that fit.
        parts = (n for n in range(1, share + 1) if share % n == 0 and share // n <= largest)
        if (parts := next(parts, None)) is None:
            yield "", "none", "take smaller or shorter clips, less depth, or a larger device"
        elif parts > self.batches.accumulate:
            advice = f"at once: the batch fits with --hardware.accumulate {parts}"
            yield "", f"{share // parts} of {share} clips", advice

    def _main_memory(self) -> Iterator[Row]:
        main, hardware, processes = self.main_memory, self.recipe.hardware, self.batches.ranks.world
        every = f"each of {processes} processes" if processes > 1 else "the process"
        network = f"{_bytes(main.network)} for the network, " if main.network else ""
        origin = (
            f"{every} at most: {_bytes(main.process)} for Python and its libraries, as here, "
            f"{network}{_bytes(main.reading)} for reading with {hardware.workers} workers"
        )
        total = main.process + main.network + main.kept_frames + main.reading
        yield "main memory", _bytes(total), origin
        if main.all_frames is None and hardware.in_memory:
            yield "", "and frames", "kept in memory, not counted: only a manifest says how large"
        elif main.all_frames:
            rest = f" of {_bytes(main.all_frames)}; the others are read from their files each time"
            rest = rest if main.kept_frames < main.all_frames else ""
            yield "", _bytes(main.kept_frames), f"of it for frames kept in memory{rest}"

    def _disk(self) -> Iterator[Row]:
        memory, data, every = self.memory, self.data, self.keep_every
        checkpoint = memory.model - memory.gradients
        count = 2 + (self.recipe.epochs // every if every else 0)  # last, best, and those kept
        kept = f", one every {every} epochs" if every else ""
        origin = (
            f"for the run's folder: {_bytes(checkpoint)} each for last and best{kept}; the network"
        )
        yield "disk", _bytes(count * checkpoint + memory.weights), origin
        if size := data.bytes_per_clip:
            videos = _bytes((data.num_clips + data.num_val_clips) * size)
            yield "", videos, f"for the videos, {_bytes(size)} each on average"


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
        data: how much there is to train on, where no manifest says it.
        processes: that train together, each on a device of its own (CPUs share the memory).
        clips_per_second: training rate of all processes together, as in log.jsonl of a run.
        memory_gb: of each device, in 10^9 bytes; without it, what this machine has.
        keep_every: epochs between checkpoints that are kept; without it, only last and best.

    Raises:
        ValueError: a number is not positive; the data set's size is not known, or not divisible.
    """
    recipe = recipe or presets.preset(preset)
    check_positive(**vars(data), processes=processes, keep_every=keep_every)
    check_positive(clips_per_second=clips_per_second, memory_gb=memory_gb)
    data, data_origin, frames = known_size(manifest, preset, data, recipe)
    parts = recipe.hardware.accumulate
    batches = Batches(
        data.num_clips, recipe.batch_size, seed=0, ranks=Ranks(0, processes), accumulate=parts
    )
    at_once, device = batches.at_once, pick_device()
    memory = count_memory(recipe, data.num_classes)
    network = max(memory.training(at_once), memory.evaluation(at_once))
    on_cpu = network if device.type == "cpu" else 0
    main_memory = count_main_memory(
        on_cpu, at_once * _clip_bytes(recipe), recipe.hardware.workers, processes, frames
    )
    if memory_gb is None:
        limit, origin = _memory_of(device, processes, main_memory.kept_frames)
    else:
        limit, origin = int(USABLE * memory_gb * 1e9), f"{USABLE:.0%} of {memory_gb:g} GB given"
    if clips_per_second is not None:
        rate = rate_of_training(clips_per_second, recipe)
    else:
        most = max(1, min(at_once, memory.largest(_memory_of(device)[0])))
        rate, clips, peak = measure(recipe, data.num_classes, device, most, processes)
        if peak:  # without an average of weights, which `measure` does not keep
            clip = max(1, (peak - memory.training(0) + memory.average) // clips)
            memory = dataclasses.replace(memory, clip=clip, origin="measured")
    return TrainingPlan(
        recipe=recipe,
        data=data,
        data_origin=data_origin,
        batches=batches,
        rate=rate,
        memory=memory,
        memory_limit=limit,
        limit_origin=origin,
        main_memory=main_memory,
        keep_every=keep_every,
    )


def _memory_of(device: torch.device, processes: int = 1, kept: int = 0) -> tuple[int, str]:
    """Bytes that each process may use for its network, and of what; `kept` of a CPU hold frames."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(USABLE * total), f"{USABLE:.0%} of the {torch.cuda.get_device_name(device)} here"
    free = max(0, free_memory() // processes - kept)
    shared = " beside the frames" if kept else ""
    shared += f", for each of {processes} processes" if processes > 1 else ""
    return int(USABLE_CPU * free), f"{USABLE_CPU:.0%} of what is free here now{shared}"


def _clip_bytes(recipe: Recipe) -> int:
    """Of a clip as the network gets it, in float32."""
    return 4 * 3 * recipe.num_frames * math.prod(recipe.size)


def _line(what: str, value: str, origin: str) -> str:
    # Paths stay whole, however long: a line is wrapped between words only.
    return textwrap.fill(
        f"{what:<15}{value:<22}{origin}",
        100,
        subsequent_indent=" " * 37,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fits(needed: int, limit: int) -> str:
    return "fits" if needed <= limit else "does NOT fit"


def _about(number: float, digits: int) -> str:
    """Round to this many significant digits: 12345 -> 12,300."""
    return f"{float(f'{number:.{digits}g}'):,.12g}"


def _bytes(count: float, digits: int = 3) -> str:
    units = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "bytes": 1}
    name = next((name for name, unit in units.items() if count >= unit), "bytes")
    return f"{_about(count / units[name], digits)} {name}"


def _duration(seconds: float) -> str:
    units = {"h": 3600, "min": 60, "s": 1}
    name = next((name for name, unit in units.items() if seconds >= 2 * unit), "s")
    return f"{_about(seconds / units[name], 2)} {name}"
