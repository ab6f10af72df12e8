#!/usr/bin/env bash
# In Matroska and WebM of 30 frames a second a third of the frames cannot be found by k / 30 s,
# whichever way one looks: the last frame up to that time is the one before, or the first frame from
# that time on is the one after.
#
# Why it matters: annotations of actions, robots' logs and many data sets count in seconds that were
# made from frame numbers. In mp4 the same pictures are found by the same seconds. Clips become one
# frame longer or shorter and begin one frame off, here and there, and all pictures look right. Of
# 24000 / 1001 frames a second nearly half are missed; at 25 and 50, as in many tests, none.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: times in Matroska are whole milliseconds unless a file says otherwise (TimestampScale, RFC
# 9559): frame 2 of 30 a second is at 67 ms, after 2 / 30 s, and frame 1 at 33, before 1 / 30 s.
# Remedy: look with a little over half a millisecond to spare, `time + 0.0006`, or for the nearest
# frame.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from bisect import bisect_left, bisect_right
from fractions import Fraction

import av
import numpy as np

FRAMES = 300


def times_of(path, rate):
    """Write a video at an even rate, and return the times of its frames, exactly."""
    codec = "libvpx" if path.endswith("webm") else "libx264"
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for k in range(FRAMES):
            picture = np.full((64, 64, 3), k % 200, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(path) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print(f"expected: by k / rate frame k is found, for each of {FRAMES} frames")
seen = {}
for rate in (Fraction(25), Fraction(30), Fraction(24000, 1001)):
    for path in ("a.mp4", "a.mkv", "a.webm"):
        times = times_of(path, rate)
        assert len(times) == FRAMES
        wanted = [k / rate for k in range(FRAMES)]
        before = sum(bisect_right(times, time) - 1 < k for k, time in enumerate(wanted))
        after = sum(bisect_left(times, time) > k for k, time in enumerate(wanted))
        spare = Fraction(6, 10_000)
        mended = sum(bisect_right(times, time + spare) - 1 != k for k, time in enumerate(wanted))
        seen[path, rate] = before, after, mended
        print(f"seen: {path}, rate {rate}: {before} frames too early, {after} too late;", end=" ")
        print(f"with 0.6 ms to spare {mended} wrong")

for (path, rate), (before, after, mended) in seen.items():
    assert mended == 0
    if path == "a.mp4" or rate == 25:
        assert before == after == 0, (path, rate)
    else:
        least = 99 if rate == 30 else 130
        assert before >= least and after >= least, "times are finer now"
PY
