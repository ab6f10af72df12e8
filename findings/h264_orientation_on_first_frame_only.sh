#!/usr/bin/env bash
# H.264 can say itself how its pictures are to be turned (an SEI message, "display orientation").
# The message at the first picture holds for all that follow, but FFmpeg reports it on the one
# frame that carries it: every other frame says that it is upright.
#
# Why it matters: code that turns each frame by its own side data shows one frame upright and the
# rest upside down; code that asks the first frame only is right by luck, and wrong after a seek.
# The container says nothing of the orientation.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: ITU-T H.264, annex D, display_orientation_repetition_period (1: until a new sequence
# begins). libavcodec/h2645_sei.c does not read that number, and `ff_h264_sei_uninit` in
# libavcodec/h264_sei.c forgets the orientation before each picture.
# Remedy: keep the orientation of the last frame that had one until the next keyframe.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import re
from fractions import Fraction

import av
import numpy as np


def write(path):
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for k in range(8):  # far fewer than a group of pictures: one sequence
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 128, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def add_orientation(source, target):
    with av.open(source) as file, av.open(target, "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        what = "h264_metadata=display_orientation=insert:rotate=180"
        add = av.BitStreamFilterContext(what, file.streams.video[0], stream)
        for packet in file.demux(video=0):
            for turned in add.filter(packet if packet.size else None):
                turned.stream = stream
                out.mux(turned)


write("plain.mp4")
add_orientation("plain.mp4", "turned.mp4")
# Message 47, 3 bytes: no cancel, no flips, 0x8000 of a full turn, period 1 (010), no extension.
with open("turned.mp4", "rb") as file:
    messages = len(re.findall(rb"\x2f\x03\x10\x00\x09", file.read()))
with av.open("turned.mp4") as file:
    rotations = [abs(frame.rotation) for frame in file.decode(video=0)]

print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: rotation 180 on all 8 frames;", messages, "message holds for all of them")
print("seen:", rotations)

assert messages == 1
assert rotations == [180, 0, 0, 0, 0, 0, 0, 0], "the orientation is reported otherwise now"
PY
