#!/usr/bin/env bash
# A picture that is only mirrored (a phone's selfie) is reported by PyAV as turned by half a
# circle, and one that is turned by half a circle and mirrored as not turned at all.
#
# Why it matters: code that turns each frame by `frame.rotation` shows selfies upside down, and
# the mistake cannot be seen in the number, since a true half turn gives the same one.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `av_display_rotation_get` in FFmpeg's libavutil/display.c takes the angle from two of
# the matrix's entries alone, and `VideoFrame.rotation` is documented as "the rotation component".
# Remedy: read the frame's DISPLAYMATRIX side data. A negative determinant of its upper left 2 x 2
# numbers means a mirror; FFmpeg's own program looks at the signs for the same reason.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np


def write(path, degrees, mirrored):
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.set_display_rotation(degrees, hflip=mirrored)
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 128, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def read(path):
    with av.open(path) as file:
        frame = next(file.decode(video=0))
        (data,) = (bytes(d) for d in frame.side_data if d.type.name == "DISPLAYMATRIX")
        a, b, _, c, d = np.frombuffer(data, "<i4")[:5] / 65536
        return frame.rotation, round(a * d - b * c)


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: a mirror differs from a half turn")
seen = {}
for degrees, mirrored in ((180, False), (0, True), (180, True)):
    write("clip.mp4", degrees, mirrored)
    seen[degrees, mirrored] = read("clip.mp4")
    rotation, determinant = seen[degrees, mirrored]
    print(f"seen: turned by {degrees}, mirrored {mirrored}: {rotation=}, {determinant=}")

assert abs(seen[180, False][0]) == abs(seen[0, True][0]) == 180, "the angles differ now"
assert seen[180, True][0] == 0, "a half turn with a mirror has an angle now"
assert [seen[k][1] for k in seen] == [1, -1, -1]
PY
