"""Re-encode a data set for fast random access.

Videos come in groups of 250 pictures or more, of which a reader that wants every 18th frame must
decode nearly all, and in sizes that networks do not use. Two codings are written here: `mpeg4` is
faster to read, `h264` takes less disk, and browsers play it. docs/measurements.md has the table
from which they were chosen.
"""

import hashlib
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader, Dataset

from blvnet_lab.data import DataSet, VideoReadError, check_video, read_frames
from blvnet_lab.data.dataset import smaller_size
from blvnet_lab.data.dataset_files import PART, clip_name, clip_names, clip_parts
from blvnet_lab.data.probing import VideoInfo, known_video, refuse_damage
from blvnet_lab.datasets.encoding import showing_of, write_h264, write_mpeg4
from blvnet_lab.datasets.inventory import table_values
from blvnet_lab.datasets.journal import Journal, Tables, in_units, write_tables
from blvnet_lab.datasets.sources import times_in_source
from blvnet_lab.paths import atomic_write, plain_name
from blvnet_lab.progress import tqdm
from blvnet_lab.training.distributed import end_with_parent

Coding = Literal["mpeg4", "h264"]
# gop: frames from keyframe to keyframe. H.264 has constant quality, and x264's "fastdecode"
# settings: simpler entropy coding, no deblocking.
CODINGS: dict[Coding, dict[str, Any]] = {
    "mpeg4": {"gop": 5, "quantizer": 5},
    "h264": {"gop": 12, "x264": "crf=23:cabac=0:no-deblock=1:weightp=0"},
}
EARLIER = {"coding": "h264", **CODINGS["h264"]}  # from before there was a choice
WRITERS = {"mpeg4": write_mpeg4, "h264": write_h264}
FRAMES_AT_ONCE = 128  # held in memory while a video is re-encoded

Job = tuple[str, str, str, int, tuple[float, ...], Coding]  # the arguments of `reencode_video`


@dataclass(frozen=True)
class Reencoded:
    """The result of `reencode`."""

    written: Tables | None  # None while videos of other shards are missing
    counts: dict[str, int]  # encoded, copied, unreadable, already there
    waiting: int  # missing videos of other shards
    bytes_before: int  # of the videos of this shard
    bytes_after: int

    @property
    def manifest(self) -> Path | None:
        return self.written and self.written.manifest

    def __str__(self) -> str:
        lines = [f"{number:8} {what}" for what, number in self.counts.items()]
        lines.append(f"{in_units(self.bytes_before)} before, {in_units(self.bytes_after)} after")
        lacking = f"no manifest yet: {self.waiting} videos of other shards are missing"
        return "\n".join([*lines, str(self.written or lacking)])


