#!/usr/bin/env bash
# In an mp4 that was cut by copying, a jump to the time of a keyframe lands on the keyframe before
# it: a whole group of pictures more is decoded, and the first picture is another than asked for.
#
# Why it matters: `seek` promises the keyframe at or before a time, and here the time is a
# keyframe's own. Who counts pictures from there, or takes the first for the one asked for, gets
# others than meant, all with the right times on them; who looks at the times decodes up to twice
# as much. It needs B-frames and an edit list that begins within a group, which is what
# `ffmpeg -ss ... -c copy`, LosslessCut and yt-dlp's sections leave; with some beginnings it does
# not happen, nor does it in mkv.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2), 19.0.2 (FFmpeg 9.0.2).
# Source: `mov_seek_stream` in FFmpeg's libavformat/mov.c looks for a time of decoding: the time of
# showing less `min_corrected_pts`, which an edit list makes larger than the delay of a keyframe.
# Remedy: drop pictures until the time that was asked for comes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np

GROUP = 12

with av.open("whole.mp4", "w") as out:
    stream = out.add_stream("libx264", rate=25, options={"x264-params": "scenecut=0"})
    stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
    stream.codec_context.gop_size, stream.codec_context.max_b_frames = GROUP, 2
    for k in range(10 * GROUP):
        frame = av.VideoFrame.from_ndarray(np.full((64, 128, 3), k, np.uint8), format="rgb24")
        frame.pts, frame.time_base = k, Fraction(1, 25)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def cut(target, frames):
    """Copy the packets so that the first `frames` lie before 0: an edit list hides them."""
    with av.open("whole.mp4") as file, av.open(target, "w") as out:
        source = file.streams.video[0]
        stream = out.add_stream_from_template(source)
        ticks = round(frames * Fraction(1, 25) / source.time_base)
        for packet in file.demux(source):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, stream
                out.mux(packet)


def landings(path):
    """How many frames before each keyframe, but the first, a jump to its time lands."""
    with av.open(path) as file:
        stream = file.streams.video[0]
        frame = round(Fraction(1, 25) / stream.time_base)
        keys = [packet.pts for packet in file.demux(stream) if packet.size and packet.is_keyframe]
        found = []
        for key in keys[1:]:
            file.seek(key, stream=stream)
            found.append(round((key - next(file.decode(stream)).pts) / frame))
    return found


cut("cut.mp4", 5)
cut("cut.mkv", 5)
print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: a jump to a keyframe lands on it, 0 frames before")
whole, matroska, seen = landings("whole.mp4"), landings("cut.mkv"), landings("cut.mp4")
print("seen: in the whole mp4 ", whole)
print("seen: in a cut as mkv  ", matroska)
print("seen: in a cut as mp4  ", seen)

assert not any(whole) and not any(matroska)
assert len(seen) == 9 and set(seen[1:]) == {GROUP}, "it lands elsewhere now"
PY
