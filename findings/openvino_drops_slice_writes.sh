#!/usr/bin/env bash
# OpenVINO converts a write into a slice rightly in an ordinary module, and drops the same line
# without a word if it stands in the forward pass of a custom autograd function.
#
# Why it matters: custom functions are where in-place tricks live (less memory, a fast backward
# pass). The converted network runs, has the right shapes, and lacks the layer.
# Seen with: OpenVINO 2026.4.1, PyTorch 2.14.1.
# Source: `openvino.convert_model(model, example_input=...)` traces the model. A custom function
# becomes one node of the trace (prim::PythonOp) with a graph of its own, in which the PyTorch
# frontend does not lead a write through a view (aten::slice, then aten::add_) back to the tensor
# that it belongs to.
# Remedy: give tracers the plain operations (`if torch.jit.is_tracing()`), or convert by way of
# ONNX; compare outputs after every conversion.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 openvino==2026.4.1 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings

import numpy as np
import openvino
import torch

warnings.simplefilter("ignore")


def add_previous(x):
    """Add to each column the one before it."""
    out = x.clone()
    out[:, 1:] += x[:, :-1]
    return out


class AddPrevious(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return add_previous(x)

    @staticmethod
    def backward(ctx, gradient):
        return add_previous(gradient.flip(1)).flip(1)


class Network(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) * 2


x = torch.tensor([[1.0, 10.0, 100.0]])
print("OpenVINO", openvino.__version__, "PyTorch", torch.__version__)
seen = {}
for name, layer in (("plain", add_previous), ("custom function", AddPrevious.apply)):
    network = Network(layer).eval()
    model = openvino.compile_model(openvino.convert_model(network, example_input=x), "CPU")
    expected, seen[name] = network(x).tolist(), np.asarray(model(x.numpy())[0]).tolist()
    print(f"{name}: expected: {expected}, seen: {seen[name]}")

assert seen["plain"] == [[2, 22, 220]]
assert seen["custom function"] == (2 * x).tolist(), "the write is converted now"
PY
