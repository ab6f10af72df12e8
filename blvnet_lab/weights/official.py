"""Load what others have published: big-little networks, TAM-ResNet, TSM, TSN, and ResNets.

    from blvnet_lab.weights import import_official, load_official, load_resnet
    print(load_official(model, "checkpoint.pth.tar"))
    model = import_official("checkpoint.pth.tar", None).model   # builds the model that fits
    print(load_resnet(blvnet_tam(depth=50), "resnet50-11ad3fa6.pth"))

`names.py` lists the layouts. Some files have short names: `train --init tam-resnet50-k400`;
docs/weights.md says how each was trained, how accurate it is, and which licence it has. Nothing is
loaded unless every tensor is accounted for: `strict=False` can silently leave a network without its
weights.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from blvnet_lab.models import VideoNet, save_model
from blvnet_lab.models.files import BUILDERS, LoadReport, listed, load_exactly, read_pickle
from blvnet_lab.models.networks import RESNETS, SIZES
from blvnet_lab.models.tam import TapInit
from blvnet_lab.paths import check_target
from blvnet_lab.weights import names
from blvnet_lab.weights.names import Checkpoint


def _mmaction2(config: str, version: str) -> str:
    folder = f"https://download.openmmlab.com/mmaction/v1.0/recognition/{config[:3]}"
    return f"{folder}/{config}/{config}_{version}.pth"


IBM = "https://github.com/IBM/action-recognition-pytorch/releases/download/weights-v0.1"
MIT = "https://hanlab18.mit.edu/projects/tsm/models/TSM_kinetics_RGB_resnet50"
TSM = "tsm_imagenet-pretrained-r50_8xb16-1x1x"
TSN = "tsn_imagenet-pretrained-r50_8xb32-1x1x"
RELEASED = {  # name -> address
    "tam-resnet50-k400": f"{IBM}/K400-TAM-ResNet-50-f32.pth.tar",
    "tam-resnet101-k400": f"{IBM}/K400-TAM-ResNet-101-f32.pth.tar",
    "tam-resnet50-ssv2": f"{IBM}/SSV2-TAM-ResNet-50-f32.pth.tar",
    "tam-resnet101-ssv2": f"{IBM}/SSV2-TAM-ResNet-101-f32.pth.tar",
    "tsm-resnet50-k400": f"{MIT}_shift8_blockres_avg_segment8_e50.pth",
    "tsm-resnet50-k400-dense": f"{MIT}_shift8_blockres_avg_segment8_e100_dense.pth",
    "tsm-resnet50-k400-f16": f"{MIT}_shift8_blockres_avg_segment16_e50.pth",
    "tsn-resnet50-k400": f"{MIT}_avg_segment5_e50.pth",
    "mm-tsm-resnet50-k400": _mmaction2(f"{TSM}8-50e_kinetics400-rgb", "20220831-64d69186"),
    "mm-tsm-resnet50-k400-f16": _mmaction2(f"{TSM}16-50e_kinetics400-rgb", "20220831-042b1748"),
    "mm-tsm-resnet50-ssv2": _mmaction2(f"{TSM}8-50e_sthv2-rgb", "20230317-be0fc26e"),
    "mm-tsm-resnet50-ssv2-f16": _mmaction2(f"{TSM}16-50e_sthv2-rgb", "20230317-ec6696ad"),
    "mm-tsn-resnet50-ssv2": _mmaction2(f"{TSN}8-50e_sthv2-rgb", "20221122-ad2dbb37"),
}
HASH = re.compile(r"-([0-9a-f]{8})\.pth$")  # the first digits of the file's SHA-256
ELSEWHERE = "a torchvision ResNet is read by blvnet_lab.weights.load_resnet, or by `train --init`"
# What tensors do not say is found in mmaction2's configuration, else in the file's name (TSM's
# shift8_..._segment8, IBM's -f32) or in IBM's `arch`.
SAID = {
    "num_frames": (r"num_segments=(\d+)", r"(?:segment|-f)(\d{1,3})(?![0-9a-f])"),
    "shift_div": (r"shift_div=(\d+)", r"shift(\d+)"),
}
MMACTION2_DEFAULT = 8  # for both, in a TSM
BLOCK = re.compile(r"stage(\d)\.(?:big\.)?(\d+|fusion)\.")  # the fusion is a stage's last block
NOT_IN_RESNET = re.compile(r"(stem\.(big|little|fusion)|stage\d\.little|classifier)\..*|.*\.taps")
OTHER_NETWORK = re.compile(r"-b\d+-max|-ts-(?:max|avg)")  # in IBM's `arch`: temporal pooling


@dataclass(frozen=True)
class Published:
    """A published checkpoint: its tensors under our names, and how to build its network."""

    layout: str
    weights: dict[str, Tensor]
    ignored: list[str]  # under the checkpoint's names
    architecture: str
    sizes: dict[str, Any]  # arguments of the builder, as far as the checkpoint tells


def load_official(
    model: VideoNet,
    checkpoint: Checkpoint | Published,
    *,
    shift_div: int | None = None,
    keeps_classifier: bool = False,
) -> LoadReport:
    """Load a published checkpoint into a model of ours.

    Args:
        model: of the checkpoint's architecture, or one that has all its tensors: `blvnet` for an
            image checkpoint, a TAM-ResNet for a TSM or a TSN. Classifier and TAMs that the
            checkpoint lacks stay as they are.
        checkpoint: a state dict, the path of a file with one, or the result of `read_published`.
        shift_div: of a TSM, if the file does not say it: 8 moves an 8th of the channels each way.
        keeps_classifier: leave the model's classifier as it is, for other classes.

    Raises ValueError if the file is not a checkpoint, or a tensor is missing, left over or of
    another shape; the model is not changed then.
    """
    is_read = isinstance(checkpoint, Published)
    found = checkpoint if is_read else read_published(checkpoint, shift_div)
    unused = [key for key in found.weights if keeps_classifier and key.startswith(names.CLASSIFIER)]
    ours = {key: tensor for key, tensor in found.weights.items() if key not in unused}
    if model.causal and any(key.endswith(".taps") for key in ours):
        raise ValueError("expected a network whose taps look ahead, too, got one with causal=True")
    report = LoadReport(found.layout, ignored=found.ignored + unused)
    absent = [key for key in model.state_dict() if key not in ours]
    if found.layout == "image" or keeps_classifier:
        report.kept += [key for key in absent if key.startswith(names.CLASSIFIER)]
    if found.layout == "image" or found.architecture == "tsn":
        report.kept += [key for key in absent if key.endswith(".taps")]
    remedy = "Build the model with the checkpoint's depth, num_classes, num_taps and in_channels; "
    return load_exactly(model, ours, report, remedy + ELSEWHERE)


@dataclass(frozen=True)
class Imported:
    """A published checkpoint as one of our models, in eval mode."""

    model: VideoNet
    report: LoadReport

    def __str__(self) -> str:
        built = ", ".join(f"{name}={value!r}" for name, value in self.model.arguments.items())
        return f"{self.report}\n{self.model.architecture}({built})"


def import_official(
    file: Path,
    out: Path | None,
    /,
    *,
    num_frames: int | None = None,
    shift_div: int | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    tap_init: TapInit = "identity",
) -> Imported:
    """Turn a published checkpoint into a model.safetensors, which says how to build its network.

    It may hold a bLVNet-TAM, a bLResNet trained on ImageNet (without taps or a classifier of
    videos, so a start for training), IBM's TAM-ResNet, or a TSM or TSN from MIT or mmaction2. Kind,
    depth, alpha, taps, classes and channels are found in it; beta is 4, as in the paper. Weights
    that are not in the file are drawn with a fixed seed.

    Args:
        file: the published checkpoint (.pth, .pth.tar), or a name from docs/weights.md, which is
            downloaded.
        out: the file to write, which ends in .safetensors; None writes no file.
        num_frames: T; no weight depends on it. The default is what the file or its name says, and
            16 for big-little networks.
        shift_div: of a TSM, if neither file nor name says it: 8 moves an 8th of the channels from
            each neighbour in time.
        num_classes: if the file's classifier is not used (bLResNet); 174 by default.
        in_channels: if not the file's 3, say 10, RGB weights are turned into weights for optical
            flow.
        tap_init: initial taps for a bLResNet.

    Raises ValueError as `load_official`, or if the file leaves something unknown that is needed.
    """
    if out is not None:
        check_target(out, ".safetensors", read=[file])
    file = Path(released_file(str(file)))
    found = read_published(file, shift_div)
    asked = {"num_frames": num_frames, "num_classes": num_classes, "in_channels": in_channels}
    sizes = found.sizes | {name: value for name, value in asked.items() if value is not None}
    if "num_frames" not in sizes:
        raise ValueError(
            f"expected the number of frames, which neither {file} nor its name says: give "
            "num_frames (--num-frames), as the network's authors say it"
        )
    if found.layout == "image":
        sizes["tap_init"] = tap_init
    with torch.random.fork_rng(devices=[]):  # the caller's RNG stays as it is
        torch.manual_seed(0)
        model = BUILDERS[found.architecture](**sizes).eval()
    report = load_official(model, found)
    if out is not None:  # only the file's name: its folders belong to this machine
        save_model(model, out, {"source": {"file": file.name, "layout": report.layout}})
    return Imported(model, report)


def read_published(checkpoint: Checkpoint, shift_div: int | None = None) -> Published:
    """Find out what a published checkpoint holds; raise ValueError if it is not one."""
    contents, name = checkpoint, ""
    if not isinstance(checkpoint, Mapping):
        contents, name = read_pickle(checkpoint), Path(checkpoint).name
    tensors = names.bare_state_dict(contents, name or names.STATE_DICT)
    is_tsm = names.is_shifted(tensors)
    said = _said(contents, name, is_tsm)
    if is_tsm and shift_div is None and "shift_div" not in said:
        raise ValueError(
            "expected to know which part of the channels this TSM shifts, which neither the "
            "checkpoint nor its name says: give shift_div, 8 in what its authors published (first "
            "`import FILE model.safetensors --shift-div 8`)"
        )
    layout = names.layout_of(tensors)
    ours, ignored = names.with_our_names(tensors, shift_div or said.get("shift_div"))
    if layout in ("image", "video"):
        sizes = {"num_frames": 16} | _sizes_of(ours, has_branches=True)
        architecture = "blvnet_tam" if layout == "image" or "num_taps" in sizes else "blvnet"
        return Published(layout, ours, ignored, architecture, sizes)
    sizes = _sizes_of(ours, has_branches=False)
    if layout == "resnet" and sizes.get("num_classes") in (None, names.IMAGE_CLASSES):
        raise ValueError(f"expected a network of videos, got one of pictures: {ELSEWHERE}")
    sizes |= {fact: said[fact] for fact in said if fact == "num_frames"}
    architecture = "tam_resnet" if layout == "ibm" else "tsm" if is_tsm else "tsn"
    return Published(layout, ours, ignored, architecture, sizes)


def _said(contents: Mapping[str, Any], name: str, is_tsm: bool) -> dict[str, int]:
    """Find the number of frames and TSM's divisor in what accompanies the tensors."""
    arch, meta, found = contents.get("arch"), contents.get("meta"), {}
    if isinstance(arch, str) and OTHER_NETWORK.search(arch):
        raise ValueError(
            "expected a network that adds up what its taps weigh, without temporal pooling, got "
            f"arch {arch}: this library has no such network"
        )
    meta = meta if isinstance(meta, Mapping) else {}
    config = str(meta.get("cfg") or meta.get("config") or "").replace(" ", "")
    for fact, (configured, named) in SAID.items():
        match = re.search(configured, config) or re.search(named, f"{name} {arch}")
        if match:
            found[fact] = int(match[1])
        elif config and is_tsm:
            found[fact] = MMACTION2_DEFAULT
    return found


