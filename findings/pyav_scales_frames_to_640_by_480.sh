#!/usr/bin/env bash
# A video stream of PyAV that is not given a size is 640 x 480, and frames of any other size are
# scaled to it, without a word; so is a frame that differs from the stream's size later on.
#
# Why it matters: one expects an error, or the size of the first frame. A clip of 256 x 256 comes
# out larger and wider than it was, readers and networks take it, and boxes and masks no longer fit.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `OutputContainer.add_stream` in PyAV's av/container/output.py has the two numbers as
# defaults, and `_prepare_frames_for_encode` in av/video/codeccontext.py reformats every frame that
# is not as the encoder wants it.
# Remedy: `add_stream(codec, rate=..., width=..., height=...)`, and compare the size of each frame.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import io
import logging
import warnings

import av
import numpy as np

log = io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)
av.logging.set_level(av.logging.WARNING)
warnings.simplefilter("error")


def sizes(given, **size):
    """Sizes (width, height) of frames that are read again."""
    with av.open("video.mkv", "w") as out:
        stream = out.add_stream("ffv1", rate=25, **size)
        for width, height in given:
            picture = np.zeros((height, width, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open("video.mkv") as file:
        return [(frame.width, frame.height) for frame in file.decode(video=0)]


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
seen = []
for given, size in (
    ([(256, 256)] * 2, {}),
    ([(256, 256), (128, 64)], {"width": 256, "height": 256}),
):
    print("expected:", given, "or an error")
    seen.append(sizes(given, **size))
    print("seen:    ", seen[-1])

assert seen[0] == [(640, 480)] * 2, "a missing size is treated otherwise now"
assert seen[1] == [(256, 256)] * 2, "frames of another size are treated otherwise now"
assert not log.getvalue()
PY
