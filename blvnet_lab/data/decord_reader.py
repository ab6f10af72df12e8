"""decord, the second reader: for all frames of a video at once (`reading` says when, and why)."""

from __future__ import annotations

import functools
import sys
import types

import numpy as np
import torch

from blvnet_lab.data.decoding import file_url
from blvnet_lab.data.probing import VideoInfo


@functools.cache
def import_decord() -> types.ModuleType | None:
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


def read_with_decord(
    info: VideoInfo, indices: list[int], size: tuple[int, int] | None
) -> np.ndarray | None:
    """uint8 (T, H, W, 3), or None if decord is missing, fails, or does not see the same video."""
    decord = import_decord()
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
