"""The residual block that every stage is made of (He et al., 2016; shortcut as in bLNet, 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blvnet_lab.models.tam import TAM, TamOptions

EXPANSION = 4  # a bottleneck is narrowed to a quarter of its output channels


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Build a convolution without bias, padded to keep the size at stride 1, and a batch norm."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class Bottleneck(nn.Module):
    """1x1 to a quarter of the channels, 3x3, 1x1 back, plus the shortcut, ReLU.

    Args:
        stride: of the 3x3 convolution.
        final_relu: without it the sum is left as it is (the big branch ends so).
        tam: of the TAM that stage 4 puts before the block; it sees a clip's maps together.
        pool_shortcut: at stride 2, average the shortcut (3x3) before its 1x1 convolution, so that
            it drops no pixel, as bLNet does; False puts the stride into the convolution (ResNet).

    Input (N, in_channels, H, W), output (N, channels, H/stride, W/stride) with N = B * positions.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        final_relu: bool = True,
        tam: TamOptions | None = None,
        pool_shortcut: bool = True,
    ):
        super().__init__()
        narrow = channels // EXPANSION
        self.final_relu = final_relu
        self.tam = None if tam is None else TAM(in_channels, *tam)
        self.conv1, self.bn1 = conv_bn(in_channels, narrow, 1)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_bn(narrow, narrow, 3, stride)
        self.relu2 = nn.ReLU()
        self.conv3, self.bn3 = conv_bn(narrow, channels, 1)
        pool = [nn.AvgPool2d(3, stride, padding=1)] if stride != 1 and pool_shortcut else []
        match = []
        if in_channels != channels:
            match = conv_bn(in_channels, channels, 1, stride=1 if pool else stride)
        self.downsample = nn.Sequential(*pool, *match) if pool or match else None

    def forward(self, x: Tensor, num_positions: int | None = None) -> Tensor:
        y = x
        if self.tam is not None:  # (B*P, C, H, W) -> (B, P, C, H, W) -> (B*P, C, H, W)
            y = self.tam(x.unflatten(0, (-1, num_positions))).flatten(0, 1)
        # The published network takes the first block's shortcut after its TAM, the others' before.
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.relu1(self.bn1(self.conv1(y)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        # In place is safe here: the sum is new, and no hook has seen it.
        return torch.relu_(y + shortcut) if self.final_relu else y + shortcut


def bottlenecks(
    in_channels: int,
    channels: int,
    count: int,
    stride: int = 1,
    last_relu: bool = True,
    pool_shortcut: bool = True,
    tam: TamOptions | None = None,
) -> list[Bottleneck]:
    """Build `count` bottlenecks in a row; the first changes the channels and takes the stride."""
    return [
        Bottleneck(
            in_channels if i == 0 else channels,
            channels,
            stride=stride if i == 0 else 1,
            final_relu=last_relu or i < count - 1,
            tam=tam,
            pool_shortcut=pool_shortcut,
        )
        for i in range(count)
    ]
