#!/usr/bin/env bash
# `safetensors.numpy.save` of an array that was transposed writes its numbers in the order of memory
# under the shape after the transposition. What is loaded again has the right shape and type, and
# its numbers at other places. Nothing is said.
#
# Why it matters: decoded frames are (T, H, W, C) and networks take (T, C, H, W), so that clips,
# features and converted weights come out of a `transpose`, or in Fortran's order out of
# scikit-learn. Version 0.7 saved the same arrays rightly, so an upgrade spoils files that nobody
# compares; and `safetensors.torch` refuses such tensors with an error.
# Seen with: safetensors 0.8.0; 0.7.0 is right.
# Source: `_flatten` in safetensors/numpy.py hands on a pointer to the array's first byte, where 0.7
# called `tobytes`. The documentation asks for contiguous arrays, and nothing checks it;
# https://github.com/safetensors/safetensors/issues/825.
# Remedy: `np.ascontiguousarray(array)` before saving.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv

for version in 0.7.0 0.8.0; do
  venv/bin/python -m pip install --quiet numpy==2.4.6 "safetensors==$version"
  venv/bin/python - <<'PY'
import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save, save_file

frames = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
clip = frames.transpose(0, 3, 1, 2)
contiguous = np.ascontiguousarray(clip)
assert (clip == contiguous).all()

print("safetensors", safetensors.__version__)
print("expected: the first row of the first frame's red:", clip[0, 0, 0].tolist())
save_file({"clip": clip}, "clip.safetensors")
found = [load_file("clip.safetensors")["clip"], load(save({"clip": clip}))["clip"]]
for again in found:
    assert again.shape == clip.shape and again.dtype == clip.dtype
    print("seen:", again[0, 0, 0].tolist())
assert (load(save({"clip": contiguous}))["clip"] == clip).all()

if safetensors.__version__ == "0.7.0":
    assert all((again == clip).all() for again in found)
else:
    scrambled = frames.ravel().reshape(clip.shape)
    assert all((again == scrambled).all() for again in found), "transposed arrays are saved now"
PY
done
