#!/usr/bin/env bash
# torchmetrics takes logits or probabilities, and decides which by looking at each batch: if all
# values lie in [0, 1], they are left as they are, otherwise a sigmoid is applied. Logits of a batch
# that happen to lie there are then compared with the sigmoids of all other batches.
#
# Why it matters: video is often evaluated clip by clip, with batches of one. The same logits and
# labels then have a mean average precision of 0.61 in place of 1; and F1 is too high, since a logit
# of 0.1 is above the threshold of 0.5 by its sigmoid, and below it as it stands. Larger batches
# hide it, all but a short last one.
# Average precision, AUROC, F1, accuracy, confusion matrix, calibration error do this.
# Seen with: torchmetrics 1.9.0, PyTorch 2.14.1.
# Source: `normalize_logits_if_needed` in torchmetrics/utilities/compute.py, called by each
# `update`. The documentation says that values outside [0, 1] are taken as logits, not that each
# batch is looked at by itself.
# Remedy: give probabilities, `metric.update(logits.sigmoid(), labels)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
import torchmetrics
from torchmetrics.classification import MultilabelAUROC, MultilabelAveragePrecision, MultilabelF1Score

labels = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0], [0, 0], [1, 0]])
logits = torch.tensor(  # every action that is there has more than any that is not
    [[2.0, -1.0], [-1.0, 2.0], [1.5, 1.5], [0.9, 0.1], [0.2, 0.95], [1.8, -0.5]]
)


def scores(values, size):
    found = {}
    for kind in (MultilabelAveragePrecision, MultilabelAUROC, MultilabelF1Score):
        metric = kind(num_labels=2)
        for batch, of_batch in zip(values.split(size), labels.split(size)):
            metric.update(batch, of_batch)
        found[kind.__name__.removeprefix("Multilabel")] = round(metric.compute().item(), 2)
    return found


print("torchmetrics", torchmetrics.__version__, "PyTorch", torch.__version__)
right = scores(logits.sigmoid(), 1)
print("expected:", right, "whatever the size of a batch")
seen = {size: scores(logits, size) for size in (6, 3, 2, 1)}
for size, found in seen.items():
    print(f"seen: batches of {size}: {found}")

assert right == seen[6] == seen[3] == seen[2] and right["AveragePrecision"] == 1
assert seen[1]["AveragePrecision"] == 0.61, "batches are treated alike now"
assert seen[1]["F1Score"] > right["F1Score"]
PY
