#!/usr/bin/env bash
# The accuracy of torchmetrics' MulticlassAccuracy, whose default is the mean over classes, depends
# on which wrong class was answered: one that has no clip in the set counts as a class of its own,
# with accuracy 0.
#
# Why it matters: six clips of three classes, one of them wrong, have a mean accuracy of 0.83, or of
# 0.625 if the wrong answer is a fourth class. Of subsets, single videos and rare classes the number
# is too low, and lower the more classes the network knows; scikit-learn's balanced accuracy, which
# is meant to be the same number, is 0.83 for both.
# Seen with: torchmetrics 1.9.0, PyTorch 2.14.1; scikit-learn 1.9.1.
# Source: `_adjust_weights_safe_divide` in torchmetrics/utilities/compute.py gives weight 0 only to
# classes with tp + fp + fn == 0, and a class that is answered has fp > 0; its accuracy is
# tp / (tp + fn), 0 / 0, taken as 0. With top_k above 1 it asks for tp + fn == 0, as one expects.
# Remedy: average=None, and the mean over the classes that occur in the labels.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchmetrics==1.9.0 torch==2.14.1 scikit-learn==1.9.1 \
    numpy==2.4.6

venv/bin/python - <<'PY'
import warnings

import torch
import torchmetrics
from sklearn.metrics import balanced_accuracy_score
from torchmetrics.classification import MulticlassAccuracy

warnings.simplefilter("ignore")  # scikit-learn says that an answer is not among the labels
labels = torch.tensor([0, 0, 1, 1, 2, 2])


def scores(wrong):
    answers = labels.clone()
    answers[0] = wrong
    each = MulticlassAccuracy(10, average=None)(answers, labels)
    return {
        "torchmetrics": round(MulticlassAccuracy(10)(answers, labels).item(), 3),
        "scikit-learn": round(float(balanced_accuracy_score(labels, answers)), 3),
        "over the labels": round(each[labels.unique()].mean().item(), 3),
    }


print("torchmetrics", torchmetrics.__version__, "PyTorch", torch.__version__)
print("expected: (0.5 + 1 + 1) / 3 = 0.833 for either wrong answer")
seen = {}
for kind, wrong in (("a class that occurs", 1), ("a class that does not", 7)):
    seen[kind] = scores(wrong)
    print(f"seen: wrong answer is {kind}: {seen[kind]}")

assert set(seen["a class that occurs"].values()) == {0.833}
assert seen["a class that does not"] == {
    "torchmetrics": 0.625,
    "scikit-learn": 0.833,
    "over the labels": 0.833,
}, "only classes that occur count now"
PY
