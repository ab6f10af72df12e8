"""Decide which process reads which clips when, with random numbers tied to clips, not workers.

What is drawn for a clip (its frames, crop and colours) depends only on the recipe's seed, the epoch
and the clip, whatever the number of workers and processes. So a run's position is just two numbers,
epoch and step.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.training.distributed import BUSY, Ranks, leave_signals
from blvnet_lab.training.recipe import Recipe

Key = tuple[int, int, int]  # epoch, clip number, how often it was drawn before in that epoch


class DeadWorkerError(ChildProcessError):
    """A process that reads clips has died."""


class Keyed(Dataset):
    """A data set whose random draws depend only on a seed and a key; it also returns clip numbers.

    self[epoch, i, 0] is (clip, label, i); if clip i is unreadable, it is another clip,
    with that one's number.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed = dataset, seed
        self.paths = getattr(dataset, "names", getattr(dataset, "paths", None))

    def __getitem__(self, key: Key) -> tuple[Tensor, int, int]:
        # Transforms draw from the CPU's generator, whose state is restored afterwards.
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(mixed_seed(self.seed, *key))
            item = self.dataset[key[1]]
            return *item, getattr(self.dataset, "last_read", key[1])


def mixed_seed(*numbers: int) -> int:
    """Mix several numbers into one seed; similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Batches(Sampler[list[Key]]):
    """The keys of this process's batches in one epoch, from a given step on.

    The clips of an epoch are shuffled and cut into batches for all processes together; clips that
    do not fill a batch are left out, since small batches have noisy statistics. Every rank takes
    an equal share of each batch, in `accumulate` parts. Set `epoch` and `first_step` before
    iterating.

    Args:
        labels: of all clips, to draw every class equally often (give or take one). A class goes
            through all its clips before it repeats one.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        *,
        seed: int,
        ranks: Ranks,
        accumulate: int = 1,
        labels: Sequence[int] | None = None,
    ):
        parts = ranks.world * accumulate
        if batch_size % parts:
            raise ValueError(
                f"expected a batch_size that {ranks.world} processes in {accumulate} parts each "
                f"can divide, got {batch_size}: take a multiple of {parts}"
            )
        if num_clips < batch_size and (parts > 1 or num_clips < 1):
            raise ValueError(
                f"expected at least one batch of {batch_size} training clips, got {num_clips}: "
                "take a smaller batch_size"
            )
        self.num_clips, self.batch_size = num_clips, min(batch_size, num_clips)
        self.steps = num_clips // self.batch_size  # of an epoch
        self.at_once = self.batch_size // parts  # clips that pass through the network together
        self.seed, self.ranks, self.accumulate = seed, ranks, accumulate
        labels = [0] * num_clips if labels is None else labels
        self.labels = torch.as_tensor(labels, device="cpu")
        self.epoch, self.first_step = 1, 0

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    @on_cpu()  # where generator and labels are, whatever the default device
    def _draws(self) -> Tensor:
        """Draw an epoch's keys (clips, 2): the clip, and how often it was drawn before."""
        generator = torch.Generator("cpu").manual_seed(mixed_seed(self.seed, self.epoch))
        order = torch.randperm(self.num_clips, generator=generator)
        # A round has a clip of every class, in random order, so any part of an epoch is balanced.
        of_class = [order[self.labels[order] == label] for label in self.labels.unique()]
        counts = torch.tensor([len(clips) for clips in of_class])
        rounds = torch.arange(-(-self.num_clips // len(counts)))[:, None]
        clips = torch.stack([clips[rounds[:, 0] % len(clips)] for clips in of_class], 1)
        draws = torch.stack([clips, rounds // counts], 2)  # (rounds, classes, 2)
        places = torch.rand(clips.shape, generator=generator).argsort(1)
        return draws.gather(1, places[..., None].expand_as(draws)).flatten(0, 1)

    def __iter__(self) -> Iterator[list[Key]]:
        draws = self._draws()
        for step in range(self.first_step, self.steps):
            batch = draws[step * self.batch_size : (step + 1) * self.batch_size]
            share = batch.chunk(self.ranks.world)[self.ranks.rank]
            for part in share.chunk(self.accumulate):
                yield [(self.epoch, *draw) for draw in part.tolist()]


def training_loader(
    dataset: Dataset, recipe: Recipe, ranks: Ranks, device: torch.device
) -> tuple[DataLoader, Batches]:
    """Load a process's batches: clips (B, T, C, H, W), labels (B,), clip numbers (B,)."""
    if getattr(dataset, "multi_label", False) and (recipe.balanced or recipe.label_smoothing):
        wanted = "balanced=False and label_smoothing=0, as the clips may have several labels"
        raise ValueError(f"expected {wanted}, got {recipe.balanced} and {recipe.label_smoothing}")
    batches = Batches(
        len(dataset),
        recipe.batch_size,
        seed=recipe.seed,
        ranks=ranks,
        accumulate=recipe.hardware.accumulate,
        labels=dataset.labels if recipe.balanced else None,
    )
    workers = recipe.hardware.workers
    how = {"batch_sampler": batches, "persistent_workers": workers > 0}
    return make_loader(Keyed(dataset, recipe.seed), workers, device, **how), batches


def make_loader(dataset: Dataset, workers: int, device: torch.device, **options: Any) -> DataLoader:
    """Make a DataLoader that does not touch the global generator, and leaves signals to us."""
    return DataLoader(
        dataset,
        num_workers=workers,
        generator=torch.Generator("cpu"),  # by default it would share the generator with dropout
        pin_memory=device.type == "cuda",
        worker_init_fn=partial(leave_signals, BUSY),
        **options,
    )


def timed_batches(loader: Iterable) -> Iterator[tuple[float, Any]]:
    """Yield (seconds waited, batch), on the CPU whatever PyTorch's default device is."""
    with on_cpu():
        batches = iter(loader)
    while True:
        begin = time.perf_counter()
        with on_cpu():
            batch = next(batches, None)
        if batch is None:
            return
        yield time.perf_counter() - begin, batch


@contextmanager
def report_dead_worker() -> Iterator[None]:
    """Turn PyTorch's error about a dead worker into `DeadWorkerError`.

    A signal handler raises it wherever the program happens to be, so this must enclose everything
    that runs while there are workers.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError):
            # The second occurs where processes are not forked, if shared memory is too small.
            known = ("DataLoader worker", "unable to allocate shared memory")
            if not str(error).startswith(known):
                raise
        else:  # the worker was sending a clip; the signal about its death comes in a moment
            with suppress(RuntimeError):
                time.sleep(1)
        raise DeadWorkerError(
            "expected clips, but a process that reads them has died or cannot start, perhaps for "
            "lack of memory (or of /dev/shm in a container): go on with --resume auto and fewer "
            f"--hardware.workers ({error})"
        ) from error


@on_cpu()
def mixing(recipe: Recipe, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Make the recipe's mixup or cutmix, which turns labels (B,) into targets (B, num_classes).

    Without either, clips and labels stay as they are. All frames of a clip are mixed alike.
    """
    kinds = ((v2.MixUp, recipe.augmentation.mixup), (v2.CutMix, recipe.augmentation.cutmix))
    chosen = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha]
    if not chosen:
        return lambda clips, labels: (clips, labels)
    either = v2.RandomChoice(chosen)

    @on_cpu()  # for its random numbers
    def mix(clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mixed, targets = either(tv_tensors.Video(clips), labels)
        return mixed.as_subclass(Tensor), targets

    return mix
