#!/usr/bin/env bash
# `decord.bridge.set_bridge("torch")` holds for the thread that calls it alone. Other threads go
# on getting decord's own arrays, although the code says that they inherit the choice.
#
# Why it matters: code that works in a notebook's cell fails in a thread pool or in a widget's
# callback (and the other way round: after `set_bridge` the usual `.asnumpy()` is gone in the main
# thread, for every other library in it too).
# Seen with: decord2 3.4.0 (the same in decord 0.6.0).
# Source: decord/bridge/__init__.py. The choice is a `threading.local`; the common default is
# assigned inside `set_bridge` without being declared global, so it stays "native" for ever.
# Remedy: never set a bridge in a library; `torch.from_numpy(frames.asnumpy())` shares the memory.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet decord2==3.4.0 av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from concurrent.futures import ThreadPoolExecutor

import av
import decord
import numpy as np

decord.logging.set_level(decord.logging.QUIET)
with av.open("clip.mp4", "w") as out:
    stream = out.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
    out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 128, 3), np.uint8))))
    out.mux(stream.encode(None))


def first_frame():
    """What a thread gets. PyTorch is left out here, so an error shows that the bridge is in use."""
    try:
        return type(decord.VideoReader("clip.mp4", num_threads=1)[0]).__name__
    except ImportError as error:
        return f"asked for PyTorch ({type(error).__name__})"


decord.bridge.set_bridge("torch")
own = first_frame()
with ThreadPoolExecutor(1) as pool:
    other = pool.submit(first_frame).result()

print("decord2", decord.__version__)
print("expected: both threads ask for PyTorch")
print(f"seen: the thread that set the bridge: {own}; another: {other}")

assert own.startswith("asked for PyTorch")
assert other == "NDArray", "the bridge holds for other threads now"
PY
