#!/usr/bin/env bash
# A network with batch norm, adapted by PEFT, answers otherwise once its adapter was saved and
# loaded: the running statistics, which training moves although the network is frozen, are not in
# the file.
#
# Why it matters: LoRA of a 3-D convolutional network gives good numbers at the end of training, and
# others when the adapter is loaded for a test, with all weights the same. In the trained model even
# `disable_adapter()` is not the network that one began with. Transformers, which adapters are
# mostly used for, have no running statistics.
# Seen with: peft 0.21.2, PyTorch 2.14.1.
# Source: batch norms are in train mode with the rest and update their buffers, whatever needs a
# gradient; `get_peft_model_state_dict` in peft/utils/save_and_load.py keeps what belongs to the
# adapter by name.
# Remedy: name the batch norms in `modules_to_save`, or keep them in eval mode while training.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet peft==0.21.2 transformers==5.23.0 accelerate==1.15.0 \
    torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import copy
import warnings

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

warnings.simplefilter("ignore")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8)
        self.classifier = nn.Linear(8, 2)

    def forward(self, clips):
        return self.classifier(self.norm(self.conv(clips)).relu().mean((-3, -2, -1)))


def logits(model):
    with torch.no_grad():
        return model.eval()(clips)


def difference(folder, *saved):
    """Largest difference of a logit between the trained model and one that loads its adapter."""
    torch.manual_seed(0)
    base = Network()
    config = LoraConfig(target_modules=["conv"], modules_to_save=["classifier", *saved])
    model = get_peft_model(copy.deepcopy(base), config).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(clips), labels).backward()
        optimizer.step()
    model.save_pretrained(folder)
    loaded = PeftModel.from_pretrained(base, folder)
    for name, weight in model.named_parameters():
        assert weight.equal(loaded.get_parameter(name))
    return (logits(model) - logits(loaded)).abs().max().item()


torch.manual_seed(1)
clips, labels = 3 + 2 * torch.randn(8, 3, 4, 8, 8), torch.arange(8) % 2
print("peft", peft.__version__, "PyTorch", torch.__version__)
print("expected: the same logits, as all weights are the same")
seen, with_norm = difference("adapter"), difference("with_norm", "norm")
print(f"seen: logits up to {seen:.2f} apart; with the norm in modules_to_save {with_norm:.2g}")

assert seen > 0.1, "running statistics are saved now"
assert with_norm < 1e-5
PY
