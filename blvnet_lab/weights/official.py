"""Read the published checkpoints, in either of their two layouts.

    from blvnet_lab.weights.official import import_official, load_official
    print(load_official(model, "checkpoint.pth.tar"))
    model = import_official("checkpoint.pth.tar", None).model   # builds the model that fits

*video*: keys `baseline_model.*` and `new_fc.*` (or `baseline_model.fc.*` where dropout was 0).
*image*: a bLResNet trained on ImageNet; apart from its classifier of 1000 classes it has just what
a video model has without its TAMs. Training checkpoints wrap either in `{"state_dict": ...}` and
may put `module.` before each key.

Nothing is loaded unless every tensor is accounted for. Loading that skips what does not fit
(`strict=False`) can leave a network without its ImageNet weights, and say nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from blvnet_lab.models.files import LoadReport, listed, load_exactly, read_pickle, save_model
from blvnet_lab.models.networks import BigLittleNet, VideoNet, blvnet_tam
from blvnet_lab.models.sizes import SIZES
from blvnet_lab.models.tam import TapInit
from blvnet_lab.paths import check_target

IMAGE_CLASSES, CLASSIFIER = 1000, "classifier."
DEPTHS = {SIZES[depth].big_little_blocks: depth for depth in (50, 101, 152)}

# Official module name -> ours, one after the other; everything else keeps its name.
RENAMES = [
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"tam\.", "stem.tam."),
    (r"b_conv0\.", "stem.big.0."),
    (r"bn_b0\.", "stem.big.1."),
    # Of three layers: a convolution, its batch norm and its ReLU.
    *((rf"l_conv{i}\.", f"stem.little.{3 * i}.") for i in range(3)),
    *((rf"bn_l{i}\.", f"stem.little.{3 * i + 1}.") for i in range(3)),
    (r"bl_init\.", "stem.fusion.0."),
    (r"bn_bl_init\.", "stem.fusion.1."),
    (r"layer([123])\.little_e\.", r"stage\1.little.expand."),
    (r"layer([123])\.fusion\.0\.", r"stage\1.fusion."),
    (r"layer([1234])\.", r"stage\1."),
    (r"(?:new_)?fc\.", "classifier."),
]
TAP = re.compile(r"(.*tam)\.(?:(prev|curr|next)|blending_layers\.(\d+))\.weight")
TAP_ORDER = {"prev": 0, "curr": 1, "next": 2}
RESNETS = "a torchvision ResNet is read by blvnet_lab.weights.load_resnet, or by `train --init`"


def load_official(
    model: VideoNet, checkpoint: Mapping[str, Tensor] | str | os.PathLike
) -> LoadReport:
    """Load a published checkpoint into a model of ours.

    Args:
        model: from `blvnet_tam`, or from `blvnet` or `tsn_blnet` for an image checkpoint.
        checkpoint: a state dict, or the path of a file that holds one.

    Returns:
        What was loaded, adapted (RGB weights to other input channels) and left as it was: of an
        image checkpoint, the model's classifier and TAMs.

    Raises:
        ValueError: the file is no checkpoint, or a tensor is missing, left over or misshapen; the
            model is unchanged then.
    """
    report, ours = _with_our_names(bare_state_dict(checkpoint))
    if report.layout == "image":
        absent = [key for key in model.state_dict() if key not in ours]
        report.kept = [key for key in absent if key.endswith(".taps") or key.startswith(CLASSIFIER)]
    remedy = (
        "Build the model with the checkpoint's depth, num_classes, num_taps and in_channels; "
        f"{RESNETS}"
    )
    return load_exactly(model, ours, report, remedy)


@dataclass(frozen=True)
class Imported:
    """A published checkpoint as a model of ours, in eval mode."""

    model: BigLittleNet
    report: LoadReport
    out: Path | None

    def __str__(self) -> str:
        built = ", ".join(f"{name}={value!r}" for name, value in self.model.arguments.items())
        lines = [str(self.report), f"{self.model.architecture}({built})"]
        return "\n".join(lines + ([] if self.out is None else [f"wrote {self.out}"]))


def import_official(
    file: Path,
    out: Path | None,
    /,
    *,
    num_frames: int = 16,
    num_classes: int | None = None,
    in_channels: int | None = None,
    tap_init: TapInit = "identity",
    depth: Literal[50, 101, 152] | None = None,
    seed: int = 0,
) -> Imported:
    """Turn a published checkpoint into a model.safetensors, which says how to build its network.

    The file says depth, alpha, taps, classes and channels itself; beta is 4, as in the paper. It is
    a bLVNet-TAM, or a bLResNet trained on ImageNet, which lacks taps and a classifier of videos:
    such a network is a start for training, and knows no actions yet.

    Args:
        file: the published checkpoint (.pth, .pth.tar).
        out: the file to write, which ends in .safetensors; None writes no file.
        num_frames: T, even; no weight depends on it.
        num_classes: where the file's classifier is not used (bLResNet); without it, 174.
        in_channels: other than the file's 3, such as 10, turns RGB weights into those of optical
            flow.
        tap_init: how the taps of a bLResNet begin.
        depth: what the file should hold, where that is known; another is an error.
        seed: of the taps and the classifier that are not in the file.

    Raises:
        ValueError: as `load_official`, or the file holds something else than was asked for.
    """
    if out is not None:
        check_target(out, ".safetensors")
    official = bare_state_dict(file)
    sizes = _sizes_of(_with_our_names(official)[1])
    asked = {"depth": depth, "num_classes": num_classes, "in_channels": in_channels}
    for name, value in asked.items():
        held = sizes.get(name, value)
        if value not in (None, held) and (name, held) != ("in_channels", 3):
            raise ValueError(
                f"expected {name}={held} as in the checkpoint, got {value}: leave it out "
                "(reset_classifier changes the classes later; only RGB weights fit other channels)"
            )
    sizes |= {name: value for name, value in asked.items() if value is not None}
    with torch.random.fork_rng(devices=[]):  # the caller's RNG stays as it is
        torch.manual_seed(seed)
        model = blvnet_tam(num_frames=num_frames, tap_init=tap_init, **sizes).eval()
    report = load_official(model, official)
    if out is not None:  # of the file the name alone: folders are of this machine
        save_model(model, out, {"source": {"file": Path(file).name, "layout": report.layout}})
    return Imported(model, report, out)


def bare_state_dict(checkpoint: Mapping[str, Tensor] | str | os.PathLike) -> dict[str, Tensor]:
    """Take the tensors alone, without the wrapping of training checkpoints."""
    origin = "the state dict"
    if not isinstance(checkpoint, Mapping):
        origin, checkpoint = os.fspath(checkpoint), read_pickle(checkpoint)
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("state_dict"), Mapping):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        what = "an empty one" if checkpoint == {} else type(checkpoint).__name__
        raise ValueError(f"{origin}: expected a state dict, got {what}; give the published file")
    tensors = {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if others := [str(key) for key in checkpoint if key not in tensors]:
        raise ValueError(f"{origin}: expected tensors only, but these are none: {listed(others)}")
    return {key.removeprefix("module."): tensor for key, tensor in tensors.items()}


def rename(name: str, renames: Iterable[tuple[str, str]]) -> str:
    """Rename a tensor by patterns at its beginning and their replacements, in their order."""
    for pattern, replacement in renames:
        name = re.sub("^" + pattern, replacement, name)
    return name


def _sizes_of(ours: Mapping[str, Tensor]) -> dict[str, int]:
    """Find the builder's arguments; a tensor that is not there is named by `load_official`."""
    # The fusion is the last block of stages 1 to 3.
    pattern = re.compile(r"stage(\d)\.(?:big\.)?(\d+|fusion)\.")
    found = {match.groups() for name in ours if (match := pattern.match(name))}
    blocks = tuple(sum(stage == str(i) for stage, _ in found) for i in (1, 2, 3, 4))
    if blocks not in DEPTHS:
        known = ", ".join(f"{depth} {counts}" for counts, depth in DEPTHS.items())
        raise ValueError(
            f"expected a big-little network of depth {known}, got one with {blocks} blocks in its "
            f"stages, and the tensors {listed(list(ours), 3)}: give a published checkpoint, since "
            f"{RESNETS}"
        )
    depth = DEPTHS[blocks]
    sizes = {"depth": depth}
    for argument, name, axis in (
        ("num_classes", "classifier.weight", 0),
        ("in_channels", "stem.conv.weight", 1),
        ("num_taps", "stem.tam.taps", 0),
        ("alpha", "stem.little.0.weight", 0),
    ):
        if name in ours and ours[name].ndim > axis:
            sizes[argument] = ours[name].shape[axis]
    if "alpha" in sizes:
        sizes["alpha"] = SIZES[depth].width // sizes["alpha"]
    return sizes


