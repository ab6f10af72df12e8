"""Read the published checkpoints, in either of their two layouts.

    from blvnet_lab.models.official import load_official
    print(load_official(model, "checkpoint.pth.tar"))

*video*: keys `baseline_model.*` and `new_fc.*` (or `baseline_model.fc.*` where dropout was 0).
*image*: a bLResNet trained on ImageNet; apart from its classifier of 1000 classes it has just what
a video model has without its TAMs. Training checkpoints wrap either in `{"state_dict": ...}` and
may put `module.` before each key.

Nothing is loaded unless every tensor is accounted for. Loading that skips what does not fit
(`strict=False`) can leave a network without its ImageNet weights, and say nothing.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from blvnet_lab.models.video_net import BigLittleNet, VideoNet

IMAGE_CLASSES = 1000

# Official module name -> ours, tried in this order; everything else keeps its name.
RENAMES = [
    (r"conv1\.", "stem.conv."),
    (r"bn1\.", "stem.bn."),
    (r"tam\.", "stem.tam."),
    (r"b_conv0\.", "stem.big.0."),
    (r"bn_b0\.", "stem.big.1."),
    (r"l_conv0\.", "stem.little.0."),
    (r"bn_l0\.", "stem.little.1."),
    (r"l_conv1\.", "stem.little.3."),
    (r"bn_l1\.", "stem.little.4."),
    (r"l_conv2\.", "stem.little.6."),
    (r"bn_l2\.", "stem.little.7."),
    (r"bl_init\.", "stem.fusion.0."),
    (r"bn_bl_init\.", "stem.fusion.1."),
    (r"layer([123])\.little_e\.", r"stage\1.little.expand."),
    (r"layer([123])\.fusion\.0\.", r"stage\1.fusion."),
    (r"layer([1234])\.", r"stage\1."),
    (r"(?:new_)?fc\.", "classifier."),
]
TAP = re.compile(r"(.*tam)\.(?:(prev|curr|next)|blending_layers\.(\d+))\.weight")
TAP_ORDER = {"prev": 0, "curr": 1, "next": 2}

# As what torch.load tells of files that are cut short, damaged or something else altogether.
DAMAGES = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)


@dataclass
class LoadReport:
    """What was loaded; names are ours, but for `ignored`, which are the checkpoint's."""

    layout: str  # "video" or "image"; "resnet" from `load_resnet`; "own" for networks of ours
    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)  # loaded after a conversion of shape
    kept: list[str] = field(default_factory=list)  # left as they were: not in this layout
    ignored: list[str] = field(default_factory=list)  # its keys that the layout explains

    def __str__(self) -> str:
        lines = [f"{self.layout} checkpoint: {len(self.loaded)} tensors loaded"]
        for what, names in (
            ("adapted to the number of input channels", self.adapted),
            ("not in this checkpoint, left as they were", self.kept),
            ("of the checkpoint, not used", self.ignored),
        ):
            if names:
                lines.append(f"  {len(names)} {what}: {_in_short(names)}")
        return "\n".join(lines)


def load_official(
    model: BigLittleNet, checkpoint: Mapping[str, Tensor] | str | os.PathLike
) -> LoadReport:
    """Load a published checkpoint into a model of ours.

    Args:
        model: from `blvnet_tam`, or from `blvnet` or `tsn_blnet` for an image checkpoint.
        checkpoint: a state dict, or the path of a file that holds one.

    Returns:
        What was loaded, converted and left as it was. From an image checkpoint the classifier and
        the TAMs stay as they were. An RGB checkpoint goes into a model with other input channels
        (optical flow) by averaging its first convolution over the colours and repeating it.

    Raises:
        ValueError: the file is no checkpoint, or any tensor is missing, left over or misshapen
            beyond what its layout explains; the model is unchanged then.
        TypeError: the model is not one of the big-little networks.
    """
    if not isinstance(model, BigLittleNet):
        raise TypeError(
            f"expected a model from blvnet_tam, blvnet or tsn_blnet, got {type(model).__name__}: "
            "the published checkpoints hold big-little networks"
        )
    official = bare_state_dict(checkpoint)
    layout = "video" if any(key.startswith("baseline_model.") for key in official) else "image"
    report = LoadReport(layout)
    ours = _to_our_names(official)
    wanted = model.state_dict()

    if layout == "image":
        for key in ("classifier.weight", "classifier.bias"):
            if key in ours and len(ours[key]) == IMAGE_CLASSES:
                del ours[key]
                report.ignored.append(key.replace("classifier", "fc"))
        report.kept = [
            key
            for key in wanted
            if key.endswith(".taps") or (key.startswith("classifier.") and key not in ours)
        ]
    remedy = (
        "Build the model with the checkpoint's depth, num_classes, num_taps and in_channels; a "
        "torchvision ResNet is loaded by blvnet_lab.models.load_resnet"
    )
    return load_exactly(model, ours, report, remedy)


