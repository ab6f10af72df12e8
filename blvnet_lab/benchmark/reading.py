"""Measure how fast clips are read from files, and what training speed that allows.

    python -m blvnet_lab loader-benchmark                        # on videos made for the purpose
    python -m blvnet_lab loader-benchmark --manifest MANIFEST     # on your own data set

Four steps are measured for the same clips, alternately, as CPU time on one core:

- decode: FFmpeg decodes just the frames that are needed, each from the keyframe before it, without
  converting colours. No reader can be faster.
- read: `read_frames`, with what the manifest says about the file.
- sample: an item of a data set: read, cropped, flipped, normalised (the published augmentation).
- jitter: the same with colour jitter.

Then come whole data loaders (except for the raw video), by wall-clock time.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from blvnet_lab.benchmark.measure import Benchmark, time_alternately
from blvnet_lab.data.dataset import ClipDataset, smaller_size, usable_rows
from blvnet_lab.data.dataset_files import PART, DataSet, clip_parts
from blvnet_lab.data.decoding import file_url
from blvnet_lab.data.probing import VideoInfo, known_video, pack_info
from blvnet_lab.data.reading import check_video, read_frames
from blvnet_lab.data.sampling import sample_views
from blvnet_lab.data.transforms import training_transform
from blvnet_lab.datasets.encoding import write_h264
from blvnet_lab.datasets.reencoding import reencode_video
from blvnet_lab.paths import check_target
from blvnet_lab.progress import tqdm

STRIDES = {"uniform": None, "dense": 2}  # over the whole video; every second frame
BATCH = 64  # clips of the training step to feed
SHORT_SIDE = 256  # in pixels, to which frames are scaled before cropping
SECONDS, FPS = 10, 30  # of the videos made here
RAW, PREPARED, H264 = "raw 720p", "prepared", "prepared as h264"
VP9 = "VP9 240p, 12 fps"
LOADER_BATCH = 8  # clips
JITTER = 0.3  # of colours
Videos = dict[str, VideoInfo]  # by name
Make = Callable[..., ClipDataset]  # `make_data_set`, for clips of one shape


def make_data_set(
    info: VideoInfo,
    num_frames: int,
    size: tuple[int, int],
    *,
    stride: int | None = None,
    jitter: float = 0.0,
    count: int = 1,
) -> ClipDataset:
    """Make a data set that repeats one video `count` times, set up as for training."""
    row = {"path": info.path, "label": 0, "class_name": "video", "split": "train"}
    row |= dict(zip(PART, info.part, strict=False))
    table = pd.DataFrame([row | {"probe": pack_info(info)}] * count)
    transform = training_transform(size, crop="multi-scale", jitter=jitter)
    options = {"stride": stride, "mirror": True, "short_side": SHORT_SIDE}
    return ClipDataset(DataSet(table, ["video"], [0]), "train", num_frames, transform, **options)


def measure_loading(
    *,
    manifest: Path | None = None,
    num_frames: int = 16,
    size: tuple[int, int] = (224, 224),
    workers: tuple[int, ...] = (0, 1, 2),
    clips: int = 96,
    repeats: int = 9,
    memory_clips: int = 0,
    json: Path | None = None,
) -> Benchmark:
    """Measure how fast clips are read from files, compared with decoding alone.

    Args:
        manifest: of a data set, represented by its first training clip; without it, videos of 10 s
            are made: 720p, the same prepared in both codings, and VP9.
        num_frames: T, frames of a clip.
        size: height and width of the crops in pixels.
        workers: numbers of workers for the data loaders.
        clips: how many each data loader reads, the first 8 of which are not timed.
        repeats: of each step, alternately; the median counts.
        memory_clips: clips to read to see whether memory grows; 0 skips that.
        json: file for all numbers.
    """
    if clips <= LOADER_BATCH:
        raise ValueError(f"expected more than {LOADER_BATCH} clips, or none is timed, got {clips}")
    if json is not None:
        check_target(json, ".json")
    make = partial(make_data_set, num_frames=num_frames, size=size)
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        if manifest is None:
            videos = make_videos(Path(folder))
        else:
            rows = usable_rows(DataSet.read(manifest), "train")
            first = known_video(rows["path"].iloc[0], "", clip_parts(rows)[0].tolist())
            videos = {"data set": check_video(first)}
        loaded = {name: info for name, info in videos.items() if name != RAW}
        torch.set_num_threads(1)  # as in a data loader's worker
        try:
            tables = {"steps": measure_steps(videos, make, repeats)}
            tables["loaders"] = measure_loaders(loaded, make, workers, clips)
            if memory_clips:
                tables["memory"] = measure_memory(loaded, make, memory_clips)
        finally:
            torch.set_num_threads(threads)
    found = Benchmark({"frames": num_frames, "pixels": f"{size[0]} x {size[1]}"}, tables)
    if json is not None:
        found.save(json)
    return found


def make_videos(folder: Path) -> Videos:
    """Write a raw video, re-encode it, and write a small video with another codec."""
    names = {RAW: "raw.mp4", PREPARED: "prepared.mp4", H264: "h264.mp4", VP9: "small.webm"}
    paths = {name: folder / file for name, file in names.items()}
    write_h264(paths[RAW], draw_scene(720, 1280, SECONDS * FPS), FPS, gop=250, x264="crf=20")
    reencode_video(str(paths[RAW]), "", str(paths[PREPARED]), SHORT_SIDE)
    reencode_video(str(paths[RAW]), "", str(paths[H264]), SHORT_SIDE, coding="h264")
    options = {"crf": "33", "b": "0", "cpu-used": "8", "deadline": "realtime"}
    with av.open(file_url(paths[VP9]), "w") as file:
        stream = file.add_stream("libvpx-vp9", rate=12, options=options, width=426, height=240)
        for frame in draw_scene(240, 426, SECONDS * 12):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    return {name: check_video(path) for name, path in paths.items()}


def draw_scene(height: int, width: int, count: int) -> Iterator[np.ndarray]:
    """Draw a camera panning over a still, detailed picture: uint8 frames (H, W, 3)."""
    rng = np.random.default_rng(0)
    picture = np.full((height * 2, width * 2, 3), 128.0, np.float32)
    for cell, contrast in ((64, 45), (16, 25), (4, 10)):
        shape = (height * 2 // cell + 1, width * 2 // cell + 1, 3)
        blocks = np.kron(rng.normal(0, contrast, shape), np.ones((cell, cell, 1), np.float32))
        picture += blocks[: height * 2, : width * 2]
    picture = picture.clip(0, 255).astype(np.uint8)
    for turn in np.linspace(0, 2 * np.pi, count, endpoint=False):
        top, left = int(height * 0.45 * (1 + np.sin(turn))), int(width / 2 * (1 - np.cos(turn)))
        yield np.ascontiguousarray(picture[top : top + height, left : left + width])


def decode_only(info: VideoInfo, indices: Sequence[int]) -> int:
    """Decode the frames `indices` (ascending), jumping to keyframes; return how many there were."""
    if info.pts is None:
        raise ValueError(f"{info.path}: expected frames with times of their own, to decode some")
    with av.open(file_url(info.path)) as file:
        stream = file.streams.best("video")
        stream.thread_type = "NONE"
        pictures, now, found = file.decode(stream), None, 0
        for wanted in sorted({info.pts[index] for index in indices}):
            place = max(0, bisect_right(info.keyframe_pts, wanted) - 1)
            if info.keyframe_pts and (now is None or info.keyframe_pts[place] > now):
                file.seek(info.keyframe_pts[place], stream=stream)
                pictures = file.decode(stream)
            now = next((picture.pts for picture in pictures if picture.pts >= wanted), None)
            found += now is not None
    return found


def read_known(info: VideoInfo, packed: str, indices: Tensor) -> Tensor:
    """Read as a data set does: with the manifest's knowledge, and scaled while decoding."""
    info = known_video(info.path, packed, info.part)
    return read_frames(info, indices, smaller_size(info.size, SHORT_SIDE))


