#!/usr/bin/env bash
# timm's Mixup with CutMix, given clips, cuts its rectangle out of time and rows in place of rows
# and columns. Its place and size still come from height and width: in clips of eight frames of 64 x
# 64 more than half of the rectangles lie past the last frame, so that no pixel is changed, while
# the label says that a quarter or a half is the other clip's class.
#
# Why it matters: recipes for video transformers take mixup and CutMix from timm, and five axes
# raise nothing. Mixup alone is right. Training goes on with labels that are wrong by a quarter on
# average, as if they were smoothed too much.
# Seen with: timm 1.0.31, PyTorch 2.14.1.
# Source: timm/data/mixup.py. `rand_bbox` takes `img_shape[-2:]`, and `Mixup._mix_batch` writes to
# `x[:, :, yl:yh, xl:xh]`, the third and fourth axes, by whatever name.
# Remedy: give pictures of 3 * T channels, clips.flatten(1, 2), and take them apart afterwards; or
# torchvision's `v2.CutMix`, with the clips as `tv_tensors.Video`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet timm==1.0.31 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import numpy as np
import timm
import torch
from timm.data import Mixup

DRAWS = 1000


def mixed(shape, flat=False):
    """Share of the other clip by pixels and by label, of each draw."""
    np.random.seed(0)
    mixup = Mixup(mixup_alpha=0, cutmix_alpha=1, label_smoothing=0, num_classes=2)
    found = []
    for _ in range(DRAWS):
        clips = torch.zeros(2, *shape)
        clips[1] = 1
        given = clips.flatten(1, 2) if flat else clips
        result, labels = mixup(given, torch.tensor([0, 1]))
        found.append((result[0].mean(), labels[0, 1]))
    return torch.tensor(found).T


print("timm", timm.__version__, "PyTorch", torch.__version__)
print("expected: the share of pixels and of the label are the same")
seen = {}
for name, shape, flat in (
    ("pictures", (3, 64, 64), False),
    ("clips", (3, 8, 64, 64), False),
    ("clips, flat", (3, 8, 64, 64), True),
):
    pixels, label = mixed(shape, flat)
    untouched = ((pixels == 0) & (label > 0.01)).float().mean().item()
    apart = (pixels - label).abs().mean().item()
    seen[name] = (round(apart, 2), round(untouched, 2))
    print(f"seen: {name}: {apart:.2f} apart on average, in {untouched:.0%} no pixel was changed")

assert seen["pictures"] == seen["clips, flat"] == (0, 0)
assert seen["clips"][0] > 0.15 and seen["clips"][1] > 0.5, "rows and columns are cut now"
PY
