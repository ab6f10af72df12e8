"""Count the memory that a recipe's network takes, without computing anything.

    count_memory(preset("ssv2-50-f8x2"), num_classes=174).training(clips=64)    # bytes

The network itself runs, on tensors that have shapes but no values (PyTorch's FakeTensorMode), and
what it keeps is added up. So a laptop can plan for a GPU that it does not have.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blvnet_lab.data.dataset import KEPT_SHARE
from blvnet_lab.data.sharing import free_memory
from blvnet_lab.progress import tqdm
from blvnet_lab.training.engine import build
from blvnet_lab.training.evaluation import autocast
from blvnet_lab.training.recipe import Recipe

FEW, MANY = 64, 128  # clips, with which it is counted
# A process of the tiny network on Linux grew by 1.7 to 1.8 times what was counted (by 1.03 to 1.05
# times with the variable MALLOC_MMAP_THRESHOLD_=65536: then the C library gives memory back).
CPU_GROWTH = 1.8
# Measured with H.264 of 1080p: its decoder, a clip of 8 whole frames, and what a worker does not
# share with its parent.
READER_BYTES = 100_000_000
BATCHES_AHEAD = 3  # of a worker: two that wait, and one that it makes


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of tensors on a process's device."""

    weights: int  # parameters and running statistics
    gradients: int
    momentum: int
    average: int  # the moving average of the weights
    fixed: int  # at any number of clips: weights in half precision, statistics of a batch
    clip: int  # for every clip at once in training: itself, and what is kept for the backward pass
    evaluation_clip: int  # for every clip at once in evaluation, when it needs most
    origin: str = "counted"  # of `clip`

    @property
    def model(self) -> int:
        """Add up the weights and all that goes with them, exactly."""
        return self.weights + self.gradients + self.momentum + self.average

    def training(self, clips: int) -> int:
        """Add up what training with `clips` at once takes, gradients always among it."""
        return self.model + self.fixed + clips * self.clip

    def evaluation(self, clips: int) -> int:
        """Add up what evaluating `clips` at once takes, between two epochs."""
        return self.model - self.gradients + self.fixed + clips * self.evaluation_clip

    def largest(self, limit: int) -> int:
        """Find the most clips at once with which training fits into `limit` bytes; perhaps 0."""
        return max(0, (limit - self.training(0)) // self.clip)


@dataclass(frozen=True)
class MainMemory:
    """Bytes that a process and its data loader's workers take of the machine's own memory."""

    process: int  # Python and its libraries
    network: int  # in training and evaluation; 0 on a GPU, which has memory of its own
    kept_frames: int  # of the videos that are kept in memory, which workers share
    all_frames: int | None  # those that were to be kept; None if that is not known
    reading: int  # decoders, workers, and batches that wait


def count_main_memory(
    network: int, batch: int, workers: int, processes: int, frames: tuple[int, int] | None
) -> MainMemory:
    """Count what each of some processes on this machine will take of its memory.

    Args:
        network: bytes of its tensors in this memory; 0 if they are on a GPU.
        batch: bytes of the clips that a process trains with at once.
        workers: that read clips for each process.
        frames: bytes of all the training and validation frames that `in_memory` asks for.
    """
    free, kept = free_memory() // processes, 0
    for size in frames or ():  # as `ClipDataset` does, one split after the other
        kept += min(size, int(KEPT_SHARE * (free - kept)))
    return MainMemory(
        process=psutil.Process().memory_info().rss,
        network=int(CPU_GROWTH * network),
        kept_frames=kept,
        all_frames=None if frames is None else sum(frames),
        reading=READER_BYTES + workers * (READER_BYTES + BATCHES_AHEAD * batch),
    )


def kept_for_backward(model: nn.Module, clips: Tensor) -> int:
    """Count the bytes that a forward pass keeps for the backward pass, and those of the clips.

    What several operations keep is counted once; parameters and buffers are left out.
    """
    own = {id(tensor.untyped_storage()) for tensor in (*model.parameters(), *model.buffers())}
    kept = {id(clips.untyped_storage()): clips.untyped_storage()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # of which a view keeps the whole
        if id(storage) not in own:
            kept[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(clips)
    return sum(storage.nbytes() for storage in kept.values())


@torch.no_grad()
def most_at_once(model: nn.Module, clips: Tensor) -> int:
    """Count the most bytes that maps take at one moment of a forward pass, and the clips'."""
    with _Alive(*model.parameters(), *model.buffers(), clips) as alive:
        model(clips)
    return clips.untyped_storage().nbytes() + alive.most


class _Alive(TorchDispatchMode):
    """While it is entered, watches how many bytes the results of operations take at once.

    most: bytes. Tensors given at the beginning, and views of them, do not count.
    """

    def __init__(self, *apart: Tensor):
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, object] = {id(t.untyped_storage()): t for t in apart}

    def __torch_dispatch__(self, operation: Callable, types: tuple, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor) and id(result.untyped_storage()) not in self.known:
                storage = result.untyped_storage()
                key, size = id(storage), storage.nbytes()
                self.known[key] = weakref.finalize(storage, self._freed, key, size)
                self.now += size
                self.most = max(self.most, self.now)
        return results

    def _freed(self, key: int, size: int) -> None:
        self.now -= size
        del self.known[key]


def count_memory(recipe: Recipe, num_classes: int) -> TrainingMemory:
    """Count the memory of the recipe's network, for any number of clips at once.

    Half precision is counted as a CPU's autocast has it. The libraries' own workspaces and what
    torch.compile saves are not counted.
    """
    cpu, view = torch.device("cpu"), recipe.evaluation.size or recipe.size
    # Nothing is kept for the backward pass through a frozen body: then it is as in evaluation.
    is_frozen = recipe.body_rate == 0
    bar = tqdm(total=4, desc="counting memory", unit="pass", leave=False, delay=2)
    rng_restored = torch.random.fork_rng(range(torch.cuda.device_count()))
    with bar, rng_restored, cpu, FakeTensorMode():
        model = build(recipe, num_classes)

        def count(in_training: bool, number: int, size: tuple[int, int]) -> int:
            counted = kept_for_backward if in_training else most_at_once
            clips = torch.empty(number, recipe.num_frames, model.in_channels, *size)
            bar.update()
            with autocast(cpu, recipe.hardware):
                return counted(model.train(in_training), clips)

        # Two numbers of clips tell what does not depend on it. Large ones, so that clips and not
        # weights decide where an evaluation needs most.
        kept, more_kept = (count(not is_frozen, n, recipe.size) for n in (FEW, MANY))
        most, even_more = (count(False, n, view) for n in (FEW, MANY))
        parameters = sum(tensor.nbytes for tensor in model.parameters())
        learned = model.classifier if is_frozen else model
        gradients = sum(tensor.nbytes for tensor in learned.parameters())
        weights = parameters + sum(tensor.nbytes for tensor in model.buffers())
    clip = (more_kept - kept) // (MANY - FEW)
    return TrainingMemory(
        weights,
        gradients,
        momentum=gradients if recipe.momentum else 0,
        average=weights if recipe.ema else 0,
        fixed=kept - FEW * clip,
        clip=clip,
        evaluation_clip=(even_more - most) // (MANY - FEW),
    )
