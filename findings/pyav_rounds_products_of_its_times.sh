#!/usr/bin/env bash
# PyAV 19 has a number type of its own for time bases and rates. It calls itself a `Rational`, and
# equals the `Fraction` that earlier versions gave, but the product, quotient or sum of two such
# numbers is rounded to what fits 32 bits: the product of two ordinary clocks is nearly twice what it
# should be, without a word.
#
# Why it matters: "one tick of both clocks", `video.time_base * audio.time_base`, and sums such as
# `start * unit + delay * other_unit` were exact for years. Numbers of Python on one side help:
# an int or a Fraction times such a number is an exact Fraction, so that most code goes on working.
# `limit_denominator`, which fractions have, is missing, too.
# Seen with: PyAV 19.0.2 (Python 3.13; it needs 3.12 or newer); 18.1.0 gives exact fractions.
# Source: `AVRational` in PyAV's av/rational.py computes by FFmpeg's av_mul_q, whose result has to
# fit two 32-bit integers.
# Remedy: wrap the first number, `Fraction(stream.time_base) * other.time_base`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for python in "${PYTHON:-python3}" python3.{14,13,12} "$HOME"/.pyenv/versions/3.1[2-4].*/bin/python; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then break; fi
done
"$python" -m venv venv
venv/bin/python -m pip install --quiet av==19.0.2

venv/bin/python - <<'PY'
from fractions import Fraction
from numbers import Rational

import av

with av.open("clip.mp4", "w", options={"video_track_timescale": "90000"}) as out:
    video, audio = out.add_stream("libx264", rate=30), out.add_stream("aac", rate=44100)
    video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
    for _ in range(30):
        out.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
    sound = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
    sound.sample_rate = 44100
    out.mux(audio.encode(sound))
    for stream in (video, audio):
        out.mux(stream.encode(None))

with av.open("clip.mp4") as file:
    video, audio = file.streams.video[0].time_base, file.streams.audio[0].time_base
print("PyAV", av.__version__, "- time bases", video, "and", audio, "are", type(video).__name__)
exact = Fraction(video) * Fraction(audio)
print(f"expected: their product is {exact}, their exact sum {Fraction(video) + Fraction(audio)}")
print(f"seen:     {video * audio}; with a Fraction on one side {Fraction(video) * audio}")

assert isinstance(video, Rational) and video == Fraction(1, 90000) and audio == Fraction(1, 44100)
assert Fraction(video) * audio == exact and type(3 * video) is Fraction
assert video * audio == Fraction(1, 2**31 - 1), "products are exact now"
assert not hasattr(video, "limit_denominator"), "it has the methods of a fraction now"
PY
