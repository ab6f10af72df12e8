#!/usr/bin/env bash
# webdataset's `.shuffle(1000, seed=0)` gives the samples in one order in all epochs, and without
# `seed` it cannot be made reproducible: neither `random.seed` nor numpy's or PyTorch's has an effect.
#
# Why it matters: a seed elsewhere (a sampler's generator, tf.data, Hugging Face datasets with
# `set_epoch`) fixes the first order, from which the next ones follow. Here it is as if nothing
# was shuffled but once: the same clips meet in a batch in each epoch. Losses fall, and nothing is
# said.
# Seen with: webdataset 1.0.2.
# Source: `_shuffle` in webdataset/filters.py begins each pass with `random.Random(seed)`, and if
# there is no seed with one made of the time and the process's number.
# Remedy: `.compose(wds.detshuffle(1000, seed=0))`, which adds the number of passes to its seed; with
# worker processes only if they are persistent, since others count from zero in each epoch.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet webdataset==1.0.2 numpy==2.4.6

venv/bin/python - <<'PY'
import io
import random
import tarfile
from importlib.metadata import version

import numpy
import webdataset as wds

CLIPS = 8
with tarfile.open("clips.tar", "w") as tar:
    for k in range(CLIPS):
        number = str(k).encode()
        member = tarfile.TarInfo(f"clip{k}.txt")
        member.size = len(number)
        tar.addfile(member, io.BytesIO(number))


def orders(shuffle):
    """Order of the clips in three epochs of a new run with the same seeds."""
    random.seed(0)
    numpy.random.seed(0)
    clips = shuffle(wds.WebDataset("clips.tar", shardshuffle=False).decode())
    found = [[int(sample["txt"]) for sample in clips] for _ in range(3)]
    assert all(sorted(order) == list(range(CLIPS)) for order in found)
    return found


print("webdataset", version("webdataset"))
print("expected: another order in each epoch, the same ones in a second run")
seen = {}
for name, shuffle in (
    ("shuffle(seed=0)", lambda clips: clips.shuffle(100, seed=0)),
    ("shuffle()", lambda clips: clips.shuffle(100)),
    ("detshuffle", lambda clips: clips.compose(wds.detshuffle(100, seed=0))),
):
    first, second = orders(shuffle), orders(shuffle)
    seen[name] = (len({tuple(order) for order in first}), first == second)
    print(f"seen: {name}: {first}, again: {second}")

assert seen["detshuffle"] == (3, True)
assert seen["shuffle()"] == (3, False)
assert seen["shuffle(seed=0)"] == (1, True), "each epoch has its own order now"
PY
