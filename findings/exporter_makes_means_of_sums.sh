#!/usr/bin/env bash
# `avg_pool2d(..., divisor_override=1)`, PyTorch's way to add up windows, is exported to ONNX as an
# ordinary mean: the argument is dropped, without a warning. So it is for avg_pool3d.
#
# Why it matters: sums over windows of space or time (energy of movement, numbers of events) come out
# smaller by the size of the window, four or eight times, from a file with the right shapes.
# A layer of norms that follows hides it, unless epsilon or a threshold counts.
# Seen with: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0.
# Source: ONNX's AveragePool has no such attribute, and `aten_avg_pool2d` in
# onnxscript/function_libs/torch_lib/ops/nn.py does not look at the argument.
# Remedy: avg_pool2d(...) * (size of the window) / divisor, which is the same where there is no
# padding; or a convolution with weights of one; compare outputs after every export.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings

import onnxruntime
import torch
from torch.nn import functional as F

warnings.simplefilter("ignore")


class Sums(torch.nn.Module):
    """Sums over windows of a clip (B, C, T, H, W), and of its frames."""

    def __init__(self, remedy):
        super().__init__()
        self.remedy = remedy

    def forward(self, clip):
        if self.remedy:
            return F.avg_pool3d(clip, 2) * 8, F.avg_pool2d(clip.flatten(1, 2), 2) * 4
        return (
            F.avg_pool3d(clip, 2, divisor_override=1),
            F.avg_pool2d(clip.flatten(1, 2), 2, divisor_override=1),
        )


print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
clip = torch.ones(1, 1, 2, 4, 4)
seen = {}
for remedy in (False, True):
    network = Sums(remedy).eval()
    right = [sums.unique().tolist() for sums in network(clip)]
    assert right == [[8], [4]]
    torch.onnx.export(network, (clip,), "sums.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession("sums.onnx")
    found = session.run(None, {session.get_inputs()[0].name: clip.numpy()})
    seen[remedy] = [torch.from_numpy(sums).unique().tolist() for sums in found]
    name = "mean times size" if remedy else "divisor_override"
    print(f"{name}: expected: {right}, seen: {seen[remedy]}")

assert seen[True] == [[8], [4]]
assert seen[False] == [[1], [1]], "the divisor is exported now"
PY
