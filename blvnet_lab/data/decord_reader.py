"""decord, an optional second reader, which gives the same frames, bit for bit.

`read_frames` does without it: decord took 1.0 to 2.2 times as much CPU time, silently gives wrong
frames for many kinds of files (avi with B-frames, mp4 cut without re-encoding, open GOPs, VP8 with
hidden frames, MPEG-TS, rotated pictures), fails on others (HEVC), and was seen to crash and to
hang. So it is given only the kinds where none of this is known (`VideoInfo.decord_exact`).
"""

import functools
import sys
import types

import numpy as np
import torch

from blvnet_lab.data.decoding import file_url, unreadable
from blvnet_lab.data.probing import VideoInfo
from blvnet_lab.data.reading import Indices, Video, check_indices, check_video


@functools.cache
def import_decord() -> types.ModuleType:
    """Import decord; raise ImportError or OSError if it is missing or built for another system.

    decord2 3.x would load every library of the `nvidia` packages, some 500 MB in each data loader's
    worker, for a GPU decoder that is not used here. An empty module of that name hides them.
    """
    nvidia = sys.modules.get("nvidia")
    sys.modules["nvidia"] = types.ModuleType("nvidia")
    try:
        import decord.logging
    finally:
        del sys.modules["nvidia"]
        if nvidia is not None:
            sys.modules["nvidia"] = nvidia
    decord.logging.set_level(decord.logging.QUIET)  # its errors come as exceptions too
    return decord


def read_with_decord(
    path: Video, indices: Indices, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """Read frames with decord: uint8 (T, 3, H, W), the same bits as from `read_frames`.

    Raises VideoReadError if decord fails or is not exact for this kind of file, and whatever
    `check_video` raises, since decord does not report damage.
    """
    info = path if isinstance(path, VideoInfo) and path.whole else check_video(path)
    wanted, remedy = check_indices(info, indices), "use read_frames"
    if not info.decord_exact:
        raise unreadable(info.path, "decord is not exact for its kind", remedy)
    decord, (height, width) = import_decord(), size or (-1, -1)
    try:
        # One thread: more gain nothing at these sizes. The reader lives only for this call, since
        # it keeps decoding in the background, and hangs if a data loader's worker inherits it.
        reader = decord.VideoReader(file_url(info.path), height=height, width=width, num_threads=1)
        starts = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        if len(starts) != info.num_frames or (np.diff(starts) <= 0).any():
            raise unreadable(info.path, "decord sees other frames in it", remedy)
        frames = reader.get_batch(wanted)
    except (decord.DECORDError, RuntimeError, AssertionError, IndexError, UnicodeError) as error:
        # For one, some small widths (16, 24, 32, 48, 96, 144) always fail.
        raise unreadable(info.path, "decord fails", remedy) from error
    # A notebook may have called decord.bridge.set_bridge("torch").
    frames = frames if isinstance(frames, torch.Tensor) else torch.from_numpy(frames.asnumpy())
    return frames.permute(0, 3, 1, 2)
