"""The architectures that the paper compares, and the functions that build them.

    from blvnet_lab.models import blvnet_tam
    model = blvnet_tam(depth=50, num_frames=16, num_classes=174)
    logits = model(clip)          # (B, T, C, H, W) -> (B, num_classes)

a) `tsn`: a 2-D ResNet on every frame, logits averaged (Wang et al., 2016). Frames exchange
   information in its relatives, TSM by a fixed shift (Lin et al., 2019), TAM-ResNet by TAMs.
b) `tsn_blnet`: a big-little network on every frame; every frame feeds both branches.
c) `blvnet`: the two frames of a pair feed different branches.
d) `blvnet_tam`: and temporal aggregation lets pairs exchange information.

b, c and d are one network with two switches. Source: Fan et al., NeurIPS 2019.
"""

import re
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from torch import Tensor, fx, nn

from blvnet_lab.models.big_little import BigLittleStage, BigLittleStem
from blvnet_lab.models.bottleneck import (
    EXPANSION,
    BasicBlock,
    Block,
    BlockStage,
    Bottleneck,
    bottlenecks,
    conv_bn,
)
from blvnet_lab.models.fast import run_checkpointed
from blvnet_lab.models.tam import TAM, TamOptions, TapInit

Depth = Literal["tiny", 50, 101, 152]
ResNetDepth = Literal["tiny", 18, 34, 50, 101, 152]
Temporal = Literal["shift", "tam"]
RESNETS: dict[Temporal | None, str] = {None: "tsn", "shift": "tsm", "tam": "tam_resnet"}
# From this many blocks in stage 3 on, TSM shifts only every second block.
SPARSE_SHIFT_FROM = 23


