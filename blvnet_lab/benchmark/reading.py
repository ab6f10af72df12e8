"""How quickly clips come from files, and what that feeds.

    python -m blvnet_lab loader-benchmark                        # on films made for it
    python -m blvnet_lab loader-benchmark --manifest MANIFEST     # on one's own data set

Four steps are measured for the same clips, by turns, as CPU time on one core:

- decode: FFmpeg decodes just the frames that are needed, from the keyframe before each, or from the
  beginning if that is quicker; no colours are converted. No reader can be quicker.
- read: `read_frames`, with what the manifest knows of the file.
- sample: what a data set gives: read, cropped, flipped, normalised (the published augmentation).
- jitter: the same with changes of colour too.

Then whole data loaders (but for the raw film), by the wall clock: clips a second, which in batches
of 64 sustain a GPU whose training step takes 64 / (clips a second).
"""

from __future__ import annotations

import json as json_module
import os
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from blvnet_lab.data.dataset import ClipDataset, smaller_size
from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.data.decoding import file_url
from blvnet_lab.data.reading import (
    VideoInfo,
    check_video,
    known_video,
    pack_info,
    read_frames,
)
from blvnet_lab.data.sampling import sample_dense, sample_uniform
from blvnet_lab.data.transforms import training_transform
from blvnet_lab.datasets.encoding import write_h264
from blvnet_lab.datasets.reencoding import reencode
from blvnet_lab.paths import check_target, written_whole
from blvnet_lab.progress import tqdm

SAMPLINGS = ("uniform", "dense")  # over the whole video; every second frame
BATCH = 64  # clips of a training step, for which the step time is told
DENSE_STRIDE = 2
SHORT_SIDE = 256  # in pixels, to which frames are scaled before they are cropped
SECONDS, FPS = 10, 30  # of the films that are made
RAW = "raw 720p"
LOADER_BATCH = 8  # clips
TARGETS = {
    "read / decode, prepared": (1.3, "at most"),
    f"{RAW} / prepared, read": (5.0, "at least"),
    "sample / read, prepared": (1.25, "at most"),
}


@dataclass(frozen=True)
class Timings:
    """What `measure_loading` found."""

    steps: pd.DataFrame  # a row for each film and sampling: CPU ms a clip of every step, and ratios
    loaders: pd.DataFrame  # a row for each film and number of workers: clips a second, ...
    ratios: dict[str, float]  # those that the package promises, for uniform sampling
    memory: pd.DataFrame  # resident memory in MB after so many clips
    num_frames: int

    def __str__(self) -> str:
        lines = [
            f"CPU milliseconds for a clip of {self.num_frames} frames, median, one core",
            self.steps.to_string(index=False, float_format="{:.2f}".format),
            "\ndata loaders, by the wall clock",
            self.loaders.to_string(index=False, float_format="{:.2f}".format),
        ]
        for name, ratio in self.ratios.items():
            target, side = TARGETS[name]
            lines.append(f"{name}: {ratio:.2f} ({side} {target})")
        if not self.memory.empty:
            table = self.memory.to_string(index=False, float_format="{:.0f}".format)
            lines.append(f"\nmemory\n{table}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Write all of it, for a file."""
        tables = ("steps", "loaders", "memory")
        contents = {name: getattr(self, name).to_dict("records") for name in tables}
        return json_module.dumps(contents | {"ratios": self.ratios}, indent=1)


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
) -> Timings:
    """Measure how quickly clips come from files, against what decoding alone takes.

    Args:
        manifest: of a data set, whose first video stands for it; without it, videos of 10 s are
            made: 720p, the same prepared, and VP9.
        num_frames: T, frames of a clip.
        size: height and width of the crops in pixels.
        workers: numbers of workers of the data loaders.
        clips: read by each data loader.
        repeats: of each step, alternately; the median counts.
        memory_clips: clips to read to see whether memory grows; 0 leaves it out.
        json: file for all the numbers.
    """
    if json is not None:
        check_target(json, ".json")
    if min(num_frames, *size, repeats) < 1 or min(workers, default=-1) < 0 or memory_clips < 0:
        raise ValueError(
            "expected positive num_frames, size and repeats, and workers and memory_clips from 0 "
            f"on, got {num_frames}, {size}, {repeats}, {list(workers)} and {memory_clips}"
        )
    if clips <= LOADER_BATCH:
        raise ValueError(
            f"expected more than {LOADER_BATCH} clips for each data loader, got {clips}: the first "
            "batch is not counted"
        )
    with TemporaryDirectory() as folder:
        films = (
            {"data set": _first_of(manifest)} if manifest is not None else _make_films(Path(folder))
        )
        torch_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a data loader's worker
        try:
            steps = _measure_steps(films, num_frames, size, repeats)
            loaders = _measure_loaders(films, num_frames, size, workers, clips)
            memory = _measure_memory(films, num_frames, size, memory_clips)
        finally:
            torch.set_num_threads(torch_threads)
    timings = Timings(steps, loaders, _ratios(steps), memory, num_frames)
    if json is not None:
        with written_whole(json) as partial_file:
            partial_file.write_text(timings.to_json(), "utf-8")
    return timings


