#!/usr/bin/env bash
# A custom autograd function marked `once_differentiable` gives wrong second derivatives without
# an error, whenever they are asked for by name. The promised error ("trying to differentiate
# twice") comes only from `backward()` without inputs; `torch.autograd.grad`, Hessian-vector
# products and `hessian` leave the function's part out, even with `strict=True`.
#
# Why it matters: the mark is there to make mistakes loud. Here x ** 3 has 2x for its second
# derivative in place of 6x: a plausible number, not a zero, in sharpness measures and
# second-order optimisers.
# Seen with: PyTorch 2.14.1.
# Source: the mark (torch/autograd/function.py) puts a node that raises in place of the gradient's
# graph. That node leads to no input; a backward pass towards named inputs runs only nodes that
# do.
# Remedy: write `backward` in differentiable operations and leave the mark off, or test the
# function with `torch.autograd.gradgradcheck`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings

import torch
from torch.autograd.function import once_differentiable

warnings.simplefilter("ignore")


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


def cube(x):
    return (Square.apply(x) * x).sum()


x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
(first,) = torch.autograd.grad(cube(x), x, create_graph=True)
(second,) = torch.autograd.grad(first.sum(), x, retain_graph=True)
product = torch.autograd.functional.vhp(cube, x, torch.ones(3), strict=True)[1]
diagonal = torch.autograd.functional.hessian(cube, x).diagonal()
try:
    first.sum().backward()
    error = "no error"
except RuntimeError as raised:
    error = str(raised)

true = (6 * x).tolist()
print("PyTorch", torch.__version__)
print(f"expected: the first derivative {(3 * x**2).tolist()}; then {true}, or an error")
print(f"seen: the first derivative {first.tolist()}")
print(f"seen: second derivative by torch.autograd.grad: {second.tolist()}")
print(f"seen: by functional.vhp, strict: {product.tolist()}; by hessian: {diagonal.tolist()}")
print(f"seen: by backward(): {error}")

assert first.tolist() == (3 * x**2).tolist()
assert "differentiate twice" in error
for wrong in (second, product, diagonal):
    assert wrong.tolist() == (2 * x).tolist() != true, "the second derivative is right now"
PY
