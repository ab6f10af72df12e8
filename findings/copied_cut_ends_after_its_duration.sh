#!/usr/bin/env bash
# Cutting a video by copying its packets (`-c copy`, as lossless cutters do) leaves a hole before
# the end: the last picture comes later than the duration of the file, and those just before it
# are missing. No packet is damaged and nothing is reported.
#
# Why it matters: the file has as many frames as its duration says, so a count finds nothing
# amiss; but frame k is no longer at k / rate, and a reader that stops at the duration loses the
# last frame. A check for even times takes such files, which are everywhere, for damaged ones.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1), for H.264 with B-frames in mp4.
# Source: packets are copied in the order of decoding, in which a B-frame comes after the later
# picture that it needs; libavformat/movenc.c computes a track's duration from decoding times.
# Remedy: count decoded frames, and take their own times in place of k / rate.
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

RATE, KEPT = 25, 44


def write(path):
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 24, 2
        stream.codec_context.options = {"x264-params": "scenecut=0:b-adapt=0"}
        for k in range(48):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 128, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def copy_first_packets(source, target, count):
    with av.open(source) as file, av.open(target, "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for _, packet in zip(range(count), file.demux(video=0), strict=False):
            packet.stream = stream
            out.mux(packet)


write("whole.mp4")
copy_first_packets("whole.mp4", "cut.mp4", KEPT)
with av.open("cut.mp4") as file:
    stream = file.streams.video[0]
    listed, duration = stream.frames, float(stream.duration * stream.time_base * RATE)
    times = [round(frame.time * RATE) for frame in file.decode(stream)]

print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print(f"expected: {KEPT} frames at the times 0 to {KEPT - 1}, in units of a frame")
print(f"seen: {listed} frames listed, {len(times)} decoded, a duration of {duration:g}")
print(f"seen: the last times are {times[-4:]}")

assert listed == len(times) == duration == KEPT
assert times == sorted(times)
assert times[-1] >= KEPT, "the last picture lies within the duration now"
PY
