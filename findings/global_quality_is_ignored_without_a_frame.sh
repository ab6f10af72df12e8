#!/usr/bin/env bash
# An MPEG-4 encoder that is asked for a fixed quantizer (`+qscale`, `global_quality`) takes the
# finest one, 2, whatever was asked for, and says nothing.
#
# Why it matters: files come out several times as large as meant, and all numbers tried give the
# same bytes. `ffmpeg -q:v 5` and its documentation suggest that the two options are all there is.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2).
# Source: FFmpeg's encoders read the quality of each frame (`AVFrame.quality`); its program copies
# `global_quality` there, and PyAV has no way to set it.
# Remedy: `qmin` and `qmax` at the quantizer that is meant, beside `+qscale`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np

FF_QP2LAMBDA = 118
pictures = np.random.default_rng(0).integers(0, 255, (10, 64, 96, 3), np.uint8)


def encode(**options):
    """How many bytes ten pictures take."""
    count = 0
    with av.open("a.mp4", "w") as out:
        stream = out.add_stream("mpeg4", rate=25, options={"flags": "+qscale", **options})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            count += sum(packet.size for packet in stream.encode(frame))
        return count + sum(packet.size for packet in stream.encode(None))


asked = {q: encode(global_quality=str(q * FF_QP2LAMBDA)) for q in (2, 5, 20)}
bound = {q: encode(qmin=str(q), qmax=str(q)) for q in (2, 5, 20)}
print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: fewer bytes with quantizer 5 than with 2, and fewer still with 20")
print("seen: with global_quality", asked)
print("seen: with qmin and qmax  ", bound)

assert len({*asked.values()}) == 1, "it is heeded now"
assert asked[2] == bound[2] > bound[5] > bound[20]
PY
