#!/usr/bin/env bash
# OpenVINO computes int64 in 32 bits on a CPU, and float64 in float32. Results have the right type
# and are wrong without an error, in two ways: 2 ** 40 + 3 comes out as 3 where it is computed from
# an input, and as 2147483647, the largest number that fits, from constants.
#
# Why it matters: times of frames in micro- or nanoseconds and hashes do not fit 32 bits, and
# networks that take them are written in int64 because of that. In nanoseconds the first two seconds
# of a video are right, so that a test with a short clip passes. PyTorch and ONNX Runtime compute in
# 64 bits.
# Seen with: OpenVINO 2026.4.1.
# Source: by what is seen, the CPU plugin runs int64 as int32 and float64 as float32, and converts
# at its borders (its code was not read).
# Remedy: subtract the first time and divide into coarser steps before the call, so that all fits;
# compare outputs on inputs as large as they will be.
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


def run(value, constant=False):
    """The value and one more."""
    value = np.array([value])
    given = ops.constant(value) if constant else ops.parameter([1], value.dtype)
    model = openvino.Model(
        [ops.add(given, ops.constant(np.ones(1, value.dtype)))], [] if constant else [given]
    )
    (found,) = openvino.compile_model(model, "CPU")([] if constant else [value])[0]
    assert found.dtype == value.dtype
    return found.item()


print("OpenVINO", openvino.__version__)
seen = {}
for value in (2 * 10**9, 3 * 10**9, 2**40 + 2, 16777216.0):
    seen[value] = run(value), run(value, constant=True)
    print(f"expected: {np.array([value]).dtype} {value} + 1 = {value + 1}")
    print("seen: as an input {}, as a constant {}".format(*seen[value]))

largest = 2**31 - 1
assert seen[2 * 10**9] == (2 * 10**9 + 1,) * 2, "what fits is right"
assert seen[3 * 10**9] == (3 * 10**9 + 1 - 2**32, largest), "int64 has 64 bits now"
assert seen[2**40 + 2] == (3, largest)
assert seen[16777216.0] == (16777216, 16777216), "float64 has 64 bits now"
PY
