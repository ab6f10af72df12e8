"""Clips for training: a manifest of video files, read and sampled as a dataset."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from blvnet_lab.data.dataset_files import DataSet, by_class, clip_names, clip_parts
from blvnet_lab.data.decoding import ToRGB, VideoReadError
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info, refuse_damage
from blvnet_lab.data.reading import check_video, decode_frames, read_frames
from blvnet_lab.data.sampling import sample_dense, sample_uniform, sample_views
from blvnet_lab.data.sharing import STRING, KeptFrames, free_memory
from blvnet_lab.data.transforms import CentreCrop
from blvnet_lab.progress import tqdm

MAX_IN_A_ROW = 20  # unreadable videos; more of them mean an unmounted disk or an old manifest
KEPT_SHARE = 0.25  # of free memory, for a split's frames: two splits leave half for the network


@contextmanager
def on_cpu() -> Iterator[None]:
    """Make new tensors on the CPU, whatever `torch.set_default_device` says."""
    # Skipped where it says so already: PyTorch would check the device before every operation.
    is_cpu = torch.empty(0).device.type == "cpu"
    with nullcontext() if is_cpu else torch.device("cpu"):
        yield


class ClipDataset(Dataset):
    """Give the clips of a data set's split, as (clip (T, C, H, W) float, label).

    Where clips may have several labels, the label is a vector (num_classes,) of zeros and ones.
    Rows with another status than "ok" are left out. `names` holds the clips' names; that of a part
    of a video is its path and times, path#t=3,9.5. `last_read` is the number of the clip read last.

    Args:
        num_frames: T.
        transform: from uint8 frames (T, C, H, W) to the clip, e.g. `training_transform(size)`.
        random_frames: True draws a random frame from each segment (training), with PyTorch's
            global generator, which a DataLoader seeds for each of its workers; False takes centres.
        in_memory: decode every video once and keep the frames that clips need, in uint8. Videos
            beyond `KEPT_SHARE` of the free memory are read from their files each time.
        stride: as in `sample_dense`; None samples uniformly.
        mirror: for training: mirror half of the clips, and change their labels by the data set's
            mirror table; clips whose mirror image belongs to no class stay as they are.
        num_clips: for evaluation: how many clips to take from every video (`sample_views`), each
            in all crops of a `view_transform`: (num_clips * crops, T, C, H, W). None gives one.
        short_side: in pixels, to which larger frames are scaled while they are decoded
            (`useful_short_side` says what a transform needs).
        skip_unreadable: for training: where a video cannot be read, take another clip and remember
            the video (`unreadable`); False raises.

    Raises:
        ValueError: the split has no rows; `mirror` without mirror images, or with `num_clips`.
        VideoReadError: a video is damaged; with `skip_unreadable`, `MAX_IN_A_ROW` of them in a row.
    """

    def __init__(
        self,
        data_set: DataSet,
        split: str,
        num_frames: int,
        transform: Callable[[Tensor], Tensor],
        random_frames: bool = False,
        in_memory: bool = False,
        *,
        stride: int | None = None,
        mirror: bool = False,
        num_clips: int | None = None,
        short_side: int | None = None,
        skip_unreadable: bool = False,
    ):
        rows = usable_rows(data_set, split)
        if num_clips is not None:
            rows = rows[~clip_names(rows).duplicated()]  # training may repeat a clip
        if mirror and (num_clips is not None or set(data_set.mirror or ()) <= {None}):
            words = "expected a class list with mirror images, and no num_clips, to mirror clips"
            raise ValueError(f"{words}, got {data_set.mirror} and {num_clips}: leave out mirror")
        self.paths = np.array([os.fsdecode(path) for path in rows["path"]], STRING)
        self.parts, self.names = clip_parts(rows), np.array([*clip_names(rows)], STRING)
        self.multi_label, found = data_set.multi_label, by_class(rows.reset_index())
        self.labels = found["label"].to_numpy("int64", copy=True)
        if self.multi_label:
            self.labels = np.zeros((len(rows), len(data_set.classes)), bool)
            self.labels[found.index, found["label"]] = True
        probes = rows["probe"].fillna("") if "probe" in rows else [""] * len(rows)
        self.probes = np.array([*probes], STRING)
        self._data_set = data_set.with_rows(rows[:0])  # the classes alone
        self.mirror = data_set.mirror if mirror else None
        self.num_frames, self.transform = num_frames, transform
        self.random_frames, self.stride, self.num_clips = random_frames, stride, num_clips
        self.short_side, self.skip_unreadable = short_side, skip_unreadable
        # Marks the rows that could not be read; shared with the data loader's workers.
        self._failed = torch.zeros(len(rows), dtype=torch.bool, device="cpu").share_memory_()
        self._reasons: dict[str, str] = {}  # by name; a check may decode all of a video
        self.videos: KeptFrames | None = None
        # Evaluation begins with a fixed crop: it is applied once, before frames are kept.
        first = transform.transforms[0] if isinstance(transform, v2.Compose) else None
        is_still = not random_frames and not mirror and num_clips is None
        self._crop = first if is_still and isinstance(first, CentreCrop) else None
        if in_memory:
            self._keep(split)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of their labels."""
        return self._data_set.classes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, int | Tensor]:
        i = range(len(self))[i]  # IndexError beyond the last clip, at which a loop ends
        with on_cpu():
            cause, state, tried = None, torch.get_rng_state(), set()
            for j in (k % len(self) for k in range(i, i + len(self))):
                if len(tried) == MAX_IN_A_ROW and self.paths[j] not in tried:
                    break
                tried.add(self.paths[j])  # one video may hold many clips
                if self.skip_unreadable and self._failed[j]:
                    continue
                try:
                    return self._clip(j)
                except VideoReadError as error:
                    self._failed[j], cause = True, error
                    if not self.skip_unreadable:
                        raise
                    torch.set_rng_state(state)  # as if it had been known to be unreadable
        found = f"not one of the {len(tried)} from {self.paths[i]} on can be read"
        remedy = "check that their disk is mounted and the manifest is the right one"
        raise VideoReadError(f"expected videos, but {found}: {remedy}", self.paths[i]) from cause

    def _clip(self, i: int) -> tuple[Tensor, int | Tensor]:
        is_kept = self.videos is not None and not self._failed[i]
        kept = self.videos[self._video_of[i]] if is_kept else None
        if kept is None:
            info = self._info(i)
            frames = read_frames(info, self._sample(info.num_frames), self._size(info))
        else:
            frames = kept[self._sample(len(kept))] if self.random_frames else kept.clone()
        labels = self.labels[i].nonzero()[0] if self.multi_label else self.labels[i : i + 1]
        labels, self.last_read = labels.tolist(), i
        others = [None] if self.mirror is None else [self.mirror[label] for label in labels]
        if None not in others and torch.rand(()) < 0.5:
            frames, labels = frames.flip(-1), others
        if self.num_clips is not None:
            views = [self.transform(clip) for clip in frames.split(self.num_frames)]
            clip = torch.cat([view.reshape(-1, *view.shape[-4:]) for view in views])
        elif kept is not None and self._crop is not None:
            clip = v2.Compose(self.transform.transforms[1:])(frames)
        else:
            clip = self.transform(frames)
        if not self.multi_label:
            return clip, labels[0]
        return clip, torch.zeros(self.labels.shape[1]).index_fill_(0, torch.tensor(labels), 1.0)

    def _sample(self, frame_count: int) -> Tensor:
        if self.num_clips is not None:
            return sample_views(frame_count, self.num_frames, self.num_clips, self.stride).flatten()
        generator = torch.default_generator if self.random_frames else None
        if self.stride is None:
            return sample_uniform(frame_count, self.num_frames, generator)
        return sample_dense(frame_count, self.num_frames, self.stride, generator)

    def _info(self, i: int) -> VideoInfo:
        return refuse_damage(known_video(self.paths[i], self.probes[i], self.parts[i].tolist()))

    def _size(self, info: VideoInfo) -> tuple[int, int]:
        return info.size if self.short_side is None else smaller_size(info.size, self.short_side)

    def _keep(self, split: str) -> None:
        """Decode what fits into memory: each video once, though several rows may name it."""
        self._video_of = pd.factorize(self.names.astype(object))[0]
        rows = np.unique(self._video_of, return_index=True)[1]  # the first one of each video
        shapes, probes = np.zeros((len(rows), 3), np.int64), np.full(len(rows), "", STRING)
        for video, i in enumerate(tqdm(rows, f"probing {split}", leave=False, delay=2)):
            with self._skipping(video):
                info = self._info(i)
                size = self._size(info) if self._crop is None else self._crop.size
                count = info.num_frames
                count = count if self.random_frames else len(self._sample(count))
                shapes[video], probes[video] = (count, *size), pack_info(info)
        self.probes = probes[self._video_of]
        share = KEPT_SHARE / int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's, here
        self.videos = kept = KeptFrames(shapes, int(share * free_memory()))
        if kept.num_left_out:
            found = f"{len(kept) - kept.num_left_out} of {len(kept)} videos are kept in memory"
            found += f" ({kept.num_bytes / 1e9:.3g} of the {kept.limit / 1e9:.3g} GB that may be)"
            warnings.warn(f'split "{split}": {found}, the others are read each time', stacklevel=4)
        for video, i in enumerate(tqdm(rows, f"decoding {split}", leave=False, unit="clip")):
            if (room := kept[video]) is not None:
                with self._skipping(video):
                    info = self._info(i)
                    count, size = info.num_frames, self._size(info)
                    if self.random_frames:  # all, without a second copy: of long videos it is large
                        pixels = room.permute(0, 2, 3, 1).numpy()
                        for k, rgb in enumerate(decode_frames(info, range(count), ToRGB(size))):
                            pixels[k] = rgb
                    else:
                        frames = read_frames(info, self._sample(count), size)
                        room[:] = frames if self._crop is None else self._crop(frames)

    @contextmanager
    def _skipping(self, video: int) -> Iterator[None]:
        """Mark a video that cannot be read: whoever asks for a clip of it gets the error."""
        try:
            yield
        except VideoReadError:
            self._failed |= torch.from_numpy(self._video_of == video)

    def unreadable(self) -> pd.DataFrame:
        """List the clips not read so far, here and in data loaders: name (path) and reason."""
        for i in self._failed.nonzero().flatten().tolist():
            if (name := self.names[i]) not in self._reasons:
                self._reasons[name] = f"{name}: could not be read at first, but can be now"
                try:
                    check_video(self._info(i))
                except VideoReadError as error:
                    self._reasons[name] = str(error)
        return pd.DataFrame([*self._reasons.items()], columns=["path", "reason"], dtype="str")