class Size(NamedTuple):
    width: int  # channels after the stem
    resnet_blocks: tuple[int, ...]  # of each stage
    big_little_blocks: tuple[int, ...] = ()  # n of each stage (the 101 and 152 are not ResNet's)
    expansion: int = EXPANSION  # 1: of basic blocks

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after each of the four stages."""
        return tuple(self.expansion * self.width * 2**stage for stage in range(4))


SIZES: dict[ResNetDepth, Size] = {
    "tiny": Size(8, (2, 2, 2, 2), (2, 2, 2, 2)),  # ours, for classrooms without a GPU
    18: Size(64, (2, 2, 2, 2), expansion=1),
    34: Size(64, (3, 4, 6, 3), expansion=1),
    50: Size(64, (3, 4, 6, 3), (3, 4, 6, 3)),
    101: Size(64, (3, 4, 23, 3), (4, 8, 18, 3)),
    152: Size(64, (3, 8, 36, 3), (5, 12, 30, 3)),
}


def size_of(depth: ResNetDepth, depths: Collection[ResNetDepth]) -> Size:
    """Look up the size of a depth; raise ValueError if it is none of these depths."""
    if depth not in depths:
        raise ValueError(f"expected depth to be one of {list(depths)}, got {depth!r}")
    return SIZES[depth]


class VideoNet(nn.Module):
    """The base of all networks: a clip goes in, one logit per class comes out.

    Args:
        architecture, arguments: the builder's name and its keyword arguments; `save_model` writes
            both down.
        features: channels after the last stage.
    """

    pairs = False  # do the frames of a pair go to different branches?
    multi_label = False  # may a clip be of several classes, each with a sigmoid of its own?
    grad_checkpointing = False
    folded = False  # by `optimize_for_inference`

    def __init__(self, architecture: str, arguments: dict[str, Any], features: int):
        super().__init__()
        self.architecture, self.arguments = architecture, arguments
        names = ("num_frames", "num_classes", "in_channels")
        num_frames, num_classes, in_channels = (arguments[name] for name in names)
        if min(num_frames, num_classes, in_channels) < 1:
            raise ValueError(
                "expected num_frames, num_classes and in_channels to be at least 1, "
                f"got {num_frames}, {num_classes} and {in_channels}"
            )
        self.num_frames, self.in_channels = num_frames, in_channels
        self.num_positions = num_frames  # P in time, after the stem; T/2 where frames are paired
        self.causal = arguments.get("causal", False)  # do the TAMs look back only?
        self.dropout = nn.Dropout(arguments["dropout"])
        self.classifier = nn.Linear(features, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Compute the logits (B, num_classes) of clips (B, T, C, H, W); see `check_clip`."""
        self.check_clip(clip)
        return self.forward_head(self.forward_features(clip))

    def forward_features(self, clip: Tensor) -> Tensor:  # (B, T, 3, H, W)
        """Compute the maps of the last stage, (B, P, C, h, w), of clips (B, T, C, H, W).

        The same five parts in all networks. At depth 50 they return the following; in a ResNet
        (P = T) the first two stages have twice the height and width.
        """
        positions = self.num_positions
        x = self.run_large(self.stem, clip)  # (B*P, 64, H/4, W/4)
        x = self.run_large(self.stage1, x, positions)  # (B*P, 256, H/8, W/8)
        x = self.stage2(x, positions)  # (B*P, 512, H/16, W/16)
        x = self.stage3(x, positions)  # (B*P, 1024, H/16, W/16)
        x = self.stage4(x, positions)  # (B*P, 2048, H/32, W/32)
        return x.unflatten(0, (-1, positions))

    def forward_head(self, features: Tensor) -> Tensor:  # (B, P, C, h, w)
        pooled = self.dropout(features.mean((-2, -1)))  # (B, P, C)
        return self.classifier(pooled).mean(1)  # (B, P, num_classes) -> (B, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by an untrained one; all else stays as it is."""
        if num_classes < 1:
            raise ValueError(f"expected num_classes to be at least 1, got {num_classes}")
        old = self.classifier.weight
        self.classifier = nn.Linear(old.shape[1], num_classes).to(old)  # its device and precision
        init_weights(self.classifier)
        self.arguments, self.multi_label = {**self.arguments, "num_classes": num_classes}, False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save memory in training: compute stem and stage 1 again in the backward pass."""
        self.grad_checkpointing = enable

    def run_large(self, part: nn.Module, *args: Tensor | int) -> Tensor:
        return run_checkpointed(part, *args) if self.grad_checkpointing else part(*args)

    def check_clip(self, clip: Tensor) -> None:
        """Raise an error that names the remedy unless `forward` accepts the clip."""
        if isinstance(clip, fx.Proxy):
            return  # torch.fx records the network without a clip
        if not isinstance(clip, Tensor):
            remedy = "torch.from_numpy makes one of a NumPy array"
            raise TypeError(f"expected a clip as a tensor, got {type(clip).__name__}: {remedy}")
        shape, frames, channels = tuple(clip.shape), self.num_frames, self.in_channels
        if shape[1:3] == (frames, channels) and len(shape) == 5 and clip.is_floating_point():
            return
        if len(shape) != 5:
            remedy = "reshape it; a single clip gets a batch axis by clip.unsqueeze(0)"
        elif shape[2] != channels and shape[1] == channels:
            remedy = "this looks like (B, C, T, H, W): use clip.transpose(1, 2)"
        elif shape[2] != channels and shape[4] == channels:
            remedy = "this looks like (B, T, H, W, C): use clip.permute(0, 1, 4, 2, 3)"
        elif shape[2] != channels:
            remedy = f"build the model with in_channels={shape[2]}"
        elif shape[1] % 2 and self.pairs:
            remedy = f"{shape[1]} frames are not pairs: sample {frames} frames"
        elif shape[1] != frames:
            remedy = f"sample {frames} frames, or build the model with num_frames={shape[1]}"
        else:
            remedy = "turn uint8 frames into normalised floats with blvnet_lab.data.normalize"
        wanted = f"(B, T={frames}, C={channels}, H, W)"
        raise ValueError(f"expected a clip {wanted} float, got {shape} {clip.dtype}: {remedy}")


class TSN(VideoNet):
    """A ResNet on every frame, with torchvision's names inside its stages: see `tsn`."""

    def __init__(self, architecture: str, arguments: dict[str, Any], tam: TamOptions | None):
        size = size_of(arguments["depth"], SIZES)
        super().__init__(architecture, arguments, size.channels[-1])
        conv, bn = conv_bn(self.in_channels, size.width, 7, stride=2)
        flat, pool, out = nn.Flatten(0, 1), nn.MaxPool2d(3, 2, padding=1), nn.Identity()
        stem = OrderedDict(flat=flat, conv=conv, bn=bn, relu=nn.ReLU(), pool=pool, out=out)
        self.stem = nn.Sequential(stem)
        block = BasicBlock if size.expansion == 1 else Bottleneck
        is_shift = architecture == "tsm"
        is_sparse = is_shift and size.resnet_blocks[2] >= SPARSE_SHIFT_FROM
        before = size.width
        for stage, channels in enumerate(size.channels, start=1):
            blocks = []
            for i in range(size.resnet_blocks[stage - 1]):
                stride = 2 if stage > 1 and i == 0 else 1
                options = None if is_sparse and i % 2 else tam
                blocks.append(block(before, channels, stride, options, resnet=True))
                before = channels
            self.add_module(f"stage{stage}", BlockStage(blocks))
        init_weights(self)
        for module in self.modules():
            if isinstance(module, TAM):
                module.requires_grad_(not is_shift)  # a shift does not learn


