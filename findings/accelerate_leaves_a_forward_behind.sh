#!/usr/bin/env bash
# accelerate's `unwrap_model(model, keep_fp32_wrapper=False)`, which takes mixed precision off again,
# leaves the model's own forward in the instance, as an attribute. From then on the class is not
# asked any more: a shallow copy of the model computes with the layers of the original, and code
# that changes the class of a model changes nothing.
#
# Why it matters: tools that adapt networks copy them and replace layers, or replace classes (some
# quantisers, parametrisations, patches for export). After accelerate they give a model that looks
# changed and computes as before, without an error.
# Seen with: accelerate 1.15.0, PyTorch 2.14.1.
# Source: `extract_model_from_parallel` in accelerate/utils/other.py ends with
# `model.forward = MethodType(forward, model)`, where `del model.forward` would do. PyTorch calls
# `self.forward`, and an attribute of the instance comes before the method of the class.
# Remedy: `vars(model).pop("forward", None)` after unwrapping, or load the `state_dict()` into a model
# that was built anew.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 accelerate==1.15.0 numpy==2.4.6

venv/bin/python - <<'PY'
import copy
import warnings

import accelerate
import torch
from torch import nn

warnings.simplefilter("ignore")


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x)


class Doubled(Plain):
    def forward(self, x):
        return 2 * super().forward(x)


class Tenfold(nn.Module):
    def forward(self, x):
        return 10 * x


def results(model):
    """Of a shallow copy with another layer, and of another class."""
    shallow, other = copy.copy(model), copy.deepcopy(model)
    shallow._modules = {"layer": Tenfold()}
    other.__class__ = Doubled
    with torch.no_grad():
        return [shallow(torch.ones(1)).item(), other(torch.ones(1)).item()]


accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
prepared = accelerator.prepare(Plain())
unwrapped = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
expected, seen = results(Plain()), results(unwrapped)
left = "forward" in vars(unwrapped)
vars(unwrapped).pop("forward", None)
print("accelerate", accelerate.__version__, "PyTorch", torch.__version__)
print(f"expected: {expected} from a copy with another layer and from another class")
print(f"seen: {seen}; an attribute forward is left: {left}")
print(f"seen without that attribute: {results(unwrapped)}")

assert expected == [10, 2] and left
assert seen == [1, 1], "the model is as it was before now"
assert results(unwrapped) == expected
PY
