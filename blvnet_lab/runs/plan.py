"""What a run will take, before it is begun: steps, hours, memory, disk, and the largest batch.

    python -m blvnet_lab plan MANIFEST --preset kinetics400-50-f8x2 --processes 8
    print(plan(preset("ssv2-50-f8x2"), **vars(published_size("ssv2")), clips_per_second=60))

The clip rate is a run's own (`clips_per_second` in its log.jsonl), or it is measured here, by
training on clips of noise for some steps. Memory is counted (`memory.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import statistics
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from blvnet_lab.data import (
    VideoReadError,
    DataSet,
    useful_short_side,
)
from blvnet_lab.data.dataset import smaller_size
from blvnet_lab.data.probing import known_video, unpack_info
from blvnet_lab.data.sharing import free_memory
from blvnet_lab.progress import tqdm
from blvnet_lab.training.distributed import Ranks, pick_device
from blvnet_lab.training.engine import build, train_one_epoch
from blvnet_lab.training.evaluation import autocast
from blvnet_lab.training.loading import Batches
from blvnet_lab.runs.memory import (
    MainMemory,
    Memory,
    chance_put_back,
    count_main_memory,
    count_memory,
)
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.schedule import frozen_body, make_optimizer

# Of a GPU's memory, and of what is free on a CPU. The rest is for what is not counted: workspaces
# of libraries, CUDA's context, gaps between tensors. The first is a choice; `memory.CPU_GROWTH` has
# the reason of the second.
USABLE, USABLE_CPU = 0.9, 0.5
# A backward pass computes two products, by weights and by maps, where a forward pass computes one.
TRAINING_COST = 3  # in forward passes
# Of `measure`: a step longer than this many seconds is not made larger; when to stop.
QUICK, MEASURED_SECONDS, MEASURED_STEPS = 1.0, 8.0, 20


# --- The size of a data set ---------------------------------------------------------------------


@dataclass(frozen=True)
class DataSize:
    """How much there is to train on; the names are those of `plan`."""

    num_clips: int  # for training
    num_val_clips: int
    num_classes: int
    bytes_per_clip: float | None  # of a video file, on average; None if it is not known
    source: str  # where these numbers come from
    # Of all the training and validation frames that are to be kept in memory, at the size in which
    # they are read; None if that is not known.
    frame_bytes: tuple[int, int] | None = None


# Something-Something v2: its 168,913 + 24,777 + 27,157 videos have 19.4 GB. Kinetics-400: what is
# on the CVDF mirror, 240,258 + 19,881 + 38,685 videos in 301 parts of about 1.6 GB.
PUBLISHED_SIZES = {
    "ssv2": DataSize(168_913, 24_777, 174, 19.4e9 / 220_847, "as published"),
    "kinetics400": DataSize(240_258, 19_881, 400, 301 * 1.6e9 / 298_824, "on the public mirror"),
}


def published_size(preset: str) -> DataSize:
    """The size of the data set that a preset, such as "ssv2-50-f8x2", was published for.

    Raises:
        ValueError: it was published for none, or for one whose size is not known here.
    """
    name = preset.partition("-")[0]
    if name not in PUBLISHED_SIZES:
        raise ValueError(
            f"expected a manifest, or a preset for {' or '.join(PUBLISHED_SIZES)}, whose sizes are "
            f"known, got the preset {preset} alone: name the manifest, or give --clips, "
            "--val-clips and --classes"
        )
    return PUBLISHED_SIZES[name]


def manifest_size(path: str | os.PathLike, recipe: Recipe | None = None) -> DataSize:
    """The clips of a manifest that are of use, its classes, and the mean size of the files.

    Sizes are those that the manifest notes (column probe); where it does not, the disk is asked.

    Args:
        recipe: counts the frames that it keeps in memory, too.

    Raises:
        ValueError: no such manifest, or it has no clips of "train" or "val".
    """
    data_set = DataSet.read(path)
    table = data_set.rows
    good = table[(table["status"] == "ok") & table["split"].isin(["train", "val"])]
    counts = good["split"].value_counts()
    for split in ("train", "val"):
        if split not in counts:
            raise ValueError(
                f'expected clips of split "{split}" with the status "ok" in {path}, got none: '
                "training needs train and val; write the manifest with both"
            )
    files = list(zip(good["path"], good["probe"], strict=True))
    bar = tqdm(files, "sizes of files", unit="file", leave=False, delay=1)
    sizes = [size for size in (_file_size(*file) for file in bar) if size]
    mean = statistics.fmean(sizes) if sizes else None
    frame_bytes = None if recipe is None else _frame_bytes(good, recipe)
    numbers = int(counts["train"]), int(counts["val"]), len(data_set.classes), mean
    return DataSize(*numbers, f"in {path}", frame_bytes)


def _frame_bytes(rows: pd.DataFrame, recipe: Recipe) -> tuple[int, int]:
    """Of the frames of training and validation clips that the recipe keeps; see `ClipDataset`."""
    if not recipe.hardware.in_memory:
        return 0, 0
    side = recipe.read_short_side or useful_short_side(recipe.size, recipe.augmentation.crop)
    videos = rows[rows["split"] == "train"].drop_duplicates("path")
    bar = tqdm(videos.itertuples(), "frames", len(videos), unit="file", leave=False, delay=1)
    shapes = [_shape(video) for video in bar]
    training = sum(3 * count * math.prod(smaller_size(size, side)) for count, size in shapes)
    pixels = math.prod(recipe.evaluation.size or recipe.size)
    num_val_clips = rows["path"][rows["split"] == "val"].nunique()
    return training, 3 * num_val_clips * recipe.num_frames * pixels


def _shape(row: Any) -> tuple[int, tuple[int, int]]:
    """Frames, and their (height, width); of what cannot be read, one of no size."""
    if not pd.isna([row.num_frames, row.height, row.width]).any():
        return row.num_frames, (row.height, row.width)
    try:
        info = known_video(row.path, row.probe)
    except VideoReadError:
        return 0, (1, 1)
    return info.num_frames, info.size


def _file_size(path: str, probe: str) -> int:
    """In bytes; 0 if it is not known, as of a folder of pictures."""
    with contextlib.suppress(ValueError):  # of another version: then the file is asked
        return unpack_info(path, probe).num_bytes
    return os.path.getsize(path) if os.path.isfile(path) else 0


# --- Speed --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """Clips a second, of all processes together."""

    training: float
    evaluation: float  # forward only, at the size of evaluation
    origin: str
    evaluation_origin: str


def rate_of_training(clips_per_second: float, recipe: Recipe) -> Rate:
    """From the rate of training: a pixel is taken to cost a third as much in evaluation."""
    pixels = math.prod(recipe.size) / math.prod(recipe.evaluation.size or recipe.size)
    judged = clips_per_second * TRAINING_COST * pixels
    origin = "taken to cost a third of training, for each pixel"
    return Rate(clips_per_second, judged, "given", origin)


def measure(
    recipe: Recipe, num_classes: int, device: torch.device, most_clips: int
) -> tuple[Rate, int, int]:
    """Trains and evaluates the recipe's network on clips of noise for a few steps, not compiled.

    Args:
        most_clips: to take at once; steps that are slow anyway are measured with fewer.

    Returns:
        The rate of one process; clips at once in training; peak of GPU memory (bytes; elsewhere 0).
    """
    on_gpu, before = device.type == "cuda", 0
    if on_gpu:
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    # Each batch a step of its own, which the loop waits for: else a GPU's time would not be seen.
    whole = dataclasses.replace(recipe.hardware, accumulate=1)
    recipe = dataclasses.replace(recipe, hardware=whole)
    with chance_put_back():
        model = build(recipe, num_classes)
        layout = torch.channels_last if whole.channels_last else torch.contiguous_format
        model.to(device, memory_format=layout)
        optimizer = make_optimizer(model, recipe)
        still = LambdaLR(optimizer, lambda step: 0.0)  # noise teaches nothing, and breaks nothing
        frames = (recipe.num_frames, model.in_channels)
        training = _Trial((*frames, *recipe.size), num_classes, most_clips, device, "training")
        with frozen_body(model, recipe):
            train_one_epoch(model, training, optimizer, still, device, recipe)
        peak = torch.cuda.max_memory_allocated(device) - before if on_gpu else 0
        size = recipe.evaluation.size or recipe.size
        judging = _Trial((*frames, *size), num_classes, most_clips, device, "evaluation")
        model.eval()
        with torch.no_grad(), autocast(device, whole):
            for clips, _ in judging:
                model(clips.to(device, non_blocking=True)).float().cpu()
    name = torch.cuda.get_device_name(device) if on_gpu else f"the {device.type.upper()} here"
    origin = f"measured on {name}, {training.number} clips of noise at once"
    return Rate(training.rate, judging.rate, origin, "measured alike"), training.number, peak


class _Trial:
    """Batches of noise for a loop to compute with, and how quickly it comes back for more.

    The batches grow until they hold `most` clips or a step is no longer quick. Those steps do not
    count: in them the libraries also get memory and choose their algorithms.
    """

    def __init__(self, shape: tuple, num_classes: int, most: int, device: torch.device, name: str):
        self.shape, self.num_classes, self.most = shape, num_classes, most
        self.device, self.name = device, name
        self.number = min(2, most)  # clips in a batch
        self.seconds: list[float] = []  # of the steps that count

    @property
    def rate(self) -> float:
        """Clips a second."""
        return self.number / statistics.median(self.seconds)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        with tqdm(desc=f"measuring {self.name}", unit="step", leave=False) as bar:
            while True:
                batch = self._batch()
                begin = time.perf_counter()
                yield batch
                seconds = time.perf_counter() - begin
                bar.update()
                if self.number == self.most or seconds > QUICK:
                    break
                self.number = min(2 * self.number, self.most)
            while sum(self.seconds) < MEASURED_SECONDS and len(self.seconds) < MEASURED_STEPS:
                begin = time.perf_counter()
                yield batch
                self.seconds.append(time.perf_counter() - begin)
                bar.update()

    def _batch(self) -> tuple[Tensor, Tensor]:
        clips = torch.randn(self.number, *self.shape, device="cpu")
        labels = torch.arange(self.number, device="cpu") % self.num_classes
        return (clips.pin_memory() if self.device.type == "cuda" else clips), labels


# --- The plan -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a run will take; `str` of it is a table that says of each number where it comes from."""

    recipe: Recipe
    data: DataSize
    processes: int
    batch_size: int  # clips of a step, of all processes
    steps_per_epoch: int
    rate: Rate
    memory: Memory  # of each process
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

    # Rows of the table: (what, how much, why or whence).

    def _steps(self) -> Iterator[tuple[str, str, str]]:
        recipe, data, parts = self.recipe, self.data, self.recipe.hardware.accumulate
        yield "clips", f"{data.num_clips:,} + {data.num_val_clips:,}", f"train + val, {data.source}"
        yield "classes", f"{data.num_classes}", data.source
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
        yield "", f"+ {_bytes(memory.judged_clip)} a clip", "in evaluation, counted"
        needed, judged = memory.training(self.at_once), memory.evaluation(self.at_once)
        room = f"in {_bytes(limit)}, {self.limit_origin}"
        yield (
            "training",
            _bytes(needed),
            f"{self.at_once} clips at once: {_fits(needed, limit)} {room}",
        )
        advice = "" if judged <= limit else ": take a smaller batch_size or more processes"
        fit = f"{_fits(judged, limit)}{advice}"
        yield "evaluation", _bytes(judged), f"{self.at_once} clips at once: {fit}"
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


