"""The four architectures that the paper compares, and the functions that build them.

    from blvnet_lab.models import blvnet_tam
    model = blvnet_tam(depth=50, num_frames=16, num_classes=174)
    logits = model(clip)          # (B, T, C, H, W) -> (B, num_classes)

a) `tsn`: a 2-D ResNet on every frame, logits averaged (Wang et al., 2016).
b) `tsn_blnet`: a big-little network on every frame; every frame feeds both branches.
c) `blvnet`: the two frames of a pair feed different branches.
d) `blvnet_tam`: and temporal aggregation lets pairs exchange information.

b, c and d are one network with two switches. Source: Fan et al., NeurIPS 2019.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blvnet_lab.models.big_little import BigLittleStage, BigLittleStem, LastStage
from blvnet_lab.models.bottleneck import EXPANSION, Bottleneck, bottlenecks, conv_bn
from blvnet_lab.models.tam import TapInit

Depth = Literal["tiny", 50, 101, 152]


class Size(NamedTuple):
    width: int  # channels after the stem
    big_little_blocks: tuple[int, ...]  # n of each stage (the 101 and 152 differ from ResNet's)
    resnet_blocks: tuple[int, ...]


SIZES: dict[Depth, Size] = {
    "tiny": Size(8, (2, 2, 2, 2), (2, 2, 2, 2)),  # ours, for classrooms without a GPU
    50: Size(64, (3, 4, 6, 3), (3, 4, 6, 3)),
    101: Size(64, (4, 8, 18, 3), (3, 4, 23, 3)),
    152: Size(64, (5, 12, 30, 3), (3, 8, 36, 3)),
}


NO_TAM = {"num_taps": None, "tap_init": "identity", "causal": False}


class VideoNet(nn.Module):
    """What the four have in common: a clip goes in, one logit per class comes out.

    Subclasses give `forward_features`. `architecture` and `arguments`, the builder's name and its
    keyword arguments, are what `save_model` writes down.
    """

    architecture: str
    arguments: dict
    pairs = False  # do the frames of a pair go to different branches?
    causal = False  # do frames wait for later ones?
    grad_checkpointing = False
    folded = False  # by `optimize_for_inference`

    def __init__(
        self,
        *,
        num_frames: int,
        in_channels: int,
        num_classes: int,
        dropout: float,
        feature_channels: int,
    ):
        super().__init__()
        check_sizes(num_frames, num_classes, in_channels)
        self.num_frames, self.in_channels = num_frames, in_channels
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_channels, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (B, num_classes) of clips (B, T, C, H, W).

        Raises:
            ValueError: the clip has another layout, number of frames or of channels, or is not
                floating point.
        """
        self.check_clip(clip)
        return self.forward_head(self.forward_features(clip))

    def forward_features(self, clip: Tensor) -> Tensor:
        """Maps of the last stage, (B, T or P, C, h, w), of clips (B, T, C, H, W)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:  # (B, P, C, h, w)
        pooled = self.dropout(features.mean((-2, -1)))  # (B, P, C)
        return self.classifier(pooled).mean(1)  # (B, P, num_classes) -> (B, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """A new classifier for so many classes, which knows nothing; all else stays as it is."""
        check_sizes(self.num_frames, num_classes, self.in_channels)
        old = self.classifier.weight  # on whose device, and in whose precision, the new one is
        self.classifier = nn.Linear(old.shape[1], num_classes, device=old.device, dtype=old.dtype)
        init_weights(self.classifier)
        self.arguments = {**self.arguments, "num_classes": num_classes}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: compute stem and stage 1 again on the way back.

        Their maps are the largest, and are then not kept for the backward pass, only what goes in.
        The gradients are the same.
        """
        self.grad_checkpointing = enable

    def run_large(self, part: nn.Module, *args: Tensor | int) -> Tensor:
        """`part(*args)`, checkpointed if that is switched on and there will be a way back."""
        if not (self.grad_checkpointing and torch.is_grad_enabled()) or _hooked(part):
            return part(*args)
        # There is no chance in these parts, hence no state of it to keep. A compiled graph has its
        # effects once, whatever it computes again.
        options = {"use_reentrant": False, "preserve_rng_state": False}
        if not torch.compiler.is_compiling():
            options["context_fn"] = lambda: (nullcontext(), _CountedAlready(part))
        return checkpoint(part, *args, **options)

    def check_clip(self, clip: Tensor) -> None:
        if isinstance(clip, torch.fx.Proxy):
            raise TypeError(
                "expected a clip as a tensor, got a Proxy: torch.fx.symbolic_trace cannot follow a "
                "network that looks at its input. Trace it with torch.export.export or "
                "torch.jit.trace; blvnet_lab.introspect.capture gives the maps inside"
            )
        if not isinstance(clip, Tensor):
            raise TypeError(
                f"expected a clip as a tensor, got {type(clip).__name__}: "
                "torch.from_numpy makes one of a NumPy array"
            )
        wanted = f"(B, T={self.num_frames}, C={self.in_channels}, H, W)"
        shape = tuple(clip.shape)
        remedy = None
        if clip.ndim != 5:
            remedy = "add the batch axis with clip.unsqueeze(0)" if clip.ndim == 4 else "reshape it"
        elif shape[2] != self.in_channels:
            if shape[1] == self.in_channels:
                remedy = "this looks like (B, C, T, H, W): use clip.transpose(1, 2)"
            elif shape[4] == self.in_channels:
                remedy = "this looks like (B, T, H, W, C): use clip.permute(0, 1, 4, 2, 3)"
            else:
                remedy = f"build the model with in_channels={shape[2]}"
        elif shape[1] != self.num_frames:
            remedy = (
                f"sample {self.num_frames} frames, or build the model with num_frames={shape[1]} "
                "(its weights do not depend on it)"
            )
            if shape[1] % 2 and self.pairs:
                remedy = f"{shape[1]} frames are not pairs: sample {self.num_frames} frames"
        elif not clip.is_floating_point():
            remedy = "turn uint8 frames into normalised floats with blvnet_lab.data.normalize"
        if remedy is not None:
            raise ValueError(f"expected a clip {wanted} float, got {shape} {clip.dtype}: {remedy}")


