"""Find the size of a data set: clips, classes, bytes of its files and of its frames."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from blvnet_lab.data import DataSet, useful_short_side
from blvnet_lab.data.dataset import smaller_size, usable_rows
from blvnet_lab.data.dataset_files import clip_names
from blvnet_lab.training.recipe import Recipe


@dataclass(frozen=True)
class DataSize:
    """The size of a data set to train on."""

    num_clips: int | None = None  # Clips for training.
    num_val_clips: int | None = None  # Clips for evaluation after every epoch.
    num_classes: int | None = None  # Number of classes.
    # Average size of a video file; the default is measured on the manifest's files.
    bytes_per_clip: float | None = None


COUNTS = "--num-clips, --num-val-clips and --num-classes"
# Something-Something v2: 168,913 + 24,777 + 27,157 videos, 19.4 GB. Kinetics-400: the CVDF mirror
# has 240,258 + 19,881 + 38,685 videos in 301 parts of about 1.6 GB.
PUBLISHED_SIZES = {
    "ssv2": (DataSize(168_913, 24_777, 174, 19.4e9 / 220_847), "as published"),
    "kinetics400": (DataSize(240_258, 19_881, 400, 301 * 1.6e9 / 298_824), "on the public mirror"),
}


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
