"""Frames out of video files: exactly the frames asked for, or an error that names the file.

    frames = read_frames("clip.mp4", [0, 10, 20])    # uint8 (3, 3, H, W), RGB

A frame's index is its place in the order of showing, from 0. A compressed file does not store its
frames in that order, and only keyframes can be decoded on their own: to find frame 83 a decoder
must know where to start and which of the pictures that come out is the 83rd. Two decoders are used:

- PyAV, which jumps to the keyframe before a frame that is wanted, and looks at the time and the
  faults of every picture that it gives;
- decord, for all frames of a video at once: only there did it pay. With a keyframe every 12 (250)
  frames it took 0.84 (1.04) of PyAV's CPU time for all of 300 frames of 340x256, but 1.26 (1.12)
  for every second one, and 1.7 (1.4) for 16. It gives wrong frames without a word for some kinds
  of files (avi with B-frames, mp4 cut without encoding again, open GOPs, VP8 with hidden frames,
  MPEG-TS), fails for others (HEVC), and says nothing of damage. So it gets only files of which
  none of this is known (`VideoInfo.reasons`), and every frame of which was decoded before without
  a fault (`check_video`). PyAV takes over after any error of decord, and where it is not installed.

How much damage can be noticed depends on the file. What was cut off is, in all but MPEG-TS. Of
flipped bits, H.264 and VP9 give most away, VP8 and HEVC few: what comes out may then be another
picture, which no decoder here complains of. Reading looks no further than the frames asked for;
`check_video` decodes all, and so notices more.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from blvnet_lab.data.probing import (
    HIDDEN,
    JPEG_FOLDER,
    VideoInfo,
    VideoReadError,
    decode_jpeg,
    file_url,
    known_video,
    open_video,
    pack_info,
    probe_video,
    refuse_damage,
    unpack_info,
    unreadable,
    usable_video,
)

__all__ = [
    "VideoInfo",
    "VideoReadError",
    "check_video",
    "known_video",
    "pack_info",
    "probe_video",
    "read_frames",
    "unpack_info",
    "usable_video",
]


def read_frames(
    path: str | os.PathLike[str] | VideoInfo,
    indices: Sequence[int] | np.ndarray | torch.Tensor,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The frames `indices` of a video: uint8 (T, 3, H, W), RGB, in the order asked.

    path: of the file (or the folder of JPEGs); or what `probe_video` found, which saves looking
        again.
    indices: integers from 0 to the number of frames - 1; they may repeat.
    size: (height, width) in pixels to resize to while decoding; `VideoInfo.size` if None.

    In memory the colours of a pixel lie side by side (channels-last), as they were decoded: crops
    and resizing are quickest so.

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
    frames = None
    if info.container == JPEG_FOLDER:
        frames = _read_jpegs(info, wanted, size)
    elif _is_for_decord(info, wanted):
        frames = _read_with_decord(info, wanted, size)
    if frames is None:
        frames = _read_with_pyav(info, wanted, size)
    return torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, H, W, 3) before


def check_video(path: str | os.PathLike[str] | VideoInfo) -> VideoInfo:
    """Decodes every frame once; what `probe_video` found, with `whole` set.

    Raises VideoReadError if the video is cut short, or one of its frames cannot be decoded.
    """
    info = refuse_damage(path if isinstance(path, VideoInfo) else probe_video(path))
    if info.container == JPEG_FOLDER:
        for index in range(info.num_frames):
            _read_jpegs(info, [index], None)
        return replace(info, whole=True)
    found, cause = set(), None
    with open_video(info.path) as (container, stream):
        try:
            for index, _ in _walk(container, stream, info, range(info.num_frames)):
                found.add(index)
        except av.error.FFmpegError as error:
            cause = error
    _must_have(info, range(info.num_frames), found, cause)
    return replace(info, whole=True)


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


def _is_for_decord(info: VideoInfo, wanted: list[int]) -> bool:
    """Whether decord pays, and can be trusted: see the top of this file."""
    return info.whole and info.decord_exact and len(set(wanted)) == info.num_frames


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
        reader = decord.VideoReader(file_url(info.path), height=height, width=width, num_threads=1)
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


# --- Folders of JPEGs ---------------------------------------------------------------------------


def _read_jpegs(info: VideoInfo, indices: list[int], size: tuple[int, int] | None) -> np.ndarray:
    """uint8 (T, H, W, 3). Raises VideoReadError for a picture that is missing or damaged."""
    frames, scaler = {}, VideoReformatter()
    for index in sorted(set(indices)):
        picture = decode_jpeg(info.path, index)
        if (picture.height, picture.width) != info.size:
            raise unreadable(
                info.path,
                f"frame {index} is {picture.height} x {picture.width} and the first one "
                f"{info.size[0]} x {info.size[1]}",
            )
        frames[index] = _to_rgb(picture, scaler, size or info.size, 0)
    return np.stack([frames[index] for index in indices])


# --- Decoding with PyAV -------------------------------------------------------------------------


def _read_with_pyav(
    info: VideoInfo, indices: list[int], size: tuple[int, int] | None
) -> np.ndarray:
    """uint8 (T, H, W, 3). Raises VideoReadError if one of the frames cannot be decoded."""
    wanted = sorted(set(indices))
    scaler = VideoReformatter()  # one for all frames: a new one each time would start threads
    for walk in (_jump, _walk) if info.keyframe_pts else (_walk,):
        frames, cause = {}, None
        with open_video(info.path) as (container, stream):
            try:
                for index, picture in walk(container, stream, info, wanted):
                    if index in wanted:
                        frames[index] = _to_rgb(picture, scaler, size or info.size, info.turns)
            except av.error.FFmpegError as error:
                cause = error
        if len(frames) == len(wanted):
            break
    _must_have(info, wanted, frames.keys(), cause)
    return np.stack([frames[index] for index in indices])


def _must_have(
    info: VideoInfo,
    wanted: Sequence[int],
    found: Collection[int | None],
    cause: av.error.FFmpegError | None,
) -> None:
    lacking = [index for index in wanted if index not in found]
    if lacking:
        raise unreadable(
            info.path,
            f"frame {lacking[0]} of its {info.num_frames} cannot be decoded without a fault"
            + (f", nor can {len(lacking) - 1} others" if lacking[1:] else ""),
        ) from cause


def _pictures(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """(picture, does it stand on its own), from here to the end.

    VP9 goes to libvpx, as quick as FFmpeg's own decoder: of flipped bits that made that one give
    garbage without a word, it noticed most. Builds of it may be for 8 bits only.
    """
    coder = stream.codec_context
    is_vp9 = coder.codec.canonical_name == "vp9" and coder.format is not None
    if not is_vp9 or coder.format.components[0].bits != 8 or VPX not in av.codecs_available:
        yield from ((picture, picture.key_frame) for picture in container.decode(stream))
        return
    decoder, keyframes = av.CodecContext.create(VPX, "r"), set()
    decoder.thread_count = 1
    for packet in container.demux(stream):
        if packet.is_keyframe:
            keyframes.add(packet.pts)
        for picture in decoder.decode(packet if packet.size else None):
            yield picture, picture.pts in keyframes


VPX = "libvpx-vp9"


def _decode(
    container: InputContainer,
    stream: VideoStream,
    index_of: Mapping[int, int],
    expected: int,
    intact: bool,
) -> Iterator[tuple[int | None, av.VideoFrame, bool]]:
    """(index, picture, is it intact) from here to the end; frame `expected` should come first.

    `intact`: whether it need not be a keyframe, since the one before it is not shown.
    """
    for picture, is_key in _pictures(container, stream):
        # Without times of their own, frames can only be counted.
        index = index_of.get(picture.pts) if index_of else expected
        # What follows a damaged picture is built on it, up to the next keyframe. A picture that
        # comes out of turn is a sign of damage, and so are the ones that are left out before it.
        intact = (intact and index == expected) or is_key
        intact = intact and index is not None and not picture.is_corrupt
        yield index, picture, intact
        expected = (expected if index is None else index) + 1


def _walk(
    container: InputContainer, stream: VideoStream, info: VideoInfo, wanted: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(index, picture) for all intact ones from the beginning to the last one wanted."""
    index_of = {pts: index for index, pts in enumerate(info.pts or ())}
    from_hidden = any(HIDDEN in reason for reason in info.reasons)
    for index, picture, intact in _decode(container, stream, index_of, 0, from_hidden):
        if intact:
            yield index, picture
        if index == wanted[-1]:
            return


