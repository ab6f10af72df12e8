#!/usr/bin/env bash
# captum's DeepLift promises contributions that add up to the difference between the outputs for a
# clip and for its baseline. At a ReLU followed by max pooling, as in the stem of every ResNet, they
# do not: here the sum has the other sign. Each of the two modules alone is right.
#
# Why it matters: with a baseline of zeros, which is what tests use, the sum here is right all the
# same. With a blurred clip, its mean frame or another clip as the baseline the heat map follows no
# rule at all. The sum is looked at only if `return_convergence_delta` is asked for.
# Seen with: captum 0.9.0, PyTorch 2.14.1.
# Source: `_register_backward_hook` in captum/_utils/common.py puts hooks on tensors, which run in
# the order in which they were made. The ReLU's result is the pooling's input: first its gradient is
# noted for the ReLU, then the pooling's rule changes it, so that the rule is lost.
# Remedy: a module between the two that makes a new tensor, as below. For pooling windows that
# overlap (3 x 3 with stride 2) that is not enough: `maxpool` in captum/attr/_core/deep_lift.py goes
# back by `max_unpool`, which keeps one window's share of a value that is the largest of two.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet captum==0.9.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings

import captum
import torch
from captum.attr import DeepLift
from torch import nn

warnings.simplefilter("ignore")


class Copy(nn.Module):
    def forward(self, maps):
        return maps.clone()


torch.manual_seed(4)
first, last = nn.Conv3d(3, 8, 3, padding=1), nn.Linear(8 * 2 * 4 * 4, 1)
clip, other = torch.rand(2, 1, 3, 4, 8, 8)
STEMS = {
    "ReLU, mean pooling": [nn.ReLU(), nn.AvgPool3d(2)],
    "max pooling": [nn.MaxPool3d(2)],
    "ReLU, max pooling": [nn.ReLU(), nn.MaxPool3d(2)],
    "ReLU, copy, max pooling": [nn.ReLU(), Copy(), nn.MaxPool3d(2)],
    "overlapping max pooling": [nn.MaxPool3d(3, 2, 1)],
}


def sums(stem, baseline):
    """The difference between two outputs, and the sum of the contributions to it."""
    network = nn.Sequential(first, *stem, nn.Flatten(), last).eval()
    found = DeepLift(network).attribute(clip, baseline).sum().item()
    return (network(clip) - network(baseline)).item(), found


print("captum", captum.__version__, "PyTorch", torch.__version__)
right = set()
for name, stem in STEMS.items():
    expected, seen = sums(stem, other)
    print(f"{name}: expected: {expected:.4f}, seen: {seen:.4f}")
    if abs(expected - seen) < 1e-5:
        right.add(name)
    if name == "ReLU, max pooling":
        assert expected * seen < 0, "it adds up now"
black = sums(STEMS["ReLU, max pooling"], torch.zeros_like(clip))
print("ReLU, max pooling, baseline of zeros: expected: {:.4f}, seen: {:.4f}".format(*black))

assert right == {"ReLU, mean pooling", "max pooling", "ReLU, copy, max pooling"}
assert abs(black[0] - black[1]) < 1e-5
PY
