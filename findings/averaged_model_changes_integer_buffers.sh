#!/usr/bin/env bash
# `AveragedModel` with `get_ema_multi_avg_fn` and `use_buffers=True` averages integer buffers too,
# in floating point, and cuts off the fraction. With a decay of 0.9999 a table of indices that
# never changes is off by one in a fifth of its entries, and the batch counter stays at 1.
#
# Why it matters: the averaged model is the one that is evaluated. Windowed attention looks up
# its position biases by such a table (relative_position_index), and then takes those of
# neighbours; nothing has a gradient, a NaN or an error.
# Seen with: PyTorch 2.14.1.
# Source: `get_ema_multi_avg_fn` in torch/optim/swa_utils.py: for integers
# `p_ema.copy_(p_ema * decay + p_model * (1 - decay))`. For 11 the sum of the two rounded products
# is 10.999999, and copying into integers truncates.
# Remedy: after each update copy all buffers that are not floating point from the model, or give
# `multi_avg_fn` a function that does so.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS = 500


def average(decay):
    model = nn.BatchNorm1d(3)
    model.register_buffer("index", torch.arange(1000))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(STEPS):
        model(torch.randn(4, 3))
        averaged.update_parameters(model)
    assert model.index.equal(torch.arange(1000)) and model.num_batches_tracked == STEPS
    wrong = averaged.module.index != model.index
    return int(wrong.sum()), int(averaged.module.num_batches_tracked), wrong.nonzero()[:4, 0]


print("PyTorch", torch.__version__)
print("expected: the average of 1000 unchanging indices is these indices")
seen = {}
for decay in (0.9, 0.999, 0.9999):
    seen[decay] = average(decay)
    wrong, counter, first = seen[decay]
    print(f"seen: decay {decay}: {wrong} wrong (the first: {first.tolist()}),", end=" ")
    print(f"batch counter {counter} of {STEPS}")

assert seen[0.9][0] > 100 and seen[0.9999][0] > 100, "integers keep their values now"
assert seen[0.9999][1] == 1, "the counter follows now"
PY
