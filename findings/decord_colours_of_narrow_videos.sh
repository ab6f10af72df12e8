#!/usr/bin/env bash
# decord returns arrays with four, six or twelve "colours" for narrow videos: the shape of a 24
# pixels wide video is (H, 24, 8) here, and `get_batch` raises "size must exactly match".
#
# Why it matters: small clips are what tests and thumbnails use. A shape of four looks like an
# alpha channel, and cutting it down to three gives torn pictures, since it is the rows that are
# padded. How many there are depends on the processor (rows are aligned to its widest registers).
# Seen with: decord2 3.4.0. Widths met: 16, 24, 32, 48, 96, 144; others, also 64, 100 and 128, are
# right.
# Source: `ToDLTensor` in decord's src/video/ffmpeg/ffmpeg_common.h takes bytes of a row / width
# as the number of colours where that divides without a remainder.
# Remedy: check that the last axis is 3, and decode with PyAV otherwise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet decord2==3.4.0 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import decord
import numpy as np

decord.logging.set_level(decord.logging.QUIET)


def write(path, width):
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
        for k in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, width, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


print("decord2", decord.__version__)
shapes = {}
for width in (24, 48, 128):
    write("clip.mp4", width)
    shapes[width] = decord.VideoReader("clip.mp4", num_threads=1)[0].shape
    print(f"expected: {(64, width, 3)}; seen: {shapes[width]}")

assert shapes[128] == (64, 128, 3)
assert shapes[24][:2] == (64, 24)
assert shapes[24][2] > 3, "narrow videos have three colours now"
PY
