#!/usr/bin/env bash
# scikit-learn's `top_k_accuracy_score` takes probabilities or logits, and guesses, for two classes,
# from all of them together which they are. If all lie between 0 and 1 a clip has the second class
# above 0.5, else above 0: the same clip, with the same logit, is right in one set and wrong in
# another.
#
# Why it matters: the score of a set is not the mean over its parts any more, and small parts (a
# batch, one video, a rare condition) are those whose logits all lie within 0 and 1. Accuracies by
# condition and the one of all contradict each other, with no error anywhere.
# Seen with: scikit-learn 1.9.1.
# Source: `top_k_accuracy_score` in sklearn/metrics/_ranking.py:
# threshold = 0.5 if y_score.min() >= 0 and y_score.max() <= 1 else 0.
# Remedy: accuracy_score(labels, logits > 0), or probabilities, logits being passed through a
# sigmoid.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet scikit-learn==1.9.1 numpy==2.4.6

venv/bin/python - <<'PY'
import numpy as np
import sklearn
from sklearn.metrics import accuracy_score, top_k_accuracy_score

labels = np.array([1, 1, 1, 0, 1, 1, 0, 0])
logits = np.array([0.2, 0.3, 0.4, 0.1, 2.0, 3.0, -1.0, -2.0])  # of class 1 less class 0
PARTS = {"all clips": slice(None), "slow": slice(0, 4), "quick": slice(4, 8)}


def scores(measure, answers):
    return {name: float(measure(labels[part], answers[part])) for name, part in PARTS.items()}


def top_1(labels, answers):
    return top_k_accuracy_score(labels, answers, k=1)


print("scikit-learn", sklearn.__version__)
expected, seen = scores(accuracy_score, logits > 0), scores(top_1, logits)
print(f"expected: {expected}")
print(f"seen: {seen}")
print(f"seen, of probabilities: {scores(top_1, 1 / (1 + np.exp(-logits)))}")

assert expected == {"all clips": 0.875, "slow": 0.75, "quick": 1.0}
assert seen == {"all clips": 0.875, "slow": 0.25, "quick": 1.0}, "one threshold for all now"
assert scores(top_1, 1 / (1 + np.exp(-logits))) == expected
PY
