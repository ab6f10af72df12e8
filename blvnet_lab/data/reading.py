"""Frames out of video files: exactly the frames asked for, or an error that names the file.

    frames = read_frames("clip.mp4", [0, 10, 20])    # uint8 (3, 3, H, W), RGB
    info = probe_video("clip.mp4")                   # how many frames there are, their size, ...

A frame's index is its place in the order of showing, from 0. A compressed file does not store its
frames in that order, and only keyframes can be decoded on their own: to find frame 83 a decoder
must know where to start and which of the pictures that come out is the 83rd. Decoders differ in
how well they do this, so two are used:

- decord, where it was found exact: H.264, VP9, AV1, MPEG-4 and MJPEG in mp4, mkv, webm and avi;
- PyAV elsewhere, as decord gave wrong frames without a word (avi with B-frames, mp4 cut without
  encoding again, open GOPs, VP8 with hidden frames, MPEG-TS) or failed (HEVC). PyAV also takes
  over after any error of decord, and where decord is not installed.

`VideoInfo.reasons` says why a file is not left to decord.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import av
import numpy as np
import torch
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

DECORD_CODECS = {"h264", "vp9", "av1", "mpeg4", "mjpeg"}
DECORD_CONTAINERS = {"mp4", "matroska", "webm", "avi"}


class VideoReadError(OSError):
    """A video file that cannot be read; the message says what was found and what helps.

    path: the file. The decoder's own error, if there was one, is the `__cause__`.
    """

    # `path` has a default since data loaders send errors between processes by message alone.
    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def _unreadable(
    path: str, found: str, remedy: str = "fetch or make the file again, or leave it out"
) -> VideoReadError:
    return VideoReadError(f"{path}: expected a video file, but {found}; {remedy}", path)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, found without decoding it (but for its first picture)."""

    path: str
    num_frames: int  # that are shown and complete
    size: tuple[int, int]  # (height, width) in pixels as shown, after any rotation
    fps: float  # frames per second, on average; 0.0 if the file does not say
    codec: str  # "h264", "vp9", ...
    container: str  # FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2"
    reasons: tuple[str, ...]  # why decord cannot be trusted with this file; empty if it can
    # When each frame is shown, ascending, in the file's own units; None where that is in doubt.
    pts: tuple[int, ...] | None
    keyframe_pts: tuple[int, ...]  # where decoding may start; empty: only at the file's beginning

    @property
    def decord_exact(self) -> bool:
        return not self.reasons

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps if self.fps else 0.0


