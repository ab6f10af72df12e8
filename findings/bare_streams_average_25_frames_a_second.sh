#!/usr/bin/env bash
# A bare H.264, HEVC or MPEG-2 stream (.h264, .hevc, .m2v: cameras, `-f h264`, extracted tracks)
# says how many frames a second it has. PyAV's `average_rate` is 25 for all of them.
#
# Why it matters: `average_rate` is the number that code takes for a file's rate, and it is right
# for mp4, Matroska and AVI. A video of 60 frames a second gets timings, samples and copies that
# last more than twice as long, and 25 is too ordinary a number to be noticed. H.264's frames have
# no times either, which could show it.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1). FFmpeg 5.1 prints the right rate for the same files.
# Source: 25 is the default of the option `framerate` of FFmpeg's demuxers for bare streams
# (libavformat/rawdec.c), which is there for streams that state no rate.
# Remedy: `stream.codec_context.framerate`. `guessed_rate` is right too, up to 105 frames a second
# in H.264: from there on `av_guess_frame_rate` prefers the 25.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np

KINDS = {"h264": "libx264", "hevc": "libx265", "m2v": "mpeg2video"}


def rates(suffix, rate):
    """What is said of a video of `rate` frames a second: average, guessed, the codec's own."""
    with av.open(f"a.{suffix}", "w") as out:
        stream = out.add_stream(KINDS[suffix], rate=rate)
        stream.options = {"x265-params": "log-level=none"} if suffix == "hevc" else {}
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for k in range(20):
            picture = np.full((64, 128, 3), 10 * k, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(f"a.{suffix}") as file:
        stream = file.streams.video[0]
        return stream.average_rate, stream.guessed_rate, stream.codec_context.framerate


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: the rate with which each was written")
for suffix in KINDS:
    for rate in (24, 30, 60):
        found = rates(suffix, rate)
        print(f"seen: {suffix} of {rate}: average_rate {found[0]}, then {found[1]} and {found[2]}")
        assert found == (25, rate, rate), "other rates are said now"
found = rates("h264", 120)
print(f"seen: h264 of 120: average_rate {found[0]}, then {found[1]} and {found[2]}")
assert found == (25, 25, 120), "another rate is guessed now"
PY
