#!/usr/bin/env bash
# Encoding AV1 with SVT-AV1 makes a Python program of root a real-time program: its thread has the
# highest priority of Linux from the first frame on, keeps it when the file is closed, and hands it
# down to every process that it starts.
#
# Why it matters: in containers one is root. After one short video, what this program computes goes
# first: a second one on the same cores waits until it sleeps, and so do data loaders, a browser
# or the shell with which one would look what is wrong. Two measurements side by side are no longer
# fair.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1.2, SVT-AV1 4.1.0), on Linux.
# Source: not read; the encoder asks for it where it may, and users other than root are spared.
# Remedy: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)) after the first frame, or
# encode in a process of its own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

export SVT_LOG=1 # errors alone
venv/bin/python - <<'PY'
import os
import subprocess
import sys

import av
import numpy as np

assert os.geteuid() == 0, "only what root runs may become real-time"
NAMES = {os.SCHED_OTHER: "as any", os.SCHED_FIFO: "real-time"}
ASK = "import os; print(os.sched_getscheduler(0))"


def here():
    return NAMES[os.sched_getscheduler(0)]


def child():
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    return NAMES[int(done.stdout)]


def write(codec, suffix):
    """How the thread is scheduled after the first frame."""
    with av.open(f"video.{suffix}", "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(frame))
        found = here()
        out.mux(stream.encode(None))
    return found


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: a thread that has written a video is scheduled as before")
for codec, suffix in (("libx264", "mp4"), ("libvpx-vp9", "webm"), ("libsvtav1", "mp4")):
    seen = write(codec, suffix), here(), child()
    print("seen:", codec, "- first frame: {}; closed: {}; a new process: {}".format(*seen))
    wanted = "real-time" if codec == "libsvtav1" else "as any"
    assert set(seen) == {wanted}, seen
assert os.sched_getparam(0).sched_priority == 99 == os.sched_get_priority_max(os.SCHED_FIFO)
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
assert child() == here() == "as any", "the remedy"
PY