class TSN(VideoNet):
    """A ResNet on every frame; the logits of the frames are averaged (architecture a).

    The same network as torchvision's ResNet, with the same names inside its stages.
    """

    def __init__(
        self, *, depth: Depth, num_frames: int, num_classes: int, in_channels: int, dropout: float
    ):
        width, _, blocks = _size(depth)
        super().__init__(
            num_frames=num_frames,
            in_channels=in_channels,
            num_classes=num_classes,
            dropout=dropout,
            feature_channels=width * 8 * EXPANSION,
        )
        conv, bn = conv_bn(in_channels, width, 7, stride=2)
        stem = {"conv": conv, "bn": bn, "relu": nn.ReLU(), "pool": nn.MaxPool2d(3, 2, padding=1)}
        self.stem = nn.Sequential(OrderedDict(stem | {"out": nn.Identity()}))
        channels = width
        for stage, (planes, count) in enumerate(zip(_planes(width), blocks, strict=True), start=1):
            stride = 1 if stage == 1 else 2
            stack = bottlenecks(channels, planes * EXPANSION, count, stride, pool_shortcut=False)
            named = [(str(i), block) for i, block in enumerate(stack)]
            sequence = nn.Sequential(OrderedDict([*named, ("out", nn.Identity())]))
            self.add_module(f"stage{stage}", sequence)
            channels = planes * EXPANSION
        init_weights(self)

    def forward_features(self, clip: Tensor) -> Tensor:  # (B, T, 3, H, W)
        x = self.run_large(self.stem, clip.flatten(0, 1))  # (B*T, 64, H/4, W/4)
        x = self.run_large(self.stage1, x)  # (B*T, 256, H/4, W/4)
        x = self.stage2(x)  # (B*T, 512, H/8, W/8)
        x = self.stage3(x)  # (B*T, 1024, H/16, W/16)
        x = self.stage4(x)  # (B*T, 2048, H/32, W/32)
        return x.unflatten(0, (-1, clip.shape[1]))


