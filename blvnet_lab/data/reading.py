"""Frames out of video files: exactly the frames asked for, or an error that names the file.

    frames = read_frames("clip.mp4", [0, 10, 20])    # uint8 (3, 3, H, W), RGB

In a file of a plain kind (`probing`), PyAV jumps to the keyframe before a wanted frame and goes by
the time of every picture; in all others it decodes from the beginning and counts.

A missing end is noticed in all files but MPEG-TS; flipped bits mostly in H.264 and VP9, but rarely
in VP8 and HEVC. Reading looks no further than the frames asked for, `check_video` at all of them.
"""

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import av
import numpy as np
import torch

from blvnet_lab.data.decoding import Opened, ToRGB, decode_picture, open_video, pictures, unreadable
from blvnet_lab.data.probing import VideoInfo, probe_video, refuse_damage

Video = str | os.PathLike[str] | VideoInfo  # a path, or what `probe_video` found
Indices = Sequence[int] | np.ndarray | torch.Tensor


def read_frames(path: Video, indices: Indices, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Read the frames `indices` of a video: uint8 (T, 3, H, W), RGB, in the order asked for.

    In memory a pixel's colours lie side by side (channels-last), which crops and resizes fastest.

    path: the file's (or the folder of pictures'), or what `probe_video` found.
    size: (height, width) in pixels to resize to while decoding; `VideoInfo.size` if None.

    Raises VideoReadError for a file that cannot be read, IndexError for an index outside the video.
    """
    info = path if isinstance(path, VideoInfo) else probe_video(path)
    wanted = check_indices(info, indices)
    ordered, to_rgb = sorted(set(wanted)), ToRGB(size or info.size)
    frames = np.empty((len(ordered), *to_rgb.size, 3), np.uint8)
    for place, rgb in enumerate(decode_frames(info, ordered, to_rgb)):
        frames[place] = rgb
    if wanted != ordered:
        frames = frames[np.searchsorted(ordered, wanted)]
    return torch.from_numpy(frames).permute(0, 3, 1, 2)  # from (T, H, W, 3)


def check_video(path: Video) -> VideoInfo:
    """Decode every frame once; return what `probe_video` found, with `whole` set.

    Raises VideoReadError if the video is cut short or one of its frames cannot be decoded.
    """
    info = refuse_damage(path if isinstance(path, VideoInfo) else probe_video(path))
    if not info.whole or info is path:  # else probing has just decoded it
        for _ in decode_frames(info, range(info.num_frames), lambda *_: None):
            pass
    return replace(info, whole=True)


def check_indices(info: VideoInfo, indices: Indices) -> list[int]:
    """Return the indices as a list; raise IndexError for one outside the video."""
    array = np.asarray(indices)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise TypeError(f"expected integers, such as [0, 5, 10], as frame indices, got {indices!r}")
    if outside := [index for index in array.tolist() if not 0 <= index < info.num_frames]:
        there = f"{info.num_frames} frames, numbered 0 to {info.num_frames - 1}"
        raise IndexError(f"{info.path}: asked for frames {outside}, but the video has {there}")
    return array.tolist()


def decode_frames(
    info: VideoInfo, wanted: Sequence[int], use: Callable, with_motion: bool = False
) -> Iterator[Any]:
    """Yield `use(picture, orientation)` for each frame of `wanted`, which ascend."""
    if info.first_picture:
        for index in wanted:  # each has its own orientation
            picture, orientation, size = decode_picture(info.path, info.first_picture, index)
            if size != info.size:
                sizes = "{} x {} and the first one {} x {}".format(*size, *info.size)
                raise unreadable(info.path, f"frame {index} is {sizes}")
            yield use(picture, orientation)
        return
    num_found = 0
    # Jumps land where the file's index says, which may be wrong: then everything is decoded.
    for jumps in (True, False) if info.keyframe_pts else (False,):
        cause = None
        with open_video(info.path, not info.joined, with_motion) as opened:
            try:
                for picture in _intact(opened, info, wanted[num_found:], jumps):
                    yield use(picture, info.orientation)
                    num_found += 1
            except av.error.FFmpegError as error:
                cause = error
        if num_found == len(wanted):
            return
    found = f"frame {wanted[num_found]} of its {info.num_frames} cannot be decoded without a fault"
    raise unreadable(info.path, found) from cause


def _intact(
    opened: Opened, info: VideoInfo, wanted: Sequence[int], jumps: bool
) -> Iterator[av.VideoFrame]:
    """Yield the pictures of the wanted frames, up to the first that does not come out intact."""
    container, stream = opened
    index_of = {pts: index for index, pts in enumerate(info.pts or ())}
    decoded, sought, now = pictures(container, stream), -math.inf, -1
    expected, intact = -info.first, True
    for target in wanted:
        if jumps:
            place = max(0, bisect_right(info.keyframe_pts, info.pts[target]) - 1)
            keyframe = info.keyframe_pts[place]
            # Only the first keyframe may be hidden, and it precedes the first frame shown.
            start = index_of.get(keyframe, -info.lead)
            if now < 0 or start > now + 1:
                container.seek(keyframe, stream=stream)
                decoded, sought = pictures(container, stream), keyframe
                expected, intact = start, True
        while now < target:
            picture, is_key = next(decoded, (None, False))
            if picture is None:
                return  # the end of the file
            if (picture.pts or 0) < sought:
                continue  # the jump led to an earlier keyframe, as in an mp4 with an edit list
            # Frames before a part are counted, and so are all frames of files not of plain kinds.
            index = expected if expected < 0 or not index_of else None
            index = index_of.get(picture.pts, index)
            # What follows a damaged picture builds on it, up to the next keyframe. A picture that
            # comes out of turn is a sign of damage, as are those left out before it.
            intact = (intact and index == expected) or is_key
            intact = intact and index is not None and (not picture.is_corrupt or info.joined)
            expected = (expected if index is None else index) + 1
            now = now if index is None else index
        if now != target or not intact:
            return
        yield picture
