#!/usr/bin/env bash
# An encoder's option that does not exist is passed over in PyAV: {"crff": "18"} for x264, or
# {"crf": "18"} for MPEG-4, which has no such option, give the same bytes as no option at all,
# without an error, a warning or a line in the log.
#
# Why it matters: FFmpeg's program stops at such an option, and PyAV itself warns of one for a
# container. A data set is encoded with the default quality, and the numbers in the code say
# otherwise; or a comparison of qualities finds that they make no difference.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `avcodec_open2` takes what it knows out of the options and leaves the rest, for the caller
# to look at; `CodecContext.open` in PyAV's av/codec/context.py puts the rest back into `options`.
# Remedy: look there after the first frame: `assert not stream.codec_context.options`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import io
import logging

import av
import numpy as np

log = io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)
av.logging.set_level(av.logging.WARNING)
PICTURES = np.random.default_rng(0).integers(0, 256, (10, 72, 128, 3), np.uint8)


def encode(codec, **options):
    """The bytes of the packets, and the options that are left once the encoder is open."""
    with av.open(io.BytesIO(), "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        packets = []
        for picture in PICTURES:
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        packets += stream.encode(None)
        out.mux(packets)
        return b"".join(map(bytes, packets)), dict(stream.codec_context.options)


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: an error, or other bytes than without options")
seen = {}
for codec, options in (
    ("libx264", {}),
    ("libx264", {"crf": "18"}),
    ("libx264", {"crff": "18"}),
    ("libx264", {"CRF": "18"}),
    ("mpeg4", {}),
    ("mpeg4", {"crf": "18"}),
):
    found, left = encode(codec, **options)
    seen[codec, *options] = found, left
    print(f"seen: {codec} {options}: {len(found)} bytes, left in options: {left}")
print("seen in the log:", repr(log.getvalue()))

assert seen["libx264", "crf"][0] != seen["libx264",][0] and not seen["libx264", "crf"][1]
for codec, option in (("libx264", "crff"), ("libx264", "CRF"), ("mpeg4", "crf")):
    assert seen[codec, option][0] == seen[codec,][0], "unknown options count now"
    assert seen[codec, option][1] == {option: "18"}, "the remedy"
assert "Option" not in log.getvalue() and "option" not in log.getvalue()
PY
