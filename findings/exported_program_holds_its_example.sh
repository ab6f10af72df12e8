#!/usr/bin/env bash
# A file by `torch.export.save` holds the example inputs that the network was exported with, value
# by value. A program for clips of 512 x 512 pixels is 3 MB larger than the same one for 8 x 8.
#
# Why it matters: the example is often a real clip, and goes along when the file is published; and
# a video network's file is easily twice as large as its weights.
# Seen with: PyTorch 2.14.1.
# Source: `ExportedProgram.example_inputs` is part of the archive
# (torch/export/pt2_archive/_package.py); they are tensors with data, although tracing itself
# looks at shapes and types only.
# Remedy: `program.example_inputs = None` before saving; the program runs as before.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import os
import warnings

import torch

warnings.simplefilter("ignore")
network = torch.nn.Conv2d(3, 4, 3).eval()


def saved(size, keep):
    """Bytes of the file of a network exported for one size of picture."""
    clip = torch.rand(1, 3, size, size)
    program = torch.export.export(network, (clip,))
    if not keep:
        program.example_inputs = None
    torch.export.save(program, "network.pt2")
    loaded = torch.export.load("network.pt2")
    assert torch.allclose(loaded.module()(clip), network(clip), atol=1e-5)
    if keep:
        assert torch.equal(loaded.example_inputs[0][0], clip)
    return os.path.getsize("network.pt2")


small, large = saved(8, True), saved(512, True)
without = saved(512, False)
print("PyTorch", torch.__version__)
print("expected: the size of a file depends on its weights, which are the same: 112 numbers")
print(f"seen: {small} bytes for 8 x 8 pixels, {large} bytes for 512 x 512")
print(f"seen: {without} bytes for 512 x 512 without the example")

example = 4 * 3 * 512**2
assert large > example > 100 * small, "the example is left out now"
assert without < 2 * small
PY