def read_frames(
    path: str | os.PathLike[str] | VideoInfo,
    indices: Sequence[int] | np.ndarray | torch.Tensor,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The frames `indices` of a video: uint8 (T, 3, H, W), RGB, in the order asked.

    path: of the file; or what `probe_video` found in it, which saves looking again.
    indices: integers from 0 to the number of frames - 1; they may repeat.
    size: (height, width) in pixels to resize to while decoding; `VideoInfo.size` if None.

    Raises VideoReadError for a file that cannot be read, IndexError for an index outside the video,
    ValueError or TypeError for indices or a size that make no sense.
    """
    wanted = _as_integers(indices)
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"expected size as (height, width), both at least 1, got {size}")
    info = path if isinstance(path, VideoInfo) else probe_video(path)
    outside = [index for index in wanted if not 0 <= index < info.num_frames]
    if outside:
        raise IndexError(
            f"{info.path}: asked for frames {outside}, but the video has {info.num_frames} frames, "
            f"numbered 0 to {info.num_frames - 1}"
        )
    frames = _read_with_decord(info, wanted, size) if info.decord_exact else None
    if frames is None:
        frames = _read_with_pyav(info, wanted, size)
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()  # (T, H, W, 3) before


def _as_integers(indices: Sequence[int] | np.ndarray | torch.Tensor) -> list[int]:
    array = np.asarray(indices.tolist() if isinstance(indices, torch.Tensor) else indices)
    if array.ndim == 1 and array.size == 0:
        raise ValueError("expected at least one frame index, got none")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"expected a list, array or tensor of integers, such as [0, 5, 10], got {indices!r}; "
            "round or convert the frame indices first"
        )
    return array.tolist()


# --- Looking into a file ------------------------------------------------------------------------


@contextmanager
def _open(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened file and its main video stream; closes both."""
    if not os.path.isfile(path):
        found = "it is a folder" if os.path.isdir(path) else "it does not exist"
        raise _unreadable(path, found, "check the path")
    try:
        # Titles and comments in a file are not always UTF-8; they do not matter here.
        container = av.open(path, metadata_errors="ignore")
    except (av.error.FFmpegError, OSError) as error:
        found = f"its {os.path.getsize(path)} bytes cannot be opened as one ({error.strerror})"
        raise _unreadable(path, f"{found}: it is something else, or cut short") from error
    with container:
        stream = container.streams.best("video")
        # An audio file may hold its cover as a "video" of one picture.
        if stream is None or stream.disposition & Disposition.attached_pic:
            raise _unreadable(path, "it holds no pictures, only sound or data")
        # FFmpeg opens a picture file as a video of one frame. A picture named .mp4 is a mistake
        # in some download, and a network should not learn from it.
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise _unreadable(path, f"it is a still picture ({stream.name})")
        if stream.codec_context is None:
            raise _unreadable(path, "there is no decoder for it", "encode it again as H.264")
        stream.thread_type = "NONE"  # a data loader has its own workers
        yield container, stream


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads the file's packets (its compressed pictures) and decodes only the first.

    Raises VideoReadError if there is no video in it. A file that is cut short is described as far
    as it is complete, with a reason that says so.
    """
    path = os.fsdecode(path)
    with _open(path) as (container, stream):
        packets = _scan(container, stream)
        name, codec = container.format.name, stream.codec_context.codec.canonical_name
        if not packets.shown:
            raise _unreadable(path, "there is not one complete frame in it")
        rotation = _rotation(stream, packets.first)
        size = (stream.codec_context.height, stream.codec_context.width)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        reorders = stream.codec_context.has_b_frames

    times = [pts for pts, _ in packets.shown]
    timed = None not in times + packets.keyframes and len(set(times)) == len(times)
    doubts = []  # whether decoding may start at a keyframe and finds the right frame
    if not timed:
        doubts.append("frames without a time of their own")
    elif name == "avi" and (reorders or times != sorted(times)):
        timed = False  # avi holds no times, and those that FFmpeg works out are wrong here
        doubts.append("avi with B-frames")
    else:
        order = sorted(range(len(times)), key=times.__getitem__)
        if any(is_key and order[i] != i for i, (_, is_key) in enumerate(packets.shown)):
            doubts.append("open GOP: frames shown before a keyframe are stored after it")
    if rotation is None:
        doubts.append("does not begin with a picture that can be decoded on its own")
    if not set(name.split(",")) & DECORD_CONTAINERS:
        doubts.append(f"decord was not found exact on the container {name}")
    reasons = [packets.damage] if packets.damage else []
    if packets.num_hidden:
        reasons.append(f"{packets.num_hidden} hidden frames, as after a cut without encoding again")
    if codec not in DECORD_CODECS:
        reasons.append(f"decord was not found exact on the codec {codec}")
    return VideoInfo(
        path=path,
        num_frames=len(times),
        size=size[::-1] if rotation in (90, 270) else size,
        fps=fps,
        codec=codec,
        container=name,
        reasons=(*reasons, *doubts),
        pts=tuple(sorted(times)) if timed else None,
        keyframe_pts=() if doubts else tuple(sorted(packets.keyframes)),
    )


@dataclass
class _Packets:
    """A stream's packets (compressed pictures) as far as they matter here, in the file's order."""

    first: av.Packet | None = None
    shown: list[tuple[int | None, bool]] = field(default_factory=list)  # (pts, is it a keyframe)
    keyframes: list[int | None] = field(default_factory=list)  # their pts, the hidden ones' too
    num_hidden: int = 0  # to be decoded, but not shown
    damage: str = ""


def _scan(container: InputContainer, stream: VideoStream) -> _Packets:
    """Reads the stream's packets up to the first that is damaged."""
    found, last_dts = _Packets(), None
    is_vp8 = stream.codec_context.codec.canonical_name == "vp8"
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # marks the end
            if packet.is_corrupt:
                found.damage = "cut short or damaged"
                break
            found.first = found.first or av.Packet(bytes(packet))
            last_dts = packet.dts
            if packet.is_keyframe:
                found.keyframes.append(packet.pts)
            # Hidden: what an edit list cuts off, and VP8's mere references (bit 4 is not set).
            if packet.is_discard or (is_vp8 and not bytes(packet)[0] & 16):
                found.num_hidden += 1
            else:
                found.shown.append((packet.pts, packet.is_keyframe))
    except av.error.FFmpegError as error:
        found.damage = f"damaged ({error.strerror})"
    # mp4 and avi have an index of all packets (other containers, of keyframes at most).
    if len(stream.index_entries) > len(found.shown) + found.num_hidden:
        found.damage = found.damage or "cut short"
    if found.damage and last_dts is not None:
        # The lost packets may hold frames that belong between the last ones. No frame is shown
        # before it is decoded (pts >= dts), so up to the last dts none is missing.
        found.shown = [(pts, key) for pts, key in found.shown if pts is None or pts <= last_dts]
    return found


def _rotation(stream: VideoStream, packet: av.Packet) -> int | None:
    """How far to turn pictures for showing: 0, 90, 180 or 270 degrees counter-clockwise.

    PyAV tells it on decoded pictures only. None if this one, the first, cannot be decoded alone.
    """
    try:
        pictures = stream.decode(packet) + stream.decode(None)
    except av.error.FFmpegError:
        return None
    return _quarter_turns(pictures[0]) * 90 if pictures else None


def _quarter_turns(picture: av.VideoFrame) -> int:
    return round(picture.rotation / 90) % 4


# --- Decoding with decord -----------------------------------------------------------------------


@functools.cache
def _import_decord() -> types.ModuleType | None:
    """The decord module, or None where it does not import (then PyAV reads everything).

    On import, decord2 3.x loads every library of the `nvidia` packages that come with CUDA builds
    of PyTorch, some 500 MB in each data loader's worker, for a GPU decoder that is not used here.
    It looks for them with `find_spec("nvidia")`; an empty module of that name makes it find none.
    """
    nvidia = sys.modules.get("nvidia")
    sys.modules["nvidia"] = types.ModuleType("nvidia")
    try:
        import decord.logging
    except (ImportError, OSError):  # not installed, or built for another system
        return None
    finally:
        del sys.modules["nvidia"]
        if nvidia is not None:
            sys.modules["nvidia"] = nvidia
    decord.logging.set_level(decord.logging.QUIET)  # its errors come as exceptions too
    return decord


def _read_with_decord(
    info: VideoInfo, indices: list[int], size: tuple[int, int] | None
) -> np.ndarray | None:
    """uint8 (T, H, W, 3), or None if decord is missing, fails, or does not see the same video."""
    decord = _import_decord()
    if decord is None:
        return None
    height, width = size or (-1, -1)
    try:
        # One thread: more gain nothing at these sizes. The reader lives for this call only: it
        # goes on decoding in the background, and hangs if a data loader's worker inherits it.
        reader = decord.VideoReader(info.path, height=height, width=width, num_threads=1)
        if len(reader) != info.num_frames:
            return None
        starts = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        if (np.diff(starts) <= 0).any():
            return None
        batch = reader.get_batch(indices)
    except (decord.DECORDError, RuntimeError, AssertionError, IndexError, UnicodeError):
        return None  # among others, some small widths (16, 24, 32, 48, 96, 144) always fail
    # A notebook may have called decord.bridge.set_bridge("torch"); do not depend on it.
    frames = batch.numpy() if isinstance(batch, torch.Tensor) else batch.asnumpy()
    return frames if frames.shape == (len(indices), *(size or info.size), 3) else None


# --- Decoding with PyAV -------------------------------------------------------------------------


def _read_with_pyav(
    info: VideoInfo, indices: list[int], size: tuple[int, int] | None
) -> np.ndarray:
    """uint8 (T, H, W, 3). Raises VideoReadError if one of the frames cannot be decoded."""
    wanted = sorted(set(indices))
    scaler = VideoReformatter()  # one for all frames: a new one each time would start threads
    for walk in (_jump, _walk) if info.keyframe_pts else (_walk,):
        frames, num_decoded, cause = {}, 0, None
        with _open(info.path) as (container, stream):
            try:
                for index, picture in walk(container, stream, info, wanted):
                    num_decoded += 1
                    if index in wanted:
                        frames[index] = _to_rgb(picture, scaler, size or info.size)
            except av.error.FFmpegError as error:
                cause = error
        if len(frames) == len(wanted):
            break
    else:
        missing = next(index for index in wanted if index not in frames)
        raise _unreadable(
            info.path,
            f"frame {missing} cannot be decoded: of the {info.num_frames} frames that it should "
            f"hold, {num_decoded} can be",
        ) from cause
    return np.stack([frames[index] for index in indices])


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[tuple[av.VideoFrame, bool]]:
    """(picture, is it intact) from here to the end."""
    intact = True
    for picture in container.decode(stream):
        # What follows a damaged picture is built on it, up to the next keyframe.
        intact = (intact or picture.key_frame) and not picture.is_corrupt
        yield picture, intact


def _walk(
    container: InputContainer, stream: VideoStream, info: VideoInfo, wanted: list[int]
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """(index, picture) for all intact ones from the beginning to the last one wanted."""
    index_of = {pts: index for index, pts in enumerate(info.pts or ())}
    for count, (picture, intact) in enumerate(_decode(container, stream)):
        index = count if info.pts is None else index_of.get(picture.pts)
        if intact:
            yield index, picture
        if index == wanted[-1]:
            return


def _jump(
    container: InputContainer, stream: VideoStream, info: VideoInfo, wanted: list[int]
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """(index, picture) for the wanted ones, with a jump wherever a keyframe lies on the way.

    Jumps land where the container's index says, which may be wrong; a picture counts only if its
    time is the one looked for. This stops at the first that is not.
    """
    pictures, now = iter(()), None
    for index in wanted:
        target = info.pts[index]
        keyframe = info.keyframe_pts[max(0, bisect_right(info.keyframe_pts, target) - 1)]
        if now is None or keyframe > now:
            container.seek(keyframe, stream=stream)
            pictures = _decode(container, stream)
        for picture, intact in pictures:
            now = picture.pts
            if now is None or now >= target:
                if now != target or not intact:
                    return
                yield index, picture
                break
        else:
            return  # the end of the file


def _to_rgb(picture: av.VideoFrame, scaler: VideoReformatter, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3), upright, of `size` (height, width)."""
    turns = _quarter_turns(picture)
    height, width = size[::-1] if turns % 2 else size
    rgb = scaler.reformat(
        picture, width, height, format="rgb24", interpolation="BICUBIC", threads=1
    ).to_ndarray()
    return np.rot90(rgb, turns)
