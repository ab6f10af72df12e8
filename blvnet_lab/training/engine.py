"""The training loop: one epoch, one evaluation, and a run of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from blvnet_lab.models import VideoNet
from blvnet_lab.training.metrics import top_k_accuracy
from blvnet_lab.training.recipe import Recipe


def pick_device() -> torch.device:
    """The first that is there of CUDA, MPS and the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@dataclass
class EpochResult:
    """What one epoch came to."""

    epoch: int  # from 1
    train_loss: float  # mean cross-entropy over the epoch, while the weights change
    top_1: float  # on the validation clips after it, in 0..1
    seconds: float
    logits: Tensor  # (N, num_classes) of the validation clips
    labels: Tensor  # (N,)


def train_one_epoch(
    model: VideoNet,
    loader: DataLoader,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    device: torch.device,
) -> float:
    """One pass over the clips; the mean loss over them.

    Raises:
        ValueError: a label that the model has no class for.
        FloatingPointError: the loss is not finite; the message says at which step.
    """
    model.train()
    num_classes = model.classifier.out_features
    total, clips = torch.zeros((), device=device), 0
    for step, (clip, labels) in enumerate(loader):
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"expected labels from 0 to {num_classes - 1}, as the model has {num_classes} "
                f"classes, got {labels.min().item()} to {labels.max().item()}: build the model "
                "with the data set's num_classes, or mend the manifest's labels"
            )
        clip, labels = clip.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        loss = F.cross_entropy(model(clip), labels)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"expected a finite loss, got {loss.item()} at step {step} of the epoch: lower "
                "the learning rate"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(labels)
        clips += len(labels)
    return (total / clips).item()


@torch.inference_mode()
def evaluate(model: VideoNet, loader: DataLoader, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (N, num_classes) and labels (N,) of all clips, in order, on the CPU."""
    model.eval()
    logits, labels = [], []
    for clip, label in loader:
        logits.append(model(clip.to(device, non_blocking=True)).float().cpu())
        labels.append(label)
    return torch.cat(logits), torch.cat(labels)


def fit(
    model: VideoNet,
    train_set: Dataset,
    val_set: Dataset,
    recipe: Recipe,
    device: torch.device | None = None,
    after_epoch: Callable[[EpochResult], None] | None = None,
    title: str = "training",
) -> list[EpochResult]:
    """Train `model` as the recipe says, evaluating after every epoch.

    Seeds PyTorch's global generator with the recipe's seed.

    Args:
        device: None picks a GPU if there is one. The model stays there afterwards.
        after_epoch: called with every epoch's result, for logs and live pictures.
        title: of the progress bar.
    """
    device = pick_device() if device is None else device
    torch.manual_seed(recipe.seed)  # sampled frames, augmentation, dropout
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model.to(device, memory_format=layout)
    order = torch.Generator().manual_seed(recipe.seed)
    pin = device.type == "cuda"
    train_loader = DataLoader(
        train_set,
        recipe.batch_size,
        shuffle=True,
        drop_last=len(train_set) > recipe.batch_size,  # a last small batch has noisy statistics
        generator=order,
        pin_memory=pin,
    )
    val_loader = DataLoader(val_set, 4 * recipe.batch_size, pin_memory=pin)
    optimizer = SGD(
        model.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    steps = recipe.epochs * len(train_loader)
    if recipe.schedule == "one-cycle":
        scheduler = OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=steps, cycle_momentum=False
        )
    else:
        scheduler = CosineAnnealingLR(optimizer, steps)
    results = []
    bar = tqdm(range(1, recipe.epochs + 1), desc=title, unit="epoch")
    for epoch in bar:
        start = time.perf_counter()
        loss = train_one_epoch(model, train_loader, optimizer, scheduler, device)
        logits, labels = evaluate(model, val_loader, device)
        top_1 = top_k_accuracy(logits, labels)
        seconds = time.perf_counter() - start
        results.append(EpochResult(epoch, loss, top_1, seconds, logits, labels))
        bar.set_postfix(loss=f"{loss:.2f}", top_1=f"{top_1:.1%}")
        if after_epoch is not None:
            after_epoch(results[-1])
    return results
