#!/usr/bin/env bash
# PyTorch's FlopCounterMode counts the gradient of a grouped convolution's weights as if there were
# no groups. The training step of a depthwise layer with 64 channels takes three times its forward
# pass, and is counted as 66 times.
#
# Why it matters: X3D, CSN, MobileNets and ConvNeXt have depthwise layers with hundreds of channels.
# What their training costs, and how well it uses a GPU, is computed from this number, and by it
# they look as costly as networks without groups. The forward pass is counted right, so a comparison
# with the paper finds nothing.
# Seen with: torch 2.14.1.
# Source: `conv_backward_flop` in torch/utils/flop_counter.py is given the number of groups, and
# does not use it. In the forward pass the shape of the weights accounts for it; in the backward
# pass it does not.
# Remedy: take three times the forward count, or twice where the input needs no gradient.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

CHANNELS = 64


def counts(groups):
    """Operations of a forward pass by definition, and forward and training step as counted."""
    layer = nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1, groups=groups, bias=False)
    clips = torch.randn(1, CHANNELS, 4, 8, 8, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        maps = layer(clips)
    with FlopCounterMode(display=False) as step:
        layer(clips).sum().backward()
    products = maps.numel() * layer.weight[0].numel()  # each value of a map is one such sum
    return 2 * products, forward.get_total_flops(), step.get_total_flops()


print("torch", torch.__version__)
for groups in (1, 8, CHANNELS):
    by_definition, forward, step = counts(groups)
    print(f"expected: {groups} groups, forward {by_definition:,}, a step 3 times as many")
    print(f"seen: forward {forward:,}, a step {step / forward:.0f} times as many")
    assert forward == by_definition
    assert step == (2 + groups) * forward, "groups count in the backward pass now"
PY
