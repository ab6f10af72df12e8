#!/usr/bin/env bash
# What `torch.onnx.export` returns holds some weights of the network as they were, and others by
# reference. If the network changes before `save`, the file is a mixture: convolutions of the time
# of the export, and a classifier of the time of writing. It answers as neither network.
#
# Why it matters: to export the best epoch, train on and save at the end; to load one checkpoint
# after the other into one network and write the programs later; to put averaged weights in for the
# export and take them out again: all give such files. A file written right away is right, and the
# mixture has all names and shapes.
# Seen with: PyTorch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0.
# Source: initializers are wrappers (`TorchTensor` in torch/onnx/_internal/exporter/_core.py) around
# the network's own tensors. The optimization that follows computes what is constant: a batch norm
# goes into its convolution, whose weights are new from then on.
# Remedy: save at once, or give the exporter a `copy.deepcopy` of the network.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0 numpy==2.4.6

PYTHONWARNINGS=ignore venv/bin/python - <<'PY'
import copy

import onnxruntime
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
).eval()
frames = torch.rand(2, 3, 8, 8)


def export(network):
    return torch.onnx.export(network, (frames,), dynamo=True, input_names=["x"], verbose=False)


@torch.no_grad()
def logits(network):
    return network(frames)


def saved(program):
    program.save("network.onnx")
    session = onnxruntime.InferenceSession("network.onnx")
    return torch.from_numpy(session.run(None, {"x": frames.numpy()})[0])


at_once = saved(export(model))
program, of_copy, at_export = export(model), export(copy.deepcopy(model)), logits(model)
with torch.no_grad():  # training goes on
    for weight in model.parameters():
        weight.add_(1)
later = logits(model)
both = copy.deepcopy(model)
mixture = saved(program)
with torch.no_grad():
    for weight in both[:2].parameters():
        weight.sub_(1)
both = logits(both)

print("PyTorch", torch.__version__, "ONNX Runtime", onnxruntime.__version__)
print("expected: logits of the network that was exported", at_export[0].tolist())
print("seen: saved at once", at_once[0].tolist())
print("seen: saved after a change of the network", mixture[0].tolist())
print("for comparison: the changed network", later[0].tolist())
print("old convolution and new classifier", both[0].tolist())
close = dict(rtol=0, atol=1e-4)
for found in (at_once, saved(of_copy)):
    torch.testing.assert_close(found, at_export, **close)
for network in (at_export, later):
    assert not torch.allclose(mixture, network, atol=0.1), "the program is of one piece now"
torch.testing.assert_close(mixture, both, **close)
PY
