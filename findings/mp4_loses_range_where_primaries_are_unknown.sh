#!/usr/bin/env bash
# FFmpeg writes what it was told of a video's colours into an mp4 only if range, matrix, primaries
# and transfer function are all known. One unknown among them, and for codecs that do not say it in
# their own stream (MPEG-4, FFV1) the range and the matrix are lost as well, without a word.
#
# Why it matters: a full-range video, as phones and webcams write them, is shown and decoded as a
# limited one: dark greys become black and light ones white. In Matroska the same video is right,
# in mp4 with H.264 too, so a test with either finds nothing.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2).
# Source: FFmpeg's documentation of the mov and mp4 muxers (`movflags`, write_colr) says only that
# the option writes the atom; libavformat/movenc.c decides when it does so unasked.
# Remedy: `movflags=+write_colr`, which writes what is known.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np

FULL, BT709, UNKNOWN = 2, 1, 2
GREY = np.full((64, 96, 3), 16, np.uint8)  # limited video would call this level black


def write_and_read(codec, primaries, name="a.mp4", **options):
    """The range that the file says, and the level that a decoder gives."""
    with av.open(name, "w", options=options) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        coder = stream.codec_context
        coder.color_range, coder.colorspace = FULL, BT709
        coder.color_primaries = coder.color_trc = primaries
        frame = av.VideoFrame.from_ndarray(GREY, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=BT709, dst_color_range=FULL
        )
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(name) as file:
        frame = next(file.decode(video=0))
        found = int(file.streams.video[0].codec_context.color_range)
        return found, round(float(frame.to_ndarray(format="rgb24").mean()))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: range 2 (full) and a level near 16 from every file")
for codec in ("ffv1", "mpeg4"):
    cases = {
        "all known": write_and_read(codec, BT709),
        "primaries unknown": write_and_read(codec, UNKNOWN),
        "primaries unknown, +write_colr": write_and_read(codec, UNKNOWN, movflags="+write_colr"),
        "primaries unknown, Matroska": write_and_read(codec, UNKNOWN, "a.mkv"),
    }
    for case, (found, level) in cases.items():
        print(f"seen: {codec}, {case}: range {found}, level {level}")
    lost = cases.pop("primaries unknown")
    assert lost[0] == 0 and lost[1] < 3, "the range is kept now"
    assert all(found == FULL and 12 < level < 18 for found, level in cases.values())
PY
