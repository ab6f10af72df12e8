#!/usr/bin/env bash
# A hook that was registered before torch.compile does not run if another network of the same class,
# without a hook, was compiled before. In a fresh process the same lines are right.
#
# Why it matters: hooks registered first are in the compiled code, as documented; those that
# come later are known not to be. But teacher and student, the networks of an ensemble, or the cells
# of a notebook run twice share one class: the second one's features are not collected, an
# ablation has no effect, and its logits are those without the hook. Nothing is said, and each of
# the two, tested alone, is right.
# Seen with: PyTorch 2.14.1 on a CPU (backend "eager").
# Source: compiled code belongs to `forward` of the class, and each network is compared with the
# guards of what was compiled before. By default these leave out hooks
# (`skip_nnmodule_hook_guards` in torch/_dynamo/config.py). A hook of the network itself, outermost,
# is run outside of the code, and works.
# Remedy: torch._dynamo.config.skip_nnmodule_hook_guards = False; or
# `torch.compiler.set_stance("force_eager")` while hooks are used.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

PYTHONWARNINGS=ignore venv/bin/python - <<'PY'
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.classifier = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.classifier(self.block(x).relu())


def ablated(other_first):
    """Logits of a network whose block is switched off, compiled and not."""
    torch._dynamo.reset()
    if other_first:
        torch.compile(Network(), backend="eager")(x)
    network = Network()
    network.block.register_forward_hook(lambda module, args, maps: torch.zeros_like(maps))
    compiled = torch.compile(network, backend="eager")
    return compiled(x), network(x), network.classifier.bias


x = torch.ones(1, 4)
print("PyTorch", torch.__version__)
for other_first in (False, True):
    found, eager, bias = ablated(other_first)
    print("expected: the classifier's bias", bias.tolist())
    print("seen:", found[0].tolist(), "after another network" if other_first else "alone")
    assert torch.equal(eager[0], bias)
    assert torch.equal(found[0], bias) != other_first, "hooks are heeded now"
torch._dynamo.config.skip_nnmodule_hook_guards = False
found, eager, bias = ablated(other_first=True)
assert torch.equal(found[0], bias)
PY