class BigLittleNet(VideoNet):
    """Architectures b, c and d: see `tsn_blnet`, `blvnet` and `blvnet_tam`.

    Args:
        pairs: True routes the frames of a pair to different branches (P = T/2 positions after the
            stem); False gives every frame to both (P = T).
        num_taps: taps of the TAMs; None for no TAM at all.
        causal: the TAMs look back only.
        alpha, beta: width and depth divisors of the little branch.
    """

    def __init__(
        self,
        *,
        depth: Depth,
        num_frames: int,
        num_classes: int,
        alpha: int,
        beta: int,
        pairs: bool,
        num_taps: int | None,
        tap_init: TapInit,
        causal: bool,
        in_channels: int,
        dropout: float,
    ):
        width, blocks, _ = _size(depth)
        if pairs and num_frames % 2:
            raise ValueError(
                f"expected an even num_frames, got {num_frames}: frames go to the branches in "
                f"pairs; use {num_frames + 1}"
            )
        if num_taps is not None and not pairs:
            raise ValueError(
                "expected pairs=True with temporal aggregation, got pairs=False and "
                f"num_taps={num_taps}: inside the stages a TAM sums over pairs of frames"
            )
        if alpha < 1 or beta < 1 or width % alpha:
            raise ValueError(
                f"expected alpha to divide the width {width} and beta to be at least 1, "
                f"got alpha={alpha}, beta={beta}; the paper uses alpha=2, beta=4"
            )
        c1, c2, c3, c4 = (planes * EXPANSION for planes in _planes(width))
        super().__init__(
            num_frames=num_frames,
            in_channels=in_channels,
            num_classes=num_classes,
            dropout=dropout,
            feature_channels=c4,
        )
        self.pairs, self.causal = pairs, causal
        self.num_positions = num_frames // 2 if pairs else num_frames
        n1, n2, n3, n4 = blocks
        tam = {"num_taps": num_taps, "tap_init": tap_init, "causal": causal}
        little = {"alpha": alpha, "beta": beta}
        self.stem = BigLittleStem(in_channels, width, alpha, pairs, **tam)
        self.stage1 = BigLittleStage(width, c1, n1, fusion_stride=2, **little, **tam)
        self.stage2 = BigLittleStage(c1, c2, n2, fusion_stride=2, **little, **tam)
        self.stage3 = BigLittleStage(c2, c3, n3, fusion_stride=1, **little, **tam)
        self.stage4 = LastStage(c3, c4, n4, **tam)
        init_weights(self)

    def forward_features(self, clip: Tensor) -> Tensor:  # (B, T, 3, H, W)
        positions = self.num_positions  # P = T/2, or T where every frame feeds both branches
        x = self.run_large(self.stem, clip)  # (B*P, 64, H/4, W/4)
        x = self.run_large(self.stage1, x, positions)  # (B*P, 256, H/8, W/8)
        x = self.stage2(x, positions)  # (B*P, 512, H/16, W/16)
        x = self.stage3(x, positions)  # (B*P, 1024, H/16, W/16)
        x = self.stage4(x, positions)  # (B*P, 2048, H/32, W/32)
        return x.unflatten(0, (-1, positions))


