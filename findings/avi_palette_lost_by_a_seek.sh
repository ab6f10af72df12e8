#!/usr/bin/env bash
# Uncompressed AVI with a palette (8 bits a pixel: grey AVIs of microscopes, lab cameras, Matlab):
# every picture is black if decoding begins anywhere but at the first packet. Nothing is raised.
#
# Why it matters: every picture of such a file is a keyframe, so that a seek looks safe; and
# parallel readers that each begin at another place hand black pictures to a network.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: libavformat/avidec.c puts the palette into the first packet only, as side data, and then
# clears `has_pal`; libavcodec/rawdec.c keeps the last palette that came with a packet.
# Remedy: let the decoder have the file's first packet before the seek (decode one frame, then
# seek).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import struct

import av

WIDTH, HEIGHT, LEVELS = 16, 16, [20, 60, 100, 140, 180, 220]


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data


def write(path):
    size, count = WIDTH * HEIGHT, len(LEVELS)
    palette = b"".join(bytes([k, k, k, 0]) for k in range(256))
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 0, size, 0, 0, 256, 0) + palette
    head = struct.pack("<4s4s10I", b"vids", b"DIB ", 0, 0, 0, 1, 25, 0, count, size, 0xFFFFFFFF, 0)
    head += struct.pack("<4h", 0, 0, WIDTH, HEIGHT)
    main = struct.pack("<10I", 40000, 25 * size, 0, 16, count, 0, 1, size, WIDTH, HEIGHT)
    main += bytes(16)
    movi, index = b"movi", b""
    for level in LEVELS:
        index += struct.pack("<4sIII", b"00db", 16, len(movi), size)
        movi += chunk(b"00db", bytes([level]) * size)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", head) + chunk(b"strf", info))
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + stream)
    with open(path, "wb") as file:
        file.write(chunk(b"RIFF", b"AVI " + headers + chunk(b"LIST", movi) + chunk(b"idx1", index)))


def read(*, first, seek):
    with av.open("grey.avi") as file:
        stream = file.streams.video[0]
        if first:
            next(file.decode(stream))
        if seek:
            file.seek(3, stream=stream)
        return [round(f.to_ndarray(format="gray").mean()) for f in file.decode(stream)]


write("grey.avi")
print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: the same grey levels, wherever decoding begins:", LEVELS[3:])
whole, sought, primed = (read(first=f, seek=s) for f, s in ((0, 0), (0, 1), (1, 1)))
print("seen: decoded from the start:", whole)
print("seen: after a seek to the fourth frame:", sought)
print("seen: after one frame and then the same seek:", primed)

assert all(abs(a - b) < 3 for a, b in zip(whole, LEVELS, strict=True))
assert sought == [0, 0, 0], "a seek keeps the palette now"
assert primed == whole[3:]
PY
