#!/usr/bin/env bash
# OpenVINO's cache of compiled models (CACHE_DIR) notices a new .xml and no new .bin. Where only the
# weights have changed, it goes on computing with the old ones, without a word.
#
# Why it matters: a network that was trained further has the same .xml, byte for byte, and tools
# that copy what differs (git, rsync --checksum, DVC, layers of containers) bring the .bin alone.
# The device then keeps the network of the first day; a test on the machine that exported, or
# without a cache, finds nothing.
# Seen with: OpenVINO 2026.4.1, on a CPU.
# Source: not read. By what is seen, the time of the .xml counts, and the contents of the .bin do
# not.
# Remedy: give each version a path of its own, or empty the cache when weights arrive; touching the
# .xml is enough.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet openvino==2026.4.1 numpy==2.4.6

cat > export.py <<'PY'
import sys

import numpy as np
import openvino
from openvino import opset13 as ops

folder, weight = sys.argv[1:]
x = ops.parameter([1, 2], np.float32, name="x")
product = ops.matmul(x, np.full((2, 2), float(weight), np.float32), False, False)
model = openvino.Model([product], [x], "network")
openvino.save_model(model, f"{folder}/network.xml", compress_to_fp16=False)
PY
venv/bin/python export.py device 1
venv/bin/python export.py new 2

venv/bin/python - <<'PY'
import filecmp
import os
import shutil
import time

import numpy as np
import openvino


def copy_what_differs():
    copied = []
    for name in ("network.xml", "network.bin"):
        if not filecmp.cmp(f"new/{name}", f"device/{name}", shallow=False):
            shutil.copyfile(f"new/{name}", f"device/{name}")
            copied.append(name)
    return copied


def run(**options):
    """Load the network of the device as a new program would, and run it."""
    core = openvino.Core()
    core.set_property(options)
    compiled = core.compile_model("device/network.xml", "CPU")
    return float(compiled(np.ones((1, 2), np.float32))[0][0, 0])


before = run(CACHE_DIR="cache")
time.sleep(1.1)  # times of files that count in seconds would differ, too
copied = copy_what_differs()
expected = run()
print("OpenVINO", openvino.__version__)
print(f"expected: {before} with the old weights, {expected} after copying {copied}")
seen = run(CACHE_DIR="cache")
print(f"seen: {seen}")
os.utime("device/network.xml")
touched = run(CACHE_DIR="cache")
print(f"seen: {touched} with the .xml touched")

assert copied == ["network.bin"] and before == 2 and expected == touched == 4
assert seen == 2, "new weights are noticed now"
PY
