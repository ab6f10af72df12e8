#!/usr/bin/env bash
# OpenCV goes to another moment than `set(CAP_PROP_POS_MSEC, t)` asks for where pictures do not come
# at even times. It takes t times the mean rate for a number of frames; and the same property,
# read after the picture, tells the picture's true time.
#
# Why it matters: phones, screen recorders and browsers write such videos, and annotations of
# actions are in seconds. `set` returns True, the picture is good, and it is up to a second from
# the one that was meant; with even times, as in most tests, nothing is wrong. In Matroska, whose
# mean rate is guessed otherwise, the same jumps go the other way, or past the end.
# Seen with: opencv-python-headless 5.0.0.93, video written by PyAV 18.1.0.
# Source: `CvCapture_FFMPEG::seek(double sec)` in modules/videoio/src/cap_ffmpeg_impl.hpp is
# `seek((int64_t)(sec * get_fps() + 0.5))`; counting frames from there is right.
# Remedy: read on until CAP_PROP_POS_MSEC reaches the time, or find the number of the frame by the
# times of all frames and set CAP_PROP_POS_FRAMES.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import cv2
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


def picture_after(path, place, value):
    """Number and time in ms of the picture that is read after a jump, or None at the end."""
    capture = cv2.VideoCapture(path)
    assert capture.set(place, value)
    read, picture = capture.read()
    if not read:
        return None
    return round(picture.mean() / 4), round(capture.get(cv2.CAP_PROP_POS_MSEC))


even = list(range(FRAMES))
uneven = [k if k < 30 else 30 + 3 * (k - 30) for k in even]  # from picture 30 on a third as many
print("OpenCV", cv2.__version__)
asked = [(k, 40 * uneven[k]) for k in (7, 14, 28, 35, 42, 56)]
print("expected: (picture, ms) in uneven.mp4:", asked)
seen = {}
for path, times in (("even.mp4", even), ("uneven.mp4", uneven), ("uneven.mkv", uneven)):
    write(path, times)
    right = [(k, 40 * times[k]) for k, _ in asked]
    by_number = [picture_after(path, cv2.CAP_PROP_POS_FRAMES, k) for k, _ in right]
    assert by_number == right, (path, by_number)
    seen[path] = [picture_after(path, cv2.CAP_PROP_POS_MSEC, time) for _, time in right]
    print(f"seen: {path}:", seen[path])

assert seen["even.mp4"] == [(k, 40 * k) for k, _ in asked]
away = [abs(found[1] - time) for found, (_, time) in zip(seen["uneven.mp4"], asked)]
print("seen: ms away from the time asked for:", away)
assert max(away) > 500, "it goes to the time that is asked for now"
PY
