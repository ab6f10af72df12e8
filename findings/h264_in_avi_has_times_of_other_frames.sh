#!/usr/bin/env bash
# H.264 with B-frames in AVI decodes in the right order, but the times of its frames go back and
# forth: they belong to other frames. AVI has no presentation times, and FFmpeg hands the order of
# decoding on as if it were one.
#
# Why it matters: sorting frames by time (or finding one by its time) scrambles a good video, and
# a check for rising times refuses it. MPEG-4 part 2 in AVI, with the same B-frames, has right
# times: a test with XviD-like files alone does not show it.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: libavformat/avidec.c sets decoding times only; `compute_pkt_fields` in
# libavformat/demux.c then gives every packet the decoding time, moved by one, as its presentation
# time. (For MPEG-4 its parser says which pictures are B-frames, and the guess is right.)
# Remedy: in AVI count frames in the order in which they are decoded, and ignore their times.
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


def write(path, codec, options):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 2
        stream.codec_context.options = options
        for k in range(12):
            picture = np.full((64, 128, 3), 20 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def read(path):
    """Number drawn into each frame, and its time in frames, in the order of decoding."""
    with av.open(path) as file:
        frames = list(file.decode(video=0))
    numbers = [round(frame.to_ndarray(format="rgb24").mean() / 20) for frame in frames]
    times = [round(frame.time * 25) for frame in frames]
    return numbers, [time - times[0] for time in times]


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: frame k has time k, in every container")
h264 = {"x264-params": "scenecut=0:b-adapt=0", "qp": "10"}
seen = {}
for path, codec, options in (
    ("h264.mp4", "libx264", h264),
    ("mpeg4.avi", "mpeg4", {"b_strategy": "0", "qmin": "2", "qmax": "2"}),
    ("h264.avi", "libx264", h264),
):
    write(path, codec, options)
    numbers, seen[path] = read(path)
    print(f"seen: {path}: frames {numbers}, times {seen[path]}")
    assert numbers == list(range(12)), "the order of the frames is wrong now"

assert seen["h264.mp4"] == seen["mpeg4.avi"] == list(range(12))
assert sorted(seen["h264.avi"]) != seen["h264.avi"], "the times rise now"
PY