def _jump(
    container: InputContainer, stream: VideoStream, info: VideoInfo, wanted: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(index, picture) for the wanted ones, with a jump wherever a keyframe lies on the way.

    Jumps land where the container's index says, which may be wrong; a picture counts only if its
    time is the one looked for. This stops at the first that is not.
    """
    index_of = {pts: index for index, pts in enumerate(info.pts)}
    pictures, now = iter(()), -1
    for target in wanted:
        place = max(0, bisect_right(info.keyframe_pts, info.pts[target]) - 1)
        keyframe = info.keyframe_pts[place]
        # A keyframe that is not shown can only be the first, before the first frame that is.
        start, is_hidden = index_of.get(keyframe, 0), keyframe not in index_of
        if now < 0 or start > now:
            container.seek(keyframe, stream=stream)
            pictures = _decode(container, stream, index_of, start, is_hidden)
        for index, picture, intact in pictures:
            now = now if index is None else index
            if index is None or index >= target:
                if index != target or not intact:
                    return
                yield index, picture
                break
        else:
            return  # the end of the file


def _to_rgb(
    picture: av.VideoFrame, scaler: VideoReformatter, size: tuple[int, int], turns: int
) -> np.ndarray:
    """uint8 (H, W, 3), upright after so many quarter turns, of `size` (height, width)."""
    height, width = size[::-1] if turns % 2 else size
    rgb = scaler.reformat(
        picture, width, height, format="rgb24", interpolation="BICUBIC", threads=1
    ).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, turns))
