"""Start one of our networks from a torchvision ResNet trained on ImageNet.

    from blvnet_lab.models import blvnet_tam
    from blvnet_lab.weights.torchvision import load_resnet
    print(load_resnet(blvnet_tam(depth=50), "resnet50-11ad3fa6.pth"))

TSN is that ResNet, and takes all of it but the classifier; so do TSM and TAM-ResNet. A big-little
network of depth 50 has the blocks of ResNet-50, too: in stages 1 to 3 the big branch and, as the
last block, the fusion; and all of stage 4. It is a start, not the same function: other blocks halve
the resolution, and their shortcuts average.
"""

import re
from pickle import UnpicklingError
from typing import Literal

from torch import Tensor

from blvnet_lab.models.files import LoadReport, load_exactly
from blvnet_lab.models.networks import RESNETS, VideoNet
from blvnet_lab.weights.names import RESNET, layout_of, rename
from blvnet_lab.weights.official import Checkpoint, bare_state_dict
from blvnet_lab.weights.released import DOWNLOAD_ERRORS, download_failed

# Also errors of an incomplete or damaged file from an earlier download.
FILE_ERRORS = (*DOWNLOAD_ERRORS, UnpicklingError, EOFError)
NOT_IN_RESNET = re.compile(r"(stem\.(big|little|fusion)|stage\d\.little|classifier)\..*|.*\.taps")
# Torchvision's names -> ours, applied in this order; unknown names are refused as left over.
BIG_LITTLE_RENAMES = [
    # Here all shortcuts with a convolution are strided, and begin with average pooling.
    (r"(.*\.downsample)\.1\.", r"\1.2."),
    (r"(.*\.downsample)\.0\.", r"\1.1."),
    (r"layer1\.2\.", "stage1.fusion."),  # the last block of each stage
    (r"layer2\.3\.", "stage2.fusion."),
    (r"layer3\.5\.", "stage3.fusion."),
    (r"layer([123])\.", r"stage\1.big."),
    *RESNET,
]


def load_resnet(model: VideoNet, checkpoint: Checkpoint) -> LoadReport:
    """Load the weights of a torchvision ResNet into one of our models.

    Args:
        model: from `tsn` (also with a temporal module) of any depth but "tiny", or from
            `blvnet_tam`, `blvnet` or `tsn_blnet` with depth 50.
        checkpoint: the state dict of the ResNet of that depth, or the path of a file with it; its
            classifier is not used.

    Raises ValueError as `load_official`, or if no ResNet fits the model's depth.
    """
    check_depth(model)
    resnet = bare_state_dict(checkpoint)
    kept = [key for key in model.state_dict() if NOT_IN_RESNET.fullmatch(key)]
    report = LoadReport("resnet", kept=kept, ignored=[k for k in resnet if k.startswith("fc.")])
    renames = RESNET if model.architecture in RESNETS.values() else BIG_LITTLE_RENAMES
    ours = {rename(k, renames): resnet[k] for k in resnet if k not in report.ignored}
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
    return layout_of(bare_state_dict(checkpoint)) == "resnet"


def torchvision_resnet(depth: Literal[18, 34, 50, 101, 152]) -> dict[str, Tensor]:
    """Download torchvision's newest ImageNet weights (45 to 230 MB), once; OSError on failure."""
    from torchvision.models import get_model_weights  # slow to import, and rarely needed

    weights = get_model_weights(f"resnet{depth}").DEFAULT
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True)
    except FILE_ERRORS as error:
        what = f"the ImageNet weights of ResNet-{depth}"
        raise download_failed(what, weights.url, error) from error
