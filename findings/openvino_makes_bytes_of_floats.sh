#!/usr/bin/env bash
# A network whose input is uint8 accepts float frames in OpenVINO, and cuts off what is behind the
# point. Frames in 0 to 1 are black, 300 is 44, and nothing is said.
#
# Why it matters: one is advised to put conversion and scaling into the file (PrePostProcessor),
# whose input is then bytes. Code that goes on scaling before the call, as it did for the file
# before, gets the same answer for every video, and one looks for a fault in the conversion of the
# network. ONNX Runtime raises an error for the wrong type, and OpenVINO itself for a wrong shape.
# Seen with: OpenVINO 2026.4.1.
# Source: `value_to_tensor` in openvino/utils/data_helpers/data_dispatcher.py calls numpy's `astype`
# if the types differ.
# Remedy: `openvino.Tensor(frames)` in place of the array, which is not converted: a wrong type is
# an error then.
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
from openvino.preprocess import PrePostProcessor

frames = np.array([0, 51, 128, 254, 255], np.uint8)
scaled = frames.astype(np.float32) / 255

given = ops.parameter([5], np.float32)
network = openvino.Model([ops.add(given, np.float32(0))], [given])
steps = PrePostProcessor(network)
steps.input().tensor().set_element_type(openvino.Type.u8)
steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
compiled = openvino.compile_model(steps.build(), "CPU")


def run(array):
    return [round(float(value), 2) for value in compiled([array])[0]]


print("OpenVINO", openvino.__version__)
right = run(frames)
print("expected: for bytes", right, "and for floats the same or an error")
seen = run(scaled), run(np.array([300, -1, 255.9, 0.9, 1], np.float32))
print("seen: for floats in 0 to 1:", seen[0])
print("seen: for 300, -1, 255.9, 0.9, 1:", seen[1])
try:
    compiled([openvino.Tensor(scaled)])
except RuntimeError as error:
    print("seen: as openvino.Tensor:", str(error).strip().splitlines()[-1][:80])
    remedy = True
else:
    remedy = False

assert right == [0, 0.2, 0.5, 1, 1]
assert remedy, "a tensor of the wrong type is accepted"
assert seen[0] == [0, 0, 0, 0, round(1 / 255, 2)], "floats are treated otherwise now"
PY
