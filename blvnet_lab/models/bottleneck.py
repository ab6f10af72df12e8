"""The residual blocks that every stage is made of (He et al., 2016; shortcut as in bLNet, 2019)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from blvnet_lab.models.tam import TAM, TamOptions

EXPANSION = 4  # a bottleneck is narrowed to a quarter of its output channels


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Build a convolution that keeps the size at stride 1, and its batch norm."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class Block(nn.Module):
    """Add a branch of convolutions to the block's input, its shortcut, and take the ReLU.

    Each kind below builds its branch in `add_branch`, and computes it in `branch`.

    Args:
        stride: of the block's first 3x3 convolution.
        tam: of the TAM that the branch begins with; it sees a clip's maps together.
        resnet: the shortcut is ResNet's: it leaves before the TAM, and its 1x1 convolution has the
            stride. False is bLNet's shortcut, averaged (3x3) so that it drops no pixel; where it
            has a convolution, it leaves after the TAM, as in the published bLVNet-TAM.

    Input (N, in_channels, H, W), output (N, channels, H/stride, W/stride) with N = B * positions.
    """

    final_relu = True  # False leaves the ReLU to what follows

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        tam: TamOptions | None = None,
        resnet: bool = False,
    ):
        super().__init__()
        self.resnet = resnet
        self.tam = None if tam is None else TAM(in_channels, *tam)
        self.add_branch(in_channels, channels, stride)
        pool = [nn.AvgPool2d(3, stride, padding=1)] if stride != 1 and not resnet else []
        match = []
        if in_channels != channels:
            match = conv_bn(in_channels, channels, 1, stride=1 if pool else stride)
        self.downsample = nn.Sequential(*pool, *match) if pool or match else None

    def forward(self, x: Tensor, num_positions: int | None = None) -> Tensor:
        y = x
        if self.tam is not None:  # (B*P, C, H, W) -> (B, P, C, H, W) -> (B*P, C, H, W)
            y = self.tam(x.unflatten(0, (-1, num_positions))).flatten(0, 1)
        shortcut = x if self.downsample is None else self.downsample(x if self.resnet else y)
        y = self.branch(y)
        # In place is safe here: the sum is new, and no hook has seen it.
        return torch.relu_(y + shortcut) if self.final_relu else y + shortcut


class Bottleneck(Block):
    """1x1 to a quarter of the channels, 3x3, 1x1 back; in all networks but ResNet-18 and -34."""

    def add_branch(self, in_channels: int, channels: int, stride: int) -> None:
        narrow = channels // EXPANSION
        self.conv1, self.bn1 = conv_bn(in_channels, narrow, 1)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_bn(narrow, narrow, 3, stride)
        self.relu2 = nn.ReLU()
        self.conv3, self.bn3 = conv_bn(narrow, channels, 1)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class BasicBlock(Block):
    """3x3, 3x3: the block of ResNet-18 and -34."""

    def add_branch(self, in_channels: int, channels: int, stride: int) -> None:
        self.conv1, self.bn1 = conv_bn(in_channels, channels, 3, stride)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))


def bottlenecks(
    in_channels: int, channels: int, count: int, stride: int = 1, tam: TamOptions | None = None
) -> list[Bottleneck]:
    """Build `count` bottlenecks in a row; the first changes the channels and takes the stride."""
    first = Bottleneck(in_channels, channels, stride, tam)
    return [first, *(Bottleneck(channels, channels, tam=tam) for _ in range(count - 1))]


class BlockStage(nn.Sequential):
    """A stage of blocks in a row, each of which may have its own TAM."""

    def __init__(self, blocks: Iterable[Block]):
        super().__init__(*blocks)
        self.out = nn.Identity()

    def forward(self, x: Tensor, num_positions: int | None = None) -> Tensor:  # (N, C_in, H, W)
        *blocks, out = self
        for block in blocks:
            x = block(x, num_positions)
        return out(x)  # (N, C, H/stride, W/stride) with N = B * positions
