#!/usr/bin/env bash
# torchvision's `create_feature_extractor` returns the right maps of a batch norm if they alone are
# asked for. If a later layer is asked for as well, the same name gives them after the next ReLU:
# nothing is negative any more.
#
# Why it matters: whoever compares layers asks for several at once, and gets numbers that change
# with the list of names. Half of the values are 0, and means, variances and similarities of layers
# are those of another layer; a test with one name finds nothing.
# Seen with: torchvision 0.29.1, PyTorch 2.14.1.
# Source: torchvision's networks, ResNets for video among them, have ReLU(inplace=True), and
# torchvision/models/feature_extraction.py returns tensors as they are when the last one has been
# computed. For one name alone the graph ends there, before anything is overwritten.
# Remedy: set `inplace = False` on all modules that have it before making the extractor (a sum in
# place, `out += residual`, remains); or a forward hook that clones.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchvision==0.29.1 torch==2.14.1 numpy==2.4.6 \
    pillow==13.0.0

venv/bin/python - <<'PY'
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.video import r3d_18

NORM = "layer1.0.conv1.1"  # a BatchNorm3d
torch.manual_seed(0)
network, clip = r3d_18(weights=None).eval(), torch.randn(1, 3, 4, 32, 32)


def maps(*names):
    with torch.no_grad():
        return create_feature_extractor(network, list(names))(clip)[NORM]


kept = []
with network.get_submodule(NORM).register_forward_hook(lambda *args: kept.append(args[2].clone())):
    with torch.no_grad():
        network(clip)
alone, with_later = maps(NORM), maps(NORM, "fc")
for module in network.modules():
    if hasattr(module, "inplace"):
        module.inplace = False
not_in_place = maps(NORM, "fc")
print("torchvision", torchvision.__version__, "PyTorch", torch.__version__)
print(f"expected: values from {kept[0].min():.2f}, as a hook sees them")
print(f"seen: {NORM} alone: from {alone.min():.2f}, with fc: from {with_later.min():.2f}")
print(f"seen: with fc, no ReLU in place: from {not_in_place.min():.2f}")

assert alone.equal(kept[0]) and not_in_place.equal(kept[0])
assert with_later.equal(kept[0].relu()), "maps are kept now"
assert kept[0].min() < -0.1
PY
