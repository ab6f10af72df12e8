#!/usr/bin/env bash
# Hugging Face datasets' "videofolder" (and "imagefolder"), given one folder a class, takes a class
# that has "train", "test", "val" or "dev" as a word in its name for a split, and leaves out every
# class that has none, without a word.
#
# Why it matters: of four classes here two are left; "riding a train" is the whole training set and
# "test drive" the test set. The loader even makes the labels of what remains, so that all fits
# together: `num_classes` is 2, training runs, and the loss falls to zero.
# Seen with: datasets 5.2.0.
# Source: KEYWORDS_IN_PATH_NAME_BASE_PATTERNS and `get_data_patterns` in datasets/data_files.py: a
# keyword between separators anywhere in a path is enough; if one file matches, all files that match
# no pattern are left out. The documentation tells of folders named by split above the classes.
# Remedy: name the files: data_files={"train": "videos/**/*.mp4"}; compare the number of rows.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet datasets==5.2.0 av==18.1.0 numpy==2.4.6

export HF_HOME="$folder/home" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
venv/bin/python - <<'PY'
from pathlib import Path

import av
import datasets
import numpy as np

CLASSES = ("diving", "juggling", "riding a train", "test drive")


def write(path):
    with av.open(path, "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(4):
            picture = np.zeros((32, 32, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


for name in CLASSES:
    Path("videos", name).mkdir(parents=True)
    for k in range(5):
        write(f"videos/{name}/{k}.mp4")


def load(**where):
    """Rows of each split, and the names of the classes."""
    found = datasets.load_dataset("videofolder", **where)
    (names,) = {tuple(split.features["label"].names) for split in found.values()}
    return {name: len(split) for name, split in found.items()}, names


print("datasets", datasets.__version__)
print(f"expected: {({'train': 20}, CLASSES)}, of 20 videos in 4 classes")
seen = load(data_dir="videos")
print(f"seen: {seen}")
named = load(data_files={"train": "videos/**/*.mp4"})
print(f"seen, files named: {named}")

assert named == ({"train": 20}, CLASSES)
assert seen == ({"train": 5, "test": 5}, CLASSES[2:]), "all classes are loaded now"
PY
