#!/usr/bin/env bash
# LoRA adapters by PEFT in the linear layers of PyTorch's `nn.TransformerEncoderLayer` (with
# `batch_first`) work while training and have no effect at all in evaluation: in eval mode the
# network answers as if it had never been adapted, with or without gradients.
#
# Why it matters: `nn.TransformerEncoder` over the features of frames is the usual temporal head.
# The loss of training falls, validation stays where the frozen network was, and it looks like
# overfitting. Saving, loading and merging look sound; merged weights are the first to show what was
# learned.
# Seen with: peft 0.21.2, PyTorch 2.14.1.
# Source: in eval mode the forward of torch/nn/modules/transformer.py hands `self.linear1.weight`
# and the like to one fused kernel, in place of calling the layers; `weight` of an adapted layer is
# that of its base. Hooks are looked for, other classes of layers are not.
# Remedy: `torch.backends.mha.set_fastpath_enabled(False)`, or `merge_and_unload()` for evaluation.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet peft==0.21.2 transformers==5.23.0 accelerate==1.15.0 \
    torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import copy

import peft
import torch
from peft import LoraConfig, get_peft_model
from torch import nn


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0, batch_first=True)
        self.encoder, self.classifier = nn.TransformerEncoder(layer, 2), nn.Linear(16, 2)

    def forward(self, features):  # (B, T, 16)
        return self.classifier(self.encoder(features).mean(1))


def loss(model, train):
    with torch.no_grad():
        return round(nn.functional.cross_entropy(model.train(train)(features), labels).item(), 3)


print("peft", peft.__version__, "PyTorch", torch.__version__)
torch.manual_seed(0)
features, labels = torch.randn(16, 8, 16), torch.arange(16) % 2
model = get_peft_model(Head(), LoraConfig(target_modules=["linear1", "linear2"], r=8))
before = loss(model, train=False)
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
for _ in range(100):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model.train()(features), labels).backward()
    optimizer.step()

training, evaluation = loss(model, train=True), loss(model, train=False)
merged = loss(copy.deepcopy(model).merge_and_unload(), train=False)
torch.backends.mha.set_fastpath_enabled(False)
layers = loss(model, train=False)
print(f"expected: a loss of {training} in both modes, since there is no dropout")
print(f"seen: {before} before training, then {training} in train mode, {evaluation} in eval mode")
print(f"seen in eval mode: {merged} with merged weights, {layers} without the fused kernel")

assert training < before / 2
assert evaluation == before, "adapters have an effect in eval mode now"
assert max(abs(merged - training), abs(layers - training)) < 0.01
PY
