#!/usr/bin/env bash
# torchcodec's `get_frames_played_at([t])` gives another frame than `get_frame_played_at(t)`, with
# seek_mode="approximate": asked for 29 / 25 s, the first gives frame 28 and the second frame 29.
# `get_frames_played_in_range` gives five frames in place of four, here and there.
#
# Why it matters: approximate mode is advised where a file has an even rate, as this one has, since
# it need not scan the file. Frames are not even found by their own `pts_seconds`. Samplers by time
# use these calls: clips have one wrong frame, or one more, at a few places.
# Seen with: torchcodec 0.16.0 (0.17.0 as well), PyTorch 2.14.1, FFmpeg 5.1.9's libraries.
# Source: `seconds_to_index_lower_bound` in torchcodec/_core/SingleStreamDecoder.cpp is
# floor(seconds * rate) in floating point, and 29 / 25 * 25 is 28.999...; a single frame is looked
# for by time, in the units of the file.
# Remedy: seek_mode="exact"; or ask by numbers, `get_frames_at`; or half a frame later.
# Needs: FFmpeg's shared libraries (4 to 9), which torchcodec does not bring along.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchcodec==0.16.0 torch==2.14.1 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np
import torch
import torchcodec
from torchcodec.decoders import VideoDecoder

FRAMES, RATE = 60, 25

with av.open("clip.mp4", "w") as out:  # grey pictures, whose level tells their number
    stream = out.add_stream("libx264", rate=RATE)
    stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
    stream.codec_context.options = {"qp": "10"}
    for k in range(FRAMES):
        picture = np.full((64, 128, 3), 4 * k, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = k, Fraction(1, RATE)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def numbers(frames):
    return [round(float(frame.float().mean()) / 4) for frame in frames]


def wrong(found):
    return {k: number for k, number in enumerate(found) if number != k}


print("torchcodec", torchcodec.__version__, "PyTorch", torch.__version__)
print(f"expected: at k / {RATE} s frame k; four frames from there to (k + 4) / {RATE} s")
times = [k / RATE for k in range(FRAMES)]
seen = {}
for mode in ("exact", "approximate"):
    decoder = VideoDecoder("clip.mp4", seek_mode=mode)
    assert numbers(decoder.get_frames_at(list(range(FRAMES))).data) == list(range(FRAMES))
    own = [decoder.get_frame_at(k).pts_seconds for k in range(FRAMES)]
    ranges = [decoder.get_frames_played_in_range(a, b).data for a, b in zip(times, times[4:])]
    seen[mode] = {
        "one by one": wrong(numbers(decoder.get_frame_played_at(t).data for t in times)),
        "in a batch": wrong(numbers(decoder.get_frames_played_at(times).data)),
        "by their own times": wrong(numbers(decoder.get_frames_played_at(own).data)),
        "ranges": {k: numbers(r) for k, r in enumerate(ranges) if len(r) != 4},
    }
    for how, found in seen[mode].items():
        print(f"seen: {mode}, {how}: wrong are {found or 'none'}")

assert not any(seen["exact"].values()) and not seen["approximate"]["one by one"]
assert seen["approximate"]["in a batch"], "the batch is right now"
assert seen["approximate"]["by their own times"] and seen["approximate"]["ranges"]
PY