def _sizes_of(ours: Mapping[str, Tensor], has_branches: bool) -> dict[str, int]:
    """Find the builder's arguments; missing tensors are left for `load_official` to report."""
    found = {match.groups() for name in ours if (match := BLOCK.match(name))}
    blocks = tuple(sum(stage == str(i) for stage, _ in found) for i in (1, 2, 3, 4))
    depths = {size.big_little_blocks: depth for depth, size in SIZES.items() if depth != "tiny"}
    if not has_branches:
        is_basic = "stage1.0.conv3.weight" not in ours
        kinds = {depth: size for depth, size in SIZES.items() if is_basic == (size.expansion == 1)}
        depths = {size.resnet_blocks: depth for depth, size in kinds.items() if depth != "tiny"}
    if blocks not in depths:
        known = ", ".join(f"{depth} {counts}" for counts, depth in depths.items() if counts)
        raise ValueError(
            f"expected a network of depth {known}, got one with {blocks} blocks in its stages, and "
            f"the tensors {listed(list(ours), 3)}: give a published checkpoint, since {ELSEWHERE}"
        )
    sizes = {"depth": depths[blocks]}
    for argument, name, axis in (
        ("num_classes", "classifier.weight", 0),
        ("in_channels", "stem.conv.weight", 1),
        ("num_taps", "stem.tam.taps" if has_branches else "stage1.0.tam.taps", 0),
        ("alpha", "stem.little.0.weight", 0),
    ):
        if name in ours and ours[name].ndim > axis:
            sizes[argument] = ours[name].shape[axis]
    if "alpha" in sizes:
        sizes["alpha"] = SIZES[sizes["depth"]].width // sizes["alpha"]
    return sizes


