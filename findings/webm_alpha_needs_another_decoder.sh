#!/usr/bin/env bash
# A WebM with transparency is decoded as an opaque one, in which the colours beneath the transparent
# parts show. FFmpeg's own decoders of VP8 and VP9, which are the default, leave the alpha out; the
# stream says "yuv420p", and only a tag, `alpha_mode`, tells that there is more.
#
# Why it matters: cut-out people, stickers and effects come as such files, and are pasted over other
# footage or taken for masks. The mask is all ones, and what should be seen through is a block of
# some colour, often black, here green. With FFV1 or ProRes 4444 alpha arrives, so that a test with
# them finds nothing. In Chrome and Firefox the same file is transparent.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: Matroska keeps the alpha of a picture as a second picture beside it (BlockAdditional of id
# 1); of FFmpeg's decoders only `vpx_decode` in libavcodec/libvpxdec.c looks at it.
# Remedy: decode by av.CodecContext.create("libvpx-vp9", "r"), or "libvpx" for VP8, if
# stream.metadata has alpha_mode; in the program `-c:v libvpx-vp9` before `-i`.
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

picture = np.full((64, 64, 4), (200, 50, 50, 255), np.uint8)  # RGBA: red and opaque
picture[:, :32] = 30, 250, 30, 0  # on the left green, and transparent


def write(path, codec):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuva420p"
        if codec == "libvpx":
            stream.codec_context.options = {"auto-alt-ref": "0"}  # needed for transparency
        for k in range(5):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def first_frame(path, decoder=None):
    with av.open(path) as file:
        stream = file.streams.video[0]
        coder = av.CodecContext.create(decoder, "r") if decoder else stream.codec_context
        frames = [frame for packet in file.demux(stream) for frame in coder.decode(packet)]
        assert len(frames) == 5
        alpha = frames[0].to_ndarray(format="rgba")[32, [8, 56], 3].tolist()
        return stream.pix_fmt, stream.metadata.get("alpha_mode"), coder.name, alpha


av.logging.set_level(None)
print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: alpha 0 on the left and 255 on the right")
seen = {}
for path, codec, decoders in (
    ("clip.mkv", "ffv1", [None]),
    ("vp8.webm", "libvpx", [None, "libvpx"]),
    ("vp9.webm", "libvpx-vp9", [None, "libvpx-vp9"]),
):
    write(path, codec)
    for decoder in decoders:
        form, mode, name, alpha = first_frame(path, decoder)
        seen[path, decoder] = alpha
        print(f"seen: {path}, {form}, alpha_mode {mode}, decoded by {name}: alpha {alpha}")

assert seen["clip.mkv", None] == seen["vp8.webm", "libvpx"] == [0, 255]
assert seen["vp9.webm", "libvpx-vp9"] == [0, 255]
assert seen["vp8.webm", None] == seen["vp9.webm", None] == [255, 255], "alpha is decoded now"
PY
