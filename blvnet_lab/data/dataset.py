"""Clips for training: a manifest of video files, read and sampled as a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from blvnet_lab.data.reading import probe_video, read_frames
from blvnet_lab.data.sampling import sample_uniform

class ClipDataset(Dataset):
    """Clips of a manifest, as (clip (T, C, H, W) float, label).

    Args:
        manifest: from `read_manifest`.
        split: which rows: "train", "val", ...
        num_frames: T.
        transform: from uint8 frames (T, C, H, W) to the clip, e.g. `training_transform(size)`.
        random_frames: True draws a random frame from each segment (training), with PyTorch's
            global generator, which a DataLoader seeds for each of its workers; False takes centres.
        in_memory: decode every video once and keep its frames (uint8); for small data sets.

    Raises:
        ValueError: the split has no rows.
        VideoReadError: a video cannot be read; the message names it.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        split: str,
        num_frames: int,
        transform: Callable[[Tensor], Tensor],
        random_frames: bool = False,
        in_memory: bool = False,
    ):
        rows = manifest[manifest["split"] == split]
        if rows.empty:
            raise ValueError(
                f'expected clips of split "{split}", got none; the manifest has the splits '
                f"{sorted(set(manifest['split']))}"
            )
        self.paths = rows["path"].tolist()
        self.labels = rows["label"].tolist()
        self.num_frames, self.transform = num_frames, transform
        self.random_frames = random_frames
        self.videos: list[Tensor] | None = None
        if in_memory:
            infos = map(probe_video, self.paths)
            self.videos = [
                read_frames(info, range(info.num_frames))
                for info in tqdm(infos, f"decoding {split}", len(self), leave=False, unit="clip")
            ]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        generator = torch.default_generator if self.random_frames else None
        if self.videos is not None:
            video = self.videos[i]
            frames = video[sample_uniform(len(video), self.num_frames, generator)]
        else:
            info = probe_video(self.paths[i])
            frames = read_frames(info, sample_uniform(info.num_frames, self.num_frames, generator))
        return self.transform(frames), self.labels[i]


def load_clips(
    manifest: pd.DataFrame,
    split: str,
    num_frames: int,
    transform: Callable[[Tensor], Tensor],
    per_class: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Clips (N, T, C, H, W) and labels (N,) of a split, all at once: for experiments on a few.

    They come class by class, each in the manifest's order. In the sample data the clips of two
    partner classes come in the order of the same scenes: clip i of both was made from one scene.

    Args:
        per_class: only the first so many of each class; None for all.

    Raises:
        ValueError: the split has no rows, or a class of the manifest fewer than `per_class`.
    """
    if per_class is not None:
        sizes = manifest.groupby("class_name")["split"].agg(
            lambda of_class: (of_class == split).sum()
        )
        if sizes.any() and not 1 <= per_class <= sizes.min():
            raise ValueError(
                f'expected a per_class that every class has in split "{split}", at least 1, got '
                f"{per_class}, and {sizes.min()} clips of {sizes.idxmin()}: ask for fewer"
            )
        of_split = manifest[manifest["split"] == split].groupby("label").head(per_class)
        manifest = pd.concat([of_split, manifest[manifest["split"] != split]])
    manifest = manifest.sort_values("label", kind="stable")
    dataset = ClipDataset(manifest, split, num_frames, transform)
    clips = [dataset[i] for i in tqdm(range(len(dataset)), "decoding", leave=False, unit="clip")]
    return torch.stack([clip for clip, _ in clips]), torch.tensor([label for _, label in clips])
