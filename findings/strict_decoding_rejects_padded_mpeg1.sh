#!/usr/bin/env bash
# Decoding with err_detect=explode+bitstream, the usual way to have damage reported, refuses most
# pictures of a sound MPEG-1 video of constant rate; with either flag alone it refuses none.
#
# Why it matters: Video CDs and many old films have a constant rate, which the encoder reaches by
# zeros after a picture's last slice, as the standard allows. A check of a data set that asks FFmpeg
# for strictness calls such files damaged. MPEG-2, decoded by the same code, fails alike.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2).
# Source: `mpeg_decode_slice` in libavcodec/mpeg12dec.c: with "bitstream" more than 8 bits left
# after the last macroblock are a fault, which is logged; with "explode" faults are errors.
# Remedy: "explode" alone for mpeg1video and mpeg2video.
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

FRAMES = 24
CONSTANT = {key: "1000000" for key in ("b", "minrate", "maxrate", "bufsize")}
picture = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
picture = picture.repeat(8, 0).repeat(8, 1)


def write(path, codec, options):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.options = options
        for k in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, k, 1), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def count(path, strictness):
    """How many packets the decoder refuses."""
    refused = 0
    with av.open(path) as file:
        stream = file.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.options = {"err_detect": strictness}
        for packet in file.demux(stream):
            try:
                stream.decode(packet)
            except av.error.InvalidDataError:
                refused += 1
    return refused


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
for codec in ("mpeg1video", "mpeg2video"):
    for kind, options in (("constant", CONSTANT), ("varying", {"b": "1000000"})):
        write("a.mpg", codec, options)
        seen = [count("a.mpg", flags) for flags in ("explode", "bitstream", "explode+bitstream")]
        print(f"{codec}, {kind} rate, {FRAMES} pictures; refused with explode, bitstream, both:")
        print(f"  expected: [0, 0, 0]\n  seen:     {seen}")
        assert seen[:2] == [0, 0], "they are sound"
        assert (seen[2] > FRAMES // 2) == (kind == "constant"), "strictness accepts padding now"
PY
