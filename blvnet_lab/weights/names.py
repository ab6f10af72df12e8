"""Translate the tensor names of published checkpoints into ours.

    layout      origin and network                     an example
    video       IBM's bLVNet and bLVNet-TAM           baseline_model.layer1.big...
    image       IBM's bLResNet, trained on ImageNet   layer1.big...
    resnet      torchvision's ResNets, IBM's TSN      layer1.0.conv1.weight
    ibm         IBM's TAM-ResNet                      layer1.0.tam.prev_se.fc1.weight
    tsm         MIT's TSM, and its TSN                base_model.layer1.0.conv1.net.weight
    mmaction2   OpenMMLab's TSM and TSN               backbone.layer1.0.conv1.conv.net.weight

Training checkpoints wrap each of them in `{"state_dict": ...}`, and may put `module.` before keys.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from blvnet_lab.models.files import listed, read_pickle
from blvnet_lab.models.tam import tsm_taps

Checkpoint = Mapping[str, Any] | str | os.PathLike  # a state dict, perhaps wrapped, or its file
STATE_DICT = "the state dict"

IMAGE_CLASSES, CLASSIFIER = 1000, "classifier."
# Their module name -> ours, applied in this order; everything else keeps its name.
RESNET = [(r"(conv|bn)1\.", r"stem.\1."), (r"layer(\d)\.", r"stage\1.")]
PEERS = [
    (r"(?:backbone|base_model)\.", ""),
    (r"(?:cls_head\.fc_cls|new_fc|fc)\.", CLASSIFIER),
    (r"(.*)\.net\.weight", r"\1.weight"),  # a convolution behind a shift
    (r"(.*conv\d)\.conv\.", r"\1."),  # a convolution and its norm in one module
    (r"(.*)conv(\d)\.bn\.", r"\1bn\2."),
    (r"(.*\.downsample)\.conv\.", r"\1.0."),
    (r"(.*\.downsample)\.bn\.", r"\1.1."),
    *RESNET,
]
BIG_LITTLE = [
    (r"baseline_model\.", ""),
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"tam\.", "stem.tam."),
    (r"b_conv0\.", "stem.big.0."),
    (r"bn_b0\.", "stem.big.1."),
    # Three layers, each a convolution with batch norm and ReLU.
    *((rf"l_conv{i}\.", f"stem.little.{3 * i}.") for i in range(3)),
    *((rf"bn_l{i}\.", f"stem.little.{3 * i + 1}.") for i in range(3)),
    (r"bl_init\.", "stem.fusion.0."),
    (r"bn_bl_init\.", "stem.fusion.1."),
    (r"layer([123])\.little_e\.", r"stage\1.little.expand."),
    (r"layer([123])\.fusion\.0\.", r"stage\1.fusion."),
    (r"layer([1234])\.", r"stage\1."),
    (r"(?:new_)?fc\.", CLASSIFIER),
]
RESNET_IN_BIG_LITTLE = [
    # Here all shortcuts with a convolution are strided, and begin with average pooling.
    (r"(.*\.downsample)\.1\.", r"\1.2."),
    (r"(.*\.downsample)\.0\.", r"\1.1."),
    (r"layer1\.2\.", "stage1.fusion."),  # the last block of each stage
    (r"layer2\.3\.", "stage2.fusion."),
    (r"layer3\.5\.", "stage3.fusion."),
    (r"layer([123])\.", r"stage\1.big."),
    *RESNET,
]
TAP = re.compile(r"(.*tam)\.(?:(prev|curr|next)(?:_se)?|blending_layers\.(\d+))(?:\.fc1)?\.weight")
TAP_ORDER = {"prev": 0, "curr": 1, "next": 2}
OF_THE_INPUT = "data_preprocessor."  # mean and deviation, in older mmaction2 files


def bare_state_dict(checkpoint: Checkpoint, origin: str = STATE_DICT) -> dict[str, Tensor]:
    """Extract the tensors from what training checkpoints wrap around them."""
    contents: object = checkpoint
    if isinstance(checkpoint, str | os.PathLike):
        origin, contents = os.fspath(checkpoint), read_pickle(checkpoint)
    if isinstance(contents, Mapping) and isinstance(contents.get("state_dict"), Mapping):
        contents = contents["state_dict"]
    if not isinstance(contents, Mapping) or not contents:
        what = "an empty one" if contents == {} else type(contents).__name__
        raise ValueError(f"{origin}: expected a state dict, got {what}; give the published file")
    tensors = {k: v for k, v in contents.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if others := [str(key) for key in contents if key not in tensors]:
        raise ValueError(f"{origin}: expected tensors only, but these are none: {listed(others)}")
    if not any(key.endswith(".num_batches_tracked") for key in tensors):
        # Older files have no batch counters; like PyTorch, start them at 0. No result needs them.
        norms = [key.removesuffix("running_var") for key in tensors if key.endswith(".running_var")]
        tensors |= {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}
    return {key.removeprefix("module."): tensor for key, tensor in tensors.items()}


def layout_of(names: Iterable[str]) -> str:
    """Recognise a layout by its names; whatever fits no other is an "image" checkpoint."""
    names = list(names)
    prefixes = {"video": "baseline_model.", "tsm": "base_model.", "mmaction2": "backbone."}
    for layout, beginning in prefixes.items():
        if any(name.startswith(beginning) for name in names):
            return layout
    if "layer1.0.conv1.weight" not in names:
        return "image"
    return "ibm" if any(TAP.fullmatch(name) for name in names) else "resnet"


def is_shifted(names: Iterable[str]) -> bool:
    """Tell whether blocks of the network begin with TSM's shift, which itself has no weights."""
    return any(name.endswith(".net.weight") for name in names)


