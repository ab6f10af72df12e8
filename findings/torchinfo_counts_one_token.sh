#!/usr/bin/env bash
# torchinfo counts the multiplications of a linear layer for one token of a clip, however many there
# are: a video transformer's MLP at 1568 tokens is reported as if it had one.
#
# Why it matters: "Total mult-adds" of its summary is what goes into a table beside those of
# convolutional networks, which are counted for every place and frame. A transformer layer looks a
# thousand times cheaper than it is, twice as many frames cost nothing, and nothing is said. Layers
# that get one vector for each clip (classifiers) are right, so a test with one finds nothing.
# Seen with: torchinfo 1.8.0, PyTorch 2.14.1.
# Source: `LayerInfo.calculate_macs` in torchinfo/layer_info.py: `output_size[0] * cur_params` for
# all that is not a convolution or recurrent. Channels last (ConvNeXt, Swin3D) are such inputs, too.
# Transposed convolutions are wrong in the other direction: all weights are counted for every place
# of the output, although each place is reached by some of them only. Issue 226 of torchinfo speaks
# of the first.
# Remedy: torch.utils.flop_counter.FlopCounterMode, halved; on the device "meta", since on a CPU it
# leaves attention out.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchinfo==1.8.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counts(layer, *shape):
    """Multiplications of a layer by PyTorch, and by torchinfo."""
    x = torch.rand(*shape)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    found = torchinfo.summary(layer, input_data=x, verbose=0).total_mult_adds
    return counter.get_total_flops() // 2, found


print("torchinfo", torchinfo.__version__, "PyTorch", torch.__version__)
mlp = nn.Sequential(nn.Linear(32, 128, bias=False), nn.GELU(), nn.Linear(128, 32, bias=False))
upwards = nn.ConvTranspose3d(8, 8, 2, stride=2, bias=False)
cases = {
    "convolution": (nn.Conv3d(8, 8, 3, padding=1, bias=False), 1, 8, 4, 7, 7),
    "one vector": (mlp, 1, 32),
    "14 x 14 tokens": (mlp, 1, 196, 32),
    "8 x 14 x 14 tokens": (mlp, 1, 1568, 32),
    "transposed": (upwards, 1, 8, 4, 7, 7),
}
ratios = {}
for name, case in cases.items():
    expected, seen = counts(*case)
    print(f"{name}: expected: {expected:,}, seen: {seen:,}")
    ratios[name] = expected / seen

assert cases["8 x 14 x 14 tokens"][0] is mlp and counts(mlp, 1, 1568, 32)[0] == 1568 * 2 * 32 * 128
assert ratios["convolution"] == ratios["one vector"] == 1
assert ratios["14 x 14 tokens"] == 196, "tokens are counted now"
assert ratios["8 x 14 x 14 tokens"] == 1568
assert ratios["transposed"] == 1 / 8
PY
