"""How many threads PyTorch computes with on a busy machine, and how they wait for each other.

Chosen when `blvnet_lab` is imported, for OpenMP reads its settings once, as PyTorch loads it. What
the environment says already stays as it is.
"""

import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

# How many times a waiting thread checks for work before it sleeps. GNU's OpenMP, which PyTorch's
# Linux wheels ship, checks 300,000 times: milliseconds that others could compute in. A
# step of the classroom recipe on two quiet cores took as long with 3,000 as with 300,000 (54 and
# 55 ms), but longer with 1,000 (64) and 0 (101), where threads fall asleep between two operations.
# Among ten others it took 2.0 s with 3,000, 4.3 s with 10,000 and 13.3 s with 300,000.
SPIN_COUNT = 5_000
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_DYNAMIC", "OMP_THREAD_LIMIT")
CHOSEN_HERE = "BLVNET_LAB_THREADS"  # what a parent process chose: its children choose themselves
SAMPLES, SAMPLE_SECONDS = 5, 0.004
LOAD = Path("/proc/loadavg")


def choose_threads(environment: MutableMapping[str, str] = os.environ) -> str:
    """Set OpenMP's variables in the environment; returns a line about it, empty on a quiet machine.

    Where others want all cores already, this process takes its share of them only: a step whose
    threads wait until each of them had a core took 5 to 35 times as long as with one thread.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
    if environment.get("OMP_NUM_THREADS") == environment.pop(CHOSEN_HERE, ""):
        del environment["OMP_NUM_THREADS"]
    if any(name in environment for name in CHOSEN_BY_USER):
        return ""
    cores = os.cpu_count() or 1
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    others = []  # threads of other processes that want a core, now and some moments later
    while len(others) < SAMPLES and min(others, default=cores) >= cores:
        time.sleep(SAMPLE_SECONDS if others else 0)
        try:
            running = int(LOAD.read_text().split()[3].partition("/")[0])
        except (OSError, ValueError, IndexError):  # not Linux
            running = 1
        others.append(running - 1)  # without this one
    threads = max(1, own * cores // (cores + min(others)))
    if min(others) < cores or threads == own:
        return ""
    torch = sys.modules.get("torch")
    if torch is None:
        environment["OMP_NUM_THREADS"] = environment[CHOSEN_HERE] = str(threads)
    elif torch.get_num_threads() == own:  # as PyTorch chose it
        torch.set_num_threads(threads)
    else:
        return ""
    return (
        f"{min(others)} other threads compete for the {cores} cores: computing with {threads} of "
        f"{own} threads (set OMP_NUM_THREADS to choose)"
    )