def plan(
    recipe: Recipe,
    *,
    num_clips: int,
    num_val_clips: int,
    num_classes: int,
    clips_per_second: float | None = None,
    processes: int = 1,
    memory_gb: float | None = None,
    bytes_per_clip: float | None = None,
    device: torch.device | None = None,
    keep_every: int | None = None,
    source: str = "given",
    frame_bytes: tuple[int, int] | None = None,
) -> Plan:
    """Plans a run: within seconds if `clips_per_second` is given, else it trains for some steps.

    Args:
        num_clips, num_val_clips, num_classes: of the data set.
        clips_per_second: in training, of all processes together, as in a run's log.jsonl. None
            measures one process here and now; several are taken to be as many times as quick.
        processes: that train together, each with a device of its own (CPUs share the memory).
        memory_gb: of each process's device, in 10^9 bytes; None for what `device` has.
        bytes_per_clip: of a video file, on average; None leaves out what follows from it.
        device: None picks a GPU if there is one. Only what is measured here depends on it.
        keep_every: as in `engine.fit`: epochs from one checkpoint that is kept to the next.
        source: where the numbers of the data set come from, for the table.
        frame_bytes: of the training and validation frames to be kept in memory (`manifest_size`).

    Raises:
        ValueError: a number is not positive; or the batch cannot be divided among processes and
            parts, or is larger than the data set.
    """
    data = DataSize(num_clips, num_val_clips, num_classes, bytes_per_clip, source, frame_bytes)
    given = {"clips_per_second": clips_per_second, "processes": processes, "memory_gb": memory_gb}
    for name, value in (vars(data) | given | {"keep_every": keep_every}).items():
        if not isinstance(value, str | tuple | None) and not 0 < value < math.inf:
            raise ValueError(
                f"expected {name} to be a positive number, got {value}: give it as it was "
                "counted or measured"
            )
    parts = recipe.hardware.accumulate
    batches = Batches(
        num_clips, recipe.batch_size, seed=recipe.seed, ranks=Ranks(0, processes), accumulate=parts
    )
    device = device or pick_device()
    memory = count_memory(recipe, num_classes)
    at_once = batches.batch_size // processes // parts
    main_memory = count_main_memory(
        recipe,
        memory,
        at_once=at_once,
        processes=processes,
        on_cpu=device.type == "cpu",
        frame_bytes=frame_bytes,
    )
    limit, limit_origin = _memory_of(device, processes, main_memory.kept_frames)
    if memory_gb is not None:
        limit, limit_origin = (
            int(USABLE * memory_gb * 1e9),
            f"{USABLE:.0%} of {memory_gb:g} GB given",
        )
    if clips_per_second is not None:
        rate = rate_of_training(clips_per_second, recipe)
    else:
        most = memory.largest(_memory_of(device)[0])
        rate, number, peak = measure(recipe, num_classes, device, max(1, min(at_once, most)))
        rate = _of_all(rate, processes)
        if peak:  # without an average of weights, which `measure` does not keep
            a_clip = (peak - memory.training(0) + memory.average) // number
            memory = dataclasses.replace(memory, clip=max(1, a_clip), origin="measured")
    return Plan(
        recipe=recipe,
        data=data,
        processes=processes,
        batch_size=batches.batch_size,
        steps_per_epoch=batches.steps,
        rate=rate,
        memory=memory,
        memory_limit=limit,
        limit_origin=limit_origin,
        main_memory=main_memory,
        keep_every=keep_every,
    )


def _memory_of(device: torch.device, processes: int = 1, kept: int = 0) -> tuple[int, str]:
    """Bytes that each process may use for its network, and of what; `kept` of a CPU hold frames."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(USABLE * total), f"{USABLE:.0%} of the {torch.cuda.get_device_name(device)} here"
    free = max(0, free_memory() // processes - kept)
    shared = " beside the frames" * bool(kept)
    shared += f", for each of {processes} processes" if processes > 1 else ""
    return int(USABLE_CPU * free), f"{USABLE_CPU:.0%} of what is free here now{shared}"


def _of_all(rate: Rate, processes: int) -> Rate:
    """The rate of several processes, from that of one."""
    if processes == 1:
        return rate
    origin = f"{rate.origin}, times {processes}: an upper bound, as if none waited for another"
    whole, judged = rate.training * processes, rate.evaluation * processes
    return Rate(whole, judged, origin, rate.evaluation_origin)


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
