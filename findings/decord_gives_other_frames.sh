#!/usr/bin/env bash
# decord gives other frames than were asked for, without an error or a warning, if a video with
# B-frames lies in MPEG-TS or AVI. In MPEG-TS the first group of pictures is lost, also when
# everything is read in order: frame 0 is frame 12, and the last frame is repeated to make up for
# it. In AVI frames are right when read one after another from the start, and wrong as soon as one
# is skipped.
#
# Why it matters: `len()` is right, the pictures are good, and samples of a training set are moved
# by half a second. UCF101 and HMDB51 are such AVIs.
# Seen with: decord2 3.4.0 (and decord 0.6.0, whose API it keeps).
# Source: `IndexKeyframes` and `SeekAccurate` in decord's src/video/video_reader.cc reckon with
# the order and the times of packets as the container gives them.
# Remedy: look at the container and the packets' times first, and decode such files with PyAV.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet decord2==3.4.0 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import decord
import numpy as np

decord.logging.set_level(decord.logging.QUIET)


def write(path, codec, options):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 2
        stream.codec_context.options = options
        for k in range(60):
            picture = np.full((64, 128, 3), 4 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def numbers(pictures):
    """Number of each frame, by its grey level."""
    return [round(float(picture.mean()) / 4) for picture in pictures]


h264 = {"x264-params": "scenecut=0:b-adapt=0", "qp": "10"}
print("decord2", decord.__version__)
seen = {}
for path, codec, options in (
    ("h264.mp4", "libx264", h264),
    ("h264.ts", "libx264", h264),
    ("mpeg4.avi", "mpeg4", {"b_strategy": "0", "qmin": "2", "qmax": "2"}),
):
    write(path, codec, options)
    with av.open(path) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert numbers(pictures) == list(range(60)), "the file itself is not what was meant"
    in_order = decord.VideoReader(path, num_threads=1)
    first = numbers(in_order[k].asnumpy() for k in range(3))
    some = numbers(decord.VideoReader(path, num_threads=1).get_batch([0, 10, 20, 30, 40]).asnumpy())
    seen[path] = len(in_order), first, some
    print(f"expected: {path}: 60 frames; 0, 1, 2; 0, 10, 20, 30, 40")
    print(f"seen:     {path}: {len(in_order)} frames; {first} in order; {some} at once")

assert seen["h264.mp4"] == (60, [0, 1, 2], [0, 10, 20, 30, 40])
assert seen["h264.ts"][:2] == (60, [12, 13, 14]), "MPEG-TS begins at the first frame now"
assert seen["mpeg4.avi"][:2] == (60, [0, 1, 2])
assert seen["mpeg4.avi"][2] != [0, 10, 20, 30, 40], "AVI is right now"
PY
