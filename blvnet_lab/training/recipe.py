"""What a training run is made of, in frozen records; light to import, for the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Architecture = Literal["tsn", "tsn_blnet", "blvnet", "blvnet_tam"]


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the classroom recipe for the motion samples."""

    epochs: int = 12
    """Passes over the training clips."""
    batch_size: int = 16
    """Clips in a step."""
    learning_rate: float = 0.03
    """Peak of the schedule."""
    momentum: float = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: float = 5e-4
    """L2 penalty on all weights."""
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    """Learning rate over the steps: up and down again, or down from the peak."""
    num_frames: int = 8
    """T, frames of a clip."""
    size: tuple[int, int] = (64, 64)
    """Height and width of the clip, in pixels."""
    channels_last: bool = True
    """Keep the channels of a pixel together in memory, which convolutions run faster with."""
    seed: int = 0
    """Of the initial weights, the order of clips, the sampled frames and the augmentation."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "num_frames"):
            if getattr(self, name) <= 0:
                raise ValueError(f"expected {name} to be positive, got {getattr(self, name)}")
        for name in ("momentum", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} to be at least 0, got {getattr(self, name)}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"expected size as (height, width) in pixels, got {self.size}")
        if self.schedule not in ("one-cycle", "cosine"):
            raise ValueError(f'expected schedule "one-cycle" or "cosine", got "{self.schedule}"')


@dataclass(frozen=True)
class Staircase:
    """Train the four architectures on the motion samples and compare them."""

    out: Path = Path("runs/staircase")
    """Folder for checkpoints, logs and the summary."""
    manifest: Path | None = None
    """Manifest of the clips; the shipped samples where none is given."""
    architectures: tuple[Architecture, ...] = ("tsn", "tsn_blnet", "blvnet", "blvnet_tam")
    """Which of the four to train."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every architecture per seed; the first one's checkpoints are kept."""
    recipe: Recipe = field(default_factory=Recipe)
    """How to train; its seed is replaced by each of `seeds`."""

    def __post_init__(self) -> None:
        if not self.architectures or not self.seeds:
            raise ValueError("expected at least one architecture and one seed, got none")
