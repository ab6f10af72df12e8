"""The models of the benchmark: ours, alternatives to them, and the published accuracy of each.

Accuracies are copied from their sources, never measured here; a row has one only if the source used
the same frames and, as far as it says, the same pixels.

`published_form(model)` makes the network as it was published from one of `blvnet_tam`: same
weights, same result, other steps. It follows the paper's own implementation (IBM/bLVNet-TAM; facts,
not text): every tap is a depthwise 1x1 convolution of all maps; the results are padded, stacked and
summed; and the merged map of a pair is copied to both of its frames, so that all stages but the
last carry T maps per clip. `blvnet_lab.models` is measured and tested against it; it is not a model
to build on.
"""

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import video

from blvnet_lab.deploy.export import ONNX_PACKAGES, export_model, runner
from blvnet_lab.deploy.variants import export_int8
from blvnet_lab.models import TAM, BigLittleNet, VideoNet, blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.models.networks import architecture_of

PAPER = "Fan et al., NeurIPS 2019"
TSM_PAPER = "Lin et al., ICCV 2019"
LATER = "the authors' later benchmark"
TORCHVISION, AS_IT_SAYS = "torchvision's weights", "as torchvision says"
K400, SSV2, MINI_SSV2 = "Kinetics-400", "Something-Something v2", "mini-SSv2"
UNKNOWN = "not known"
NORMAL, LARGE = (224, 224), (256, 256)  # height and width of frames, in pixels
INPUT = (16, NORMAL)  # for which blvnet_tam's accuracy was published

# Name of the row, data set, percent, clips x crops of each video, source.
ACCURACIES = (
    ("blvnet_tam", SSV2, 59.1, "1 x 1", PAPER),  # of 16 frames of 224 x 224
    ("blvnet_tam_f16x2", SSV2, 61.7, "1 x 1", PAPER),
    ("blvnet_tam_256", K400, 71.0, "3 x 3", PAPER),
    ("tsn_8", K400, 70.6, UNKNOWN, TSM_PAPER),
    ("tsn_8", MINI_SSV2, 33.9, UNKNOWN, LATER),
    ("resnet_tam", MINI_SSV2, 65.4, UNKNOWN, LATER),
    ("resnet_tsm", SSV2, 58.9, "1 x 1", TSM_PAPER),
    ("resnet_tsm_256", K400, 74.1, "30 views", TSM_PAPER),
    ("r3d_18", K400, 63.20, AS_IT_SAYS, TORCHVISION),
    ("r2plus1d_18", K400, 67.46, AS_IT_SAYS, TORCHVISION),
    ("s3d", K400, 68.37, AS_IT_SAYS, TORCHVISION),
    ("mvit_v2_s", K400, 80.76, AS_IT_SAYS, TORCHVISION),
)


@dataclass(frozen=True)
class Peer:
    """A row: a model at the input for which it was published."""

    name: str  # on the command line
    title: str
    build: Callable[[], nn.Module]
    num_frames: int
    size: tuple[int, int]  # height and width of the frames, in pixels
    channels_first: bool = False  # takes (B, C, T, H, W), as 3-D networks do

    def clip(self) -> Tensor:
        """Make a clip of noise, with its dimensions in the order that the model expects."""
        shape = (3, self.num_frames) if self.channels_first else (self.num_frames, 3)
        return torch.randn(1, *shape, *self.size)


def all_peers(num_frames: int = 16, size: tuple[int, int] = NORMAL) -> list[Peer]:
    """List every row. `num_frames` and `size` are those of the four architectures."""
    ours = {"TSN": tsn, "TSN-bLNet": tsn_blnet, "bLVNet": blvnet, "bLVNet-TAM": blvnet_tam}
    three_d = {video.r3d_18: 112, video.r2plus1d_18: 112, video.s3d: 224, video.mvit_v2_s: 224}
    own = {"depth": 50, "num_frames": num_frames}
    f16x2 = partial(blvnet_tam, depth=50, num_frames=32)
    tam_256 = partial(blvnet_tam, depth=50, num_frames=16, num_classes=400)
    resnet = partial(tsn, depth=50, num_frames=8)
    tam, tsm = partial(resnet, temporal="tam"), partial(resnet, temporal="shift")

    def published() -> nn.Module:
        return published_form(blvnet_tam(**own))

    return [
        *(
            Peer(builder.__name__, title, partial(builder, **own), num_frames, size)
            for title, builder in ours.items()
        ),
        Peer("published", "the published formulation of it", published, num_frames, size),
        Peer("blvnet_tam_f16x2", "bLVNet-TAM f16x2", f16x2, 32, NORMAL),
        Peer("blvnet_tam_256", "bLVNet-TAM, 256 pixels", tam_256, 16, LARGE),
        Peer("tsn_8", "TSN, 8 frames", resnet, 8, NORMAL),
        Peer("resnet_tam", "ResNet-50 with TAM, 8 frames", tam, 8, NORMAL),
        Peer("resnet_tsm", "TSM (ResNet-50), 8 frames", tsm, 8, NORMAL),
        Peer("resnet_tsm_256", "TSM (ResNet-50), 8 frames, 256 pixels", tsm, 8, LARGE),
        *(
            Peer(build.__name__, build.__name__, build, 16, (side, side), channels_first=True)
            for build, side in three_d.items()
        ),
    ]


def published_accuracies(peers: Sequence[Peer]) -> pd.DataFrame:
    """List published accuracies of these rows: name, model, dataset, top-1 (%), views, source."""
    as_published = [p for p in peers if p.name != "blvnet_tam" or (p.num_frames, p.size) == INPUT]
    titles = pd.DataFrame([(p.name, p.title) for p in as_published], columns=["name", "model"])
    accuracies = pd.DataFrame(ACCURACIES, columns=["name", "dataset", "top-1", "views", "source"])
    return titles.merge(accuracies)


def lacking_engines() -> list[str]:
    """List the packages for `other_engines` that are not installed."""
    return [name for name in (*ONNX_PACKAGES, "openvino") if importlib.util.find_spec(name) is None]


def other_engines(model: VideoNet, clips: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Load the network into ONNX Runtime and OpenVINO, if they are installed; runs by name.

    `clips` (N, T, C, H, W), N at least 2, are of the size to run on; they also calibrate int8.
    """
    runs, lacking = {}, lacking_engines()
    if set(lacking) & set(ONNX_PACKAGES):
        return runs

    def run_compiled(compiled: Any, clip: Tensor) -> Tensor:
        return torch.from_numpy(compiled(clip.numpy())[0].copy())

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        export_model(model, whole, tuple(clips.shape[-2:]))
        export_int8(model, small, clips)
        for file in (whole, small):
            run = runner(file)
            runs[f"ONNX Runtime, {file.stem}"] = lambda clip, run=run: run(clip)[0]
        if "openvino" not in lacking:
            import openvino

            for name, asked in (("float32", {"INFERENCE_PRECISION_HINT": "f32"}), ("default", {})):
                asked = asked | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
                compiled = openvino.Core().compile_model(str(whole), "CPU", asked)
                runs[f"OpenVINO, {name}"] = partial(run_compiled, compiled)
    return runs


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
