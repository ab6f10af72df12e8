#!/usr/bin/env bash
# An animated AVIF opens as two video streams of the same size, both marked as default: the first
# holds one picture, at one frame a second, the second is the animation. `file.decode(video=0)` and
# `file.streams.video[0]`, which nearly all code takes, end after one frame.
#
# Why it matters: nothing is raised, and code that reads animated GIF and PNG by the first video
# stream takes every AVIF for a still. Browsers show the animation.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1), files by Pillow 13.0 and by FFmpeg's own writer. FFmpeg 5.1
# opened the animation alone.
# Source: such a file holds an image item (`meta`) for programs that show stills, and beside it the
# track (`moov`); libavformat/mov.c now makes a stream of each, the item first.
# Remedy: `file.streams.best("video")`, which looks at the number of frames.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 pillow==13.0.0

venv/bin/python - <<'PY'
import av
import PIL
from PIL import Image

pictures = [Image.new("RGB", (128, 64), (25 * k, 100, 200)) for k in range(9)]
pictures[0].save("a.avif", save_all=True, append_images=pictures[1:], duration=80)
pictures[0].save("a.gif", save_all=True, append_images=pictures[1:], duration=80)


def frames(path, place):
    """How many frames a video stream gives; None stands for the one that FFmpeg calls the best."""
    with av.open(path) as file:
        stream = file.streams.best("video") if place is None else file.streams.video[place]
        return len(list(file.decode(stream)))


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info, "and Pillow", PIL.__version__)
print("expected: 9 frames, as of the GIF:", frames("a.gif", 0))
found = [frames("a.avif", place) for place in (0, 1, None)]
print("seen: first stream {}, second stream {}, the best one {}".format(*found))
with av.open("a.avif") as file:
    said = [(s.width, s.height, int(s.disposition), s.frames) for s in file.streams.video]
print("seen: (width, height, disposition, frames)", *said)

assert frames("a.gif", 0) == 9
assert found == [1, 9, 9], "another stream comes first now"
assert [row[:3] for row in said] == [(128, 64, 1)] * 2, "the streams can be told apart now"
PY
