"""The big-little network: two branches, each seeing half of the frames, merged at every stage.

Sources: bLNet (Chen et al., ICLR 2019) for the two branches, Fan et al. (NeurIPS 2019) for the
routing of frames to branches. The *big* branch is deep and works at half the resolution; the
*little* branch is shallow and narrow and works at full resolution. Of a pair of frames the first
(2k) goes to the little branch, the second (2k + 1) to the big one.

Inside, the clips of a batch and their positions in time share the first axis: (B*T, C, H, W) while
there is a map for every frame, (B*P, C, H, W) once the P = T/2 pairs are merged.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blvnet_lab.models.bottleneck import Bottleneck, bottlenecks, conv_bn
from blvnet_lab.models.fast import split_pairs
from blvnet_lab.models.tam import TAM, PairTAM, TamOptions


class BigLittleStem(nn.Module):
    """From pixels to the first merged maps, at a quarter of the resolution.

    Args:
        channels: of everything after the first convolution (64; 8 in the tiny network).
        alpha: width divisor of the little branch.
        pairs: True routes frames to branches alternately (bLVNet); False gives both every frame.
        tam: of the TAM after the first convolution; None leaves it out.
    """

    def __init__(
        self, in_channels: int, channels: int, alpha: int, pairs: bool, tam: TamOptions | None
    ):
        super().__init__()
        self.pairs = pairs
        self.conv, self.bn = conv_bn(in_channels, channels, 7, stride=2)
        self.relu = nn.ReLU()
        self.tam = None if tam is None else TAM(channels, *tam)
        self.big = nn.Sequential(*conv_bn(channels, channels, 3, stride=2))
        self.little = nn.Sequential(
            *conv_bn(channels, channels // alpha, 3),
            nn.ReLU(),
            *conv_bn(channels // alpha, channels // alpha, 3, stride=2),
            nn.ReLU(),
            *conv_bn(channels // alpha, channels, 1),
        )
        self.merged = nn.Identity()
        self.fusion = nn.Sequential(*conv_bn(channels, channels, 1), nn.ReLU())
        self.out = nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:  # (B, T, 3, H, W)
        num_frames = clip.shape[1]
        x = self.relu(self.bn(self.conv(clip.flatten(0, 1))))  # (B*T, 64, H/2, W/2)
        x = x.unflatten(0, (-1, num_frames))  # (B, T, 64, H/2, W/2)
        if self.tam is not None:
            x = self.tam(x)
        little, big = split_pairs(x) if self.pairs else (x, x)  # (B, P, 64, H/2, W/2)
        little, big = self.little(little.flatten(0, 1)), self.big(big.flatten(0, 1))
        merged = self.merged(torch.relu_(big + little))  # (B*P, 64, H/4, W/4)
        return self.out(self.fusion(merged))  # same


class BigLittleStage(nn.Module):
    """One of stages 1 to 3: TAM, both branches, merge, fusion.

    Args:
        num_blocks: n of the stage. The big branch has n - 1 bottlenecks (the first halves the
            resolution), the little one n // beta - 1 (at least one), the fusion one more.
        fusion_stride: 2 halves the resolution after the merge.
        alpha, beta: width and depth divisors of the little branch.
        tam: of the TAM; None leaves it out, and both branches get the same map.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_blocks: int,
        fusion_stride: int,
        alpha: int,
        beta: int,
        tam: TamOptions | None,
    ):
        super().__init__()
        self.tam = None if tam is None else PairTAM(in_channels, *tam)
        self.big = nn.Sequential(*bottlenecks(in_channels, channels, num_blocks - 1, stride=2))
        if len(self.big) > 1:
            self.big[-1].final_relu = False  # it is left to the merge
        narrow = channels // alpha
        num_little = max(1, num_blocks // beta - 1)
        self.little = nn.Sequential(*bottlenecks(in_channels, narrow, num_little))
        self.little.add_module("expand", nn.Sequential(*conv_bn(narrow, channels, 1)))
        self.merged = nn.Identity()
        self.fusion = Bottleneck(channels, channels, stride=fusion_stride)
        self.out = nn.Identity()

    def forward(self, x: Tensor, num_positions: int) -> Tensor:  # (B*P, C_in, H, W)
        if self.tam is None:
            little, big = x, x
        else:  # (B, P, C_in, H, W) each, then flat again
            little, big = self.tam(x.unflatten(0, (-1, num_positions)))
            little, big = little.flatten(0, 1), big.flatten(0, 1)
        big = self.big(big)  # (B*P, C, H/2, W/2)
        little = self.little(little)  # (B*P, C, H, W)
        big = F.interpolate(big, size=little.shape[-2:], mode="nearest")  # (B*P, C, H, W)
        big = big.to(little.dtype)  # under autocast, CUDA enlarges in float32, and so all after it
        merged = self.merged(torch.relu_(big + little))
        return self.out(self.fusion(merged))  # (B*P, C, H/fusion_stride, W/fusion_stride)
