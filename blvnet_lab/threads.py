"""PyTorch's threads and memory: how many threads, how they wait, and which memory is kept.

Threads are chosen when `blvnet_lab` is imported, since OpenMP reads its settings once, when PyTorch
loads it. Variables that are already set in the environment are left alone.
"""

import ctypes
import os
import platform
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

# How often a waiting thread checks for work before it sleeps. GNU's OpenMP, which PyTorch's Linux
# wheels ship, checks 300,000 times, which takes milliseconds that others could use. On two quiet
# cores a step of the classroom recipe took as long with 3,000 as with 300,000 (54 and 55 ms), but
# longer with 1,000 (64) and 0 (101), since threads fall asleep between operations. Beside ten other
# busy threads it took 2.0 s with 3,000, 4.3 s with 10,000 and 13.3 s with 300,000.
SPIN_COUNT = 5_000
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_DYNAMIC", "OMP_THREAD_LIMIT")
CHOSEN_HERE = "BLVNET_LAB_THREADS"  # a parent's choice; children choose themselves
SAMPLES, SAMPLE_SECONDS = 5, 0.004
LOAD = Path("/proc/loadavg")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
KEPT_BYTES = 1 << 30


def choose_threads(environment: MutableMapping[str, str] = os.environ) -> str:
    """Set OpenMP's variables in the environment; return a line about it, empty on a quiet machine.

    If other processes already occupy all cores, this one uses only its share of them: a step whose
    threads had to wait until each got a core took 5 to 35 times as long as with one thread.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
    if environment.get("OMP_NUM_THREADS") == environment.pop(CHOSEN_HERE, ""):
        del environment["OMP_NUM_THREADS"]
    if any(name in environment for name in CHOSEN_BY_USER):
        return ""
    cores = os.cpu_count() or 1
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    others = []  # numbers of other threads that want a core, in a few samples
    while len(others) < SAMPLES and min(others, default=cores) >= cores:
        time.sleep(SAMPLE_SECONDS if others else 0)
        try:
            running = int(LOAD.read_text().split()[3].partition("/")[0])
        except (OSError, ValueError, IndexError):  # not Linux
            running = 1
        others.append(running - 1)  # without this thread
    threads = max(1, own * cores // (cores + min(others)))
    if min(others) < cores or threads == own:
        return ""
    torch = sys.modules.get("torch")
    if torch is None:
        environment["OMP_NUM_THREADS"] = environment[CHOSEN_HERE] = str(threads)
    elif torch.get_num_threads() == own:  # PyTorch's own choice
        torch.set_num_threads(threads)
    else:
        return ""
    return (
        f"{min(others)} other threads compete for the {cores} cores: computing with {threads} of "
        f"{own} threads (set OMP_NUM_THREADS to choose)"
    )


def keep_memory() -> bool:
    """Let this process keep freed memory, up to 1 GiB at a time; return whether it now does.

    Otherwise the system hands out and clears the memory of a network's large maps in every forward
    pass, which takes a fifth of the time. Only glibc's malloc (Linux) can be configured, and it is
    left alone if the environment does so already (MALLOC_...).
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if platform.libc_ver()[0] != "glibc" or chosen:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # glibc before 2.35 refuses thresholds above 32 MiB, but lets one turn off mmap altogether.
    mapped = mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(M_MMAP_MAX, 0)
    return bool(mapped and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
