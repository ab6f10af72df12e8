#!/usr/bin/env bash
# In MPEG-TS a jump to a time gives the next keyframe after it, not the one before: `seek` to the
# first picture's own time lands a second later, and near the end there is nothing at all.
#
# Why it matters: `seek` promises the keyframe at or before the time, and keeps it for mp4 and
# Matroska. A reader that jumps and decodes until the time comes takes the first picture that it
# sees, up to a whole group too late, or finds the file to be over. OpenCV jumps so: asked for
# picture 10 it returns picture 26, without an error. Cameras, television and HLS give MPEG-TS.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1), opencv-python-headless 5.0.0.93.
# Source: MPEG-TS has no index; `ff_seek_frame_binary` in FFmpeg's libavformat/seek.c finds the
# packet by its time, keyframe or not, and the decoder waits from there for the next keyframe.
# Remedy: compare the first picture's time with the one asked for, and if it is later jump again,
# further back by more than a group of pictures; `seek(0)` without a stream goes to the start.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6

OPENCV_FFMPEG_LOGLEVEL=-8 venv/bin/python - <<'PY'
from fractions import Fraction

import av
import cv2
import numpy as np

FRAMES, GROUP = 120, 25


def write(path):
    """Write grey pictures with a keyframe every GROUP; their level tells the number."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.options = {"qp": "8", "g": str(GROUP), "sc_threshold": "0"}
        for k in range(FRAMES):
            picture = np.full((64, 128, 3), 2 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def after_jump(path, pts):
    """Numbers of the pictures that come first after a jump to each of all times."""
    found = []
    for value in pts:
        with av.open(path) as file:
            file.seek(value, stream=file.streams.video[0])
            first = next(file.decode(video=0), None)
            found.append(None if first is None else pts.index(first.pts))
    return found


def by_opencv(path, number):
    capture = cv2.VideoCapture(path)
    capture.set(cv2.CAP_PROP_POS_FRAMES, number)
    read, picture = capture.read()
    return round(float(picture.mean()) / 2) if read else None


print("PyAV", av.__version__, "OpenCV", cv2.__version__)
asked = [0, 10, 25, 30, 60, 110]
before = [k // GROUP * GROUP for k in asked]
print("expected: jumps to", asked, "land on", before)
seen, opencv = {}, {}
for path in ("video.mp4", "video.mkv", "video.ts"):
    write(path)
    with av.open(path) as file:
        pts = [frame.pts for frame in file.decode(video=0)]
        file.seek(0)
        assert next(file.decode(video=0)).pts == pts[0], "to the start"
    assert len(pts) == FRAMES
    every = after_jump(path, pts)
    seen[path] = [every[k] for k in asked]
    opencv[path] = [by_opencv(path, k) for k in asked]
    print(f"seen: {path}: PyAV {seen[path]}, OpenCV reads {opencv[path]}")

assert seen["video.mp4"] == seen["video.mkv"] == before
assert opencv["video.mp4"] == opencv["video.mkv"] == asked
assert seen["video.ts"] == [25, 25, 50, 50, 75, None], "it goes to the keyframe before now"
assert opencv["video.ts"] != asked
PY
