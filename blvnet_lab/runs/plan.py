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


@dataclass(frozen=True)
class TrainingPlan:
    """What a training run takes; prints as a table that says where each number comes from."""

    recipe: Recipe
    data: DataSize
    source: str  # of it
    processes: int
    batch_size: int  # clips of a step, of all processes
    steps_per_epoch: int
    rate: Rate
    memory: TrainingMemory  # of each process
    memory_limit: int  # bytes that each process may use
    limit_origin: str
    main_memory: MainMemory  # of each process
    keep_every: int | None

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """0 with the schedule "one-cycle", which has a rise of its own."""
        epochs = 0 if self.recipe.schedule == "one-cycle" else self.recipe.warmup
        return math.ceil(epochs * self.steps_per_epoch)

    @property
    def share(self) -> int:
        """Clips of a step for each process."""
        return self.batch_size // self.processes

    @property
    def at_once(self) -> int:
        """Clips that a process holds at once, in training and in evaluation."""
        return self.share // self.recipe.hardware.accumulate

    @property
    def training_seconds(self) -> float:
        return self.steps * self.batch_size / self.rate.training

    @property
    def evaluation_seconds(self) -> float:
        """After all epochs together; one view of each clip, twice with an average of weights."""
        times = self.recipe.epochs * (2 if self.recipe.ema else 1)
        return times * self.data.num_val_clips / self.rate.evaluation

    @property
    def device_hours(self) -> float:
        return (self.training_seconds + self.evaluation_seconds) / 3600 * self.processes

    @property
    def largest(self) -> int:
        """The most clips with which a process can train at once; 0 if not even one fits."""
        return self.memory.largest(self.memory_limit)

    @property
    def accumulate(self) -> int | None:
        """The least hardware.accumulate with which this batch can be trained; None if none helps.

        It divides the share of a process.
        """
        parts = (n for n in range(1, self.share + 1) if self.share % n == 0)
        return next((n for n in parts if self.share // n <= self.largest), None)

    @property
    def checkpoint_bytes(self) -> int:
        return self.memory.model - self.memory.gradients

    @property
    def folder_bytes(self) -> int:
        """Of the run's folder in the end: last.pt, best.pt, those kept, and model.safetensors."""
        kept = self.recipe.epochs // self.keep_every if self.keep_every else 0
        return (2 + kept) * self.checkpoint_bytes + self.memory.weights

    @property
    def input_bytes(self) -> int:
        """Of a clip as the network gets it, in float32."""
        return 4 * 3 * self.recipe.num_frames * math.prod(self.recipe.size)

    def __str__(self) -> str:
        recipe, network = self.recipe, self.recipe.network
        title = (
            f"{network.architecture}, depth {network.depth}, for clips of {recipe.num_frames} "
            f"frames of {recipe.size[0]} x {recipe.size[1]} pixels, in {recipe.hardware.precision}"
        )
        rows = [*self._steps(), *self._time(), *self._memory(), *self._disk()]
        return "\n".join([title, *(_line(*row) for row in rows)])

    # Rows of the table: what, how much, and where from.

    def _steps(self) -> Iterator[tuple[str, str, str]]:
        recipe, data, parts = self.recipe, self.data, self.recipe.hardware.accumulate
        yield "clips", f"{data.num_clips:,} + {data.num_val_clips:,}", f"train + val, {self.source}"
        yield "classes", f"{data.num_classes}", self.source
        divided = f", in {parts} parts of {self.at_once}" if parts > 1 else ""
        spread = f"{self.share} on each of {self.processes} processes" if self.processes > 1 else ""
        yield "batch", f"{self.batch_size} clips", (spread or "on one process") + divided
        left = self.data.num_clips - self.steps_per_epoch * self.batch_size
        yield (
            "steps",
            f"{self.steps_per_epoch:,} an epoch",
            f"{left} clips, no whole batch, left out",
        )
        yield "", f"{self.steps:,} in all", f"{recipe.epochs} epochs"
        rule = f"{recipe.learning_rate:g} for a batch of {recipe.rate_batch}, in proportion"
        yield "learning rate", f"{recipe.peak_rate:.4g} at most", rule
        if recipe.schedule == "one-cycle":
            yield "warm-up", "in the schedule", "one-cycle"
        else:
            steps = f"{self.warmup_steps:,} steps" if self.warmup_steps else "none"
            yield "warm-up", steps, f"{recipe.warmup:g} epochs"

    def _time(self) -> Iterator[tuple[str, str, str]]:
        rate, seconds = self.rate, self.training_seconds + self.evaluation_seconds
        digits = 3 if rate.origin == "given" else 2
        yield "clip rate", f"{_about(rate.training, digits)} clips/s", f"in training, {rate.origin}"
        yield (
            "",
            f"{_about(rate.evaluation, 2)} clips/s",
            f"in evaluation, {rate.evaluation_origin}",
        )
        yield "time", _duration(seconds), "in all, if the network never waits for clips"
        part = f"of it for {self.recipe.epochs} evaluations, one view of each clip"
        yield "", _duration(self.evaluation_seconds), part
        if self.processes > 1:
            every = f"{self.processes} processes, a device each"
            yield "device hours", f"{_about(self.device_hours, 2)} h", every
        each = rate.training / self.processes
        advice = "for each process, or it waits; loader-benchmark says what a core gives"
        yield "clips to load", f"{_about(each, 2)} clips/s", advice
        frames = f"to each device, {_bytes(self.input_bytes)} a clip in float32"
        yield "", f"{_bytes(each * self.input_bytes, 2)}/s", frames
        if self.data.bytes_per_clip:
            read = rate.training * self.data.bytes_per_clip
            yield "", f"{_bytes(read, 2)}/s", "from disk, all processes, if files are read in full"

    def _memory(self) -> Iterator[tuple[str, str, str]]:
        memory, limit = self.memory, self.memory_limit
        names = ("weights", "gradients", "momentum", "average")
        parts = [f"{name} {_bytes(size)}" for name in names if (size := getattr(memory, name))]
        yield "memory", _bytes(memory.model), f"on each device: {', '.join(parts)}"
        yield "", f"+ {_bytes(memory.clip)} a clip", f"in training, {memory.origin}"
        yield "", f"+ {_bytes(memory.evaluation_clip)} a clip", "in evaluation, counted"
        needed, evaluation = memory.training(self.at_once), memory.evaluation(self.at_once)
        room = f"in {_bytes(limit)}, {self.limit_origin}"
        yield (
            "training",
            _bytes(needed),
            f"{self.at_once} clips at once: {_fits(needed, limit)} {room}",
        )
        advice = "" if evaluation <= limit else ": take a smaller batch_size or more processes"
        fit = f"{_fits(evaluation, limit)}{advice}"
        yield "evaluation", _bytes(evaluation), f"{self.at_once} clips at once: {fit}"
        yield from self._main_memory()
        yield "largest batch", f"{self.largest:,} clips", "with which a process can train at once"
        if self.accumulate is None:
            yield "", "none", "take smaller or shorter clips, less depth, or a larger device"
        elif self.accumulate > self.recipe.hardware.accumulate:
            advice = f"at once: the batch fits with --hardware.accumulate {self.accumulate}"
            yield "", f"{self.share // self.accumulate} of {self.share} clips", advice

    def _main_memory(self) -> Iterator[tuple[str, str, str]]:
        main, workers = self.main_memory, self.recipe.hardware.workers
        every = f"each of {self.processes} processes" if self.processes > 1 else "the process"
        parts = [f"{_bytes(main.process)} for Python and its libraries, as here"]
        parts += [f"{_bytes(main.network)} for the network"] * bool(main.network)
        parts += [f"{_bytes(main.reading)} for reading with {workers} workers"]
        yield "main memory", _bytes(main.total), f"{every} at most: {', '.join(parts)}"
        if main.all_frames is None and self.recipe.hardware.in_memory:
            yield "", "and frames", "kept in memory, not counted: only a manifest says how large"
        elif main.all_frames:
            rest = f" of {_bytes(main.all_frames)}; the others are read from their files each time"
            rest = rest if main.kept_frames < main.all_frames else ""
            yield "", _bytes(main.kept_frames), f"of it for frames kept in memory{rest}"

    def _disk(self) -> Iterator[tuple[str, str, str]]:
        kept = f", one every {self.keep_every} epochs" if self.keep_every else ""
        files = f"{_bytes(self.checkpoint_bytes)} each for last and best{kept}; the network"
        yield "disk", _bytes(self.folder_bytes), f"for the run's folder: {files}"
        if size := self.data.bytes_per_clip:
            videos = (self.data.num_clips + self.data.num_val_clips) * size
            yield "", _bytes(videos), f"for the videos, {_bytes(size)} each on average"


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
        preset: whose values the recipe has unless they are given (train --help).
        data: how much there is to train on, where no manifest says it.
        processes: that train together, each on a device of its own (CPUs share the memory).
        clips_per_second: in training, of all processes together: log.jsonl of a run has it.
        memory_gb: of each device, in 10^9 bytes; without it, what this machine has.
        keep_every: epochs from one checkpoint that is kept to the next; else last and best.

    Raises:
        ValueError: a number is not positive; the data set's size is not known, or not divisible.
    """
    recipe = recipe or presets.preset(preset)
    check_positive(processes=processes, keep_every=keep_every)
    check_positive(clips_per_second=clips_per_second, memory_gb=memory_gb)
    data, source, frame_bytes = known_size(manifest, preset, data, recipe)
    ranks, parts = Ranks(0, processes), recipe.hardware.accumulate
    batches = Batches(data.num_clips, recipe.batch_size, seed=0, ranks=ranks, accumulate=parts)
    at_once = batches.batch_size // processes // parts
    device, memory = pick_device(), count_memory(recipe, data.num_classes)
    main_memory = count_main_memory(
        recipe,
        memory,
        at_once=at_once,
        processes=processes,
        on_cpu=device.type == "cpu",
        frame_bytes=frame_bytes,
    )
    limit, origin = _memory_of(device, processes, main_memory.kept_frames)
    if memory_gb is not None:
        limit, origin = int(USABLE * memory_gb * 1e9), f"{USABLE:.0%} of {memory_gb:g} GB given"
    if clips_per_second is not None:
        rate = rate_of_training(clips_per_second, recipe)
    else:
        most = max(1, min(at_once, memory.largest(_memory_of(device)[0])))
        rate, memory = _measured(recipe, data.num_classes, device, most, memory)
        rate = rate.times(processes)
    return TrainingPlan(
        recipe=recipe,
        data=data,
        source=source,
        processes=processes,
        batch_size=batches.batch_size,
        steps_per_epoch=batches.steps,
        rate=rate,
        memory=memory,
        memory_limit=limit,
        limit_origin=origin,
        main_memory=main_memory,
        keep_every=keep_every,
    )


def _measured(
    recipe: Recipe, num_classes: int, device: torch.device, max_clips: int, memory: TrainingMemory
) -> tuple[Rate, TrainingMemory]:
    """Measure the rate of one process and, on a GPU, the memory of a clip."""
    rate, number, peak = measure(recipe, num_classes, device, max_clips)
    if peak:  # without an average of weights, which `measure` does not keep
        a_clip = (peak - memory.training(0) + memory.average) // number
        memory = dataclasses.replace(memory, clip=max(1, a_clip), origin="measured")
    return rate, memory


def _memory_of(device: torch.device, processes: int = 1, kept: int = 0) -> tuple[int, str]:
    """Bytes that each process may use for its network, and of what; `kept` of a CPU hold frames."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(USABLE * total), f"{USABLE:.0%} of the {torch.cuda.get_device_name(device)} here"
    free = max(0, free_memory() // processes - kept)
    shared = " beside the frames" * bool(kept)
    shared += f", for each of {processes} processes" if processes > 1 else ""
    return int(USABLE_CPU * free), f"{USABLE_CPU:.0%} of what is free here now{shared}"


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
    """Rounded to so many digits that count: 12345 -> 12,300."""
    return f"{float(f'{number:.{digits}g}'):,.12g}"


def _bytes(count: float, digits: int = 3) -> str:
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    unit, name = next((pair for pair in units if count >= pair[0]), (1, "bytes"))
    return f"{_about(count / unit, digits)} {name}"


def _duration(seconds: float) -> str:
    units = ((3600, "h"), (60, "min"))
    unit, name = next((pair for pair in units if seconds >= 2 * pair[0]), (1, "s"))
    return f"{_about(seconds / unit, 2)} {name}"
