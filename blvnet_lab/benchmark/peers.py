"""The models of the benchmark: ours, what one might pick instead, and how good each is published.

Accuracies are copied from their sources, never measured here; a row has one only where the source
used the same frames and, as far as it says, the same pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import video

from blvnet_lab.benchmark.published import published_form
from blvnet_lab.models import TAM, VideoNet, blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.models.bottleneck import Bottleneck

PAPER = "Fan et al., NeurIPS 2019"
TSM_PAPER = "Lin et al., ICCV 2019"
LATER = "the authors' later benchmark"
TORCHVISION = "torchvision's weights"
K400, SSV2, MINI_SSV2 = "Kinetics-400", "Something-Something v2", "mini-SSv2"
UNKNOWN = "not known"


class Accuracy(NamedTuple):
    """A published figure."""

    dataset: str
    top_1: float  # in percent
    views: str  # clips x crops of each video
    source: str


@dataclass(frozen=True)
class Peer:
    """One row: a model at the input for which it was published."""

    name: str  # on the command line
    title: str
    build: Callable[[], nn.Module]
    num_frames: int
    size: tuple[int, int]  # height and width of the frames, in pixels
    channels_first: bool = False  # takes (B, C, T, H, W), as 3-D networks do
    accuracies: tuple[Accuracy, ...] = field(default=())

    def clip(self, batch: int = 1) -> Tensor:
        """Noise, in the model's layout."""
        shape = (3, self.num_frames) if self.channels_first else (self.num_frames, 3)
        return torch.randn(batch, *shape, *self.size)


class Shift(nn.Module):
    """TSM's shift (Lin et al., 2019): an eighth of the channels from each neighbour in time.

    (B, T, C, H, W) to the same; zeros where a clip has no neighbour. It multiplies nothing, but it
    moves as much memory as a TAM.
    """

    def forward(self, x: Tensor) -> Tensor:
        moved = x.shape[2] // 8
        y = torch.zeros_like(x)  # in the memory layout of x
        y[:, :-1, :moved] = x[:, 1:, :moved]
        y[:, 1:, moved : 2 * moved] = x[:, :-1, moved : 2 * moved]
        y[:, :, 2 * moved :] = x[:, :, 2 * moved :]
        return y


class InTime(nn.Module):
    """A temporal module between layers that know nothing of clips: (B*T, C, H, W) to the same."""

    def __init__(self, module: nn.Module, num_frames: int):
        super().__init__()
        self.module, self.num_frames = module, num_frames

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.unflatten(0, (-1, self.num_frames))).flatten(0, 1)


def temporal_resnet(temporal: Callable[[int], nn.Module], num_frames: int) -> VideoNet:
    """ResNet-50 on every frame, with a temporal module at the beginning of each residual branch.

    Args:
        temporal: from a number of channels to a module on (B, T, C, H, W).
    """
    model = tsn(depth=50, num_frames=num_frames)
    for block in model.modules():
        if isinstance(block, Bottleneck):
            module = InTime(temporal(block.conv1.in_channels), num_frames)
            block.conv1 = nn.Sequential(module, block.conv1)
    return model


def all_peers(num_frames: int = 16, size: tuple[int, int] = (224, 224)) -> list[Peer]:
    """List every row. `num_frames` and `size` are those of the four architectures."""
    is_f8x2 = (num_frames, size) == (16, (224, 224))
    f8x2 = (Accuracy(SSV2, 59.1, "1 x 1", PAPER),) if is_f8x2 else ()

    def ours(builder: Callable[..., VideoNet], title: str, **kind) -> Peer:
        def build() -> VideoNet:
            return builder(depth=50, num_frames=num_frames)

        return Peer(builder.__name__, title, build, num_frames, size, **kind)

    def from_torchvision(name: str, accuracy: float, num_frames: int, side: int) -> Peer:
        return Peer(
            name,
            name,
            getattr(video, name),
            num_frames,
            (side, side),
            channels_first=True,
            accuracies=(Accuracy(K400, accuracy, "as torchvision says", TORCHVISION),),
        )

    return [
        ours(tsn, "TSN"),
        ours(tsn_blnet, "TSN-bLNet"),
        ours(blvnet, "bLVNet"),
        ours(blvnet_tam, "bLVNet-TAM", accuracies=f8x2),
        Peer(
            "published",
            "the published formulation of it",
            lambda: published_form(blvnet_tam(depth=50, num_frames=num_frames)),
            num_frames,
            size,
        ),
        Peer(
            "blvnet_tam_f16x2",
            "bLVNet-TAM f16x2",
            lambda: blvnet_tam(depth=50, num_frames=32),
            32,
            (224, 224),
            accuracies=(Accuracy(SSV2, 61.7, "1 x 1", PAPER),),
        ),
        Peer(
            "blvnet_tam_256",
            "bLVNet-TAM, 256 pixels",
            lambda: blvnet_tam(depth=50, num_frames=16, num_classes=400),
            16,
            (256, 256),
            accuracies=(Accuracy(K400, 71.0, "3 x 3", PAPER),),
        ),
        Peer(
            "tsn_8",
            "TSN, 8 frames",
            lambda: tsn(depth=50, num_frames=8),
            8,
            (224, 224),
            accuracies=(
                Accuracy(K400, 70.6, UNKNOWN, TSM_PAPER),
                Accuracy(MINI_SSV2, 33.9, UNKNOWN, LATER),
            ),
        ),
        Peer(
            "resnet_tam",
            "ResNet-50 with TAM, 8 frames",
            lambda: temporal_resnet(TAM, 8),
            8,
            (224, 224),
            accuracies=(Accuracy(MINI_SSV2, 65.4, UNKNOWN, LATER),),
        ),
        Peer(
            "resnet_tsm",
            "TSM (ResNet-50), 8 frames",
            lambda: temporal_resnet(lambda channels: Shift(), 8),
            8,
            (224, 224),
            accuracies=(Accuracy(SSV2, 58.9, "1 x 1", TSM_PAPER),),
        ),
        Peer(
            "resnet_tsm_256",
            "TSM (ResNet-50), 8 frames, 256 pixels",
            lambda: temporal_resnet(lambda channels: Shift(), 8),
            8,
            (256, 256),
            accuracies=(Accuracy(K400, 74.1, "30 views", TSM_PAPER),),
        ),
        from_torchvision("r3d_18", 63.20, 16, 112),
        from_torchvision("r2plus1d_18", 67.46, 16, 112),
        from_torchvision("s3d", 68.37, 16, 224),
        from_torchvision("mvit_v2_s", 80.76, 16, 224),
    ]


def choose_peers(names: Sequence[str], peers: Sequence[Peer]) -> list[Peer]:
    """Those of these names, in the order of the rows.

    Raises:
        ValueError: there is no row of a name.
    """
    known = [peer.name for peer in peers]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ValueError(
                f'expected models out of {", ".join(known)}, got "{name}"'
                + (f"; near it are {', '.join(near)}" if near else "")
            )
    return [peer for peer in peers if peer.name in names]
