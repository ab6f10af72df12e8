"""Models in files: safetensors that know how they were built.

save_model(model, "model.safetensors")
model = load_model("model.safetensors")
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from blvnet_lab.models.video_net import (
    VideoNet,
    architecture_of,
    blvnet,
    blvnet_tam,
    tsn,
    tsn_blnet,
)
from blvnet_lab.models.wrapped import check_whole
from blvnet_lab.paths import written_whole

BUILDERS = {builder.__name__: builder for builder in (tsn, tsn_blnet, blvnet, blvnet_tam)}


def save_model(
    model: VideoNet, path: str | os.PathLike, notes: Mapping[str, Any] | None = None
) -> None:
    """Write weights, architecture and constructor's arguments; the file appears only when whole.

    Args:
        notes: whatever else should be known of the model, in what JSON can hold (`load_notes`).

    Raises:
        TypeError: the model is not from one of the four builders.
        ValueError: its weights are not those that its builder makes, so that `load_model` could not
            read them: it is folded, or changed by other tools.
    """
    if (name := architecture_of(model)) not in BUILDERS:
        raise TypeError(f"expected a model from {', '.join(BUILDERS)}, got {name}")
    if model.folded:
        raise ValueError(
            "expected a model with its batch norms, got one from optimize_for_inference: save the "
            "model it was made of"
        )
    weights = model.state_dict()
    with torch.device("meta"):
        wanted = BUILDERS[name](**model.arguments).state_dict()
    shapes = [{key: tuple(t.shape) for key, t in state.items()} for state in (weights, wanted)]
    if odd := sorted({key for key, _ in shapes[0].items() ^ shapes[1].items()}):
        raise ValueError(
            f"expected the weights that {name} builds, got others in {len(odd)} places, such as "
            f"{', '.join(odd[:3])}: load_model could not read them. Make pruned weights plain with "
            "torch.nn.utils.prune.remove, parametrised ones with "
            "torch.nn.utils.parametrize.remove_parametrizations, give a changed network's own "
            "state_dict() to safetensors.torch.save_file"
        )
    for key, tensor in weights.items():
        check_whole(tensor, key)
    about = {"architecture": name, "arguments": model.arguments, "notes": dict(notes or {})}
    metadata = {"format": "pt", "blvnet_lab": json.dumps(about)}  # other tools ask for the format
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(save(weights, metadata=metadata))


def load_model(path: str | os.PathLike) -> VideoNet:
    """The model that `save_model` wrote, on the CPU, in eval mode.

    Raises:
        ValueError: there is no such file, or it was not written by `save_model`.
    """
    how, weights = _read(path, with_weights=True)
    if how["architecture"] not in BUILDERS:
        raise ValueError(
            f"{path}: expected one of the architectures {', '.join(BUILDERS)}, got "
            f"{how['architecture']}: the file may be of a newer blvnet_lab"
        )
    try:
        model = BUILDERS[how["architecture"]](**how["arguments"])
        model.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path}: expected arguments and weights of {how['architecture']}, got: {error}; "
            "the file may be of another version of blvnet_lab"
        ) from error
    return model.eval()


def load_notes(path: str | os.PathLike) -> dict[str, Any]:
    """The notes that `save_model` was given; empty if there were none.

    Raises:
        ValueError: there is no such file, or it was not written by `save_model`.
    """
    return _read(path, with_weights=False)[0].get("notes", {})


def _read(path: str | os.PathLike, with_weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise ValueError(f"expected a model file, but there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("blvnet_lab")
            names = file.keys() if with_weights else ()
            weights = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a safetensors file written by save_model, got: {error}; "
            "published checkpoints are read by blvnet_lab.models.official.load_official"
        ) from error
    if metadata is None:
        raise ValueError(
            f"{path}: expected a file written by save_model, but it does not say how its model was "
            "built; build the model, then model.load_state_dict(safetensors.torch.load_file(path))"
        )
    return json.loads(metadata), weights
