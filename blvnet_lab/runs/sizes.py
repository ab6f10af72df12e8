"""How much there is to train on: clips, classes, bytes of the files and of their frames."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from blvnet_lab.data import DataSet, VideoReadError, useful_short_side
from blvnet_lab.data.dataset import smaller_size
from blvnet_lab.data.probing import known_video, unpack_info
from blvnet_lab.progress import tqdm
from blvnet_lab.training.recipe import Recipe


@dataclass(frozen=True)
class DataSize:
    """How much there is to train on."""

    num_clips: int | None = None
    """Clips for training."""
    num_val_clips: int | None = None
    """Clips for evaluation after every epoch."""
    num_classes: int | None = None
    """Classes of the clips."""
    bytes_per_clip: float | None = None
    """Size of a video file, on average; without it, that of the manifest's."""


def check_positive(**numbers: float | None) -> None:
    """Raise ValueError for a number that is given but not positive and finite."""
    for name, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be a positive number, got {value}")


# Something-Something v2: its 168,913 + 24,777 + 27,157 videos have 19.4 GB. Kinetics-400: what is
# on the CVDF mirror, 240,258 + 19,881 + 38,685 videos in 301 parts of about 1.6 GB.
PUBLISHED_SIZES = {
    "ssv2": (DataSize(168_913, 24_777, 174, 19.4e9 / 220_847), "as published"),
    "kinetics400": (DataSize(240_258, 19_881, 400, 301 * 1.6e9 / 298_824), "on the public mirror"),
}


def published_size(preset: str) -> tuple[DataSize, str]:
    """Find the size of the data set that a preset was published for, and where that is from."""
    name = preset.partition("-")[0]
    if name not in PUBLISHED_SIZES:
        raise ValueError(
            f"expected a manifest, or a preset for {' or '.join(PUBLISHED_SIZES)}, whose sizes are "
            f"known, got the preset {preset} alone: name the manifest, or give --num-clips, "
            "--num-val-clips and --num-classes"
        )
    return PUBLISHED_SIZES[name]


def manifest_size(data_set: DataSet) -> DataSize:
    """Count the usable clips of a data set and its classes, and average the sizes of the files.

    Sizes are those that the manifest notes (column probe); where it does not, the disk is asked.
    """
    train, val = (_usable(data_set, split) for split in ("train", "val"))
    if train.empty or val.empty:
        raise ValueError(
            f'expected clips of split "{"train" if train.empty else "val"}" with the status "ok" '
            f"in {data_set.path}, got none: training needs train and val; write the manifest with "
            "both"
        )
    files = pd.concat([train, val])
    bar = tqdm(files.itertuples(), "sizes of files", len(files), unit="file", leave=False, delay=1)
    sizes = [size for size in map(_file_size, bar) if size]
    mean = sum(sizes) / len(sizes) if sizes else None
    return DataSize(len(train), len(val), len(data_set.classes), mean)


def frames_in_memory(data_set: DataSet, recipe: Recipe) -> tuple[int, int]:
    """Count the bytes of all training and validation frames that a recipe keeps in memory."""
    if not recipe.hardware.in_memory:
        return 0, 0
    side = recipe.read_short_side or useful_short_side(recipe.size, recipe.augmentation.crop)
    train, val = (_usable(data_set, split).drop_duplicates("path") for split in ("train", "val"))
    bar = tqdm(train.itertuples(), "frames", len(train), unit="file", leave=False, delay=1)
    training = sum(3 * n * math.prod(smaller_size(size, side)) for n, size in map(_shape, bar))
    pixels = math.prod(recipe.evaluation.size or recipe.size)
    return training, 3 * len(val) * recipe.num_frames * pixels


def _usable(data_set: DataSet, split: str) -> pd.DataFrame:
    rows = data_set.rows
    return rows[(rows["status"] == "ok") & (rows["split"] == split)]


def _shape(row: Any) -> tuple[int, tuple[int, int]]:
    """Frames, and their (height, width); none of what cannot be read."""
    if not pd.isna([row.num_frames, row.height, row.width]).any():
        return row.num_frames, (row.height, row.width)
    try:
        info = known_video(row.path, row.probe)
    except VideoReadError:
        return 0, (1, 1)
    return info.num_frames, info.size


def _file_size(row: Any) -> int:
    """In bytes; 0 if it is not known, as of a folder of pictures."""
    try:
        return unpack_info(row.path, row.probe).num_bytes
    except ValueError:  # nothing is noted, or by another version
        return os.path.getsize(row.path) if os.path.isfile(row.path) else 0


def known_size(
    manifest: Path | None, preset: str, given: DataSize, recipe: Recipe
) -> tuple[DataSize, str, tuple[int, int] | None]:
    """Find how much there is to train on, in a manifest or for a preset, unless it is given.

    Returns the size, where it is from, and `frames_in_memory`; None if these are not known. Raises
    ValueError if only some numbers are given.
    """
    counts, frames = (given.num_clips, given.num_val_clips, given.num_classes), None
    if None not in counts and manifest is None:
        return given, "given", None
    if counts != (None, None, None):
        raise ValueError(
            "expected a manifest, or --num-clips, --num-val-clips and --num-classes, all three of "
            f"them, got {'both' if manifest else 'only some'}"
        )
    if manifest is None:
        found, origin = published_size(preset)
    else:
        data_set = DataSet.read(manifest)
        found, origin = manifest_size(data_set), f"in {manifest}"
        frames = frames_in_memory(data_set, recipe)
    if given.bytes_per_clip is not None:
        found = dataclasses.replace(found, bytes_per_clip=given.bytes_per_clip)
    return found, origin, frames
