#!/usr/bin/env bash
# torch.optim.SGD(fused=True) on a CPU takes the numbers of weights, gradients and momentum in the
# order in which they lie in memory, whatever their strides: where one of them has another layout
# (channels-last), each weight gets another weight's gradient or momentum. Nothing is said.
#
# Why it matters: optimizer states are saved with their strides, so a run that is resumed with
# another memory format trains on with scrambled momentum, and a gradient that was assigned by hand
# in another layout is applied to the wrong weights. fused=False and foreach=True do it right.
# Seen with: torch 2.14.1; Adam(fused=True) does the same.
# Source: the CPU kernels of the fused optimizers (aten/src/ATen/native/cpu/FusedSGDKernel.cpp) walk
# the data pointers of all tensors side by side.
# Remedy: bring gradients and restored state into the weights' layout
# (`torch.empty_like(weight).copy_(state)`), or leave `fused` out: for small networks it saves a
# fraction of a millisecond a step.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def deviation(optimizer, layout, **form):
    """The largest difference from the same steps in float64 with the default form.

    The gradient of the first step has the layout of the weight, that of the second another.
    """
    generator = torch.Generator().manual_seed(0)
    start, *slopes = (torch.randn(4, 3, 3, 3, generator=generator) for _ in range(3))
    ends = []
    for dtype, kind in ((torch.float64, {"foreach": False}), (torch.float32, form)):
        weight = torch.nn.Parameter(start.clone().to(dtype))
        stepper = optimizer([weight], lr=0.1, **kind)
        for slope, other in zip(slopes, ("contiguous", layout)):
            weight.grad = slope.to(dtype).to(memory_format=LAYOUTS[other])
            stepper.step()
        ends.append(weight.detach().double())
    return (ends[1] - ends[0]).abs().max().item()


def sgd(weights, **options):
    return torch.optim.SGD(weights, momentum=0.9, **options)


print("torch", torch.__version__)
print("expected: the same weights, whatever the layout of a gradient; or an error")
for name, optimizer in (("SGD", sgd), ("Adam", torch.optim.Adam)):
    found = {}
    for form in ("foreach", "fused"):
        for layout in LAYOUTS:
            found[form, layout] = deviation(optimizer, layout, **{form: True})
            print(f"seen: {name}({form}=True), {layout} gradient: {found[form, layout]:.1e} off")
    wrong = found.pop(("fused", "channels-last"))
    assert max(found.values()) < 1e-5 and wrong > 0.01
PY
