#!/usr/bin/env bash
# x264 with crf=0 is lossless for 8-bit video, and not for 10-bit video: there levels come back
# changed by up to six. The stream says "High 10", an ordinary lossy profile.
#
# Why it matters: 10 bits are taken where levels count (depth, optical flow, scientific cameras,
# HDR), and "crf 0 is lossless" is what most guides say, and true in any test with 8 bits. The error
# is small, and no warning is given.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1, x264 core 165).
# Source: `validate_parameters` in x264's encoder/encoder.c adds 6 for each bit above 8 to crf, so
# that 0 means a quantizer of 12 in 10 bits; crf=-12 would be lossless, but FFmpeg's own option
# takes no negative numbers. `qp` counts from 0 in all depths.
# Remedy: qp=0 (or x264-params crf=-12); and compare what is decoded with what was encoded.
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

FRAMES, HEIGHT, WIDTH = 6, 64, 128
av.logging.set_level(None)


def planes(frame, kind):
    """Return copies of a frame's three planes, without the padding of their rows."""
    rows = [np.frombuffer(bytes(p), kind).reshape(p.height, -1)[:, : p.width] for p in frame.planes]
    return [row.astype(int) for row in rows]


def encode(form, options):
    """Return the profile and the largest change of a level, for a slope with a little noise."""
    bits = 10 if form.endswith("10le") else 8
    kind, noise = np.dtype(np.uint8 if bits == 8 else np.uint16), np.random.default_rng(0)
    given = []
    with av.open("clip.mkv", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, form
        stream.codec_context.options = options
        for k in range(FRAMES):
            frame = av.VideoFrame(WIDTH, HEIGHT, form)
            for plane in frame.planes:
                shape = plane.height, plane.line_size // kind.itemsize
                level = np.add.outer(3 * np.arange(shape[0]), 5 * np.arange(shape[1]) + 7 * k)
                level = (level + noise.integers(0, 8, shape)) % 2**bits
                plane.update(level.astype(kind).tobytes())
            given.append(planes(frame, kind))
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open("clip.mkv") as file:
        stream = file.streams.video[0]
        back = [planes(frame, kind) for frame in file.decode(stream)]
        assert stream.pix_fmt == form and len(back) == FRAMES
    changes = [abs(new - old).max() for a, b in zip(given, back) for old, new in zip(a, b)]
    return stream.codec_context.profile, int(max(changes))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: no level changes with crf=0")
seen = {}
for form in ("yuv420p", "yuv420p10le"):
    for options in ({"crf": "0"}, {"qp": "0"}, {"x264-params": "crf=-12"}):
        if form == "yuv420p" and "x264-params" in options:
            continue
        profile, change = encode(form, options)
        seen[form, *options] = change
        print(f"seen: {form}, {options}: levels change by up to {change}, profile {profile}")

assert seen["yuv420p", "crf"] == seen["yuv420p", "qp"] == 0
assert seen["yuv420p10le", "qp"] == seen["yuv420p10le", "x264-params"] == 0
assert seen["yuv420p10le", "crf"] > 1, "crf=0 is lossless in 10 bits, too"
PY
