#!/usr/bin/env bash
# timm's `create_optimizer_v2(..., layer_decay=0.75)`, lower learning rates for lower layers, does
# nothing but make groups. All of them have the full rate, unless a schedule of timm's own is used:
# with PyTorch's every layer keeps one rate.
#
# Why it matters: recipes that fine-tune video transformers (VideoMAE, Hiera) rest on it. Groups,
# printed, show one `lr_scale` for each layer, and training runs, with a first layer that should
# learn at 0.75 ** 13, a fortieth, of the classifier's rate, and learns at all of it. It looks like
# overfitting or forgetting.
# Seen with: timm 1.0.31, PyTorch 2.14.1.
# Source: `param_groups_layer_decay` in timm/optim/_param_groups.py writes "lr_scale" into the
# groups, which no optimizer of PyTorch reads; `Scheduler.update_groups` in
# timm/scheduler/scheduler.py multiplies by it.
# Remedy: a schedule of timm's; or multiply once before a schedule of PyTorch is made, as below.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet timm==1.0.31 torch==2.14.1 numpy==2.4.6

PYTHONWARNINGS=ignore venv/bin/python - <<'PY'
import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

DECAY, RATE = 0.75, 1e-3
model = timm.create_model("vit_tiny_patch16_224", num_classes=4)


def make():
    return create_optimizer_v2(model, "sgd", lr=RATE, weight_decay=0.05, layer_decay=DECAY)


def first_to_last(optimizer):
    """Ratio of the learning rates of the first layer and the classifier, by what a step moves."""
    moves = {}
    for name in ("cls_token", "head.weight"):
        weight = model.get_parameter(name)
        before = weight.detach().clone()
        model.zero_grad()
        weight.grad = torch.ones_like(weight)
        with torch.no_grad():
            weight.zero_()  # so that weight decay has nothing to pull at
            optimizer.step()
            moves[name] = -weight.mean().item()
            weight.copy_(before)
    return moves["cls_token"] / moves["head.weight"]


def by_hand():
    optimizer = make()
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_scale")
    CosineAnnealingLR(optimizer, 10)
    return optimizer


optimizers = {name: make() for name in ("alone", "PyTorch's schedule", "timm's schedule")}
CosineAnnealingLR(optimizers["PyTorch's schedule"], 10)
CosineLRScheduler(optimizers["timm's schedule"], 10)
print("timm", timm.__version__, "PyTorch", torch.__version__)
expected = DECAY ** (len(model.blocks) + 1)
print(f"expected: the first layer learns at {expected:.4f} of the last one's rate")
seen = {name: first_to_last(optimizer) for name, optimizer in optimizers.items()}
seen["by hand"] = first_to_last(by_hand())
for name, ratio in seen.items():
    print(f"seen: {name}: at {ratio:.4f}")

for name in ("timm's schedule", "by hand"):
    assert abs(seen[name] - expected) < 1e-4, name
assert abs(seen["alone"] - 1) < 1e-6 and abs(seen["PyTorch's schedule"] - 1) < 1e-6, "it is heeded"
PY