def load_resnet(model: VideoNet, checkpoint: Checkpoint) -> LoadReport:
    """Load the weights of a torchvision ResNet, trained on ImageNet, into one of our models.

    TSN is that ResNet, and takes all of it but the classifier; so do TSM and TAM-ResNet. A
    big-little network of depth 50 has the blocks of ResNet-50, too: in stages 1 to 3 the big branch
    and, as the last block, the fusion; and all of stage 4. It is a start, not the same function:
    other blocks halve the resolution, and their shortcuts average.

    Args:
        model: from `tsn` (also with a temporal module) of any depth but "tiny", or from
            `blvnet_tam`, `blvnet` or `tsn_blnet` with depth 50.
        checkpoint: the state dict of the ResNet of that depth, or the path of a file with it; its
            classifier is not used.

    Raises ValueError as `load_official`, or if no ResNet fits the model's depth.
    """
    check_depth(model)
    resnet = names.bare_state_dict(checkpoint)
    kept = [key for key in model.state_dict() if NOT_IN_RESNET.fullmatch(key)]
    report = LoadReport("resnet", kept=kept, ignored=[k for k in resnet if k.startswith("fc.")])
    has_branches = model.architecture not in RESNETS.values()
    renames = names.RESNET_IN_BIG_LITTLE if has_branches else names.RESNET
    ours = {names.rename(k, renames): resnet[k] for k in resnet if k not in report.ignored}
    remedy = f"Give the weights of torchvision.models.resnet{model.arguments['depth']}; published "
    remedy += "bLResNets are read by blvnet_lab.weights.load_official"
    return load_exactly(model, ours, report, remedy)


