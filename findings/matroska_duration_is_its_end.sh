#!/usr/bin/env bash
# FFmpeg writes the time of the end as the duration of a Matroska or WebM file that begins late: 50
# frames from 2 s on last 4 s, in mp4 the same frames last 2. OpenCV counts 100 frames there, and
# reads 50.
#
# Why it matters: parts of streams and cuts that keep their times begin late. Of clips spread over
# the counted frames half lie beyond the end, where reading fails or gives the last picture
# (moviepy, with a warning); a rate from frames and duration is half of the true one. Files that
# were just encoded, as in tests, begin at zero, and nothing is wrong.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1), opencv-python-headless 5.0.0.93.
# Source: `mkv_write_packet_internal` in libavformat/matroskaenc.c keeps the greatest end of a
# packet, which is written as Duration; matroskadec.c takes it as it is. Streams have none of their
# own. OpenCV's count is duration times rate (`get_total_frames` in cap_ffmpeg_impl.hpp).
# Remedy: count the frames. (duration - start_time is right for these files; other programs may
# write the difference, and the file does not say which it is.)
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

FRAMES, RATE = 50, 25


def write(path, first):
    """Write pictures at first, first + 1, ... in units of 1 / 25 s."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libvpx" if path.endswith("webm") else "libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for k in range(FRAMES):
            picture = np.full((64, 128, 3), 4 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = first + k, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def look(path):
    """Return duration and start in seconds, and how many frames OpenCV counts and reads."""
    with av.open(path) as file:
        duration, start = file.duration / av.time_base, file.start_time / av.time_base
        times = [frame.time for frame in file.decode(video=0)]
    assert len(times) == FRAMES and abs(times[0] - start) < 0.001
    assert abs(times[-1] - times[0] - (FRAMES - 1) / RATE) < 0.001
    capture, read = cv2.VideoCapture(path), 0
    counted = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    while capture.read()[0]:
        read += 1
    return round(duration, 2), round(start, 2), counted, read


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info, "OpenCV", cv2.__version__)
print(f"expected: a duration of {FRAMES / RATE} s, {FRAMES} frames counted and read")
seen = {}
for first in (0, 50):
    for suffix in ("mp4", "mkv", "webm"):
        path = f"from_{first // RATE}_s.{suffix}"
        write(path, first)
        duration, start, counted, read = seen[first, suffix] = look(path)
        print(f"seen: {path}: {duration} s from {start} s on, {counted} counted, {read} read")

assert all(found == (2, 0, 50, 50) for (first, _), found in seen.items() if first == 0)
assert seen[50, "mp4"] == (2, 2, 50, 50)
assert seen[50, "mkv"] == seen[50, "webm"] == (4, 2, 100, 50), "the duration is one now"
PY
