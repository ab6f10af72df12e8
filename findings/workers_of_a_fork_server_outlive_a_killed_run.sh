#!/usr/bin/env bash
# Workers of PyTorch's DataLoader that a fork server started stay when the process that reads from
# them is killed. Those of "fork" and "spawn" end within seconds.
#
# Why it matters: a queueing system or the kernel, short of memory, ends a training by SIGKILL; its
# readers and the fork server then keep their memory, open files and shared memory until somebody
# looks. The fork server is Python's default on Linux from 3.14 on, so it comes with an upgrade.
# Seen with: torch 2.14.1 on Linux, the start method chosen by hand.
# Source: a worker's watch (torch/utils/data/_utils/worker.py, ManagerWatchdog) compares
# os.getppid() with what it was at first; of a process of a fork server that is the server, which
# lives on.
# Remedy: in `worker_init_fn`, wait in a thread for `multiprocessing.parent_process()`, which is the
# process that asked for the worker, and end with it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

cat >reader.py <<'PY'
import sys
import time
from multiprocessing import forkserver

from torch.utils.data import DataLoader


class Numbers:
    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        return index


if __name__ == "__main__":
    loader = DataLoader(Numbers(), num_workers=1, multiprocessing_context=sys.argv[1])
    batches = iter(loader)
    next(batches)
    print(batches._workers[0].pid, forkserver._forkserver._forkserver_pid or 0, flush=True)
    time.sleep(600)
PY

venv/bin/python - <<'PY'
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import torch

SECONDS = 30  # the watch looks every 5


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


print("torch", torch.__version__, "Python", sys.version.split()[0])
print("expected: the worker ends soon after the process that reads from it is killed")
stays = {}
for how in ("fork", "spawn", "forkserver"):
    command = [sys.executable, "reader.py", how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        worker, server = map(int, reader.stdout.readline().split())
        reader.kill()
        end = time.monotonic() + SECONDS
        while is_running(worker) and time.monotonic() < end:
            time.sleep(0.2)
        stays[how] = is_running(worker)
        print(f"seen: {how}: the worker", f"is there after {SECONDS} s" if stays[how] else "ended")
        for pid in (worker, server):
            with suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
assert stays == {"fork": False, "spawn": False, "forkserver": True}, "it ends now"
PY