def measure_steps(videos: Videos, make: Make, repeats: int) -> pd.DataFrame:
    """Time each step of reading a clip: CPU ms, a row per video and sampling."""
    steps: dict[tuple[str, str], Callable[[], object]] = {}
    for (name, info), (sampling, stride) in product(videos.items(), STRIDES.items()):
        plain, coloured = (make(info, stride=stride, jitter=jitter) for jitter in (0.0, JITTER))
        (indices,) = sample_views(info.num_frames, plain.num_frames, 1, stride)
        row = f"{name}, {sampling}"
        steps |= {
            (row, "decode"): partial(decode_only, info, indices.tolist()),
            (row, "read"): partial(read_known, info, pack_info(info), indices),
            (row, "sample"): partial(plain.__getitem__, 0),
            (row, "jitter"): partial(coloured.__getitem__, 0),
        }
    seconds = time_alternately(steps, repeats, time.process_time)
    table = 1e3 * seconds.median().unstack(sort=False)
    table["read / decode"] = table["read"] / table["decode"]
    table["sample / read"] = table["sample"] / table["read"]
    table["clips/s a core"] = 1000 / table["sample"]
    table["MB"] = [info.num_bytes / 1e6 for info in videos.values() for _ in STRIDES]
    return table


def measure_loaders(videos: Videos, make: Make, workers: Sequence[int], count: int) -> pd.DataFrame:
    """Time whole data loaders by the wall clock, a row per video and number of workers."""
    rates = {}
    for name, number in tqdm(list(product(videos, workers)), "data loaders", unit="loader"):
        data_set = make(videos[name], count=count)
        batches = iter(DataLoader(data_set, LOADER_BATCH, num_workers=number))
        next(batches)  # the start of workers is not timed
        start = time.perf_counter()
        num_clips = sum(len(batch) for batch, _ in batches)
        rates[f"{name}, {number} workers"] = num_clips / (time.perf_counter() - start)
    table = pd.Series(rates).to_frame("clips/s")
    table[f"feeds a step of {BATCH} in s"] = BATCH / table["clips/s"]
    return table


def measure_memory(videos: Videos, make: Make, count: int) -> pd.DataFrame:
    """Read `count` clips of the videos alternately; record this process's memory ten times."""
    data_sets = [make(info) for info in videos.values()]
    memory, marks = {}, {count * k // 10 for k in range(1, 11)}
    for number in tqdm(range(1, count + 1), "memory", unit="clip"):
        data_sets[number % len(data_sets)][0]
        if number in marks:
            memory[f"{number} clips"] = psutil.Process().memory_info().rss / 1e6
    return pd.Series(memory, dtype=float).to_frame("MB")
