#!/usr/bin/env bash
# FFmpeg's AV1 encoder SVT-AV1 takes crf=0, the finest quality that there is, as if no crf were
# given and encodes with its default of 35: the file is the same to the byte, half as large as with
# crf=1.
#
# Why it matters: 0 is what one writes to lose nothing (masks, depth, a master copy of a data set).
# x264 loses nothing then, and 0 is within the range that the option lists. Here pictures lose as
# much as in a video for the web, and nothing is said.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1, SVT-AV1).
# Source: `config_enc_params` in libavcodec/libsvtav1.c looks at `crf` and `qp` if they are above 0;
# 0 stands for "unset" in both.
# Remedy: crf=1, or the encoder's own option, which has another "unset": svtav1-params "crf=0"; or,
# where nothing may be lost, FFV1.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

SVT_LOG=1 venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np

FRAMES, HEIGHT, WIDTH = 5, 64, 128
texture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH + FRAMES, 3), dtype=np.uint8)


def encode(codec, **options):
    """Return the coded bytes, and the mean error of the decoded luma in levels."""
    pictures, packets = [], []
    coder = av.CodecContext.create(codec, "w")
    coder.width, coder.height, coder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    coder.time_base, coder.framerate = Fraction(1, 25), 25
    if codec == "libsvtav1":
        options["preset"] = "10"
    coder.options = {name.replace("_", "-"): value for name, value in options.items()}
    for k in range(FRAMES):
        picture = np.ascontiguousarray(texture[:, k : k + WIDTH])
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        pictures.append(frame.to_ndarray()[:HEIGHT].astype(int))
        frame.pts, frame.time_base = k, Fraction(1, 25)
        packets += coder.encode(frame)
    packets += coder.encode(None)
    decoder = av.CodecContext.create("h264" if codec == "libx264" else "libdav1d", "r")
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert len(decoded) == FRAMES
    errors = [abs(f.to_ndarray()[:HEIGHT] - p).mean() for f, p in zip(decoded, pictures)]
    return b"".join(bytes(packet) for packet in packets), float(np.mean(errors))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: the smaller crf is, the smaller is the error, and with 0 it is the smallest")
seen = {}
for codec in ("libx264", "libsvtav1"):
    for options in ({}, {"crf": "35"}, {"crf": "10"}, {"crf": "1"}, {"crf": "0"}):
        data, error = seen[codec, options.get("crf")] = encode(codec, **options)
        name = f"crf={options['crf']}" if options else "default"
        print(f"seen: {codec}, {name}: {len(data)} bytes, error {error:.2f} levels")
data, error = encode("libsvtav1", svtav1_params="crf=0")
print(f"seen: libsvtav1, svtav1-params crf=0: {len(data)} bytes, error {error:.2f} levels")

assert seen["libx264", "0"][1] == 0 < seen["libx264", "1"][1] < seen["libx264", "10"][1]
assert seen["libsvtav1", "1"][1] < seen["libsvtav1", "10"][1] < seen["libsvtav1", "35"][1]
assert seen["libsvtav1", "0"] == seen["libsvtav1", None] == seen["libsvtav1", "35"], "0 is heeded"
PY
