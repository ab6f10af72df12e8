"""Write video files (mp4), reproducibly byte for byte."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from blvnet_lab.data.decoding import file_url, open_video
from blvnet_lab.data.probing import VideoInfo, frame_pts

FPS_IF_UNKNOWN = 12  # for a folder of pictures
TICKS = 60_000  # per second, the resolution of uneven times; MPEG-4 allows 65,535
Frames = Iterable[np.ndarray]
MATRICES = {1, 4, 5, 6, 7, 9, 10}  # supported colour matrices (FFmpeg's numbers); 2: unspecified


@dataclass(frozen=True)
class Showing:
    """How to show a video's frames."""

    fps: Fraction  # frames per second, on average
    times: tuple[Fraction, ...] | None = None  # of each frame, in seconds; None: evenly spaced
    pixel_aspect: Fraction | None = None  # width / height of an upright pixel; None: unspecified
    # FFmpeg's numbers: matrix, primaries, transfer characteristic, range; None: unspecified
    colours: tuple[int, int, int, int] | None = None


def showing_of(info: VideoInfo) -> Showing:
    """Find out how a video file is to be shown; a folder of pictures has a default rate."""
    fps = Fraction(info.fps).limit_denominator(1001) or Fraction(FPS_IF_UNKNOWN)
    if os.path.isdir(info.path):
        return Showing(fps)
    with open_video(info.path, strict=not info.joined) as (container, stream):
        coder, times, pts = stream.codec_context, None, frame_pts(info, container, stream)
        ticks = [] if None in pts else [late - early for early, late in pairwise(pts)]
        if ticks and min(ticks) > 0:
            fps = (len(ticks) / (sum(ticks) * stream.time_base)).limit_denominator(100_000)
            if len(set(ticks)) > 1:
                times = tuple((time - pts[0]) * stream.time_base for time in pts)
        aspect = Fraction(stream.sample_aspect_ratio or 0) or None  # PyAV 19 has its own type
        if aspect and not info.orientation[0]:  # rotated by a quarter turn
            aspect = 1 / aspect
        colours, form = None, coder.format.name if coder.format else ""
        if coder.colorspace in MATRICES or form.startswith("yuv"):
            is_full = coder.color_range == ColorRange.JPEG or form.startswith("yuvj")
            matrix = coder.colorspace if coder.colorspace in MATRICES else 2
            colours = (matrix, coder.color_primaries, coder.color_trc, 1 + is_full)
    return Showing(fps, times, aspect, colours)


def write_h264(
    path: str | Path, frames: Frames, showing: Showing | int, *, gop: int, x264: str
) -> None:
    """Write uint8 frames (H, W, 3), RGB, as H.264 in mp4; H and W even.

    Groups of pictures are closed, have `gop` frames and no B-frames. `showing` may be just a number
    of frames per second; `x264` holds further parameters, "name=value:name=value". mbtree is off,
    since it depends on leftovers in memory, so that files would differ from run to run.
    """
    groups = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes=0:mbtree=0"
    options = {"preset": "veryfast", "x264-params": f"{x264}:{groups}"}
    _write(path, frames, showing, "libx264", options)


def write_mpeg4(
    path: str | Path, frames: Frames, showing: Showing | int, *, gop: int, quantizer: int
) -> None:
    """Write uint8 frames (H, W, 3), RGB, as MPEG-4 part 2 in mp4; the rest as for `write_h264`.

    Every picture has the same `quantizer` (2 to 31, of which 2 is the finest).
    """
    bounds = dict.fromkeys(("qmin", "qmax"), str(quantizer))  # PyAV cannot set one per frame
    # Keyframes only where they are due: none is added at a scene cut.
    options = {"flags": "+qscale", "g": str(gop), "bf": "0", "sc_threshold": "1000000000"}
    _write(path, frames, showing, "mpeg4", options | bounds)


def _write(
    path: str | Path, frames: Frames, showing: Showing | int, codec: str, options: dict[str, str]
) -> None:
    showing = Showing(Fraction(showing)) if isinstance(showing, int) else showing
    colours, reformatter, stream = showing.colours, VideoReformatter(), None
    target = {"dst_color_range": colours[3]} if colours else {}
    target |= {"dst_colorspace": colours[0]} if colours and colours[0] in MATRICES else {}
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    fps = 1 / (1 / showing.fps).limit_denominator(TICKS)
    # MPEG-4 itself does not store the colour coding, so mp4 must, even if some of it is unknown.
    form = {"fflags": "+bitexact"} | ({"movflags": "+write_colr"} if codec == "mpeg4" else {})
    with av.open(file_url(path), "w", format="mp4", options=form) as file:
        for number, array in enumerate(frames):
            if stream is None:
                stream = file.add_stream(codec, rate=fps, options={"threads": "1", **options})
                stream.height, stream.width = array.shape[:2]
                stream.pix_fmt = "yuv420p"
                coder = stream.codec_context
                if showing.times is not None:
                    coder.time_base = Fraction(1, TICKS)
                if showing.pixel_aspect is not None:
                    coder.sample_aspect_ratio = showing.pixel_aspect.limit_denominator(4096)
                if colours is not None:
                    coder.colorspace, coder.color_primaries, coder.color_trc = colours[:3]
                    coder.color_range = colours[3]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame = reformatter.reformat(
                frame, format="yuv420p", threads=1, interpolation=exact, **target
            )
            if showing.times is not None:
                frame.time_base = Fraction(1, TICKS)
                frame.pts = round(showing.times[number] * TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
