#!/usr/bin/env bash
# imageio's `imread(path, index=7, plugin="pyav")` gives picture 2 of a video whose first picture
# comes at 0.2 s. `imiter` gives all pictures in order, and its eighth is picture 7.
#
# Why it matters: many files begin later than at zero: sound that starts first, cuts by copying,
# recordings. The pictures are good, `improps` counts them rightly, and reading in order is right,
# so that only who compares the two sees that labels by frame number belong to other pictures.
# Files that were just encoded, as in tests, begin at zero.
# Seen with: imageio 2.38.1, PyAV 18.1.0.
# Source: `_seek` in imageio/plugins/pyav.py turns index / rate into a time in the file without the
# stream's start_time, wherever the container is taken to have a constant rate (mp4, AVI).
# Remedy: constant_framerate=False, which counts pictures from the start; or `imiter`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet imageio==2.38.1 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import imageio
import imageio.v3 as iio
import numpy as np

FRAMES = 60


def write(path, delay):
    """Write grey pictures at 25 a second, the first after `delay` frames; the level tells k."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.options = {"qp": "10"}
        for k in range(FRAMES):
            picture = np.full((64, 128, 3), 4 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k + delay, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def number(picture):
    return round(float(picture.mean()) / 4)


print("imageio", imageio.__version__, "PyAV", av.__version__)
asked = [0, 7, 14, 28, 56]
print("expected:", asked)
seen = {}
for path, delay in (("at_zero.mp4", 0), ("later.mp4", 5)):
    write(path, delay)
    assert [number(p) for p in iio.imiter(path, plugin="pyav")] == list(range(FRAMES))
    assert iio.improps(path, plugin="pyav").n_images == FRAMES
    for options in ({}, {"constant_framerate": False}):
        found = [number(iio.imread(path, index=k, plugin="pyav", **options)) for k in asked]
        seen[path, bool(options)] = found
        print(f"seen: {path} {options or ''}: {found}")

assert seen["at_zero.mp4", False] == seen["at_zero.mp4", True] == asked
assert seen["later.mp4", True] == asked
assert seen["later.mp4", False][1:] == [k - 5 for k in asked[1:]], "pictures are counted now"
PY
