#!/usr/bin/env bash
# `from_pretrained` of huggingface_hub's PyTorchModelHubMixin loads what has the same name, and
# leaves all other layers at random, without a warning.
#
# Why it matters: `load_state_dict` and `safetensors.torch.load_model` raise an error by default;
# transformers' `from_pretrained` at least prints which weights are missing. A renamed block, a
# classifier under another name or a checkpoint saved inside a wrapper ("module.") gives a network
# that answers at random, another way each time, and is in eval mode as if all were well.
# Seen with: huggingface_hub 2.4.0, PyTorch 2.14.1, safetensors 0.8.0.
# Source: `strict: bool = False` in PyTorchModelHubMixin._from_pretrained
# (huggingface_hub/hub_mixin.py); the names that `load_model` found missing are thrown away.
# Remedy: from_pretrained(..., strict=True).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet huggingface_hub==2.4.0 safetensors==0.8.0 torch==2.14.1 \
    numpy==2.4.6

HF_HUB_OFFLINE=1 venv/bin/python - <<'PY'
import contextlib
import io
import logging
import warnings

import huggingface_hub
import safetensors.torch
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn


class Network(nn.Module, PyTorchModelHubMixin):
    def __init__(self, classes=4):
        super().__init__()
        self.backbone, self.head = nn.Linear(3, 8), nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.backbone(x))


class Renamed(Network):
    def __init__(self, classes=4):
        super().__init__(classes)
        self.classifier = self.head
        del self.head

    def forward(self, x):
        return self.classifier(self.backbone(x))


def refuses(load):
    try:
        load()
    except RuntimeError:
        return True
    return False


torch.manual_seed(0)
trained, x = Network(), torch.ones(1, 3)
trained.save_pretrained("model")
text = io.StringIO()
logging.getLogger("huggingface_hub").addHandler(logging.StreamHandler(text))
with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(text):
    warnings.simplefilter("always")
    loaded = [Renamed.from_pretrained("model") for _ in range(2)]
one, other = (network(x) for network in loaded)

print("huggingface_hub", huggingface_hub.__version__, "PyTorch", torch.__version__)
print("expected: an error, or the logits", trained(x)[0].tolist())
print("seen:", one[0].tolist())
print("seen: loaded once more", other[0].tolist())
print("seen: warnings", [str(each.message) for each in caught], "printed", repr(text.getvalue()))

assert torch.equal(Network.from_pretrained("model")(x), trained(x))
assert refuses(lambda: Renamed().load_state_dict(trained.state_dict()))
assert refuses(lambda: safetensors.torch.load_model(Renamed(), "model/model.safetensors"))
assert refuses(lambda: Renamed.from_pretrained("model", strict=True))
for network in loaded:
    assert torch.equal(network.backbone.weight, trained.backbone.weight) and not network.training
assert not torch.equal(one, other) and not caught, "missing weights are noticed now"
assert "classifier" not in text.getvalue()
PY
