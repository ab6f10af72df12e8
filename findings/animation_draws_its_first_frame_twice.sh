#!/usr/bin/env bash
# FuncAnimation of matplotlib calls its function once more than it has frames: `save`, `to_jshtml`
# and `to_html5_video` call it with the first frame, throw that picture away, and begin again.
#
# Why it matters: a function that goes on from where it was (a step of training per frame, a network
# that sees a video as a stream, a running mean) is one step ahead from the first picture on: the
# start is never shown, and a stream has seen frame 0 twice. `to_jshtml` followed by `save` goes on
# from where the first ended, so that the page and the file differ.
# Seen with: matplotlib 3.11.2.
# Source: `Animation.save` in matplotlib/animation.py calls `_init_draw`, and that of FuncAnimation
# draws the first item of a new sequence of frames if there is no `init_func`, as its documentation
# says. A generator does not change it: the sequence is split by `itertools.tee`.
# Remedy: FuncAnimation(..., init_func=lambda: None), with blit=False; better, compute all frames
# first, and let the function draw only.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet matplotlib==3.11.2 numpy==2.4.6 pillow==13.0.0

venv/bin/python - <<'PY'
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from PIL import Image, ImageSequence

FRAMES = 4


def brightness(frames=FRAMES, pages=0, **options):
    """Return how many steps each saved picture shows, of a function that makes one at each call."""
    figure = plt.figure(figsize=(1, 1), dpi=32)
    image = figure.figimage(np.zeros((32, 32)), cmap="gray", vmin=0, vmax=10)
    state = {"steps": 0}

    def step(frame):
        image.set_data(np.full((32, 32), state["steps"]))
        state["steps"] += 1

    animation = FuncAnimation(figure, step, frames, **options)
    for _ in range(pages):
        animation.to_jshtml()
    animation.save("steps.gif", writer="pillow")
    plt.close(figure)
    with Image.open("steps.gif") as file:
        grey = [np.asarray(each.convert("L")) for each in ImageSequence.Iterator(file)]
    return [round(float(each[16, 16]) / 25.5) for each in grey]


print("matplotlib", matplotlib.__version__)
print("expected: pictures after 0, 1, 2 and 3 steps")
results = {
    "saved": brightness(),
    "frames from a generator": brightness(iter(range(FRAMES)), save_count=FRAMES),
    "saved after to_jshtml": brightness(pages=1),
    "with init_func": brightness(init_func=lambda: None),
}
for name, found in results.items():
    print(f"seen: {name}: {found}")

assert results["saved"] == [1, 2, 3, 4], "the first frame is drawn once now"
assert results["frames from a generator"] == [1, 2, 3, 4]
assert results["saved after to_jshtml"] == [6, 7, 8, 9]
assert results["with init_func"] == [0, 1, 2, 3]
PY
