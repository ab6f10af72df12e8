"""The network as it was published, for comparison: same weights, same result, other steps.

    published = published_form(model)      # of a model from blvnet_tam

It follows the steps of the paper's own implementation (IBM/bLVNet-TAM; facts, not text): every tap
is a depthwise 1x1 convolution of all maps; the results are padded, stacked and summed; and the
merged map of a pair is copied to both of its frames, so that all stages but the last carry T maps
per clip. `blvnet_lab.models` is measured and tested against it; it is not a model to build on.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blvnet_lab.models import TAM, BigLittleNet
from blvnet_lab.models.networks import architecture_of


class PublishedTAM(nn.Module):
    """Equation 3 as convolutions: (B*N, C, H, W) -> the same, N maps a clip."""

    def __init__(self, tam: TAM, num_maps: int):
        super().__init__()
        self.num_maps = num_maps
        self.taps = nn.ModuleList()
        for weights in tam.taps.detach():  # earliest frame first
            tap = nn.Conv2d(tam.channels, tam.channels, 1, groups=tam.channels, bias=False)
            tap.weight = nn.Parameter(weights[:, None, None, None].clone())
            self.taps.append(tap)

    def forward(self, maps: Tensor) -> Tensor:
        shifted = []
        for offset, tap in enumerate(self.taps, start=-(len(self.taps) // 2)):
            weighted = tap(maps).unflatten(0, (-1, self.num_maps))  # (B, N, C, H, W)
            before, after = max(0, -offset), max(0, offset)  # zeros added, frames cut off
            padded = F.pad(weighted, (0, 0, 0, 0, 0, 0, before, after))
            shifted.append(padded[:, after : after + self.num_maps])
        return torch.relu(torch.stack(shifted).sum(0)).flatten(0, 1)


class PublishedNet(nn.Module):
    """The modules of a bLVNet-TAM, called in the published order on T maps a clip."""

    def __init__(self, model: BigLittleNet):
        super().__init__()
        self.net = net = copy.deepcopy(model)
        self.num_pairs = net.num_frames // 2
        for module in (net.stem, net.stage1, net.stage2, net.stage3):
            module.tam = PublishedTAM(module.tam, net.num_frames)
        for block in list(net.stage4)[:-1]:
            block.tam = PublishedTAM(block.tam, self.num_pairs)

    def forward(self, clip: Tensor) -> Tensor:  # (B, T, 3, H, W)
        net, stem = self.net, self.net.stem
        x = stem.tam(torch.relu(stem.bn(stem.conv(clip.flatten(0, 1)))))  # (B*T, 64, H/2, W/2)
        merged = torch.relu(stem.big(x[1::2]) + stem.little(x[::2]))
        x = stem.fusion(merged).repeat_interleave(2, 0)  # (B*T, 64, H/4, W/4)
        for stage in (net.stage1, net.stage2, net.stage3):
            x = stage.tam(x)
            big, little = stage.big(x[1::2]), stage.little(x[::2])
            big = F.interpolate(big, size=little.shape[-2:], mode="nearest")
            x = stage.fusion(torch.relu(big + little)).repeat_interleave(2, 0)  # (B*T, C, h, w)
        x = x[::2]  # (B*P, 1024, h, w)
        for block in list(net.stage4)[:-1]:
            y = block.tam(x)
            shortcut = x if block.downsample is None else block.downsample(y)
            x = torch.relu(block.branch(y) + shortcut)
        pooled = net.dropout(x.mean((-2, -1)))  # (B*P, 2048)
        return net.classifier(pooled).unflatten(0, (-1, self.num_pairs)).mean(1)


def published_form(model: BigLittleNet) -> PublishedNet:
    """Copy a model into one that computes the same in the published way; it keeps the mode.

    Raises TypeError unless it is from `blvnet_tam`, ValueError if its TAMs look back only.
    """
    if (name := architecture_of(model)) != "blvnet_tam":
        raise TypeError(f"expected a model from blvnet_tam, got {name}: only that was published")
    if model.causal:
        raise ValueError("expected a model whose TAMs look ahead too, got a causal one")
    return PublishedNet(model).train(model.training)
