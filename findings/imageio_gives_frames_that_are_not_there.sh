#!/usr/bin/env bash
# imageio's reader by FFmpeg counts 60 frames in a video whose pictures do not come at even times,
# and gives 120: it repeats pictures, so that frame k is the one at k / rate, not the k-th.
#
# Why it matters: phones, screen recorders and browsers write such videos. Labels by frame number,
# masks and boxes then belong to other pictures; with a video of even times, or with PyAV, OpenCV
# and decord, which all count pictures, nothing is wrong. moviepy and many notebooks read this way.
# Seen with: imageio 2.38.1, imageio-ffmpeg 0.8.1 (FFmpeg 9.0.2).
# Source: `read_frames` in imageio_ffmpeg/_io.py asks FFmpeg's program for raw video, a format
# without times, for which the program evens out the rate; `count_frames_and_secs` asks for the
# format "null", which has times, and so nothing is repeated.
# Remedy: output_params=["-fps_mode", "passthrough"], which gives each picture once, or another
# reader.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet imageio==2.38.1 imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import imageio
import imageio_ffmpeg
import numpy as np

FRAMES = 60


def write(path, times):
    """Write grey pictures, picture k at times[k] / 25 s; its level tells k."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.options = {"qp": "10"}
        for k, time in enumerate(times):
            picture = np.full((64, 128, 3), 4 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def numbers(pictures):
    return [round(float(picture.mean()) / 4) for picture in pictures]


def read(path, **options):
    with imageio.get_reader(path, "ffmpeg", **options) as reader:
        return reader.count_frames(), numbers(reader)


print("imageio", imageio.__version__, "imageio-ffmpeg", imageio_ffmpeg.__version__)
print(f"expected: {FRAMES} counted, {FRAMES} given, each picture once")
even = list(range(FRAMES))
uneven = [k if k < 30 else 30 + 3 * (k - 30) for k in even]  # from picture 30 on a third as many
seen = {}
for path, times, options in (
    ("even.mp4", even, {}),
    ("uneven.mp4", uneven, {}),
    ("uneven.mp4", uneven, {"output_params": ["-fps_mode", "passthrough"]}),
):
    write(path, times)
    with av.open(path) as file:
        assert numbers(f.to_ndarray(format="rgb24") for f in file.decode(video=0)) == even
    counted, given = seen[path, bool(options)] = read(path, **options)
    print(f"seen: {path} {options or ''}: {counted} counted, {len(given)} given, the last", end=" ")
    print(f"ten are {given[-10:]}; the 36th is {given[35]}")

assert seen["even.mp4", False] == seen["uneven.mp4", True] == (FRAMES, even)
counted, given = seen["uneven.mp4", False]
assert counted == FRAMES and len(given) > 100 and given[35] != 35, "each picture comes once now"
PY
