#!/usr/bin/env bash
# Frames that PyAV decoded and encodes again keep their type. Of a source in which every picture
# stands on its own (Motion JPEG, FFV1, ProRes) each becomes a keyframe again, whatever `gop_size`
# says. FFmpeg's program makes one keyframe in 250 of the same file.
#
# Why it matters: the pictures are right and the file is twice as large or more; one looks for it
# among the encoder's settings, and none helps. Frames made of arrays, as in tests, do not show it,
# and neither scaling nor another pixel format ends it.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `AVFrame.pict_type` is what a decoder found, and for an encoder a wish
# (libavcodec/libx264.c hands it to x264). FFmpeg's program clears it in between; PyAV does not, and
# `reformat` copies it.
# Remedy: `frame.pict_type = PictureType.NONE` before encoding.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6 imageio-ffmpeg==0.8.1

venv/bin/python - <<'PY'
import os
import subprocess

import av
import imageio_ffmpeg
import numpy as np
from av.video.frame import PictureType

COUNT = 60


def source():
    picture = np.kron(np.random.default_rng(0).integers(0, 256, (9, 16, 3)), np.ones((8, 8, 1)))
    for k in range(COUNT):
        moved = np.roll(picture, k, axis=1).astype(np.uint8)
        yield av.VideoFrame.from_ndarray(moved, format="rgb24")


def decoded(path):
    with av.open(path) as file:
        yield from file.decode(video=0)


def write(path, frames, codec, pix_fmt="yuv420p", forget=False):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, pix_fmt
        stream.codec_context.gop_size = 250
        for frame in frames:
            if forget:
                frame.pict_type = PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def keyframes(path):
    with av.open(path) as file:
        return sum(packet.is_keyframe for packet in file.demux(video=0) if packet.size)


write("source.avi", source(), "mjpeg", "yuvj420p")
write("arrays.mp4", source(), "libx264")
write("again.mp4", decoded("source.avi"), "libx264")
write("forgot.mp4", decoded("source.avi"), "libx264", forget=True)
command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "source.avi", "-c:v", "libx264"]
subprocess.run([*command, "program.mp4"], check=True)

print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print(f"expected: 1 keyframe in {COUNT} frames")
seen = {}
for name in ("arrays", "again", "forgot", "program"):
    seen[name] = keyframes(f"{name}.mp4")
    print(f"seen: {name}: {seen[name]} keyframes, {os.path.getsize(f'{name}.mp4')} bytes")

assert seen["arrays"] == seen["forgot"] == seen["program"] == 1
assert seen["again"] == COUNT, "the encoder decides now"
assert os.path.getsize("again.mp4") > 2 * os.path.getsize("forgot.mp4")
PY