# --- Films --------------------------------------------------------------------------------------


def _first_of(manifest: Path) -> VideoInfo:
    table = DataSet.read(manifest).rows
    good = table.loc[table["status"] == "ok", "path"]
    if good.empty:
        raise ValueError(f'expected videos with the status "ok" in {manifest}, got none')
    return check_video(good.iloc[0])


def _make_films(folder: Path) -> dict[str, VideoInfo]:
    """The films by their names, with all that is known of them."""
    with tqdm(total=3, desc="making films", unit="film", leave=False) as bar:
        raw = folder / "raw" / "raw.mp4"
        raw.parent.mkdir()
        write_h264(raw, _scene(720, 1280, SECONDS * FPS), FPS, gop=250, x264="crf=20")
        bar.update()
        row = pd.DataFrame(
            [(raw, 0, "film", "train")], columns=["path", "label", "class_name", "split"]
        )
        listed = DataSet(row, ["film"], [0]).save(folder / "raw" / "manifest.csv")
        new = DataSet.read(reencode(listed, folder / "new", workers=1).manifest).rows
        bar.update()
        small = folder / "small.webm"
        _write_vp9(small, _scene(240, 426, SECONDS * 12), 12)
        bar.update()
    films = {RAW: raw, "prepared": Path(new["path"].iloc[0]), "VP9 240p, 12 fps": small}
    return {name: check_video(path) for name, path in films.items()}


