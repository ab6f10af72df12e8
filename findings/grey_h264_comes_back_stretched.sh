#!/usr/bin/env bash
# Grey pictures (pix_fmt "gray") that PyAV writes as lossless H.264 come back with other values: all
# up to 16 are 0, all from 235 on are 255, and those between are stretched. The stream holds the
# right bytes, and FFV1 and H.265 give them back.
#
# Why it matters: masks, depth and heat maps are kept so. Of 256 classes or distances 36 are lost,
# class 10 becomes background, and a test with 0, 128 and 255 sees 0, 130, 255 and takes it for a
# loss of the codec.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: libswscale takes grey formats to be of full range (`ff_fmt_from_frame` in
# libswscale/format.c) and leaves the bytes as they are. Encoding does not note it in the stream,
# and FFmpeg's H.264 decoder makes yuv420p of grey, which is of limited range unless the stream says
# otherwise.
# Remedy: `stream.codec_context.color_range = ColorRange.JPEG` before the first picture; of files
# that exist take the first plane, `frame.planes[0]`, as it is.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np
from av.video.reformatter import ColorRange

VALUES = np.arange(256, dtype=np.uint8)
SHOWN = [0, 10, 16, 100, 128, 235, 250]
LOSSLESS = {
    "ffv1": {},
    "libx265": {"x265-params": "lossless=1:log-level=none"},
    "libx264": {"qp": "0"},
}


def back(codec, color_range=None):
    """What comes back of a picture with all values: as grey, and as bytes of its first plane."""
    with av.open("grey.mkv", "w") as out:
        stream = out.add_stream(codec, rate=25, options=LOSSLESS[codec])
        stream.width, stream.height, stream.pix_fmt = 256, 64, "gray"
        if color_range is not None:
            stream.codec_context.color_range = color_range
        frame = av.VideoFrame.from_ndarray(np.tile(VALUES, (64, 1)), format="gray")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open("grey.mkv") as file:
        frame = next(file.decode(video=0))
    return frame.format.name, frame.to_ndarray(format="gray")[0], np.array(frame.planes[0])[:256]


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected:", SHOWN)
seen = {codec: back(codec) for codec in LOSSLESS}
for codec, (form, grey, _) in seen.items():
    print(f"seen: {codec} ({form}): {grey[SHOWN].tolist()}, {len(set(grey.tolist()))} values")
full = back("libx264", ColorRange.JPEG)
print(f"seen: libx264, full range noted ({full[0]}): {full[1][SHOWN].tolist()}")

for codec in ("ffv1", "libx265"):
    assert (seen[codec][1] == VALUES).all(), codec
assert (seen["libx264"][2] == VALUES).all(), "the bytes in the stream"
grey = seen["libx264"][1]
assert (grey[:17] == 0).all() and (grey[235:] == 255).all(), "the values come back now"
assert (full[1] == VALUES).all(), "the remedy"
PY
