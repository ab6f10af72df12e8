#!/usr/bin/env bash
# Reading `frame.side_data` ties a decoded frame into a reference cycle: it is not freed when the
# last name for it goes, but when Python's garbage collector comes by, after hundreds of pictures.
#
# Why it matters: side data holds the display matrix of each frame, so that a careful reader looks
# at it every time. The collector counts objects, not bytes: some hundred
# pictures of 1920 x 1080 are few objects, and 530 MB more memory in each worker process.
# Seen with: PyAV 18.1.0 (Python 3.11 and 3.13); 19.0.2 frees the frames at once.
# Source: `Frame.side_data` in PyAV's av/frame.py keeps the container it makes in the frame, and
# the container and each of its entries keep the frame.
# Remedy: `frame.rotation` where the angle will do, or read the side data of the first frame
# alone; call `gc.collect()` after reading it of many.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0

venv/bin/python - <<'PY'
import gc

import av

FRAMES = 300

with av.open("clip.mp4", "w") as out:
    stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
    stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
    stream.set_display_rotation(90)
    for _ in range(FRAMES):
        out.mux(stream.encode(av.VideoFrame(640, 360, "yuv420p")))
    out.mux(stream.encode(None))


def alive():
    return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())


def most_alive(look):
    gc.collect()
    most = 0
    with av.open("clip.mp4") as file:
        for frame in file.decode(video=0):
            look(frame)
            most = max(most, alive())
    return most


print("PyAV", av.__version__)
print("expected: a frame is freed when the next one takes its name")
untouched = most_alive(lambda frame: None)
rotation = most_alive(lambda frame: frame.rotation)
side_data = most_alive(lambda frame: frame.side_data)
gc.disable()
without_collector = most_alive(lambda frame: frame.side_data)
freed = without_collector - (gc.collect(), alive())[1]
print(f"seen: at most {untouched} frames alive when none is looked at, {rotation} with .rotation")
print(f"seen: at most {side_data} with .side_data, of {FRAMES} decoded")
print(f"seen: {without_collector} without the collector, {freed} of them freed by it afterwards")

assert untouched <= 2 and rotation <= 2
assert side_data > 20, "frames are freed at once now"
assert without_collector >= FRAMES and freed >= FRAMES
PY
