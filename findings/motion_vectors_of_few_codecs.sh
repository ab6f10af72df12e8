#!/usr/bin/env bash
# Motion vectors (`export_side_data=mvs`) come from the decoders of H.264 and MPEG-2 and -4, while
# those of HEVC, VP8, VP9 and AV1 take the same option without a word, and give none.
#
# Why it matters: the option belongs to all decoders (FFmpeg lists it among the general ones), and
# a picture without vectors is nothing unusual: one that stands on its own has none. So a program
# that was tried on H.264 finds in a folder of HEVC or WebM, which phones and browsers write, that
# nothing ever moves.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2), 19.0.2 (FFmpeg 9.0.2).
# Source: libavcodec offers `export_side_data` to every decoder, and leaves it to each whether it
# looks at `AV_CODEC_EXPORT_DATA_MVS`: of these the three do.
# Remedy: look at the codec first, or count the pictures that have any; encode others as H.264.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import gc
from fractions import Fraction

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)
QUIET = {"libx265": {"x265-params": "log-level=none"}}
CODECS = {
    "mpeg2video": "a.mkv", "mpeg4": "b.mp4", "libx264": "c.mp4",
    "libx265": "d.mp4", "libvpx": "e.webm", "libvpx-vp9": "f.webm", "libsvtav1": "g.mp4",
}
FRAMES = 24
noise = np.random.default_rng(0).integers(0, 255, (16, 32), np.uint8)
scene = np.kron(noise, np.ones((8, 8), np.uint8))  # 128 x 256 pixels, which slide by 4 a frame


def write(path, codec):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options=QUIET.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for k in range(FRAMES):
            picture = np.repeat(scene[:, 4 * k : 4 * k + 128, None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: vectors of nearly all of", FRAMES, "frames, or an error")
seen = {}
for codec, path in CODECS.items():
    if codec not in av.codecs_available:
        continue
    write(path, codec)
    with av.open(path) as file:
        stream = file.streams.video[0]
        stream.codec_context.options = {"export_side_data": "mvs"}
        has = [bool(frame.side_data.get("MOTION_VECTORS")) for frame in file.decode(stream)]
    gc.collect()
    seen[stream.name] = sum(has)
print("seen:", ", ".join(f"{name} {count}" for name, count in seen.items()))

some = {"mpeg2video", "mpeg4", "h264"}
assert all(seen[name] >= FRAMES - 4 for name in some)
assert seen["hevc"] == 0
assert {name for name, count in seen.items() if count} == some, "other decoders give them now"
PY
