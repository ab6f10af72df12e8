#!/usr/bin/env bash
# Bicubic enlarging gives other pictures with `antialias=True` than without, nine of 255 levels at
# an edge, although there is nothing to smooth when a picture grows. Bilinear enlarging is the same
# for both, as one expects.
#
# Why it matters: antialias is a switch for shrinking, and whoever sets it for that (torchvision has
# it on by default) changes small videos that are enlarged, and position embeddings of video
# transformers, which are resized by the same call: by less than makes one look, and for all clips.
# Seen with: torch 2.14.1 on a CPU, Pillow 13.0.0, opencv-python-headless 5.0.0.93.
# Source: the kernel's free parameter is -0.75 in `get_cubic_upsample_coefficients`
# (aten/src/ATen/native/UpSample.h) and -0.5 in the antialiased kernels
# (aten/src/ATen/native/cpu/UpSampleKernel.cpp), to agree with Pillow.
# Remedy: choose the kernel on purpose, the same one in training and in evaluation: with antialias
# for that of Pillow, without for that of OpenCV; or bilinear, where they agree.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6 pillow==13.0.0 \
    opencv-python-headless==5.0.0.93

venv/bin/python - <<'PY'
import cv2
import numpy as np
import PIL
import torch
from PIL import Image

FRAME = np.zeros((16, 16), np.float32)
FRAME[:, 8:] = 1  # an edge


def by_torch(mode, antialias, size=(48, 48)):
    x = torch.from_numpy(FRAME)[None, None]
    return torch.nn.functional.interpolate(x, size, mode=mode, antialias=antialias)[0, 0].numpy()


def apart(a, b):
    return round(float(np.abs(a - b).max()), 3)


print("torch", torch.__version__, "Pillow", PIL.__version__, "OpenCV", cv2.__version__)
pillow = np.asarray(Image.fromarray(FRAME).resize((48, 48), Image.Resampling.BICUBIC))
opencv = cv2.resize(FRAME, (48, 48), interpolation=cv2.INTER_CUBIC)
plain, smooth = by_torch("bicubic", False), by_torch("bicubic", True)
bilinear = apart(by_torch("bilinear", False), by_torch("bilinear", True))
bicubic = apart(plain, smooth)
print("expected: enlarged from 16 to 48, with and without antialias: 0.0 apart")
print(f"seen: bilinear {bilinear}, bicubic {bicubic}")
print("seen: as Pillow:", {"with": apart(smooth, pillow), "without": apart(plain, pillow)})
print("seen: as OpenCV:", {"with": apart(smooth, opencv), "without": apart(plain, opencv)})

assert bilinear == apart(smooth, pillow) == apart(plain, opencv) == 0
assert bicubic > 0.03, "both have the same kernel now"
PY