def rename(name: str, renames: Iterable[tuple[str, str]]) -> str:
    """Rename a tensor by applying patterns at its beginning, and their replacements, in order."""
    for pattern, replacement in renames:
        name = re.sub("^" + pattern, replacement, name)
    return name


def with_our_names(
    published: Mapping[str, Tensor], shift_div: int | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Give tensors our names; also return the names of those that are not used.

    The separate taps (C, 1, 1, 1) of each TAM become one tensor (r, C). A shifted block gets the
    taps of its shift, which moves `channels // shift_div` channels each way. ImageNet's classifier
    is left out. Raises ValueError if the names are ours already, or if taps are missing.
    """
    if "stem.conv.weight" in published:
        raise ValueError(
            "expected a published checkpoint, got one that has our names already: load it with "
            "blvnet_lab.models.load_model"
        )
    layout = layout_of(published)
    renames = BIG_LITTLE if layout in ("video", "image") else PEERS
    ignored = [name for name in published if name.startswith(OF_THE_INPUT)]
    if layout == "image" and published.get("fc.bias", torch.empty(0)).shape == (IMAGE_CLASSES,):
        ignored += ["fc.weight", "fc.bias"]
    ours: dict[str, Tensor] = {}
    taps: dict[str, dict[int, Tensor]] = {}
    for key, tensor in published.items():
        if key in ignored:
            continue
        name = rename(key, renames)
        if match := TAP.fullmatch(name):
            module, word, index = match.groups()
            place = TAP_ORDER[word] if word else int(index)
            taps.setdefault(module, {})[place] = tensor.reshape(-1)
        else:
            ours[name] = tensor
        if is_shifted([key]):
            block = name.removesuffix(".conv1.weight")
            ours[f"{block}.tam.taps"] = tsm_taps(tensor.shape[1], shift_div)
    for module, parts in taps.items():
        lengths = sorted({len(part) for part in parts.values()})
        if sorted(parts) != [*range(len(parts))] or len(lengths) != 1:
            raise ValueError(
                f"expected all taps of {module}, of one length, got {sorted(parts)} of {lengths}"
            )
        ours[f"{module}.taps"] = torch.stack([parts[i] for i in range(len(parts))])
    return ours, ignored
