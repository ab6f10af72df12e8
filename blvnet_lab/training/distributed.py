"""The processes of a run: their devices, how ranks agree, and how signals are handled.

    torchrun --nproc-per-node 2 -m blvnet_lab train ...

torchrun starts the processes and gives each its rank in the environment.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

# What PyTorch needs to form a process group; torchrun sets all of it. Batch systems set some of it
# for a single process, too.
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# SLURM sends SIGTERM before a job's time is up, or SIGUSR1 if told to; Windows has no SIGUSR1.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]
BUSY = multiprocessing.RawValue("b", False)  # whether signals are being noted; shared with workers


class DeadRankError(ConnectionError):
    """Another process of this run has died."""


def pick_device() -> torch.device:
    """Return this process's GPU if there is one, else MPS or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of a run; a single process by default."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    # Messages are CPU tensors sent over gloo, so that no GPU has to be synchronised.

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return each flag, true if it is true on any rank, so that all ranks agree."""
        if self.world == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.uint8, device="cpu")
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return tuple(votes.bool().tolist())

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, on every rank, in the order of ranks."""
        values: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values


def current_ranks() -> Ranks:
    """Return this process's place in PyTorch's process group, or that of a single process."""
    return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()


def rank_in_group() -> int | None:
    """Return this process's rank among those that torchrun started; None for a single process."""
    if not all(os.environ.get(name) for name in TORCHRUN):
        return None
    return int(os.environ["RANK"])


@contextmanager
def process_group() -> Iterator[tuple[Ranks, torch.device]]:
    """Join the processes that torchrun started; without all variables of `TORCHRUN`, work alone.

    Raises:
        ValueError: there are fewer GPUs than processes.
        DeadRankError: another process has died while the `with` was running.
    """
    if rank_in_group() is None:
        yield Ranks(), pick_device()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend, own = "cpu:gloo,cuda:nccl", int(os.environ.get("LOCAL_RANK") or 0)
        if own >= (count := torch.cuda.device_count()):
            raise ValueError(
                f"expected a GPU for every process, got {count} and a process with the local rank "
                f"{own}: start fewer (torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(own)
    # A dead rank is noticed at once, a rank that hangs only after this time.
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield current_ranks(), pick_device()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise DeadRankError(
            "expected an answer from all processes of this run, but one of them has stopped: the "
            "first error in its own output says why; then run the same command again with "
            f"--resume auto ({str(error).splitlines()[0]})"
        ) from error
    finally:
        dist.destroy_process_group()


# --- Requests to stop ---------------------------------------------------------------------------


@contextmanager
def noted_signals() -> Iterator[list[str]]:
    """Inside the `with`, note the names of signals in a list instead of ending the process.

    A second press of the stop button ends it at once (KeyboardInterrupt). Has no effect outside the
    main thread.
    """
    asked: list[str] = []
    is_main = threading.current_thread() is threading.main_thread()

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and "SIGINT" in asked:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in SIGNALS if is_main}
    BUSY.value = is_main
    try:
        yield asked
    finally:
        BUSY.value = False
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(worker: int = 0) -> None:
    """End this worker when the process that started it ends, and not only the fork server.

    PyTorch's own watchdog looks at the parent process, which is that server
    (findings/workers_of_a_fork_server_outlive_a_killed_run.sh).
    """
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def leave_signals(busy: Any, worker: int) -> None:
    """In a worker, leave signals to the training process, with which it shares `BUSY`.

    Ctrl-C and queueing systems signal every process of a job, but the clips of the current step are
    still needed. SIGTERM ends a worker only while nothing is being trained.
    """
    end_with_parent()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: busy.value or os._exit(0))
