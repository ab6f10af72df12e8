#!/usr/bin/env bash
# WebM as browsers record it (MediaRecorder) holds no frame rate, and FFmpeg does not find it
# either: the average rate is None, the guessed one 1000 frames a second, for a video of about 15.
#
# Why it matters: 1000 looks like a number; clips sampled by it are empty or a thousandfold, and
# what is written with it lasts 0.04 seconds. Rates from the same library are right for nearly all
# files.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: Matroska's DefaultDuration is optional (RFC 9559). Times are whole milliseconds;
# `ff_rfps_calculate` in libavformat/demux.c finds no common rate for irregular ones, and
# `av_guess_frame_rate` is left with the inverse of the time base.
# Remedy: where there is no average rate, take (n - 1) / (last time - first time).
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

# Times in milliseconds, as uneven as a webcam's.
TIMES = [0, 66, 135, 202, 270, 337, 416, 471, 539, 604, 688, 755, 821, 888, 959, 1053, 1145, 1182]
TIMES += [1239, 1306, 1499, 1532, 1579, 1642, 1708, 1775, 1842, 1909, 1975, 2041, 2108, 2174]


def write(path):
    with av.open(path, "w") as out:
        options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
        stream = out.add_stream("libvpx", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in TIMES:
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 128, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def forget_rate(source, target):
    """Put a Void element over DefaultDuration (0x23E383, four bytes), which browsers leave out."""
    with open(source, "rb") as file:
        data = file.read()
    at = data.index(b"\x23\xe3\x83\x84")
    with open(target, "wb") as file:
        file.write(data[:at] + b"\xec\x86" + bytes(6) + data[at + 8 :])


write("rate.webm")
forget_rate("rate.webm", "norate.webm")
with av.open("norate.webm") as file:
    stream = file.streams.video[0]
    average, guessed = stream.average_rate, stream.guessed_rate
    times = [frame.time for frame in file.decode(stream)]
true = (len(times) - 1) / (times[-1] - times[0])

print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print(f"expected: about {true:.2f} frames a second")
print(f"seen: average_rate {average}, guessed_rate {guessed}")

assert len(times) == len(TIMES) and 14 < true < 15
assert average is None, "there is an average rate now"
assert guessed == 1000, "another rate is guessed now"
PY
