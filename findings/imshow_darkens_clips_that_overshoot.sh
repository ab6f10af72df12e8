#!/usr/bin/env bash
# plotly's `px.imshow` guesses from the brightest value whether colours go from 0 to 1 or to 255. A
# picture of floats from 0 to 1 that has been enlarged by bicubic interpolation overshoots to 1.06
# or more beside sharp edges, and is then shown all black, without a warning.
#
# Why it matters: matplotlib cuts off what is above 1, and says so. The guess is made for each call:
# of two clips, one enlarged and one not, only one is black, and so is a whole animation of which
# one pixel in one frame overshoots. Adding noise or a heat map to a clip does the same.
# Seen with: plotly 7.1.0, Pillow 13.0.0.
# Source: `_infer_zmax_from_type` in plotly/express/_imshow.py: up to 1.05 the range ends at 1 (the
# "5% tolerance" of the docstring), from there to 267.75 at 255.
# Remedy: px.imshow(..., zmin=0, zmax=1), or clip the values first.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet plotly==7.1.0 numpy==2.4.6 pandas==3.1.1 pillow==13.0.0

venv/bin/python - <<'PY'
import base64
import io

import numpy as np
import plotly
import plotly.express as px
from PIL import Image

EDGE = np.zeros((8, 8), "float32")
EDGE[:, 4:] = 1  # black on the left, white on the right


def enlarged(how):
    plane = np.asarray(Image.fromarray(EDGE).resize((32, 32), how))
    return np.stack([plane] * 3, 2)


def shown(pictures, **options):
    """The brightest value of each picture in the page, of 255."""
    figure = px.imshow(pictures, **options)
    images = [frame.data[0] for frame in figure.frames] or [figure.data[0]]
    bytes_of = (base64.b64decode(image.source.partition(",")[2]) for image in images)
    return [int(np.asarray(Image.open(io.BytesIO(data))).max()) for data in bytes_of]


linear, cubic = enlarged(Image.Resampling.BILINEAR), enlarged(Image.Resampling.BICUBIC)
print("plotly", plotly.__version__)
print("expected: white is 255 in every picture")
results = {
    "bilinear": shown(linear),
    "bicubic": shown(cubic),
    "animation of both": shown(np.stack([linear, cubic]), animation_frame=0),
    "bicubic, with a range": shown(cubic, zmin=0, zmax=1),
}
for name, brightest in results.items():
    print(f"seen: {name}: {brightest}")

assert 1.05 < cubic.max() < 1.2
assert results["bilinear"] == results["bicubic, with a range"] == [255]
assert results["bicubic"] == [1], "overshooting values are cut off now"
assert results["animation of both"] == [1, 1]
PY