class BigLittleNet(VideoNet):
    """Architectures b, c and d: see `tsn_blnet`, `blvnet` and `blvnet_tam`.

    Its two switches: `pairs` routes the frames of a pair to different branches (P = T/2 positions
    after the stem) instead of every frame to both (P = T); `tam=None` leaves out all TAMs.
    """

    def __init__(
        self, architecture: str, arguments: dict[str, Any], *, pairs: bool, tam: TamOptions | None
    ):
        names = ("depth", "num_frames", "alpha", "beta")
        depth, num_frames, alpha, beta = (arguments[name] for name in names)
        size = size_of(depth, [name for name in SIZES if SIZES[name].big_little_blocks])
        if pairs and num_frames % 2:
            raise ValueError(
                f"expected an even num_frames, got {num_frames}: frames go to the branches in "
                f"pairs; use {num_frames + 1}"
            )
        if alpha < 1 or beta < 1 or size.width % alpha:
            raise ValueError(
                f"expected alpha to divide the width {size.width} and beta to be at least 1, "
                f"got alpha={alpha}, beta={beta}; the paper uses alpha=2, beta=4"
            )
        (c1, c2, c3, c4), (n1, n2, n3, n4) = size.channels, size.big_little_blocks
        super().__init__(architecture, arguments, c4)
        self.pairs = pairs
        self.num_positions //= 1 + pairs
        self.stem = BigLittleStem(self.in_channels, size.width, alpha, pairs, tam)
        self.stage1 = BigLittleStage(size.width, c1, n1, 2, alpha, beta, tam)
        self.stage2 = BigLittleStage(c1, c2, n2, 2, alpha, beta, tam)
        self.stage3 = BigLittleStage(c2, c3, n3, 1, alpha, beta, tam)  # keeps the resolution
        self.stage4 = BlockStage(bottlenecks(c3, c4, n4, stride=2, tam=tam))
        init_weights(self)


