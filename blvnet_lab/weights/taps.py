"""Store taps in a file of their own: what a network learned in time, 160 kB of its 100 MB.

python -m blvnet_lab taps K400-TAM-ResNet-50-f32.pth.tar --out taps.safetensors

model = load_taps("taps.safetensors")
viz.taps_figure(tam_weights(model), tam_roles(model))
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from blvnet_lab.introspect.taps import tams
from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import BUILDERS, read_pickle, safetensors_bytes
from blvnet_lab.paths import check_target, write_files
from blvnet_lab.training.checkpoint import is_checkpoint, load_trained
from blvnet_lab.weights.official import import_official, released_file

FORMAT = "blvnet_lab_taps"  # key of the file's metadata
NUM_FRAMES = 16  # of imported networks; no tap depends on it


def save_taps(checkpoint: Path, /, *, out: Path) -> str:
    """Store only the temporal weights of a network, with their names; say how many there are.

    Args:
        checkpoint: a network trained here (model.safetensors, best.pt), a published checkpoint, or
            its name in docs/weights.md.
        out: the file to write, which ends in .safetensors.

    Raises ValueError if the network has no TAM, or the file is none of these.
    """
    check_target(out, ".safetensors", read=[checkpoint])
    checkpoint, kept = Path(released_file(str(checkpoint))), []
    if checkpoint.suffix == ".safetensors" or is_checkpoint(read_pickle(checkpoint)):
        model = load_trained(checkpoint).model
    else:
        imported = import_official(checkpoint, None, num_frames=NUM_FRAMES)
        model, kept = imported.model, imported.report.kept
    taps = {name: tam.taps.detach().contiguous() for name, tam in tams(model).items()}
    if not taps or any(f"{name}.taps" in kept for name in taps):
        raise ValueError(
            f"expected a network with TAMs, got one without ({model.architecture}): give a "
            "tam_resnet, tsm or blvnet_tam"
        )
    about = {"architecture": model.architecture, "arguments": model.arguments}
    write_files({out: safetensors_bytes(taps, {FORMAT: about})}, keep=True)
    count = sum(tensor.numel() for tensor in taps.values())
    return f"wrote {count:,} taps of {len(taps)} TAMs to {out}"


def load_taps(path: str | os.PathLike) -> VideoNet:
    """Build the network that a file of taps belongs to, with these taps and no other weights.

    All functions that read taps take it (`tam_weights`, `tam_roles`, `effective_pair_taps`,
    `derived_receptive_field`); its other weights are on the meta device, without values.
    Raises ValueError if the file was not written by `save_taps`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[FORMAT])
            taps = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError) as error:
        wanted = "a file that `python -m blvnet_lab taps` wrote"
        raise ValueError(f"{path}: expected {wanted}, got another one") from error
    with torch.device("meta"):
        model = BUILDERS[about["architecture"]](**about["arguments"]).eval()
    for name, tam in tams(model).items():
        tam.taps = nn.Parameter(taps[name], requires_grad=False)
    return model