def tsn(
    *,
    depth: Depth = 50,
    num_frames: int = 16,
    num_classes: int = 174,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> TSN:
    """TSN: a 2-D ResNet on every frame, logits averaged (Wang et al., 2016).

    Args:
        depth: "tiny" (width 8, two blocks a stage), 50, 101 or 152.
        num_frames: T, frames of a clip.
        num_classes: of the classifier; 174 for Something-Something.
        in_channels: 3 for RGB, 10 for stacked optical flow.
        dropout: probability before the classifier.
    """
    arguments = dict(locals())
    return _remember(TSN(**arguments), "tsn", arguments)


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
    """TSN-bLNet: a big-little network on every frame, logits averaged.

    Args as for `blvnet_tam`; any number of frames.
    """
    arguments = dict(locals())
    model = BigLittleNet(**arguments, pairs=False, **NO_TAM)
    return _remember(model, "tsn_blnet", arguments)


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
    """bLVNet: the frames of a pair go to different branches; nothing is exchanged between pairs.

    Args as for `blvnet_tam`.
    """
    arguments = dict(locals())
    model = BigLittleNet(**arguments, pairs=True, **NO_TAM)
    return _remember(model, "blvnet", arguments)


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
    """bLVNet-TAM: frames by turns to two branches, and temporal aggregation between pairs.

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

    Raises:
        ValueError: an unknown depth, an odd number of frames, an even number of taps, a width that
            alpha does not divide.
    """
    arguments = dict(locals())
    return _remember(BigLittleNet(**arguments, pairs=True), "blvnet_tam", arguments)


def capture_points(model: VideoNet) -> list[str]:
    """Names of the modules whose outputs are worth looking at, roughly from first to last.

    `stem.tam` (B, T, ...), `stage1.tam` (a pair of (B, P, ...): little, big); everywhere else maps
    of B*P (B*T) positions: `.big`, `.little`, `.merged` (their sum after ReLU), `.out` (after
    fusion), `stage4.0` (a block), `stage4.0.tam`; `classifier` (B, P, num_classes) per-pair logits.
    """
    points = r"(stem|stage\d)\.(tam|big|little|merged|out|\d+)|stage4\.\d+\.tam|classifier"
    names = [name for name, _ in model.named_modules() if re.fullmatch(points, name)]
    return sorted(names, key=lambda name: name == "classifier")  # built first, computed last


def architecture_of(model: object) -> str:
    """The builder's name of a network of ours; of anything else the name of its type."""
    if isinstance(model, VideoNet) and hasattr(model, "architecture"):
        return model.architecture
    return type(model).__name__


def init_weights(model: nn.Module) -> None:
    """Kaiming normal convolutions; residual branches that start at zero; a quiet classifier."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)  # every block begins as its shortcut alone
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.001)
            nn.init.zeros_(module.bias)


def check_sizes(num_frames: int, num_classes: int, in_channels: int) -> None:
    """Raises ValueError unless all are at least 1."""
    if num_frames < 1 or num_classes < 1 or in_channels < 1:
        raise ValueError(
            "expected num_frames, num_classes and in_channels to be at least 1, "
            f"got {num_frames}, {num_classes} and {in_channels}"
        )


def _hooked(part: nn.Module) -> bool:
    """Is it looked at or edited? On the way back that may be over, and the maps be others."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in part.modules())


class _CountedAlready:
    """A batch that batch norms see once more changes copies of their statistics only.

    A class, since it is entered again on every way back (`retain_graph`).
    """

    def __init__(self, part: nn.Module):
        self.part = part

    def __enter__(self) -> None:
        modules = self.part.modules()
        self.own = [(module, dict(module.named_buffers(recurse=False))) for module in modules]
        for module, buffers in self.own:
            for name, buffer in buffers.items():
                setattr(module, name, buffer.clone())

    def __exit__(self, *error: object) -> None:
        for module, buffers in self.own:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)


def _size(depth: Depth) -> Size:
    if depth not in SIZES:
        raise ValueError(f"expected depth to be one of {list(SIZES)}, got {depth!r}")
    return SIZES[depth]


def _planes(width: int) -> tuple[int, ...]:
    return width, width * 2, width * 4, width * 8


def _remember(model: VideoNet, architecture: str, arguments: dict) -> VideoNet:
    model.architecture, model.arguments = architecture, arguments
    return model
