"""Start a network of ours from a ResNet that torchvision trained on ImageNet.

    from blvnet_lab.models import blvnet_tam
    from blvnet_lab.weights.torchvision import load_resnet
    print(load_resnet(blvnet_tam(depth=50), "resnet50-11ad3fa6.pth"))

TSN is that ResNet, and takes all of it but the classifier. A big-little network of depth 50 has the
blocks of ResNet-50 too: the big branch and, as the last one, the fusion of stages 1 to 3, and all
of stage 4. It is a start, not the same function: other blocks halve the resolution, and they
average it in their shortcuts. Little branches, taps and the rest of the stem have no counterpart
in a ResNet. The published start is a whole big-little network trained on ImageNet
(`blvnet_lab.weights.official.load_official`); this one is for when no such file is at hand.
"""

from __future__ import annotations

import http.client
import os
import pickle
import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from blvnet_lab.models.files import BUILDERS
from blvnet_lab.models.networks import SIZES, VideoNet
from blvnet_lab.weights.official import LoadReport, bare_state_dict, load_exactly

RESNETS = (50, 101, 152)
NOT_IN_RESNET = re.compile(r"(stem\.(big|little|fusion)|stage\d\.little|classifier)\..*|.*\.taps")


def load_resnet(
    model: VideoNet, checkpoint: Mapping[str, Tensor] | str | os.PathLike
) -> LoadReport:
    """Load the weights of a torchvision ResNet into a model of ours.

    Args:
        model: from `tsn` with depth 50, 101 or 152, or from `blvnet_tam`, `blvnet` or `tsn_blnet`
            with depth 50.
        checkpoint: the state dict of the ResNet of that depth, or the path of a file that holds it.

    Returns:
        What was loaded, converted and left as it was. The ResNet's own classifier (`fc`) is not
        used. Its first convolution (64, 3, 7, 7) goes into a model with other input channels
        (optical flow) averaged over its 3 channels and repeated.

    Raises:
        ValueError: no ResNet fits the model's depth, the file is no checkpoint, or any tensor is
            missing, left over or misshapen; the model is unchanged then.
        TypeError: the model is not from one of the four builders.
    """
    check_depth(model)
    depth, big_little = model.arguments["depth"], model.architecture != "tsn"
    resnet_blocks = SIZES[depth].resnet_blocks
    resnet = bare_state_dict(checkpoint)
    remedy = f"Give the weights of torchvision.models.resnet{depth}"
    if not is_resnet(resnet):
        raise ValueError(
            "expected a torchvision ResNet, with a tensor layer1.0.conv1.weight, got a checkpoint "
            f"with {', '.join(list(resnet)[:3])}. {remedy}; official bLResNet checkpoints are read "
            "by blvnet_lab.weights.official.load_official"
        )
    blocks = tuple(
        len({key.split(".")[1] for key in resnet if key.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    )
    if blocks != resnet_blocks:
        raise ValueError(
            f"expected a ResNet with the blocks {resnet_blocks} for a model of depth {depth}, got "
            f"one with {blocks}. {remedy}, or build the model with its depth"
        )
    if not any(key.endswith(".num_batches_tracked") for key in resnet):
        # Older files have no batch counters; like PyTorch, start them at 0. No result needs them.
        norms = [key.removesuffix("running_var") for key in resnet if key.endswith(".running_var")]
        resnet |= {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}

    kept = [key for key in model.state_dict() if NOT_IN_RESNET.fullmatch(key)]
    report = LoadReport("resnet", kept=kept, ignored=[k for k in resnet if k.startswith("fc.")])
    ours = {_our_name(k, big_little): resnet[k] for k in resnet if k not in report.ignored}
    return load_exactly(model, ours, report, remedy)


def check_depth(model: VideoNet) -> None:
    """Raises ValueError or TypeError if no ResNet fits a model: before one is downloaded."""
    if getattr(model, "architecture", None) not in BUILDERS:
        raise TypeError(f"expected a model from {', '.join(BUILDERS)}, got {type(model).__name__}")
    depth, big_little = model.arguments["depth"], model.architecture != "tsn"
    width, big_little_blocks, _ = SIZES[depth]
    if depth not in (RESNETS[:1] if big_little else RESNETS):
        known = ", ".join(f"{d} {SIZES[d].resnet_blocks}" for d in RESNETS)
        raise ValueError(
            f"expected a model with the blocks of a ResNet (width 64, depth {known}), got a "
            f"{model.architecture} of depth {depth} with width {width} and the blocks "
            f"{big_little_blocks}; build it with depth=50, or start a deeper big-little network "
            "from an official bLResNet checkpoint (blvnet_lab.weights.official.load_official)"
        )


def is_resnet(checkpoint: Mapping[str, Tensor] | str | os.PathLike) -> bool:
    """Whether a checkpoint has torchvision's names, not those of an official bLResNet.

    Raises:
        ValueError: the file is no checkpoint.
    """
    return "layer1.0.conv1.weight" in bare_state_dict(checkpoint)


def torchvision_resnet(depth: Literal[50, 101, 152]) -> dict[str, Tensor]:
    """Download torchvision's newest ImageNet weights (98 to 230 MB; the first time only).

    Returns:
        The state dict, for `load_resnet`.

    Raises:
        ValueError: another depth.
        OSError: the download failed, or its file is damaged.
    """
    if depth not in RESNETS:
        raise ValueError(f"expected depth to be one of {list(RESNETS)}, got {depth!r}")
    from torchvision.models import get_model_weights  # slow to import, and rarely needed

    weights = get_model_weights(f"resnet{depth}").IMAGENET1K_V2
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True)
    except (
        OSError,  # no connection, no space, and so on; urllib's URLError is one
        http.client.HTTPException,
        RuntimeError,  # not the published file (its hash), or an unfinished one from before
        pickle.UnpicklingError,
        EOFError,
    ) as error:
        raise OSError(
            f"expected to download the ImageNet weights of ResNet-{depth} from {weights.url}, got: "
            f"{type(error).__name__} {error}; delete a damaged file in {torch.hub.get_dir()}"
            "/checkpoints, or download that address on another machine and give the file's path"
        ) from error


def _our_name(name: str, big_little: bool) -> str:
    """Of a ResNet's tensor; an unknown name stays as it is, and is then refused as left over."""
    name = re.sub(r"^(conv|bn)1\.", r"stem.\1.", name)
    if big_little:
        # All shortcuts with a convolution are strided here, and begin with an average pool.
        name = re.sub(r"\.downsample\.([01])\.", lambda m: f".downsample.{int(m[1]) + 1}.", name)
        for stage, count in enumerate(SIZES[50].resnet_blocks[:3], start=1):
            name = re.sub(rf"^layer{stage}\.{count - 1}\.", f"stage{stage}.fusion.", name)
            name = re.sub(rf"^layer{stage}\.", f"stage{stage}.big.", name)
    return re.sub(r"^layer(\d)\.", r"stage\1.", name)
