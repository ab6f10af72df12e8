#!/usr/bin/env bash
# `frame.side_data` of a JPEG with EXIF, that is of nearly every camera's and phone's, raises
# "ValueError: 31 is not a valid Type". Decoding and `frame.rotation` work.
#
# Why it matters: one kind that PyAV has no name for takes away all others. A reader that looks
# for the display matrix works on JPEGs of test programs and fails on the first photo.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1). Mended in 19.0.2.
# Source: `sidedata.Type` in PyAV's av/sidedata/sidedata.py ends before AV_FRAME_DATA_EXIF, and
# `_SideDataContainer` names every entry when it is made;
# https://github.com/PyAV-Org/PyAV/pull/2392.
# Remedy: PyAV 19, or `frame.rotation`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0

venv/bin/python - <<'PY'
import io
import struct

import av

memory = io.BytesIO()
with av.open(memory, "w", format="mjpeg") as out:
    stream = out.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 16, "yuvj420p"
    out.mux(stream.encode(av.VideoFrame(32, 16, "yuvj420p")))
    out.mux(stream.encode(None))
plain = memory.getvalue()

orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # one short: turn by a quarter
exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + orientation + bytes(4)
photo = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + plain[2:]


def read(data):
    with av.open(io.BytesIO(data)) as file:
        frame = next(file.decode(video=0))
    try:
        side_data = f"{len(frame.side_data)} entries"
    except ValueError as error:
        side_data = f"{type(error).__name__}: {error}"
    return frame.rotation, side_data


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: 2 entries for a photo to be turned by a quarter, DISPLAYMATRIX and EXIF")
seen = {"without EXIF": read(plain), "with EXIF": read(photo)}
for name, (rotation, side_data) in seen.items():
    print(f"seen: JPEG {name}: {rotation=}, side data: {side_data}")

assert seen["without EXIF"] == (0, "0 entries")
assert seen["with EXIF"][0] == -90
assert seen["with EXIF"][1] == "ValueError: 31 is not a valid Type", "the kind has a name now"
PY
