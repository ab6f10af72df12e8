#!/usr/bin/env bash
# A network that remembers through a buffer, the last frame's maps, say, loses its memory in ONNX:
# `torch.onnx.export` keeps what the buffer held and drops what is written to it. No warning. In the
# file every frame is the first one.
#
# Why it matters: networks for live video keep states so. The exported program that the exporter
# starts from has the write, and remembers. A comparison of one call, as exporters' own checks make
# it, agrees.
# Seen with: PyTorch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0.
# Source: the exporter decomposes the program, which then returns new buffers as further outputs
# (`buffers_to_mutate` in its signature). torch/onnx/_internal/exporter/_core.py writes only what
# `forward` returns; a comment there leaves the question of written buffers open.
# Remedy: make the state an input and an output of `forward`; and refuse programs for which
# `program.run_decompositions().graph_signature.buffers_to_mutate` is not empty.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export TORCHINDUCTOR_CACHE_DIR="$folder/cache"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0 numpy==2.4.6

PYTHONWARNINGS=ignore venv/bin/python - <<'PY'
import warnings

import onnxruntime
import torch
from torch import nn


class Difference(nn.Module):
    """What has changed since the frame before."""

    def __init__(self):
        super().__init__()
        self.register_buffer("past", torch.zeros(1, 1))

    def forward(self, frame):
        changed = frame - self.past
        self.past.copy_(frame)
        return changed


class WithState(nn.Module):
    def forward(self, frame, past):
        return frame - past, frame.clone()


frames = [torch.full((1, 1), float(k)) for k in (5, 6, 8)]
program = torch.export.export(Difference(), (frames[0],))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    onnx.save("buffer.onnx")
warned = [str(each.message) for each in caught if "buffer" in str(each.message)]
session = onnxruntime.InferenceSession("buffer.onnx")
(name,) = (each.name for each in session.get_inputs())

example = (frames[0], torch.zeros(1, 1))
torch.onnx.export(WithState(), example, "state.onnx", dynamo=True, verbose=False)
stateful = onnxruntime.InferenceSession("state.onnx")
names, past, by_state = [each.name for each in stateful.get_inputs()], example[1].numpy(), []
for frame in frames:
    found, past = stateful.run(None, {names[0]: frame.numpy(), names[1]: past})
    by_state.append(found.item())

network, recorded = Difference(), program.module()
expected = [network(frame).item() for frame in frames]
seen = [session.run(None, {name: frame.numpy()})[0].item() for frame in frames]
print("PyTorch", torch.__version__, "ONNX Runtime", onnxruntime.__version__)
print("expected:", expected)
print("seen:", seen, "with", len(session.get_outputs()), "output, warnings:", warned)
remembered = [recorded(frame).item() for frame in frames]
print("seen: exported program", remembered, "and with a state of one's own", by_state)

assert expected == remembered == by_state == [5, 1, 2]
decomposed = torch.export.export(Difference(), (frames[0],)).run_decompositions()
assert list(decomposed.graph_signature.buffers_to_mutate.values()) == ["past"]
assert not warned and len(session.get_outputs()) == 1
assert seen == [5, 6, 8], "the file remembers now"
PY
