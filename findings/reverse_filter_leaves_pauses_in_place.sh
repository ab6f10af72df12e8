#!/usr/bin/env bash
# FFmpeg's filter `reverse` turns the order of pictures around, but not their times: the last one
# gets the time of the first, and so on. What is a pause at the end of a video stays at the end.
#
# Why it matters: phones, screen recorders and browsers write videos whose pictures do not come at
# even times. Played backwards by this filter (an arrow of time to learn, or labels that are each
# other's reverse) such a video rushes through what was slow, and dwells on what was fast. With even
# times, as in most tests, it is right.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1); the program `ffmpeg` has the same filter.
# Source: `request_frame` in libavfilter/f_reverse.c keeps a list of the times as they came, and
# gives them out in this order, beside the frames from the last to the first.
# Remedy: make times even first (`fps=30,reverse`), or give picture k of n the time first + last -
# time[n - 1 - k].
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

TICK = Fraction(1, 25)


def write(path, times):
    """Write grey pictures, picture k at times[k] / 25 s; its level tells k."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.time_base = TICK
        stream.codec_context.options = {"qp": "10"}
        for k, time in enumerate(times):
            picture = np.full((64, 128, 3), 10 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, TICK
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def reversed_by_filter(path):
    """Return (picture, time in units of 1 / 25 s) as the filter gives them."""
    with av.open(path) as file:
        stream, graph = file.streams.video[0], av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(template=stream), graph.add("reverse"), graph.add("buffersink")
        ).configure()
        for frame in file.decode(stream):
            graph.vpush(frame)
        graph.vpush(None)
        found = []
        while True:
            try:
                frame = graph.vpull()
            except av.EOFError:
                return found
            picture = round(float(frame.to_ndarray(format="rgb24").mean()) / 10)
            found.append((picture, round(frame.pts * frame.time_base / TICK)))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
seen = {}
for name, times in {
    "even": list(range(10)),
    "slow at the end": [0, 1, 2, 3, 4, 5, 15, 25, 35, 45],
}.items():
    write("clip.mp4", times)
    right = [(9 - k, times[-1] - times[9 - k]) for k in range(10)]
    found = reversed_by_filter("clip.mp4")
    seen[name] = found, right
    print(f"expected: {name}: (picture, time)", right)
    print(f"seen: {name}:", found)

found, right = seen["even"]
assert found == right
found, right = seen["slow at the end"]
assert [picture for picture, _ in found] == [picture for picture, _ in right]
assert found != right, "the times are turned around, too"
assert [time for _, time in found] == [0, 1, 2, 3, 4, 5, 15, 25, 35, 45]
PY
