#!/usr/bin/env bash
# `SyncBatchNorm.convert_sync_batchnorm` takes the activations that follow batch norms out of many
# of timm's networks: EfficientNet, MobileNet, RegNet and others. They are still there by name, and
# are never called.
#
# Why it matters: it is the usual step before training on several GPUs, and Lightning's
# `sync_batchnorm=True` takes it unseen. What is trained then is another network, a nearly linear
# one; pretrained weights give enormous logits. One GPU, where nobody converts, works, and a
# checkpoint loads into the network with activations without a word.
# Seen with: timm 1.0.31, PyTorch 2.14.1.
# Source: timm's `BatchNormAct2d` is a batch norm with the activation in its own forward. PyTorch
# (torch/nn/modules/batchnorm.py) replaces each subclass of its batch norms by a plain
# SyncBatchNorm, and hands on its children, not its class.
# Remedy: `timm.layers.convert_sync_batchnorm`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet timm==1.0.31 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import copy

import timm
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

LINE = "{} activations, {} called, logits up to {:.2g}"
torch.manual_seed(0)
model = timm.create_model("efficientnet_b0", num_classes=4).eval()
frames = torch.randn(2, 3, 64, 64)


def look(network):
    """Activations that are there, those that are called, and the largest logit."""
    there = [module for module in network.modules() if isinstance(module, nn.SiLU)]
    called = set()
    for module in there:
        module.register_forward_hook(lambda module, args, output: called.add(module))
    with torch.no_grad():
        largest = network(frames).abs().max().item()
    return len(there), len(called), largest


print("timm", timm.__version__, "PyTorch", torch.__version__)
expected = look(copy.deepcopy(model))
print("expected:", LINE.format(*expected))
converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
seen, by_timm = look(converted), look(convert_sync_batchnorm(copy.deepcopy(model)))
print("seen:", LINE.format(*seen))
print("seen with timm's conversion:", LINE.format(*by_timm))

assert expected[0] == expected[1] == by_timm[1]
assert abs(by_timm[2] - expected[2]) < 1e-6
assert seen[0] == expected[0] and seen[1] < expected[1] / 2, "activations are kept now"
assert seen[2] > 1000 * expected[2]
PY
