"""Frames out of video files: exactly the frames asked for, or an error that names the file.

    frames = read_frames("clip.mp4", [0, 10, 20])    # uint8 (3, 3, H, W), RGB

A frame's index is its place in the order of showing, from 0. A compressed file does not store its
frames in that order, and only keyframes can be decoded on their own: to find frame 83 a decoder
must know where to start and which of the pictures that come out is the 83rd. Where the file is of a
plain kind (`probing`), PyAV jumps to the keyframe before a frame that is wanted, and looks at the
time of every picture that it gives; of all other kinds it decodes from the beginning, and counts.
What FFmpeg's own program shows is right: which frames, in which order and colours, which way up.

decord is a second reader, for those who ask for it: `decord_reader` says why it is not the first.

How much damage can be noticed depends on the file. What was cut off is, in all but MPEG-TS. Of
flipped bits, H.264 and VP9 give most away, VP8 and HEVC few: what comes out may then be another
picture, which no decoder here complains of. Reading looks no further than the frames asked for;
`check_video` decodes all, and so notices more.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

from blvnet_lab.data.decoding import (
    ToRGB,
    VideoReadError,
    open_video,
    orientation_of,
    pictures,
    unreadable,
)
from blvnet_lab.data.picture_folders import decode_picture, picture_name
from blvnet_lab.data.probing import (
    PICTURE_FOLDER,
    VideoInfo,
    known_video,
    pack_info,
    probe_video,
    refuse_damage,
    unpack_info,
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

    path: of the file (or the folder of pictures); or what `probe_video` found, which saves looking
        again.
    indices: integers from 0 to the number of frames - 1; they may repeat.
    size: (height, width) in pixels to resize to while decoding; `VideoInfo.size` if None.

    In memory the colours of a pixel lie side by side (channels-last), as they were decoded: crops
    and resizing are quickest so.

    Raises VideoReadError for a file that cannot be read, IndexError for an index outside the video,
    ValueError or TypeError for indices or a size that make no sense.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"expected size as (height, width), both at least 1, got {size}")
    wanted = _as_integers(indices)
    info = path if isinstance(path, VideoInfo) else probe_video(path)
    wanted = check_indices(info, wanted)
    read = _read_pictures if info.container == PICTURE_FOLDER else _read_video
    frames = read(info, wanted, size)
    return torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, H, W, 3) before


def check_video(path: str | os.PathLike[str] | VideoInfo) -> VideoInfo:
    """Decodes every frame once; what `probe_video` found, with `whole` set.

    Raises VideoReadError if the video is cut short, or one of its frames cannot be decoded.
    """
    info = refuse_damage(path if isinstance(path, VideoInfo) else probe_video(path))
    if info.whole and info is not path:
        return info  # probing has just decoded it
    if info.container == PICTURE_FOLDER:
        for index in range(info.num_frames):
            _read_pictures(info, [index], None)
        return replace(info, whole=True)
    found, cause = set(), None
    with open_video(info.path, strict=not info.joined) as (container, stream):
        try:
            for index, _ in _walk(container, stream, info, range(info.num_frames)):
                found.add(index)
        except av.error.FFmpegError as error:
            cause = error
    _must_have(info, range(info.num_frames), found, cause)
    return replace(info, whole=True)


def check_indices(info: VideoInfo, indices: Sequence[int] | np.ndarray | torch.Tensor) -> list[int]:
    """Return the indices as a list; raise IndexError for one outside the video."""
    wanted = _as_integers(indices)
    outside = [index for index in wanted if not 0 <= index < info.num_frames]
    if outside:
        raise IndexError(
            f"{info.path}: asked for frames {outside}, but the video has {info.num_frames} frames, "
            f"numbered 0 to {info.num_frames - 1}"
        )
    return wanted


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


# --- Folders of pictures ------------------------------------------------------------------------


def _read_pictures(info: VideoInfo, indices: list[int], size: tuple[int, int] | None) -> np.ndarray:
    """uint8 (T, H, W, 3). Raises VideoReadError for a picture that is missing or damaged."""
    frames = {}
    for index in sorted(set(indices)):
        picture = decode_picture(info.path, picture_name(info.first_picture, index))
        to_rgb = ToRGB(size or info.size, orientation_of(info.path, picture))
        height, width = to_rgb.upright(picture.height, picture.width)
        if (height, width) != info.size:
            raise unreadable(
                info.path,
                f"frame {index} is {height} x {width} and the first one "
                f"{info.size[0]} x {info.size[1]}",
            )
        frames[index] = to_rgb(picture)
    return np.stack([frames[index] for index in indices])


# --- Files ---------------------------------------------------------------------------------------


def _read_video(info: VideoInfo, indices: list[int], size: tuple[int, int] | None) -> np.ndarray:
    """uint8 (T, H, W, 3). Raises VideoReadError if one of the frames cannot be decoded."""
    wanted, to_rgb = sorted(set(indices)), ToRGB(size or info.size, info.orientation)
    frames = np.empty((len(wanted), *to_rgb.size, 3), np.uint8)
    place_of = {index: place for place, index in enumerate(wanted)}
    for walk in (_jump, _walk) if info.keyframe_pts else (_walk,):
        found, cause = set(), None
        with open_video(info.path, strict=not info.joined) as (container, stream):
            try:
                for index, picture in walk(container, stream, info, wanted):
                    if index in place_of:
                        frames[place_of[index]] = to_rgb(picture)
                        found.add(index)
            except av.error.FFmpegError as error:
                cause = error
        if len(found) == len(wanted):
            break
    _must_have(info, wanted, found, cause)
    return frames if indices == wanted else frames[[place_of[index] for index in indices]]


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


def _decode(
    decoded: Iterator[tuple[av.VideoFrame, bool]],
    index_of: Mapping[int, int],
    expected: int,
    is_joined: bool = False,
) -> Iterator[tuple[int | None, av.VideoFrame, bool]]:
    """(index, picture, is it intact) of those decoded; frame `expected` should come first."""
    intact = True
    for picture, is_key in decoded:
        # Of other than the plain kinds of files frames are counted.
        index = index_of.get(picture.pts) if index_of else expected
        # What follows a damaged picture is built on it, up to the next keyframe. A picture that
        # comes out of turn is a sign of damage, and so are the ones that are left out before it.
        intact = (intact and index == expected) or is_key
        intact = intact and index is not None and (not picture.is_corrupt or is_joined)
        yield index, picture, intact
        expected = (expected if index is None else index) + 1


def _walk(
    container: InputContainer, stream: VideoStream, info: VideoInfo, wanted: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(index, picture) for all intact ones from the beginning to the last one wanted."""
    index_of = {pts: index for index, pts in enumerate(info.pts or ())}
    decoded = pictures(container, stream)
    for index, picture, intact in _decode(decoded, index_of, 0, info.joined):
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
    decoded, now = iter(()), -1
    for target in wanted:
        place = max(0, bisect_right(info.keyframe_pts, info.pts[target]) - 1)
        keyframe = info.keyframe_pts[place]
        # A keyframe that is not shown can only be the first, before the first frame that is.
        start = index_of.get(keyframe, 0)
        if now < 0 or start > now:
            container.seek(keyframe, stream=stream)
            decoded = _decode(pictures(container, stream), index_of, start)
        for index, picture, intact in decoded:
            now = now if index is None else index
            if index is None or index >= target:
                if index != target or not intact:
                    return
                yield index, picture
                break
        else:
            return  # the end of the file
