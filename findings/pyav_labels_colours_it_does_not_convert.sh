#!/usr/bin/env bash
# PyAV's encoder turns RGB frames into the stream's pixel format by itself, and looks at the format
# alone. `codec_context.colorspace` and `color_range` are written into the file, and the numbers are
# those of BT.601 in limited range all the same: what is read back is off by more than 20 of 255
# levels.
#
# Why it matters: the label is how one asks for the colours of HD video (BT.709), and the file has
# it, so that every probe says all is well. Every player and reader then decodes by the label.
# Without labels the round trip is right, so the mistake comes in with the care.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `_prepare_frames_for_encode` in PyAV's av/video/codeccontext.py calls `reformat` with size
# and format only.
# Remedy: convert before encoding: `frame.reformat(format="yuv420p", dst_colorspace=...,
# dst_color_range=...)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 140, 120]], np.uint8)
PICTURE = np.tile(COLOURS.repeat(32, 0), (72, 1, 1))
BT709, FULL = Colorspace.ITU709, ColorRange.JPEG


def back(matrix, full, convert):
    """The four colours after a round trip by lossless H.264, and the labels that the file has."""
    with av.open("colours.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        if matrix:
            stream.codec_context.colorspace = matrix
        if full:
            stream.codec_context.color_range = full
        frame = av.VideoFrame.from_ndarray(PICTURE, format="rgb24")
        if convert:
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=full)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open("colours.mp4") as file:
        frame = next(file.decode(video=0))
        found = frame.to_ndarray(format="rgb24")[36, 16::32]
        return found, (int(frame.colorspace), int(frame.color_range))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected:", COLOURS.tolist(), "but for rounding")
off = {}
for label, matrix, full in (("none", None, None), ("BT.709", BT709, None), ("full", None, FULL)):
    for convert in (False, True)[: 1 + (matrix is not None)]:
        found, labels = back(matrix, full, convert)
        off[label, convert] = np.abs(found.astype(int) - COLOURS).max()
        words = f"label {label} {labels}, " + ("converted" if convert else "left to the encoder")
        print(f"seen: {words}: {found.tolist()}: off by", off[label, convert])

assert off["none", False] <= 3 and off["BT.709", True] <= 3
assert off["BT.709", False] > 20 and off["full", False] > 5, "the encoder converts now"
PY
