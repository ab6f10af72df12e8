"""Weights that others have released, under short names: `train --init tam-resnet50-k400`.

docs/weights.md says how each was trained, how accurate it is, and which licence it has.
"""

import re
from http.client import HTTPException
from pathlib import Path

import torch


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
# Errors of the connection, of the disk, and of a hash that does not match.
DOWNLOAD_ERRORS = (OSError, HTTPException, RuntimeError)


def released_file(source: str) -> str:
    """Download the weights with a name in `RELEASED`, once, and return their path.

    Any other source is returned as it is. Raises OSError if the download fails.
    """
    if source not in RELEASED:
        return source
    url = RELEASED[source]
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        known = HASH.search(url)
        try:
            torch.hub.download_url_to_file(url, str(path), known and known[1], progress=True)
        except DOWNLOAD_ERRORS as error:
            raise download_failed(f"the weights {source}", url, error) from error
    return str(path)


def download_failed(what: str, url: str, error: Exception) -> OSError:
    """Make the error for a failed download, with its remedies."""
    return OSError(
        f"expected to download {what} from {url}, got: {type(error).__name__} {error}; delete a "
        f"damaged file in {torch.hub.get_dir()}/checkpoints, or download that address on another "
        "machine and give the file's path"
    )
