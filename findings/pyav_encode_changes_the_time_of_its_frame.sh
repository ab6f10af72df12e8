#!/usr/bin/env bash
# PyAV's `encode` changes the frame that it is given: `pts` and `time_base` become those of the
# encoder, rounded to its clock. A second encoder that gets the same frame, after a preview of ten
# frames a second, writes times that are off by up to 50 ms. If the first has to convert the pixels,
# it works on a copy, and nothing happens.
#
# Why it matters: one decodes once and writes two files (a small one to look at, one to train on),
# or goes on computing with `frame.time`. Whether it goes wrong depends on the order of the two and
# on the pixel format of the source.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `_prepare_and_time_rebase_frames_for_encode` in PyAV's av/codec/context.py calls the
# frame's own `_rebase_time`.
# Remedy: keep both before encoding and set them again, `frame.pts, frame.time_base = ...`; or give
# all encoders the finest clock, `stream.codec_context.time_base`.
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

TIMES = [0, 133, 251, 388, 520, 655]  # in milliseconds, as uneven as a webcam's
CLOCK = Fraction(1, 1000)


def frames(pix_fmt):
    for time in TIMES:
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame = frame.reformat(format=pix_fmt)
        frame.pts, frame.time_base = time, CLOCK
        yield frame


def written(pix_fmt, order):
    """Times of the frames in full.mkv, which is written beside a preview."""
    with av.open("full.mkv", "w") as full, av.open("preview.mkv", "w") as preview:
        streams = {"full": full.add_stream("libx264"), "preview": preview.add_stream("mpeg4", 10)}
        streams["full"].codec_context.time_base = CLOCK
        for stream in streams.values():
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in frames(pix_fmt):
            for name in order:
                (full if name == "full" else preview).mux(streams[name].encode(frame))
        full.mux(streams["full"].encode(None))
        preview.mux(streams["preview"].encode(None))
    with av.open("full.mkv") as file:
        return [round(1000 * frame.time) for frame in file.decode(video=0)]


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected:", TIMES)
seen = {}
for pix_fmt, order in (
    ("yuv420p", ("full", "preview")),
    ("yuv420p", ("preview", "full")),
    ("rgb24", ("preview", "full")),
):
    seen[pix_fmt, order] = written(pix_fmt, order)
    print(f"seen: {pix_fmt}, {order[0]} first: {seen[pix_fmt, order]}")

assert seen["yuv420p", ("full", "preview")] == seen["rgb24", ("preview", "full")] == TIMES
found = seen["yuv420p", ("preview", "full")]
assert found == [0, 100, 300, 400, 500, 700], "the frame is left alone now"
PY