def reencode(
    manifest: Path,
    /,
    out: Path,
    short_side: int = 256,
    workers: int | None = None,
    shard: str = "1/1",
    coding: Coding = "mpeg4",
) -> Reencoded:
    """Re-encode the videos of a data set for fast random access; copy those that are fine already.

    Frame k of the new file is frame k of the old one, upright, at the same time, with the same
    pixel aspect and colour coding; sound is left out. If parts of a video are listed, each becomes
    a file, and the rest is left out. The old files are not changed. Run again, it continues.

    Args:
        manifest: of the data set.
        out: folder for the new files, manifest.csv, classes.csv and report.csv.
        short_side: in pixels, to which larger videos are scaled.
        workers: processes; one per core by default.
        shard: i/n does the i-th of n parts, so that n machines can share the work. The last one to
            finish writes the manifest.
        coding: mpeg4 (part 2, a keyframe every 5 frames) is twice as fast to read; h264 (every 12)
            takes a quarter less disk, plays in browsers, and continues folders begun earlier.

    Raises ValueError if there is no such manifest or shard, or the folder was begun with other
    settings or holds the old files, OSError if a process died or the disk is full.
    """
    index, _, count = shard.partition("/")
    if not (index + count).isdecimal() or not 1 <= int(index or 0) <= int(count or 0):
        raise ValueError(f"expected a shard from 1/n to n/n, such as 2/4, got {shard}")
    if short_side < 2 or (workers is not None and workers < 1):
        wanted = "expected a short side of 2 pixels or more and at least one worker"
        raise ValueError(f"{wanted}, got {short_side} and {workers}")
    data_set, out = DataSet.read(manifest), Path(out).absolute()
    table = data_set.rows.assign(clip=clip_names(data_set.rows))
    good = table[table["status"] == "ok"].drop_duplicates("clip")
    good = good.assign(part=clip_parts(good).tolist())
    good["target"] = _targets(good, out)
    old, new = [manifest, *table["path"]], [out / "manifest.csv", *good["target"]]
    if taken := set(map(os.path.realpath, new)) & set(map(os.path.realpath, old)):
        wanted = "expected another folder for the new files than that of the old ones"
        raise ValueError(f"{wanted}, but {min(taken)} is one of these: choose another out")
    data_set.check(out / "manifest.csv")  # now, and not after hours of work
    settings = {"short_side": short_side, "coding": coding, **CODINGS[coding]}
    log = f"prepare-{index}-of-{count}.jsonl"
    journal = Journal(out / "prepare.json", settings, log, "prepare-*-of-*.jsonl", EARLIER)
    mine, done = good.iloc[int(index) - 1 :: int(count)], journal.last("source")
    waiting = [
        (row.path, row.probe, row.target, short_side, row.part, coding)
        for row in mine.itertuples()
        if not _is_done(row.target, row.path, done.get(row.clip))
    ]
    counts = Counter(["already there"] * (len(mine) - len(waiting)))
    entries = _in_parallel(waiting, workers)
    for entry in tqdm(entries, "writing", len(waiting), unit="video"):
        journal.add(entry)
        counts[entry["how"]] += 1
    done = journal.last("source")
    lacking, targets = set(good["clip"]) - done.keys(), dict(good[["clip", "target"]].values)
    return Reencoded(
        written=None if lacking else _write_tables(data_set.with_rows(table), done, targets, out),
        counts=dict(counts),
        waiting=len(lacking),
        bytes_before=sum(done[c]["bytes_before"] for c in mine.drop_duplicates("path")["clip"]),
        bytes_after=sum(done[clip]["bytes_after"] for clip in mine["clip"]),
    )


def _targets(rows: pd.DataFrame, out: Path) -> list[str]:
    """Name a file for every video: split/class/name.mp4, with a digest where two would be equal."""
    names = []
    for row in rows.itertuples():  # parts also get their times: video_3_9.5.mp4
        stem = "_".join([Path(row.path).stem, *(f"{t:.9g}" for t in row.part if t == t)])
        names.append("/".join(map(plain_name, (row.split, row.class_name, stem))))
    uses = Counter(map(str.lower, names))  # some file systems ignore case
    marks = [hashlib.sha1(clip.encode()).hexdigest()[:8] for clip in rows["clip"]]
    return [
        str(out / (f"{name}-{mark}.mp4" if uses[name.lower()] > 1 else f"{name}.mp4"))
        for name, mark in zip(names, marks, strict=True)
    ]


def _is_done(target: str, source: str, entry: dict | None) -> bool:
    if entry is None or entry["state"] != file_state(source):
        return False
    # A file of another size comes from another manifest that was re-encoded here since.
    return entry["how"] == "unreadable" or file_state(target)[:1] == [entry["bytes_after"]]


def file_state(path: str) -> list[int]:
    """Look up a file's size and time, which reveal changes; empty if there is no file."""
    found = os.stat(path) if os.path.exists(path) else None
    return [found.st_size, found.st_mtime_ns] if found else []


class _Reencoding(Dataset):
    """A data set whose indices are jobs: an item is the result of re-encoding."""

    def __getitem__(self, job: Job) -> dict | Exception:
        try:
            return reencode_video(*job)
        # A full disk, say. Raised later, since a data loader would turn it into another error.
        except (OSError, av.error.FFmpegError) as error:
            return error


def _in_parallel(jobs: list[Job], workers: int | None) -> Iterator[dict]:
    """Run the jobs in processes; yield the log's entries as they finish."""
    if not jobs:
        return
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    # Decoders do not survive a fork, so processes are forked from one that has PyTorch but none.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload([__name__])
    loader = DataLoader(
        _Reencoding(),
        batch_size=None,
        sampler=jobs,
        num_workers=workers,
        multiprocessing_context=context,
        worker_init_fn=end_with_parent,
        in_order=False,  # so that a long video does not hold up the others
    )
    try:
        for entry in loader:
            if isinstance(entry, Exception):
                raise entry
            yield entry
    except (RuntimeError, EOFError) as error:
        raise OSError(
            "one of the processes died, perhaps for lack of memory: run the same command again, "
            "with fewer workers; what is finished is not done again. (A program that calls this "
            'must be a file, and call it below `if __name__ == "__main__":`)'
        ) from error