def usable_rows(data_set: DataSet, split: str) -> pd.DataFrame:
    """Return a split's rows whose status is "ok" or empty; raise ValueError if there are none."""
    rows = data_set.split(split).rows
    usable = rows[rows["status"].fillna("ok").isin(["ok", ""])] if "status" in rows else rows
    if usable.empty:
        found = ", ".join(sorted(set(rows["status"])))
        words = f'expected clips of split "{split}" with the status "ok", got none, only {found}'
        raise ValueError(f"{words}: see the report beside the manifest")
    return usable


def smaller_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Scale (height, width) down so that the shorter one is `short_side`; never scale it up."""
    scale = min(1.0, short_side / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def load_clips(
    data_set: DataSet,
    split: str,
    num_frames: int,
    transform: Callable[[Tensor], Tensor],
    per_class: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Load the clips (N, T, C, H, W) and labels (N,) of a split, all at once.

    They come class by class, in the manifest's order: all, or the first `per_class` of each. In the
    sample data, clip i of a class and clip i of its partner were made from one scene.
    """
    rows = usable_rows(data_set.one_label("load_clips"), split).sort_values("label", kind="stable")
    if per_class is not None:
        rows = rows.groupby("label").head(per_class)
        if len(rows) < max(1, per_class) * data_set.rows["label"].nunique():
            wanted = f'{per_class} clips of every class in split "{split}", at least 1'
            found = rows["class_name"].value_counts().to_dict()
            raise ValueError(f"expected {wanted}, got {found}: ask for fewer")
    dataset = ClipDataset(data_set.with_rows(rows), split, num_frames, transform)
    numbers = tqdm(range(len(dataset)), "decoding", leave=False, unit="clip")
    clips, labels = zip(*(dataset[i] for i in numbers), strict=True)
    return torch.stack(clips), torch.tensor(labels, device="cpu")
