#!/usr/bin/env bash
# `cross_entropy` with class weights, in a batch of one clip, gives the loss and gradients without
# them: the weights cancel. With labels as probabilities, as mixup makes them, they do not.
#
# Why it matters: video is often trained with one or two clips a GPU and accumulated gradients. A
# class that is to count a hundred times as much then counts like all others, in every step, and the
# rare classes are not learned, although the weights are passed. With two clips, weights matter only
# within a pair; neither accumulation nor DDP mends it. With mixup the same call has the weights in
# full, and the loss of a rare clip is a hundred times as large.
# Seen with: PyTorch 2.14.1.
# Source: the mean is a weighted one, sum(w * loss) / sum(w), for labels as numbers, and sum(w *
# loss) / N for probabilities (documentation of torch.nn.CrossEntropyLoss, "reduction").
# Remedy: `reduction="none"` with weight=..., and divide by the number of clips.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
from torch.nn.functional import cross_entropy, one_hot

CLIPS = 8
torch.manual_seed(0)
weights = torch.tensor([1.0, 1.0, 100.0])
labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 2])  # the last class is rare


def share(batch, loss=cross_entropy, **options):
    """How much of the summed gradient, accumulated over batches, comes from the rare class."""
    logits = torch.zeros(CLIPS, 3, requires_grad=True)
    for rows, wanted in zip(logits.split(batch), labels.split(batch), strict=True):
        loss(rows, wanted, **options).backward()
    sizes = logits.grad.abs().sum(1)
    return (sizes[-1] / sizes.sum()).item()


def soft(rows, wanted, **options):
    return cross_entropy(rows, one_hot(wanted, 3).float(), **options)


def divided(rows, wanted, **options):
    return cross_entropy(rows, wanted, reduction="none", **options).sum() / CLIPS


print("PyTorch", torch.__version__)
expected = 100 / 107
print(f"expected: the rare clip has {expected:.2f} of the gradient, for every size of batch")
seen = {batch: share(batch, weight=weights) for batch in (8, 4, 2, 1)}
for batch, found in seen.items():
    print(f"seen: batches of {batch}: {found:.2f}")
print(f"seen: batches of 1 without weights: {share(1):.2f}")
print(f"seen: batches of 1, labels as probabilities: {share(1, soft, weight=weights):.2f}")

assert abs(share(8, weight=weights) - expected) < 1e-5
for batch in (8, 4, 2, 1):
    for loss in (soft, divided):
        assert abs(share(batch, loss, weight=weights) - expected) < 1e-5
assert abs(seen[1] - share(1)) < 1e-6 and abs(seen[1] - 1 / 8) < 1e-6, "weights count now"
assert seen[8] > seen[4] > seen[2] > seen[1]
PY