def reencode_video(
    source: str,
    probe: str,
    target: str,
    short_side: int,
    part: tuple = (),
    coding: Coding = "mpeg4",
) -> dict[str, Any]:
    """Re-encode a video or a part of it, given its packed probe; return the entry for the log."""
    entry = {"source": clip_name(source, part), "state": file_state(source)}
    entry |= {"bytes_before": 0, "bytes_after": 0}
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    for leftover in Path(folder).glob(".*.part"):  # of a run that was killed (`atomic_write`)
        if leftover.stem.rpartition(".")[0] == f".{name}":
            leftover.unlink(missing_ok=True)
    try:
        info = refuse_damage(known_video(source, probe, part))
        entry["bytes_before"] = info.num_bytes
        with atomic_write(target) as partial:
            how, new = write_small(info, short_side, partial, coding)
    except VideoReadError as error:
        return entry | {"how": "unreadable", "detail": str(error)}
    return entry | {"how": how, "target": target, "bytes_after": new.num_bytes} | table_values(new)


def write_small(
    info: VideoInfo, short_side: int, target: Path, coding: Coding = "mpeg4"
) -> tuple[str, VideoInfo]:
    """Re-encode a video, or copy it if it is fine; return "encoded" or "copied", and its probe.

    Raises VideoReadError if it cannot be read, or frames are missing in the new file.
    """
    how = "copied" if _is_fine(info, short_side, coding) else "encoded"
    if how == "copied":
        shutil.copyfile(info.path, target)
    else:
        _encode(info, short_side, target, coding)
    new = check_video(target)
    if how == "encoded" and not new.keyframe_pts:
        # Small still pictures take so few bytes in MPEG-4 that a packet might as well hold none
        # (`packets.scan`), and then the reader could not jump to keyframes.
        _encode(info, short_side, target, "h264")
        new = check_video(target)
    if new.num_frames != info.num_frames:
        why = f"expected {info.num_frames} frames in the new file, got {new.num_frames}"
        raise VideoReadError(f"{info.path}: {why}", str(info.path))
    return how, new


def _is_fine(info: VideoInfo, short_side: int, coding: Coding) -> bool:
    """Tell whether a video is as fast to read as if re-encoded, and plays wherever that would."""
    is_playable = info.codec in ("h264", coding) and "mp4" in info.container.split(",")
    if not (is_playable and info.decord_exact and min(info.size) <= short_side):
        return False
    keyframes = [*np.searchsorted(info.pts, info.keyframe_pts), info.num_frames]
    return np.diff(keyframes).max() <= CODINGS[coding]["gop"]


def _encode(info: VideoInfo, short_side: int, target: Path, coding: Coding) -> None:
    """Write all frames upright, with even height and width; times, aspect and colours stay."""
    height, width = (max(2, side // 2 * 2) for side in smaller_size(info.size, short_side))

    def frames() -> Iterator[np.ndarray]:
        for begin in range(0, info.num_frames, FRAMES_AT_ONCE):
            block = range(begin, min(begin + FRAMES_AT_ONCE, info.num_frames))
            yield from read_frames(info, block, (height, width)).permute(0, 2, 3, 1).numpy()

    showing = showing_of(info)
    if showing.pixel_aspect is not None:  # rounding to even sides changes the aspect a little
        stretch = Fraction(info.size[1] * height, info.size[0] * width)
        showing = replace(showing, pixel_aspect=showing.pixel_aspect * stretch)
    WRITERS[coding](target, frames(), showing, **CODINGS[coding])


def _write_tables(
    old: DataSet, done: dict[str, dict], targets: dict[str, str], out: Path
) -> Tables:
    """Write the new manifest and its report."""
    table, problems = old.rows.copy(), []
    for row in table.itertuples():
        if row.status != "ok":
            problems.append((row.status, row.split, row.path, f"as in {old.path}"))
        elif (entry := done[row.clip])["how"] == "unreadable":
            table.at[row.Index, "status"] = "unreadable"
            problems.append(("unreadable", row.split, row.path, entry["detail"]))
        else:
            table.at[row.Index, "path"] = targets[row.clip]
            for name in ("num_frames", "fps", "height", "width", "probe"):
                table.at[row.Index, name] = entry[name]
    is_cut = table["part_start"].notna() & (table["status"] == "ok")
    table[is_cut] = times_in_source(table[is_cut]).assign(**dict.fromkeys(PART, pd.NA))
    return write_tables(old.with_rows(table.drop(columns="clip")), problems, out)