def check_depth(model: VideoNet) -> None:
    """Raise ValueError if no ResNet fits a model, before one is downloaded."""
    name, depth = model.architecture, model.arguments["depth"]
    if depth == "tiny" or (depth != 50 and name not in RESNETS.values()):
        raise ValueError(
            f"expected a network that has the blocks of a ResNet, got a {name} of depth {depth}: "
            "build it with depth=50 (--network.depth 50)"
        )


def is_resnet(checkpoint: Checkpoint) -> bool:
    """Tell a torchvision ResNet from other checkpoints by its tensor names."""
    return names.layout_of(names.bare_state_dict(checkpoint)) == "resnet"


def released_file(source: str) -> str:
    """Download the weights with a name in `RELEASED`, once, and return their path.

    Any other source is returned as it is. Raises OSError if the download fails.
    """
    return _download(f"the weights {source}", RELEASED[source]) if source in RELEASED else source


def torchvision_resnet(depth: Literal[18, 34, 50, 101, 152]) -> str:
    """Download torchvision's newest ImageNet weights, once, and return their path; or OSError."""
    from torchvision.models import get_model_weights  # slow to import, and rarely needed

    url = get_model_weights(f"resnet{depth}").DEFAULT.url
    return _download(f"the ImageNet weights of ResNet-{depth}", url)


def _download(what: str, url: str) -> str:
    """Download a file, once, into the folder of `torch.hub`, and return its path."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        known = HASH.search(url)
        try:
            torch.hub.download_url_to_file(url, str(path), known and known[1], progress=True)
        # Errors of the connection, of the disk, and of a hash that does not match.
        except (OSError, HTTPException, RuntimeError) as error:
            raise OSError(
                f"expected to download {what} from {url}, got: {type(error).__name__} {error}; try "
                "again, or download that address on another machine and give the file's path"
            ) from error
    return str(path)