def _scene(height: int, width: int, count: int) -> list[np.ndarray]:
    """Frames of a still, detailed picture over which a camera pans, and a disc moves."""
    rng = np.random.default_rng(0)
    picture = np.zeros((height * 2, width * 2, 3), np.float32)
    for cell, contrast in ((64, 45), (16, 25), (4, 10)):
        shape = (height * 2 // cell + 1, width * 2 // cell + 1, 3)
        blocks = np.kron(rng.normal(0, contrast, shape), np.ones((cell, cell, 1), np.float32))
        picture += blocks[: height * 2, : width * 2]
    picture = (picture + 128).clip(0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    frames = []
    for k in range(count):
        turn = 2 * np.pi * k / count
        top, left = int(height / 2 * (1 + np.sin(turn)) * 0.9), int(width / 2 * (1 - np.cos(turn)))
        frame = picture[top : top + height, min(left, width) : min(left, width) + width].copy()
        away = np.hypot(
            rows - height * (0.5 + 0.3 * np.sin(5 * turn)),
            columns - width * (0.5 + 0.3 * np.cos(3 * turn)),
        )
        frame[away < height / 6] = (230, 200, 60)
        frames.append(frame)
    return frames


def _write_vp9(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    with av.open(file_url(path), "w") as file:
        options = {"crf": "33", "b": "0", "cpu-used": "8", "deadline": "realtime"}
        stream = file.add_stream("libvpx-vp9", rate=fps, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for array in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        file.mux(stream.encode(None))


# --- Steps --------------------------------------------------------------------------------------


def decode_only(info: VideoInfo, indices: Sequence[int], jump: bool) -> int:
    """Decodes the frames `indices` (ascending), with jumps to keyframes or without; how many."""
    if info.pts is None:
        raise ValueError(f"{info.path}: expected frames with times of their own, to decode some")
    with av.open(file_url(info.path)) as file:
        stream = file.streams.best("video")
        stream.thread_type = "NONE"
        pictures, now, found = file.decode(stream), None, 0
        for index in indices:
            wanted = info.pts[index]
            place = max(0, bisect_right(info.keyframe_pts, wanted) - 1)
            if jump and info.keyframe_pts and (now is None or info.keyframe_pts[place] > now):
                file.seek(info.keyframe_pts[place], stream=stream)
                pictures = file.decode(stream)
            if now == wanted:
                continue
            for picture in pictures:
                now = picture.pts
                if now >= wanted:
                    found += 1
                    break
    return found


def _as_data_set(
    info: VideoInfo,
    num_frames: int,
    transform: Callable[[Tensor], Tensor],
    stride: int | None,
    rows: int = 1,
) -> ClipDataset:
    row = {"path": info.path, "label": 0, "class_name": "film", "split": "train"}
    table = pd.DataFrame([row | {"status": "ok", "probe": pack_info(info)}] * rows)
    data_set = DataSet(table, ["film"], [0])
    return ClipDataset(
        data_set, "train", num_frames, transform, stride=stride, mirror=True, short_side=SHORT_SIDE
    )


def _read(path: str, packed: str, indices: Tensor) -> Tensor:
    """As a data set does it: with what the manifest knows, large films scaled while decoding."""
    info = known_video(path, packed)
    return read_frames(info, indices, smaller_size(info.size, SHORT_SIDE))


def _measure_steps(
    films: dict[str, VideoInfo],
    num_frames: int,
    size: tuple[int, int],
    repeats: int,
) -> pd.DataFrame:
    plain = training_transform(size, crop="multi-scale", jitter=0.0)
    coloured = training_transform(size, crop="multi-scale")
    steps: dict[tuple[str, str, str], Callable[[], object]] = {}
    for name, info in films.items():
        for sampling in SAMPLINGS:
            stride = None if sampling == "uniform" else DENSE_STRIDE
            clips = _as_data_set(info, num_frames, plain, stride)
            jitter = _as_data_set(info, num_frames, coloured, stride)
            indices = (
                sample_uniform(info.num_frames, num_frames)
                if stride is None
                else sample_dense(info.num_frames, num_frames, stride)
            )
            steps |= {
                (name, sampling, "jumps"): partial(decode_only, info, indices.tolist(), True),
                (name, sampling, "through"): partial(decode_only, info, indices.tolist(), False),
                (name, sampling, "read"): partial(_read, info.path, pack_info(info), indices),
                (name, sampling, "sample"): partial(clips.__getitem__, 0),
                (name, sampling, "jitter"): partial(jitter.__getitem__, 0),
            }
    times: dict[tuple[str, str, str], list[float]] = {key: [] for key in steps}
    for _ in tqdm(range(repeats), "reading clips", unit="round"):
        for key, step in steps.items():
            start = time.process_time()
            step()
            times[key].append(1000 * (time.process_time() - start))
    rows = []
    for name in films:
        for sampling in SAMPLINGS:
            median = {
                step: statistics.median(times[name, sampling, step])
                for step in ("jumps", "through", "read", "sample", "jitter")
            }
            decode = min(median.pop("jumps"), median.pop("through"))
            rows.append(
                {
                    "film": name,
                    "sampling": sampling,
                    "decode": decode,
                    **median,
                    "read / decode": median["read"] / decode,
                    "sample / read": median["sample"] / median["read"],
                    "clips/s a core": 1000 / median["sample"],
                }
            )
    return pd.DataFrame(rows)


def _ratios(steps: pd.DataFrame) -> dict[str, float]:
    """What the package promises of sparse reading; empty without the films that it is about."""
    uniform = steps[steps["sampling"] == "uniform"].set_index("film")
    if RAW not in uniform.index:
        return {}
    prepared, raw = uniform.loc["prepared"], uniform.loc[RAW]
    values = (prepared["read / decode"], raw["read"] / prepared["read"], prepared["sample / read"])
    return {name: float(value) for name, value in zip(TARGETS, values, strict=True)}


# --- Data loaders -------------------------------------------------------------------------------


def _measure_loaders(
    films: dict[str, VideoInfo],
    num_frames: int,
    size: tuple[int, int],
    workers: Sequence[int],
    clips: int,
) -> pd.DataFrame:
    transform = training_transform(size, crop="multi-scale", jitter=0.0)
    rows = []
    pairs = [(name, number) for name in films if name != RAW for number in workers]
    for name, number in tqdm(pairs, "data loaders", unit="loader"):
        data_set = _as_data_set(films[name], num_frames, transform, None, rows=clips)
        loader = DataLoader(
            data_set, LOADER_BATCH, num_workers=number, timeout=120 if number else 0
        )
        batches = iter(loader)
        next(batches)  # starting the workers is not part of it
        start, count = time.perf_counter(), 0
        for batch, _ in batches:
            count += len(batch)
        rate = count / (time.perf_counter() - start)
        rows.append(
            {
                "film": name,
                "workers": number,
                "clips/s": rate,
                f"feeds a step of {BATCH} in s": BATCH / rate,
            }
        )
    return pd.DataFrame(rows)


def _measure_memory(
    films: dict[str, VideoInfo], num_frames: int, size: tuple[int, int], clips: int
) -> pd.DataFrame:
    """Of this process, which reads `clips` clips of the films by turns."""
    if not clips:
        return pd.DataFrame(columns=["clips", "MB"])
    transform = training_transform(size, crop="multi-scale", jitter=0.0)
    names = [name for name in films if name != RAW]
    sets = [_as_data_set(films[name], num_frames, transform, None) for name in names]
    rows, marks = [], {clips * k // 10 for k in range(1, 11)}
    for number in tqdm(range(1, clips + 1), "memory", unit="clip"):
        sets[number % len(sets)][0]
        if number in marks:
            rows.append((number, resident_mb()))
    return pd.DataFrame(rows, columns=["clips", "MB"])


def resident_mb() -> float:
    """Memory that this process holds, in MB (Linux); the most it ever held elsewhere."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if os.uname().sysname == "Darwin" else peak / 1e3
