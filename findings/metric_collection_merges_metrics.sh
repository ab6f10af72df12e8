#!/usr/bin/env bash
# torchmetrics' MetricCollection takes two metrics for one if their counts agree after the first
# batch. From then on one of them is not updated any more, and reports the other's number: F1 at the
# thresholds 0.5 and 0.3 is the same, and so is accuracy with and without `ignore_index`.
#
# Why it matters: it depends on what lies in the first batch, so that the same clips in another
# order give other numbers. A few clips of which the network is sure are enough, and video is often
# evaluated with batches of one or two. Two equal numbers look like a threshold that does not
# matter.
# Seen with: torchmetrics 1.9.0, PyTorch 2.14.1.
# Source: `_equal_metric_states` in torchmetrics/collections.py compares the values of the states,
# not the metrics' classes or arguments; `_merge_compute_groups` then keeps one state for both.
# Remedy: MetricCollection(..., compute_groups=False).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
import torchmetrics
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy

REST = 3  # the class of clips that show none of the actions


def f1():
    return {"f1_50": BinaryF1Score(threshold=0.5), "f1_30": BinaryF1Score(threshold=0.3)}


def accuracy():
    options = {"num_classes": 4, "average": "micro"}
    rest = MulticlassAccuracy(ignore_index=REST, **options)
    return {"all": MulticlassAccuracy(**options), "without_rest": rest}


BATCHES = {  # predictions and labels
    f1: [([0.9, 0.1], [1, 0]), ([0.4, 0.4], [1, 1])],
    accuracy: [([0, 1, 2], [0, 1, 1]), ([0, 1, 2], [REST, REST, 2])],
}


def scores(metrics, batches, **options):
    collection = MetricCollection(metrics(), **options)
    for answers, labels in batches:
        collection.update(torch.tensor(answers), torch.tensor(labels))
    return {name: round(value.item(), 2) for name, value in sorted(collection.compute().items())}


print("torchmetrics", torchmetrics.__version__, "PyTorch", torch.__version__)
for metrics, batches in BATCHES.items():
    right = scores(metrics, batches, compute_groups=False)
    forwards, backwards = scores(metrics, batches), scores(metrics, batches[::-1])
    print("expected:", right, "in any order")
    print("seen:", forwards, "and in the other order", backwards)
    assert len(set(right.values())) == 2 and backwards == right
    assert len(set(forwards.values())) == 1, "both metrics are updated now"
PY
