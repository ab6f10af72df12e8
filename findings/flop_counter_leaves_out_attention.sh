#!/usr/bin/env bash
# On a CPU PyTorch's FlopCounterMode counts nothing for `scaled_dot_product_attention`. The same
# network on the device "meta" has it counted.
#
# Why it matters: counting needs no GPU, so it is done where there is none. Twice as many frames
# then seem to cost twice as much, while attention over space and time costs four times as much: it
# is a quarter of a ViT-B with 1568 tokens (16 frames of 224 x 224 in VideoMAE), and more than half
# of one with 6272. Layers without attention are counted right.
# Seen with: torch 2.14.1.
# Source: on a CPU the function calls `_scaled_dot_product_flash_attention_for_cpu`, which is not
# among the operations that torch/utils/flop_counter.py has formulas for; those of GPUs are.
# Remedy: count with the network and its input on the device "meta", or, on a CPU, within
# `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

HEADS, WIDTH = 4, 64


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        parts = self.qkv(tokens).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


def counted(count, device, context):
    model, tokens = Attention().to(device), torch.zeros(1, count, WIDTH, device=device)
    with FlopCounterMode(display=False) as counter, context:
        model(tokens)
    return counter.get_total_flops()


print("torch", torch.__version__)
for count in (64, 128):
    layers = 2 * count * WIDTH * 4 * WIDTH  # four square matrices
    attention = 4 * count**2 * WIDTH  # queries with keys, and weights with values
    meta = counted(count, "meta", nullcontext())
    plain = counted(count, "cpu", nullcontext())
    by_parts = counted(count, "cpu", sdpa_kernel(SDPBackend.MATH))
    print(f"expected: {count} tokens, layers {layers:,} + attention {attention:,}")
    print(f"seen: {meta:,} on meta, {by_parts:,} on a CPU by MATH, {plain:,} on a CPU")
    assert meta == by_parts == layers + attention
    assert plain == layers, "attention on a CPU is counted now"
PY
