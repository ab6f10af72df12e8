#!/usr/bin/env bash
# torch.distributed.checkpoint, given a network trained under DDP, saves the running mean of a batch
# norm from one process and its running variance from another. The file has statistics that no
# process ever had.
#
# Why it matters: one expects rank 0's, as `torch.save` there gives. DDP copies rank 0's running
# statistics to all before each forward pass, not after it, so those of the last step differ between
# processes. Where processes see different scenes, the mean of one is then joined with the variance
# of another, and the loaded network answers unlike any that was evaluated. Weights are equal
# everywhere, so nothing is seen there.
# Seen with: PyTorch 2.14.1, two processes on a CPU.
# Source: `dedup_save_plans` in torch/distributed/checkpoint/_dedup_save_plans.py lets each tensor
# that all processes have be written by the one that has the fewest bytes to write so far.
# Remedy: broadcast all buffers from rank 0 before saving, as below, or
# `DefaultSavePlanner(dedup_save_to_lowest_rank=True)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

cat > train.py <<'PY'
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STATISTICS = ("running_mean", "running_var")


def load(name):
    """The statistics in a checkpoint."""
    found = {"model": {key: torch.zeros(2) for key in STATISTICS}}
    dcp.load(found, checkpoint_id=name, no_dist=True)  # rank 0 alone
    return found["model"]


def whose(found, by_rank):
    """For each of the statistics: which processes have it so."""
    return {
        key: [rank for rank, own in enumerate(by_rank) if own[key].equal(found[key])]
        for key in STATISTICS
    }


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    network = nn.BatchNorm2d(2)
    parallel = DistributedDataParallel(network)
    for _ in range(4):  # the processes see scenes of unequal brightness and contrast
        parallel(torch.randn(8, 2, 4, 4) * (1 + rank) + rank).square().sum().backward()

    by_rank = [None, None]
    dist.all_gather_object(by_rank, {key: network.get_buffer(key) for key in STATISTICS})
    dcp.save({"model": network.state_dict()}, checkpoint_id="plain")
    planner = dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    dcp.save({"model": network.state_dict()}, checkpoint_id="lowest", planner=planner)
    for buffer in network.buffers():
        dist.broadcast(buffer, 0)
    dcp.save({"model": network.state_dict()}, checkpoint_id="equal")

    if rank == 0:
        print("PyTorch", torch.__version__)
        print("expected: mean and variance of rank 0, or at least of one rank")
        seen = {name: whose(load(name), by_rank) for name in ("plain", "lowest", "equal")}
        for name, ranks in seen.items():
            print(f"seen: {name}: those of ranks {ranks}")
        assert seen["lowest"] == seen["equal"] == dict.fromkeys(STATISTICS, [0])
        (one,), (other,) = seen["plain"].values()
        assert one != other, "both are of one process now"
    dist.barrier()
    dist.destroy_process_group()
PY
PYTHONWARNINGS=ignore OMP_NUM_THREADS=1 venv/bin/python -m torch.distributed.run --standalone \
    --nproc-per-node 2 train.py
