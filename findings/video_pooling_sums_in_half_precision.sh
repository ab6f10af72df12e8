#!/usr/bin/env bash
# `adaptive_avg_pool3d` of bfloat16 maps on a CPU returns 0.33 for a video of ones: it adds up in
# bfloat16, where 256 + 1 = 256. The 2-D pooling of the same frames, the mean over the same axes and
# the 3-D pooling to a single value are right.
#
# Why it matters: pooling over space alone (output size (None, 1, 1)) is the head of video networks
# that keep time. For windows of more than 256 values features shrink, the more the larger the
# picture, so that a network which is right on small clips is wrong on large ones. float16 does the
# same from 2048 values on. No error, no NaN.
# Seen with: torch 2.14.1 on a CPU. Under autocast the operation runs in float32, and is right.
# Source: `adaptive_avg_pool3d_out_frame` in aten/src/ATen/native/AdaptiveAveragePooling3d.cpp holds
# the sum in the type of the maps; for size 1 `adaptive_avg_pool3d` calls `mean` instead, which, as
# the 2-D kernel does, adds up in float32.
# Remedy: `maps.mean((-2, -1), keepdim=True)`, 2-D pooling of the flattened frames, or float32.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
from torch.nn import functional as F

torch.set_num_threads(1)


def pooled(maps, kind):
    """Mean over the picture, for each frame: (B, C, T, 1, 1); over all for "whole"."""
    if kind == "whole":
        return F.adaptive_avg_pool3d(maps, 1)
    if kind == "3-D":
        return F.adaptive_avg_pool3d(maps, (None, 1, 1))
    if kind == "mean":
        return maps.mean((-2, -1), keepdim=True)
    frames = F.adaptive_avg_pool2d(maps.movedim(2, 1).flatten(0, 1), 1)  # (B * T, C, 1, 1)
    return frames.unflatten(0, (len(maps), -1)).movedim(1, 2)


print("torch", torch.__version__)
print("expected: ones, from a video of ones")
seen = {}
for side in (14, 28, 56):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        maps = torch.ones(1, 2, 4, side, side, dtype=dtype)  # (B, C, T, H, W)
        found = {kind: pooled(maps, kind).mean().item() for kind in ("whole", "mean", "2-D", "3-D")}
        seen[side, dtype] = found
        print(f"seen: {side} x {side}, {dtype}:", {k: round(v, 3) for k, v in found.items()})

shrunk = {}
for (side, dtype), found in seen.items():
    if (value := found.pop("3-D")) != 1:
        shrunk[side, dtype] = round(value, 2)
    assert set(found.values()) == {1}, found
assert shrunk == {
    (28, torch.bfloat16): 0.33,
    (56, torch.bfloat16): 0.08,
    (56, torch.float16): 0.65,
}, "the sum is right now"
with torch.autocast("cpu", torch.bfloat16):
    assert pooled(torch.ones(1, 2, 4, 56, 56, dtype=torch.bfloat16), "3-D").mean() == 1
PY
