#!/usr/bin/env bash
# The gradient of maps in channels-last that were sliced (x[0::2]) or indexed (x[:, 0]) comes back in
# PyTorch's default layout, although maps, slices and the gradients of the slices are all in
# channels-last. Nothing is said, and the numbers are right.
#
# Why it matters: a ReLU's backward pass then reads gradient and maps in two layouts. Of a map of
# 4 MB the way back takes more than ten times as long as with `unbind`, and what comes next
# (batch norm, convolution) copies the gradient into the other layout. Networks with two branches,
# each of which sees every second frame, have this in their stem.
# Seen with: torch 2.14.1 on a CPU.
# Source: slice_backward and select_backward fill a new tensor of zeros, which is contiguous
# (aten/src/ATen/native/TensorAdvancedIndexing.cpp, TensorShape.cpp), and copy the gradient into it.
# Remedy: take the slices of a view whose order of axes is that of memory, by `unbind`, whose
# gradient is a stack: x.movedim(1, -1).unflatten(0, (-1, 2)).unbind(1), and move the axis back.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import time

import torch

torch.set_num_threads(1)
maps = torch.randn(128, 8, 32, 32).to(memory_format=torch.channels_last).requires_grad_()


def unbound(x):
    pairs = x.movedim(1, -1).unflatten(0, (-1, 2)).unbind(1)  # as x lies in memory
    return tuple(half.movedim(-1, 1) for half in pairs)


def ways_back(split):
    """The gradient of the ReLU's output, and the shortest of 20 backward passes, in ms."""
    x = torch.relu(maps)
    halves = split(x)
    assert torch.equal(halves[0], x[0::2]) and torch.equal(halves[1], x[1::2])
    grads = [torch.ones_like(half) for half in halves]  # in channels-last
    (grad,) = torch.autograd.grad(halves, x, grads, retain_graph=True)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        torch.autograd.grad(halves, maps, grads, retain_graph=True)
        times.append(time.perf_counter() - begin)
    return grad, 1e3 * min(times)


print("torch", torch.__version__)
print("expected: gradients in the layout of the maps, channels-last")
found = {}
for name, split in (("slices", lambda x: (x[0::2], x[1::2])), ("unbind", unbound)):
    grad, ms = ways_back(split)
    found[name] = grad.is_contiguous(memory_format=torch.channels_last)
    layout = "channels-last" if found[name] else f"strides {grad.stride()}"
    print(f"seen: {name}: gradient in {layout}, backward pass {ms:.2f} ms")
assert found == {"slices": False, "unbind": True}
PY
