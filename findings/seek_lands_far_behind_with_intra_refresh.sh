#!/usr/bin/env bash
# In H.264 with periodic intra refresh a jump to time t gives, without an error, a first picture
# that comes a second after t, and near the end none at all.
#
# Why it matters: such a stream has one true keyframe, the first. Every so often a column of fresh
# blocks begins to wander through the picture; encoders for little delay (x264's intra-refresh,
# screen sharing, drones) write streams so. mp4 and mkv mark where each wandering begins as a
# keyframe. A reader that seeks and takes the first picture at or after t, which is right for other
# files, gets another moment: the picture is good, and not marked as corrupt. From the beginning all
# pictures are there.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2), 19.0.2 (FFmpeg 9.0.2).
# Source: a recovery point SEI (ITU-T H.264, annex D) says after how many pictures all is fresh.
# FFmpeg's decoder (libavcodec/h264dec.c) drops those before; to x264 and FFmpeg's parser
# (libavcodec/h264_parser.c) the point itself is a keyframe.
# Remedy: compare the time of the first picture after a seek with the time that was asked for; if it
# is later, begin at an earlier keyframe, in the end at the first.
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

FRAMES, TARGETS = 100, (30, 60, 80)
moving = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
moving = moving.repeat(8, 0).repeat(8, 1)


def write(path, options):
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"qp": "12", "x264-params": f"threads=1:keyint=25:bframes=2{options}"}
        for k in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(moving, 3 * k, 1), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def first_from(path, times, target):
    """Number of the first picture at or after the target's time, as a seeking reader gets it."""
    with av.open(path) as file:
        stream = file.streams.video[0]
        file.seek(times[target], stream=stream)
        for frame in file.decode(stream):
            assert not frame.is_corrupt
            if frame.pts >= times[target]:
                return times.index(frame.pts)
    return None


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
seen = {}
for kind, options in (("usual", ":scenecut=0"), ("refresh", ":intra-refresh=1")):
    for path in (f"{kind}.mp4", f"{kind}.mkv"):
        write(path, options)
        with av.open(path) as file:
            packets = [packet for packet in file.demux(video=0) if packet.size]
            keys = [k for k, packet in enumerate(packets) if packet.is_keyframe]
        with av.open(path) as file:
            times = [frame.pts for frame in file.decode(video=0)]
        assert len(times) == FRAMES, "from the beginning all pictures are there"
        seen[path] = [first_from(path, times, target) for target in TARGETS]
        print(f"{path}: {FRAMES} pictures, packets marked as keyframes: {keys}")
        print(f"  expected: first picture from number {TARGETS} on: {list(TARGETS)}")
        print(f"  seen:     first picture from number {TARGETS} on: {seen[path]}")

for end in ("mp4", "mkv"):
    assert seen[f"usual.{end}"] == list(TARGETS)
    first, _, last = seen[f"refresh.{end}"]
    assert first > TARGETS[0] + 12 and last is None, "no pictures are missing now"
PY
