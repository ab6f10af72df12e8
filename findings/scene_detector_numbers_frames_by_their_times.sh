#!/usr/bin/env bash
# PySceneDetect's frame numbers are no frame numbers where pictures do not come at even times. A cut
# before picture 40 is reported as frame 28 by its OpenCV backend, and as frame 60 by PyAV's.
#
# Why it matters: shots cut out by number (decord, torchcodec, extracted JPEGs, the columns "Start
# Frame" and "End Frame" of its tables) then begin in the middle of another shot, seconds away. The
# seconds that it reports are right, and so are the numbers in a video of even times; phones, screen
# recorders and browsers write others. The numbers may even lie beyond the last picture.
# Seen with: PySceneDetect 0.7.2, OpenCV 5.0.0.93, PyAV 18.1.0.
# Source: `FrameTimecode.frame_num` in scenedetect/common.py is round(seconds * rate), by its own
# docstring an approximation; the rate is the mean one from OpenCV and the guessed one from PyAV.
# Remedy: take `.seconds`, and find the number by the times of all pictures.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet scenedetect==0.7.2 opencv-python-headless==5.0.0.93 \
    av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np
import scenedetect
from scenedetect import ContentDetector, SceneManager, open_video

FRAMES, CUT = 80, 40


def write(path, times):
    """Write pictures, picture k at times[k] / 25 s: dark ones up to the cut, then light ones."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for k, time in enumerate(times):
            picture = np.full((128, 256, 3), 30 if k < CUT else 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def first_cut(path, backend):
    """Return the frame number and the time in seconds at which the second scene begins."""
    manager = SceneManager()
    manager.add_detector(ContentDetector())
    manager.detect_scenes(open_video(path, backend=backend))
    _, (start, _) = manager.get_scene_list()
    return start.frame_num, round(start.seconds, 3)


print("PySceneDetect", scenedetect.__version__)
seen = {}
for name, times in {
    "even": list(range(FRAMES)),
    "uneven": [k if k < 30 else 30 + 3 * (k - 30) for k in range(FRAMES)],  # then a third as many
}.items():
    write(f"{name}.mp4", times)
    print(f"expected: {name}.mp4: frame {CUT}, {times[CUT] / 25} s")
    for backend in ("opencv", "pyav"):
        number, seconds = seen[name, backend] = first_cut(f"{name}.mp4", backend)
        print(f"seen: {name}.mp4, {backend}: frame {number}, {seconds} s")
        assert seconds == times[CUT] / 25

assert {seen["even", backend][0] for backend in ("opencv", "pyav")} == {CUT}
assert seen["uneven", "opencv"][0] < CUT < seen["uneven", "pyav"][0], "pictures are counted now"
PY