def _with_our_names(official: Mapping[str, Tensor]) -> tuple[LoadReport, dict[str, Tensor]]:
    """Rename; stack the separate tap tensors (C, 1, 1, 1) of each TAM to our (r, C).

    The classifier of ImageNet is left out, and is what the report ignores.
    """
    if "stem.conv.weight" in official:
        raise ValueError(
            "expected a published checkpoint, got one that has our names already: load it with "
            "blvnet_lab.models.load_model"
        )
    ours: dict[str, Tensor] = {}
    taps: dict[str, dict[int, Tensor]] = {}
    for key, tensor in official.items():
        name = rename(key.removeprefix("baseline_model."), RENAMES)
        if match := TAP.fullmatch(name):
            module, word, index = match.groups()
            place = TAP_ORDER[word] if word else int(index)
            taps.setdefault(module, {})[place] = tensor.reshape(-1)
        else:
            ours[name] = tensor
    for module, parts in taps.items():
        lengths = sorted({len(part) for part in parts.values()})
        if sorted(parts) != [*range(len(parts))] or len(lengths) != 1:
            raise ValueError(
                f"expected all taps of {module}, of one length, got {sorted(parts)} of {lengths}"
            )
        ours[f"{module}.taps"] = torch.stack([parts[i] for i in range(len(parts))])
    video = any(key.startswith("baseline_model.") for key in official)
    report = LoadReport("video" if video else "image")
    if not video and ours.get("classifier.bias", torch.empty(0)).shape == (IMAGE_CLASSES,):
        report.ignored = ["fc.weight", "fc.bias"]
        ours = {key: tensor for key, tensor in ours.items() if not key.startswith(CLASSIFIER)}
    return report, ours
