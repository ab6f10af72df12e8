"""Several processes that train one network: who they are, and how they agree.

    torchrun --nproc-per-node 2 -m blvnet_lab train ...

torchrun starts the processes and tells each its rank in the environment; PyTorch's
DistributedDataParallel averages their gradients. What is here is the little that is left: which
device is whose, and small messages between ranks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

# What PyTorch needs to form a group of processes. torchrun sets it, and LOCAL_RANK too, which other
# launchers leave out where each machine has one process. Batch systems set some of it for a process
# that is alone.
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class DeadRankError(ConnectionError):
    """Another process of this run does not answer any more."""


def pick_device(local_rank: int = 0) -> torch.device:
    """The first that is there of CUDA, MPS and the CPU.

    local_rank: number of this process on its machine; each takes a GPU of its own.

    Raises:
        ValueError: there are fewer GPUs than processes.
    """
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"expected a GPU for every process, got {torch.cuda.device_count()} and a process "
                f"with the local rank {local_rank}: start fewer (torchrun --nproc-per-node)"
            )
        return torch.device("cuda", local_rank)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run; by itself unless `process_group` says otherwise."""

    rank: int = 0
    world: int = 1
    # Messages go over gloo, from CPU to CPU, so that no GPU must wait for its work to be done.
    messages: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether it is this process that writes files and shows progress."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is true on any rank: so that all do the same."""
        if self.world == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.uint8, device="cpu")
        with _report_dead_rank():
            dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.messages)
        return tuple(votes.bool().tolist())

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, on every rank, in the order of ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with _report_dead_rank():
            dist.all_gather_object(values, value, group=self.messages)
        return values

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every rank the first one's buffers (running statistics); weights are equal."""
        if self.world > 1:
            with _report_dead_rank():
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)


def rank_in_group() -> int | None:
    """Return this process's rank among those that torchrun started; None if it is alone.

    Raises:
        ValueError: RANK, WORLD_SIZE or LOCAL_RANK is not a number.
    """
    if not all(os.environ.get(name) for name in TORCHRUN):
        return None
    for name in (*TORCHRUN[:2], "LOCAL_RANK"):
        if not (os.environ.get(name) or "0").isdecimal():
            raise ValueError(
                f"expected {name} to be a number, as torchrun sets it, got {os.environ[name]!r}: "
                "leave it out, or start with torchrun"
            )
    return int(os.environ["RANK"])


@contextmanager
def process_group(timeout_minutes: float = 30) -> Iterator[tuple[Ranks, torch.device]]:
    """Joins the processes that torchrun started; without torchrun, this one alone.

    Only with all variables of `TORCHRUN` is it one of several. If just some are set, a warning says
    so.

    Args:
        timeout_minutes: how long to wait for a rank that does not answer, but has not died either.
            A rank that died is noticed at once.

    Raises:
        ValueError: a variable is no number, or there are fewer GPUs than processes.
    """
    if rank_in_group() is None:
        found = [name for name in TORCHRUN if os.environ.get(name)]
        if found:
            lacking = [name for name in TORCHRUN if name not in found]
            logging.getLogger(__name__).warning(
                "this process works alone: the environment has %s, but not %s, which several "
                "processes need too (torchrun sets them all)",
                ", ".join(found),
                ", ".join(lacking),
            )
        yield Ranks(), pick_device()
        return
    device = pick_device(int(os.environ.get("LOCAL_RANK") or 0))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(minutes=timeout_minutes)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    try:
        messages = dist.new_group(backend="gloo", timeout=timeout)
        yield Ranks(dist.get_rank(), dist.get_world_size(), messages), device
    finally:
        dist.destroy_process_group()


@contextmanager
def _report_dead_rank() -> Iterator[None]:
    """Turns the errors by which PyTorch tells of a lost process into one that says so."""
    try:
        yield
    except RuntimeError as error:
        raise dead_rank_error(error) or error from error


def dead_rank_error(error: RuntimeError) -> DeadRankError | None:
    """What to raise instead of an error that comes of a lost process; None for any other."""
    told = isinstance(error, dist.DistError) or "gloo" in str(error).lower()
    if not told:
        return None
    return DeadRankError(
        "expected an answer of all processes of this run, but one of them has stopped: the first "
        "error in its own output says why; then run the same command again with --resume auto "
        f"({str(error).splitlines()[0]})"
    )
