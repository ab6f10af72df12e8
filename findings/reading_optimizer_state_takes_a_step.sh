#!/usr/bin/env bash
# `get_optimizer_state_dict` (torch.distributed.checkpoint), called before the first step, is a step
# itself: Adam has counted to 1 afterwards, and training takes another course than without the call.
# The first step is a quarter smaller.
#
# Why it matters: a checkpoint of the beginning, or a state dict as a template to load into that is
# then not loaded (no checkpoint yet), is read with this function, `get_state_dict` or a `Stateful`
# class that calls them. One expects reading to change nothing. A run that looked for a checkpoint
# and one that did not give two networks from one seed. Step hooks run, too, and an average of
# weights that is updated by such a hook counts a step more.
# Seen with: PyTorch 2.14.1, in one process without any distribution.
# Source: `_init_optim_state` in torch/distributed/checkpoint/state_dict.py makes states by a step
# with gradients of zero at a rate of 0. Moments stay 0 (not with Adam's own weight_decay), but the
# counter, by which Adam corrects them, does not. Issue 164929 of PyTorch speaks of it.
# Remedy: call it only if there is something to load, or when the first step is done; or
# `optimizer.state.clear()` after the call.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

RATE = 0.01


def train(optimizer_class, look, clear=False):
    """How far the first two steps move a weight, in learning rates, and how many were hooked."""
    torch.manual_seed(0)
    model, hooked = nn.Linear(3, 1, bias=False), []
    optimizer = optimizer_class(model.parameters(), lr=RATE)
    optimizer.register_step_post_hook(lambda *args: hooked.append(1))
    if look:
        get_optimizer_state_dict(model, optimizer)
    if clear:
        optimizer.state.clear()
    moves = []
    for _ in range(2):
        before = model.weight.detach().clone()
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        moves.append(round((before - model.weight).mean().item() / RATE, 2))
    return moves, len(hooked)


print("PyTorch", torch.__version__)
expected = train(torch.optim.Adam, look=False)
seen = train(torch.optim.Adam, look=True)
print(f"expected: steps of {expected[0]} learning rates, {expected[1]} steps hooked")
print(f"seen: after a look at the optimizer's state {seen[0]}, {seen[1]} hooked")
assert expected == ([1.0, 1.0], 2)
assert train(torch.optim.Adam, look=True, clear=True)[0] == expected[0]
assert train(torch.optim.SGD, look=True)[0] == train(torch.optim.SGD, look=False)[0]
assert seen[1] == 3 and seen[0][0] < 0.8, "reading changes nothing now"
PY
