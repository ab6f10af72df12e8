#!/usr/bin/env bash
# Several decoders of FFmpeg mark none of their pictures as a keyframe, though the packets of the
# same file are marked right: QuickTime Animation, Sorenson Video 1, CineForm, Flash Screen Video.
#
# Why it matters: a reader that waits for the first frame with `key_frame` (after a seek, or to
# skip pictures that lack their references) waits until the end and finds a good file empty.
# CineForm even has nothing but keyframes. The picture type is no way out: it is unset, or right
# only for some.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: AV_FRAME_FLAG_KEY is set by each decoder for itself; libavcodec/qtrle.c, svq1dec.c,
# cfhd.c and flashsv.c never do, whereas AV_PKT_FLAG_KEY comes from the container.
# Remedy: trust `packet.is_keyframe`; take `frame.key_frame` as a hint only if it is ever true.
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


def write(path, codec, pix_fmt):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, pix_fmt
        stream.codec_context.gop_size = 5
        for k in range(20):
            picture = np.full((96, 160, 3), 10 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def count(path):
    with av.open(path) as file:
        packets = sum(packet.is_keyframe for packet in file.demux(video=0) if packet.size)
    with av.open(path) as file:
        frames = list(file.decode(video=0))
    return packets, sum(bool(frame.key_frame) for frame in frames), len(frames)


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: as many frames marked as keyframes as packets")
seen = {}
for codec, suffix, pix_fmt in (
    ("ffv1", "mkv", "yuv420p"),
    ("qtrle", "mov", "rgb24"),
    ("svq1", "mov", "yuv410p"),
    ("cfhd", "mov", "yuv422p10le"),
    ("flashsv", "flv", "bgr24"),
):
    write(f"{codec}.{suffix}", codec, pix_fmt)
    seen[codec] = packets, marked, frames = count(f"{codec}.{suffix}")
    print(f"seen: {codec}: {packets} keyframe packets, {marked} of {frames} frames marked")

assert seen.pop("ffv1") == (4, 4, 20), "ffv1 was to show that marks are possible"
assert all(frames == 20 and packets >= 4 for packets, _, frames in seen.values())
assert all(marked == 0 for _, marked, _ in seen.values()), "these decoders mark keyframes now"
PY
