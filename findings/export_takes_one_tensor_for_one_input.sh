#!/usr/bin/env bash
# torch.export, given the same tensor in the place of two inputs, records a program in which both
# are the later one: the earlier input is ignored from then on.
#
# Why it matters: states that all begin with the same zeros are such examples. The program takes as
# many inputs as before, is right for the examples, and silently wrong once the inputs differ; so is
# what AOTInductor or the ONNX exporter makes of it. torch.compile tells the two cases apart.
# Seen with: torch 2.14.1.
# Source: the recorder keeps one fake tensor for each real one (FakeTensorMode.from_tensor), and
# knows inputs by it: the last placeholder that is made of it stands for all.
# Remedy: give tensors apart (clones) as examples, and compare on inputs that differ.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export TORCHINDUCTOR_CACHE_DIR="$folder/cache"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch


class Net(torch.nn.Module):
    def forward(self, first, second):
        return first + 10 * second


print("torch", torch.__version__)
zeros, one, two = torch.zeros(3), torch.ones(3), torch.full((3,), 2.0)
print("expected: 1 + 10 * 2 = 21, however the network was exported")
found = {}
for name, examples in (("apart", (zeros, zeros.clone())), ("the same", (zeros, zeros))):
    program = torch.export.export(Net(), examples)
    found[name] = program.module()(one, two)[0].item()
    print(f"seen: examples {name}: {found[name]:g}, inputs {program.graph_signature.user_inputs}")
compiled = torch.compile(Net(), backend="eager")
compiled(zeros, zeros)
print(f"seen: torch.compile after the same: {compiled(one, two)[0].item():g}")
assert found["apart"] == compiled(one, two)[0].item() == 21
assert found["the same"] == 22, "the inputs are told apart now"
PY
