#!/usr/bin/env bash
# safetensors writes metadata of two or more entries in an order that changes from call to call, so
# that the same tensors with the same metadata are other bytes nearly every time; tensors keep theirs.
#
# Why it matters: digests of checkpoints, caches by content and tests that compare files hold for
# months with one entry and fail now and then with two, and many tools ask for the second
# ({"format": "pt"}). Python dicts keep their order, and neither a seed nor PYTHONHASHSEED changes it.
# Seen with: safetensors 0.8.0, from `save` and from `save_file`, and 0.5.0.
# Source: metadata is a HashMap in the Rust part, whose order is random for each map; tensors are
# sorted by type and name before they are written.
# Remedy: sort the entries of "__metadata__" in the header, which is JSON behind eight bytes with its
# length; pad it with spaces to a multiple of eight bytes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv

for version in 0.5.0 0.8.0; do
  venv/bin/python -m pip install --quiet numpy==2.2.6 "safetensors==$version"
  PYTHONHASHSEED=0 venv/bin/python - <<'PY'
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy
from safetensors.numpy import save, save_file

TENSORS = {name: numpy.arange(3, dtype=numpy.float32) for name in "badc"}


def kinds(metadata, write):
    """How many different files 200 calls write, and how many orders of tensors are in them."""
    files, orders = set(), set()
    for _ in range(200):
        content = write(metadata)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        orders.add(tuple(name for name in header if name != "__metadata__"))
        files.add(hashlib.sha256(content).digest())
    return len(files), len(orders)


def by_file(metadata):
    save_file(TENSORS, "a.safetensors", metadata)
    return Path("a.safetensors").read_bytes()


print("safetensors", version("safetensors"))
print("expected: one kind of file, whatever the metadata")
for name, write in (("save", lambda metadata: save(TENSORS, metadata)), ("save_file", by_file)):
    one = kinds({"format": "pt"}, write)
    three = kinds({"format": "pt", "a": "1", "b": "2"}, write)
    print(f"seen: {name}: {one[0]} kind with one entry, {three[0]} with three; tensors {three[1]}")
    assert one == (1, 1)
    assert three[0] > 1 and three[1] == 1
PY
done