def tsn(
    *,
    temporal: Temporal | None = None,
    depth: ResNetDepth = 50,
    num_frames: int = 16,
    num_classes: int = 174,
    num_taps: int = 3,
    tap_init: TapInit = "identity",
    causal: bool = False,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> TSN:
    """Build TSN: a 2-D ResNet on every frame, logits averaged; or TSM or TAM-ResNet.

    In the latter two every residual branch begins with a temporal module, which the shortcut
    bypasses. TSM's shift is a TAM whose taps are 0 and 1 and do not learn. If they do, it is a
    TAM-ResNet: up to depth 50 `tsn(temporal="tam", tap_init="shift")` starts as the same function.

    Args:
        temporal: "shift" for TSM (in every second block from depth 101 on, as published), "tam" for
            TAM-ResNet; with None, frames exchange nothing.
        depth: "tiny", 18, 34, 50, 101 or 152.
        num_taps, tap_init, causal: of the temporal modules; `tap_init` only matters for "tam".

    The others as for `blvnet_tam`; any T.
    """
    arguments = dict(locals())
    tam = TamOptions(num_taps, "shift" if temporal == "shift" else tap_init, causal)
    if temporal is None:
        tam = None
        for name in ("temporal", *TamOptions._fields):  # which then do not matter
            del arguments[name]
    return TSN(RESNETS[temporal], arguments, tam)


def tsn_blnet(
    *,
    depth: Depth = 50,
    num_frames: int = 16,
    num_classes: int = 174,
    alpha: int = 2,
    beta: int = 4,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> BigLittleNet:
    """Build TSN-bLNet: a big-little network on every frame; args as for `blvnet_tam`, any T."""
    return BigLittleNet("tsn_blnet", dict(locals()), pairs=False, tam=None)


def blvnet(
    *,
    depth: Depth = 50,
    num_frames: int = 16,
    num_classes: int = 174,
    alpha: int = 2,
    beta: int = 4,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> BigLittleNet:
    """Build bLVNet: pairs exchange nothing; args as for `blvnet_tam`."""
    return BigLittleNet("blvnet", dict(locals()), pairs=True, tam=None)


def blvnet_tam(
    *,
    depth: Depth = 50,
    num_frames: int = 16,
    num_classes: int = 174,
    alpha: int = 2,
    beta: int = 4,
    num_taps: int = 3,
    tap_init: TapInit = "identity",
    causal: bool = False,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> BigLittleNet:
    """Build bLVNet-TAM: frames go to two branches alternately, pairs exchange information.

    Args:
        depth: "tiny" (width 8, two blocks a stage), 50, 101 or 152.
        num_frames: T, even; the paper's f8x2 is 16.
        num_classes: of the classifier; 174 for Something-Something.
        alpha: the little branch has 1/alpha of the channels.
        beta: the little branch has about 1/beta of the blocks.
        num_taps: r, odd: how many frames a TAM sums over. 1 only scales channels.
        tap_init: "identity", or "kaiming" as published; see `TAM`.
        causal: TAMs look back only, so that a live video can be followed (`Stream`); not in the
            paper.
        in_channels: 3 for RGB, 10 for stacked optical flow.
        dropout: probability before the classifier.

    Raises ValueError for sizes that make no network.
    """
    arguments, tam = dict(locals()), TamOptions(num_taps, tap_init, causal)
    return BigLittleNet("blvnet_tam", arguments, pairs=True, tam=tam)


def capture_points(model: VideoNet) -> list[str]:
    """List the modules whose outputs are worth looking at, roughly from first to last.

    `stem.tam` (B, T, ...), `stage1.tam` (a pair of (B, P, ...): little, big); everywhere else maps
    of B*P (B*T) positions: `.big`, `.little`, `.merged` (their sum after ReLU), `.out` (after
    fusion), `stage4.0` (a block), `stage4.0.tam`; `classifier` (B, P, num_classes) per-pair logits.
    """
    points = r"(stem|stage\d)\.(tam|big|little|merged|out|\d+)|stage\d\.\d+\.tam|classifier"
    names = [name for name, _ in model.named_modules() if re.fullmatch(points, name)]
    return sorted(names, key=lambda name: name == "classifier")  # built first, computed last


def architecture_of(model: object) -> str:
    """Name the builder of one of our networks, or the type of anything else."""
    return model.architecture if isinstance(model, VideoNet) else type(model).__name__


def init_weights(model: nn.Module) -> None:
    """Draw initial weights: Kaiming normal convolutions, zero residual branches, a small head."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, Block):  # every block starts as its shortcut alone
            *_, last = (m for m in module.children() if isinstance(m, nn.BatchNorm2d))
            nn.init.zeros_(last.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.001)
            nn.init.zeros_(module.bias)
