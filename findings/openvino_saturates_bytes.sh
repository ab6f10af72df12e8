#!/usr/bin/env bash
# OpenVINO subtracts bytes in two ways: what it computes while it compiles (constants) wraps around,
# as in numpy and PyTorch, and what it computes in a run on the CPU stops at 0 and 255. 10 - 20 is
# 246 or 0, and the mean of 200 and 100 is 22 or 127.
#
# Why it matters: frames are uint8, and one is advised to take what is done with them (differences
# of frames, the mean of two) into the converted file. A network that was trained on what PyTorch
# computes gets other numbers, without an error; and a mistake that PyTorch shows, bright specks in
# the difference of dark frames, is hidden. Where nothing leaves 0 to 255 all agree.
# Seen with: OpenVINO 2026.4.1; the same from PyTorch 2.14.1, traced and exported.
# Source: by what is seen, OpenVINO's CPU plugin saturates where it stores uint8, and the reference
# code that folds constants wraps around as C++ does (neither was read).
# Remedy: convert to a wider type before arithmetic: `frames.int()` or `frames.float()`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet openvino==2026.4.1 numpy==2.4.6

venv/bin/python - <<'PY'
import numpy as np
import openvino
from openvino import opset13 as ops

FIRST, SECOND = np.array([[10, 100, 200], [20, 90, 100]], np.uint8)


def movement(first, second):
    """Difference and mean of two frames."""
    two = ops.constant(np.array(2, np.uint8))
    return [ops.subtract(first, second), ops.divide(ops.add(first, second), two)]


def wide(first, second):
    two = ops.constant(np.array(2, np.int32))
    first, second = (ops.convert(frame, "i32") for frame in (first, second))
    return [ops.subtract(first, second), ops.divide(ops.add(first, second), two)]


def run(function, constant):
    given = [ops.parameter([3], np.uint8) for _ in range(2)]
    frames = [ops.constant(FIRST), ops.constant(SECOND)] if constant else given
    model = openvino.Model(function(*frames), [] if constant else given)
    found = openvino.compile_model(model, "CPU")([] if constant else [FIRST, SECOND])
    return [np.asarray(found[k]).tolist() for k in range(2)]


print("OpenVINO", openvino.__version__)
right = [(FIRST - SECOND).tolist(), ((FIRST + SECOND) // 2).tolist()]
print("expected: difference and mean, as in numpy and PyTorch:", right)
seen = {name: run(movement, name == "constants") for name in ("constants", "inputs")}
for name, found in seen.items():
    print(f"seen: {name}: {found}")
print("seen: converted to int32 first:", run(wide, False))

assert seen["constants"] == right == [[246, 10, 100], [15, 95, 22]]
assert seen["inputs"] == [[0, 10, 100], [15, 95, 127]], "bytes wrap around now"
assert run(wide, False) == run(wide, True) == [[-10, 10, 100], [15, 95, 150]]
PY
