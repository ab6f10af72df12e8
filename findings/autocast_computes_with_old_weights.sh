#!/usr/bin/env bash
# Inside one `torch.autocast` block a layer computes with the weights that it had when it was first
# called there. What an optimizer's step, an edit or a copy changes afterwards has no effect until
# the block ends. Nothing is said.
#
# Why it matters: a loop over steps inside one block moves the weights and shows the same loss each
# time, and all its gradients belong to the first weights. A loop that switches off one channel
# after the other, or compares the weights of several checkpoints, finds no difference at all. In
# float32 the same code is right.
# Seen with: torch 2.14.1, bfloat16 on a CPU; float16 does the same.
# Source: `cached_cast` in aten/src/ATen/autocast_mode.cpp keeps the half-precision copy of every
# float32 leaf that requires a gradient until the outermost block ends, and looks it up by tensor
# alone. The documentation asks to wrap the forward pass, and does not say what happens otherwise.
# Remedy: one block for each forward pass; `torch.clear_autocast_cache()` after each change; or
# `cache_enabled=False`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import contextlib

import torch
from torch import nn

torch.set_num_threads(1)


def half(dtype=torch.bfloat16, **options):
    return torch.autocast("cpu", dtype, **options)


def losses(outer, inner):
    """Four steps of gradient descent, and the weight at the end."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), 0.25)
    found = []
    with outer:
        for _ in range(4):
            with inner():
                loss = layer(torch.ones(1, 1)).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    return found, layer.weight.item()


@torch.no_grad()
def switched_off(outer):
    """The output before and after all weights of a convolution are set to 0."""
    layer = nn.Conv2d(3, 8, 1, bias=False)
    nn.init.ones_(layer.weight)
    clip = torch.ones(1, 3, 4, 4)
    with outer:
        before = layer(clip).mean().item()
        layer.weight.zero_()
        return before, layer(clip).mean().item()


print("torch", torch.__version__)
print("expected: falling losses, 1, 0.25, 0.0625, ...; outputs 3 and 0")
nothing = contextlib.nullcontext
trained = {
    "float32": losses(nothing(), nothing),
    "a block each step": losses(nothing(), half),
    "without cache": losses(half(cache_enabled=False), nothing),
    "one block": losses(half(), nothing),
    "one block, float16": losses(half(torch.float16), nothing),
}
for name, (found, weight) in trained.items():
    print(f"seen: {name}: losses {found}, the weight is {weight}")
edited = {"float32": switched_off(nothing()), "one block": switched_off(half())}
for name, (before, after) in edited.items():
    print(f"seen: {name}: output {before}, all weights set to 0: {after}")

for name in ("float32", "a block each step", "without cache"):
    assert trained[name][0] == [1, 0.25, 0.0625, 0.015625], name
for name in ("one block", "one block, float16"):
    assert trained[name] == ([1, 1, 1, 1], -1), "changed weights are used now"
assert edited == {"float32": (3, 0), "one block": (3, 3)}, "changed weights are used now"
PY
