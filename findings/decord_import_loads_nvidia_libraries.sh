#!/usr/bin/env bash
# `import decord` (decord2) loads every shared library of every NVIDIA package that is installed,
# also those that have nothing to do with video, for a reader that decodes on the CPU.
#
# Why it matters: PyTorch's wheels for CUDA bring some forty of them, and each worker process of a
# loader that is started afresh maps them all, hundreds of megabytes of memory, to read a file.
# Seen with: decord2 3.4.0 on Linux. Shown here with NVTX, a library for marks in profiles.
# Source: `_preload_cuda_libs` in decord/_ffi/base.py loads nvidia/*/lib/*.so* with RTLD_GLOBAL.
# Remedy: an empty module in the place of `nvidia` while decord is imported, as below; or import
# decord only in the processes that use it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet decord2==3.4.0 numpy==2.4.6 nvidia-nvtx-cu12==12.9.79

venv/bin/python - <<'PY'
import subprocess
import sys

LOOK = """
import decord
with open("/proc/self/maps") as file:
    print(len({line.split()[-1] for line in file if "/site-packages/nvidia/" in line}))
"""
HIDE = """
import sys, types
sys.modules["nvidia"] = types.ModuleType("nvidia")
"""


def libraries(code):
    """How many of NVIDIA's libraries a fresh Python that runs ``code`` has mapped."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout)


plain, hidden = libraries(LOOK), libraries(HIDE + LOOK)
without = libraries(LOOK.replace("import decord", "import numpy"))
print("decord2 3.4.0")
print("expected: no library of NVIDIA is loaded by an import, nothing asked for a GPU")
print(f"seen: {plain} after `import decord`, {without} after `import numpy`")
print(f"seen: {hidden} after `import decord` with an empty module named nvidia")

assert plain >= 1, "decord loads them no longer"
assert without == hidden == 0
PY
