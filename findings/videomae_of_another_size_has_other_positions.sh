#!/usr/bin/env bash
# transformers loads VideoMAE for another picture size without a word, and gives nearly every patch
# the position code of another place: at 112 x 112 the second step in time begins in the middle of
# the first. TimeSformer and ViViT, asked for the same, refuse.
#
# Why it matters: all keys match, logits come out, and accuracy is low. It looks like the price of a
# smaller picture, or like a network that needs more fine-tuning. Fewer frames are no problem.
# Seen with: transformers 5.23.0, PyTorch 2.14.1.
# Source: VideoMAE's codes are sines that are computed, not weights, so that no shape can disagree.
# `get_sinusoid_encoding_table` in models/videomae/modeling_videomae.py takes the number of a patch,
# (time * rows + row) * columns + column, for its position, and the number of one place depends on
# how many rows and columns there are.
# Remedy: resize the codes of the trained size over height and width, and put them in, as below.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet transformers==5.23.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY' 2>errors || { cat errors; exit 1; }
import torch
import torch.nn.functional as F
import transformers
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
)

PATCH, TIMES = 16, 8
SMALL = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


def codes(model, size):
    """Position codes (time, row, column, values)."""
    table = model.videomae.embeddings.position_embeddings[0]
    return table.unflatten(0, (TIMES, size // PATCH, size // PATCH))


def trained_at(code, table):
    """The place whose code this was when the network was trained."""
    return (table - code).abs().amax(-1).flatten().argmin().item()


print("transformers", transformers.__version__, "PyTorch", torch.__version__)
trained = VideoMAEForVideoClassification(VideoMAEConfig(image_size=224, **SMALL))
trained.save_pretrained("videomae")
model, report = VideoMAEForVideoClassification.from_pretrained(
    "videomae", image_size=112, output_loading_info=True
)
before, after = codes(trained, 224), codes(model, 112)
same = sum(
    after[t, r, c].equal(before[t, r, c]) or after[t, r, c].equal(before[t, 2 * r, 2 * c])
    for t in range(TIMES)
    for r in range(7)
    for c in range(7)
)
number = trained_at(after[1, 0, 0], before)
place = (number // 196, number // 14 % 14, number % 14)
TimesformerForVideoClassification(TimesformerConfig(**SMALL)).save_pretrained("timesformer")
try:
    TimesformerForVideoClassification.from_pretrained("timesformer", image_size=112)
    refused = False
except RuntimeError:
    refused = True
planes = before.permute(0, 3, 1, 2)
resized = F.interpolate(planes, (7, 7), mode="area").permute(0, 2, 3, 1)
model.videomae.embeddings.position_embeddings = resized.flatten(0, 2)[None]
mended = trained_at(codes(model, 112)[1, 0, 0], before) // 196

print("expected: patches keep their places, or an error as from TimeSformer:", refused)
print("seen:", {key: len(found) for key, found in report.items()})
print(f"seen: {same} of {TIMES * 49} patches keep theirs; (1, 0, 0) has the code of {place}")
print(f"seen: after the remedy it is nearest to one of time {mended}")

assert refused and not any(report.values())
assert place == (0, 3, 7) and same < 20, "patches keep their places now"
assert mended == 1
PY
