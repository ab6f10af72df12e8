#!/usr/bin/env bash
# An mp4 whose middle was cut out (an edit list of two parts, as QuickTime and phones write it)
# gives more packets than it has pictures, and two packets have the same time: one shown, one
# hidden. The part that was cut out is still handed over, with times that belong to the pictures
# around it.
#
# Why it matters: a table from packet times to frames, which seeking readers keep, is ambiguous;
# and `stream.frames` is neither the number of packets nor that of frames.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `mov_fix_index` in libavformat/mov.c rebuilds the index, one part after another, and
# marks what each part needs for decoding only with AV_PKT_FLAG_DISCARD; a picture that two parts
# need is listed twice.
# Remedy: leave out packets with `is_discard` before counting, sorting or looking up by time.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import struct
from fractions import Fraction

import av
import numpy as np

COUNT, RATE = 60, 25


def write(path):
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 2
        stream.codec_context.options = {"x264-params": "scenecut=0:b-adapt=0", "qp": "10"}
        for k in range(COUNT):
            picture = np.full((64, 128, 3), 4 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def keep(source, target, parts):
    """Write an edit list that shows frames [first, last) of each of ``parts`` only."""
    with open(source, "rb") as file:
        data = bytearray(file.read())
    per_second = struct.unpack(">I", data[data.index(b"mvhd") + 16 :][:4])[0]
    media = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0]
    at = data.index(b"elst")
    old = struct.unpack(">I", data[at - 4 : at])[0]
    start = struct.unpack(">i", data[at + 16 :][:4])[0]
    new = struct.pack(">I4sII", 16 + 12 * len(parts), b"elst", 0, len(parts))
    for first, last in parts:
        duration = per_second * (last - first) // RATE
        new += struct.pack(">IiI", duration, start + media * first // RATE, 1 << 16)
    data[at - 4 : at - 4 + old] = new
    for box in (b"edts", b"trak", b"moov"):  # those around it; the pictures lie before them
        name = data.rindex(box, 0, at)
        size = struct.unpack(">I", data[name - 4 : name])[0] + len(new) - old
        data[name - 4 : name] = struct.pack(">I", size)
    assert data.index(b"mdat") < data.index(b"moov")
    with open(target, "wb") as file:
        file.write(data)


write("whole.mp4")
keep("whole.mp4", "cut.mp4", [(0, 20), (40, 60)])
with av.open("cut.mp4") as file:
    listed = file.streams.video[0].frames
    packets = [packet for packet in file.demux(video=0) if packet.size]
with av.open("cut.mp4") as file:
    frames = [round(f.to_ndarray(format="rgb24").mean() / 4) for f in file.decode(video=0)]
shown = [packet.pts for packet in packets if not packet.is_discard]
shared = set(shown) & {packet.pts for packet in packets if packet.is_discard}

print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: 40 packets for 40 frames, or 60 for the 60 pictures in the file, each time once")
print(f"seen: {len(packets)} packets, stream.frames {listed}, {len(frames)} frames decoded")
print(f"seen: {len(shown)} packets are shown; {len(shared)} hidden ones share times with them")

assert frames == [*range(20), *range(40, 60)]
assert listed == COUNT and len(shown) == len(set(shown)) == len(frames)
assert len(packets) > COUNT, "no picture is handed over twice now"
assert len(shared) >= 2, "hidden packets have times of their own now"
PY
