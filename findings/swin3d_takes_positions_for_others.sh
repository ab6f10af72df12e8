#!/usr/bin/env bash
# torchvision's Swin3D, given pictures so small that a stage has fewer than 7 x 7 places (up to 192
# x 192 pixels), adds the learned biases of other positions: what was learned for "the place below"
# is applied to a place one row below and three columns to the right. Fewer frames are no problem.
#
# Why it matters: clips of 112 x 112 are usual for video, and pretrained weights load for them
# without a word. The last stage then attends to the wrong places; a network that learned at 112
# does so at 224. It looks like the loss that one expects of a smaller picture.
# Seen with: torchvision 0.29.1, PyTorch 2.14.1.
# Source: `_get_relative_position_bias` in torchvision/models/video/swin_transformer.py cuts the
# first rows and columns out of a table that is flattened for windows of 7 columns. That is right
# where time alone, the first axis, is cut.
# Remedy: enlarge clips to 224 x 224; without pretrained weights, a `window_size` that is no larger
# than the maps of the last stage.
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
from torchvision.models.video import swin3d_t
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

WINDOW = [8, 7, 7]
layer = ShiftedWindowAttention3d(2, WINDOW, shift_size=[0, 0, 0], num_heads=1, qkv_bias=False)
below = 7 * 13 * 13 + 5 * 13 + 6  # in the table: same frame, one row below, same column
with torch.no_grad():  # attends to the place below, wherever there is one, and passes it on
    layer.qkv.weight.copy_(torch.cat([torch.zeros(4, 2), torch.eye(2)]))
    layer.proj.weight.copy_(torch.eye(2))
    layer.proj.bias.zero_()
    layer.relative_position_bias_table.zero_()[below] = 50


def looks_at(frames, size, row, column):
    """Row and column of the place that the one at (row, column) attends to."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([rows, columns], -1).float().expand(1, frames, -1, -1, -1)
    with torch.no_grad():
        return layer(places)[0, 0, row, column].round().int().tolist()


print("torchvision", torchvision.__version__, "PyTorch", torch.__version__)
sizes = []
network = swin3d_t(weights=None).eval()
for module in network.modules():
    if isinstance(module, ShiftedWindowAttention3d):
        module.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0].shape[1:4])))
with torch.no_grad():
    network(torch.zeros(1, 3, 4, 112, 112))
print("a clip of 112 x 112 has (time, height, width) =", sizes[-1], "in the last stage")
print("expected: the place at (1, 0) attends to", [2, 0])
seen = {size: looks_at(*size, 1, 0) for size in ((8, 7), (2, 7), (8, 4))}
for (frames, size), place in seen.items():
    print(f"seen: {frames} frames of {size} x {size}: {place}")

assert sizes[-1][1:] == (4, 4)
assert seen[8, 7] == seen[2, 7] == [2, 0]
assert seen[8, 4] == [2, 3], "smaller windows have their own positions now"
PY
