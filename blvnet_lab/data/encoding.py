"""Writes H.264 files, the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from blvnet_lab.data.decoding import file_url


def write_h264(
    path: str | Path, frames: Iterable[np.ndarray], fps: Fraction | int, *, gop: int, x264: str
) -> None:
    """Write uint8 frames (H, W, 3), RGB, as H.264 in mp4; H and W even.

    One thread, and no look-ahead that depends on leftovers in memory (mbtree): what x264 otherwise
    does for quality would make files differ from run to run. Groups of pictures are closed and of
    equal length, without B-frames: see `prepare` for why.

    Args:
        gop: frames from keyframe to keyframe.
        x264: further parameters of x264, "name=value:name=value".
    """
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    pictures = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes=0:mbtree=0"
    options = {"preset": "veryfast", "threads": "1", "x264-params": f"{x264}:{pictures}"}
    reformatter, stream = VideoReformatter(), None
    with av.open(file_url(path), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        for array in frames:
            if stream is None:
                stream = file.add_stream("libx264", rate=fps, options=options)
                stream.height, stream.width = array.shape[:2]
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame = reformatter.reformat(frame, format="yuv420p", threads=1, interpolation=exact)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
