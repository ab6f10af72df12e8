#!/usr/bin/env bash
# ACCURATE_RND sounds as if it changed the rounding of a colour conversion, by one level perhaps.
# On 8-bit 4:2:0 video it changes colours by 50 levels and more where two colours meet. And
# without it the interpolation that was asked for is ignored: nearest and bicubic give the same
# bytes.
#
# Why it matters: two readers of one file, both "bicubic", feed a network different pictures;
# tests with a tolerance of some levels fail, and the flag for exactness looks like a bug.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1, libswscale 9.5).
# Source: `ff_get_unscaled_swscale` in libswscale/swscale_unscaled.c: where the size stays, a
# special converter takes over that repeats each chroma sample for its 2 x 2 pixels, unless the
# flag is set (or the height is odd, or the video has 10 bits): then the general scaler
# interpolates chroma.
# Remedy: use one set of flags in every reader that is to agree, and name it beside the weights.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np
from av.video.reformatter import Interpolation

# Two colours of equal brightness one above the other.
frame = av.VideoFrame(128, 64, "yuv420p")
for plane, (upper, lower) in zip(frame.planes, ((120, 120), (40, 216), (216, 40)), strict=True):
    rows = np.full((plane.height, plane.line_size), lower, np.uint8)
    rows[: plane.height // 2] = upper
    plane.update(rows.tobytes())


def convert(flags):
    return frame.reformat(format="rgb24", interpolation=flags).to_ndarray().astype(int)


def apart(one, other):
    return int(abs(convert(one) - convert(other)).max())


exact = Interpolation.ACCURATE_RND
print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: nearest and bicubic differ much, a rounding flag by one level or two")
by_kind = apart(Interpolation.POINT, Interpolation.BICUBIC)
by_flag = apart(Interpolation.BICUBIC, Interpolation.BICUBIC | exact)
by_kind_exact = apart(Interpolation.POINT | exact, Interpolation.BICUBIC | exact)
print(f"seen: nearest against bicubic: {by_kind} levels at most")
print(f"seen: bicubic without against with ACCURATE_RND: {by_flag} levels at most")
print(f"seen: nearest against bicubic, both with ACCURATE_RND: {by_kind_exact} levels at most")

assert by_kind == 0, "the interpolation is heeded now"
assert by_flag > 40, "the flag changes only the rounding now"
assert by_kind_exact > 40
PY
