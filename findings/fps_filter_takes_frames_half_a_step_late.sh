#!/usr/bin/env bash
# `ffmpeg -vf fps=1`, the usual way to take one frame a second, takes the frames at 0.48, 1.48, 2.48
# s of a video of 25 frames a second, and gives them the times 0, 1, 2.
#
# Why it matters: features, thumbnails and labels by the second belong half a step later than their
# names and times say, at 5 a second 0.08 s. Frames that PyAV, OpenCV or decord pick by time are
# others, and in a quiet video nobody sees it. `-r 1` is no way out: it takes 0, 0.04, 0.88, 1.88 s.
# Seen with: FFmpeg 9.0.2 (imageio-ffmpeg 0.8.1), PyAV 18.1.0 (FFmpeg 8.1) with the same filter.
# Source: libavfilter/vf_fps.c rounds the time of each frame to a step ("near"), so that all from
# 0.5 to 1.48 s belong to step 1, and of those it keeps the last. The documentation says "round to
# nearest", which sounds like the frame nearest to the step.
# Remedy: fps=1:round=up, where the last frame of a step is the one at it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import subprocess
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np

RATE, COUNT, SIZE = 25, 101, 16
PICTURES = [np.full((SIZE, SIZE), k, np.uint8) for k in range(COUNT)]  # each holds its number


def by_program(*options):
    """When in the video those pictures come that FFmpeg's program writes, in seconds."""
    form = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{SIZE}x{SIZE}"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *form, "-r", str(RATE), "-i", "-"]
    command += [*options, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    video = b"".join(picture.tobytes() for picture in PICTURES)
    done = subprocess.run(command, input=video, capture_output=True, check=True)
    return (np.frombuffer(done.stdout, np.uint8)[:: SIZE * SIZE] / RATE).tolist()


def by_pyav(options):
    """The same by PyAV's filters, and the times that the pictures have afterwards."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=SIZE, height=SIZE, format="gray", time_base=Fraction(1, RATE))
    steps = [source, graph.add("fps", options), graph.add("buffersink")]
    graph.link_nodes(*steps).configure()
    for k, picture in enumerate(PICTURES):
        frame = av.VideoFrame.from_ndarray(picture, format="gray")
        frame.pts, frame.time_base = k, Fraction(1, RATE)
        graph.vpush(frame)
    graph.vpush(None)
    seen = []
    while True:
        try:
            frame = graph.vpull()
        except EOFError:
            return [(frame.time, int(frame.to_ndarray()[0, 0]) / RATE) for frame in seen]
        seen.append(frame)


print("FFmpeg", imageio_ffmpeg.get_ffmpeg_version(), "and", av.ffmpeg_version_info)
print("expected: [0.0, 1.0, 2.0, 3.0], or one more")
seen = by_program("-vf", "fps=1")
print("seen: fps=1:", seen)
print("seen: fps=1 in PyAV, time after the filter and before:", by_pyav("1"))
print("seen: fps=5:", by_program("-vf", "fps=5")[:4])
up = by_program("-vf", "fps=1:round=up")
print("seen: fps=1:round=up:", up)
print("seen: -r 1:", by_program("-r", "1"))

assert up[:4] == [0, 1, 2, 3]
assert by_pyav("1") == list(enumerate(seen))
assert seen == [0.48, 1.48, 2.48, 3.48], "other pictures are taken now"
PY
