"""Clips for training: a manifest of video files, read and sampled as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blvnet_lab.data.reading import (
    VideoInfo,
    VideoReadError,
    check_video,
    read_frames,
    usable_video,
)
from blvnet_lab.data.sampling import sample_dense, sample_uniform, sample_views
from blvnet_lab.progress import tqdm

# So many unreadable videos in a row are no accident: a disk is not mounted, or the manifest is old.
MOST_IN_A_ROW = 20


class ClipDataset(Dataset):
    """Clips of a manifest, as (clip (T, C, H, W) float, label).

    Rows whose status is not "ok" are left out: the manifest says of them that they are of no use.

    Args:
        manifest: from `read_manifest`.
        split: which rows: "train", "val", ...
        num_frames: T.
        transform: from uint8 frames (T, C, H, W) to the clip, e.g. `training_transform(size)`.
        random_frames: True draws a random frame from each segment (training), with PyTorch's
            global generator, which a DataLoader seeds for each of its workers; False takes centres.
        in_memory: decode every video once and keep its frames (uint8); for small data sets.
        stride: of `sample_dense`; None samples uniformly.
        mirror: for training, the label of the mirror image of every class, as in the class list;
            empty (None or NA) where there is none. Half of the clips are then mirrored, and their
            labels with them. None mirrors nothing.
        num_clips: for evaluation, so many clips of every video (`sample_views`), each in all the
            crops of a `view_transform`: (num_clips * crops, T, C, H, W). None gives the one clip.
        short_side: in pixels, to which larger frames are scaled while they are decoded, which
            saves time and memory with large videos; None keeps their size.
        skip_unreadable: for training, take another clip where a video cannot be read, and note it
            (`unreadable`); False raises.

    Raises:
        ValueError: the split has no rows, or arguments contradict each other.
        VideoReadError: a video cannot be read, or is damaged; the message names it. With
            `skip_unreadable`, so many of them in a row that something else must be wrong.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        split: str,
        num_frames: int,
        transform: Callable[[Tensor], Tensor],
        random_frames: bool = False,
        in_memory: bool = False,
        *,
        stride: int | None = None,
        mirror: Sequence[int | None] | None = None,
        num_clips: int | None = None,
        short_side: int | None = None,
        skip_unreadable: bool = False,
    ):
        rows = manifest[manifest["split"] == split]
        if rows.empty:
            raise ValueError(
                f'expected clips of split "{split}", got none; the manifest has the splits '
                f"{sorted(set(manifest['split']))}"
            )
        if "status" in rows:
            found = sorted(set(rows["status"]))
            rows = rows[rows["status"] == "ok"]
            if rows.empty:
                raise ValueError(
                    f'expected clips of split "{split}" with the status "ok", got none, only '
                    f"{', '.join(found)}: see the report beside the manifest"
                )
        if num_clips is not None and (random_frames or mirror is not None):
            raise ValueError(
                "expected num_clips for evaluation, or random_frames and mirror for training, got "
                "both: leave out one or the other"
            )
        self.paths = rows["path"].tolist()
        self.labels = rows["label"].tolist()
        self.probes = rows["probe"].tolist() if "probe" in rows else [""] * len(rows)
        self.num_frames, self.transform = num_frames, transform
        self.random_frames, self.stride, self.num_clips = random_frames, stride, num_clips
        self.short_side, self.skip_unreadable = short_side, skip_unreadable
        self.mirror = None if mirror is None else self._checked(mirror)
        # Which rows could not be read; shared with the data loader's workers.
        self._failed = torch.zeros(len(rows), dtype=torch.bool).share_memory_()
        self.videos: list[Tensor | None] | None = None
        if in_memory:
            self.videos = [
                self._decoded(i)
                for i in tqdm(range(len(self)), f"decoding {split}", leave=False, unit="clip")
            ]

    def _checked(self, mirror: Sequence[int | None]) -> list[int | None]:
        mirror = [None if pd.isna(label) else int(label) for label in mirror]
        if max(self.labels) >= len(mirror):
            raise ValueError(
                f"expected a mirror label for each of the labels 0 to {max(self.labels)}, got "
                f"{len(mirror)}: read_classes(manifest)['mirror'] has them"
            )
        return mirror

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        if not self.skip_unreadable:
            return self._clip(i)
        last, state = None, torch.get_rng_state()
        for j in range(i, i + min(MOST_IN_A_ROW, len(self))):
            j %= len(self)
            if self._failed[j]:
                continue
            try:
                return self._clip(j)
            except VideoReadError as error:
                self._failed[j], last = True, error
                # The next one is drawn as if it were known already that this one is unreadable.
                torch.set_rng_state(state)
        raise VideoReadError(
            f"expected videos, but not one of the {min(MOST_IN_A_ROW, len(self))} from "
            f"{self.paths[i]} on can be read: see whether their disk is there and the manifest is "
            "the right one",
            self.paths[i],
        ) from last

    def _clip(self, i: int) -> tuple[Tensor, int]:
        video = self.videos[i] if self.videos is not None else self._info(i)
        frame_count = video.num_frames if isinstance(video, VideoInfo) else len(video)
        wanted = self._sample(frame_count)
        frames = video[wanted] if isinstance(video, Tensor) else self._read(video, wanted)
        label = self.labels[i]
        if self.num_clips is not None:
            views = [self.transform(clip) for clip in frames.split(self.num_frames)]
            return torch.cat([view.reshape(-1, *view.shape[-4:]) for view in views]), label
        if self.mirror is not None and self.mirror[label] is not None and torch.rand(()) < 0.5:
            frames, label = frames.flip(-1), self.mirror[label]
        return self.transform(frames), label

    def _sample(self, frame_count: int) -> Tensor:
        if self.num_clips is not None:
            return sample_views(frame_count, self.num_frames, self.num_clips, self.stride).flatten()
        generator = torch.default_generator if self.random_frames else None
        if self.stride is None:
            return sample_uniform(frame_count, self.num_frames, generator)
        return sample_dense(frame_count, self.num_frames, self.stride, generator)

    def _info(self, i: int) -> VideoInfo:
        return usable_video(self.paths[i], self.probes[i])

    def _decoded(self, i: int) -> Tensor | None:
        """All frames; None if they cannot be read and `skip_unreadable` says to go on."""
        try:
            return self._read(self._info(i), None)
        except VideoReadError:
            if not self.skip_unreadable:
                raise
            self._failed[i] = True
            return None

    def _read(self, info: VideoInfo, wanted: Tensor | None) -> Tensor:
        """Frames `wanted`, or all."""
        size = None if self.short_side is None else smaller_size(info.size, self.short_side)
        return read_frames(info, range(info.num_frames) if wanted is None else wanted, size)

    def unreadable(self) -> pd.DataFrame:
        """The videos passed over so far, by this process and its data loaders: path and reason."""
        paths = [self.paths[i] for i in self._failed.nonzero().flatten().tolist()]
        return pd.DataFrame(
            {"path": paths, "reason": [_why_unreadable(path) for path in paths]}, dtype="str"
        )


def smaller_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(height, width) scaled so that the shorter one is `short_side`, but never made larger."""
    scale = min(1.0, short_side / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def _why_unreadable(path: str) -> str:
    try:
        check_video(path)
    except VideoReadError as error:
        return str(error)
    return f"{path}: could not be read at first, but can be now"


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