def load_exactly(
    model: VideoNet, ours: Mapping[str, Tensor], report: LoadReport, remedy: str
) -> LoadReport:
    """Load tensors that have our names: all but those in `report.kept`, or none.

    Raises:
        ValueError: a tensor is missing, left over or misshapen; it ends with the remedy.
    """
    first = ours.get("stem.conv.weight")
    if first is not None and first.shape[1:2] == (3,) and model.in_channels != 3:
        first = first.mean(1, keepdim=True).repeat(1, model.in_channels, 1, 1)
        ours = {**ours, "stem.conv.weight": first}
        report.adapted.append("stem.conv.weight")
    _refuse_what_does_not_fit(ours, model.state_dict(), report, remedy)
    model.load_state_dict(ours, strict=not report.kept)
    report.loaded = list(ours)
    return report


def bare_state_dict(checkpoint: Mapping[str, Tensor] | str | os.PathLike) -> dict[str, Tensor]:
    """The tensors alone, without the wrapping of training checkpoints."""
    origin = "the state dict"
    if not isinstance(checkpoint, Mapping):
        origin = os.fspath(checkpoint)
        checkpoint = read_pickle(checkpoint)
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("state_dict"), Mapping):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise ValueError(f"{origin}: expected a state dict, got {type(checkpoint).__name__}")
    strangers = [key for key, value in checkpoint.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"{origin}: expected tensors only, but these are none: {_some(strangers)}")
    return {key.removeprefix("module."): value for key, value in checkpoint.items()}


def read_pickle(path: str | os.PathLike) -> Any:
    """What a file of PyTorch's holds, on the CPU, if it is tensors and plain containers only.

    Raises:
        ValueError: there is no such file, it is damaged, or it holds anything else.
    """
    if not os.path.isfile(path):
        raise ValueError(f"expected a checkpoint file, but there is no file {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise ValueError(
            f"{path}: expected a checkpoint of tensors that torch.load(weights_only=True) "
            f"reads, got: {type(error).__name__} {error}; download it again, and never load a "
            "pickle of unknown origin any other way"
        ) from error


def _to_our_names(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename; stack the separate tap tensors (C, 1, 1, 1) of each TAM to our (r, C)."""
    ours: dict[str, Tensor] = {}
    taps: dict[str, dict[int, Tensor]] = {}
    for key, tensor in official.items():
        name = key.removeprefix("baseline_model.")
        for pattern, replacement in RENAMES:
            name, hits = re.subn("^" + pattern, replacement, name)
            if hits:
                break
        if match := TAP.fullmatch(name):
            module, word, index = match.groups()
            place = TAP_ORDER[word] if word else int(index)
            taps.setdefault(module, {})[place] = tensor.reshape(-1)
        else:
            ours[name] = tensor
    for module, parts in taps.items():
        lengths = {len(part) for part in parts.values()}
        if sorted(parts) != list(range(len(parts))) or len(lengths) != 1:
            raise ValueError(
                f"expected the taps of {module} to be complete and of one length, got the taps "
                f"{sorted(parts)} with {sorted(lengths)} channels"
            )
        ours[f"{module}.taps"] = torch.stack([parts[i] for i in range(len(parts))])
    return ours


def _refuse_what_does_not_fit(
    ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor], report: LoadReport, remedy: str
) -> None:
    complaints = {
        "missing": [k for k in wanted if k not in ours and k not in report.kept],
        "left over": [k for k in ours if k not in wanted],
        "misshapen": [
            f"{k} (model {tuple(wanted[k].shape)}, checkpoint {tuple(ours[k].shape)})"
            for k in ours
            if k in wanted and ours[k].shape != wanted[k].shape
        ],
    }
    if any(complaints.values()):
        found = "; ".join(f"{what}: {_some(names)}" for what, names in complaints.items() if names)
        raise ValueError(
            f"expected a {report.layout} checkpoint that fits the model exactly; {found}. {remedy}"
        )


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _in_short(names: list[str], most: int = 12) -> str:
    """All names, or how many there are in each part of the network ("stage1.little: 24")."""
    if len(names) <= most:
        return ", ".join(names)
    # The TAMs are spread over the network, one tensor in each: they count together.
    parts = ("taps" if n.endswith(".taps") else ".".join(n.split(".")[:-1][:2]) for n in names)
    return ", ".join(f"{part}: {count}" for part, count in Counter(parts).items())
