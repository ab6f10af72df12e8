#!/usr/bin/env bash
# OpenVINO divides integers in two ways: what it computes while it compiles (constants) is rounded
# down, as its specification says, and what it computes in a run on the CPU towards zero. -1 // 2
# is -1 or 0. Floor and remainder do not mend it: (x // 2) * 2 + x % 2 is no longer x.
#
# Why it matters: PyTorch's `x // 2` and `torch.div(..., rounding_mode="floor")` become this
# operation. Networks reckon so with indices of frames: distances in time, windows, relative
# positions, of which half are negative. The converted network looks into the wrong row, without an
# error, and is right for all that is not negative, or not an input.
# Seen with: OpenVINO 2026.4.1, int32 and int64; the same from PyTorch 2.14.1, traced and exported.
# Source: the attribute m_pythondiv of Divide, which is on by default, in OpenVINO's specification of
# the operation; by what is seen, the CPU plugin does not look at it (its code was not read).
# Remedy: (x - x % n) // n, whose division leaves no remainder; or divide floats and take the floor.
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


def run(results, inputs, *values):
    compiled = openvino.compile_model(openvino.Model(results, inputs), "CPU")
    found = compiled(list(values))
    return [np.asarray(found[k]).tolist() for k in range(len(results))]


def halves(x, two):
    """x // 2, x % 2, and the remedy."""
    rest = ops.floor_mod(x, two)
    return [ops.floor(ops.divide(x, two)), rest, ops.divide(ops.subtract(x, rest), two)]


print("OpenVINO", openvino.__version__)
for kind in (np.int32, np.int64):
    x, two = np.arange(-4, 4, dtype=kind), ops.constant(np.array([2], kind))
    right = [(x // 2).tolist(), (x % 2).tolist(), (x // 2).tolist()]
    assert ops.divide(two, two).get_attributes()["m_pythondiv"]
    folded = run(halves(ops.constant(x), two), [])
    given = ops.parameter(x.shape, kind)
    computed = run(halves(given, two), [given], x)
    print(f"{kind.__name__}: x // 2, x % 2, (x - x % 2) // 2 of x = {x.tolist()}")
    print(f"{kind.__name__}: expected: {right}")
    print(f"{kind.__name__}: seen: constant: {folded}")
    print(f"{kind.__name__}: seen: input:    {computed}")
    assert folded == right and computed[1:] == right[1:]
    assert computed[0] == [int(k / 2) for k in x.tolist()] != right[0], "it rounds down now"
PY
