"""Save and load models as safetensors that know how they were built; read pickles safely.

save_model(model, "model.safetensors")
model = load_model("model.safetensors")
"""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from blvnet_lab.models.networks import VideoNet, architecture_of, blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.models.wrapped import check_weights, network_of
from blvnet_lab.paths import write_files

BUILDERS = {
    "tsn": tsn,
    "tsm": partial(tsn, temporal="shift"),
    "tam_resnet": partial(tsn, temporal="tam"),
    "tsn_blnet": tsn_blnet,
    "blvnet": blvnet,
    "blvnet_tam": blvnet_tam,
}
MAX_LISTED = 12  # names listed in a message


def save_model(
    model: nn.Module, path: str | os.PathLike, notes: Mapping[str, Any] | None = None
) -> None:
    """Write weights, architecture and the builder's arguments in one atomic write.

    Args:
        model: from one of the builders, perhaps wrapped by other tools (`wrapped.unwrapped`).
        notes: anything else worth knowing about the model, as JSON values (`load_notes`).

    Raises:
        TypeError: it is not one of our networks.
        ValueError: its weights are not those that its builder makes, so that `load_model` could not
            read them: it is folded, or changed by other tools.
    """
    network = network_of(model)
    if (name := architecture_of(network)) not in BUILDERS:
        raise TypeError(f"expected a model from {', '.join(BUILDERS)}, got {name}")
    check_weights(network)
    with torch.device("meta"):
        wanted = BUILDERS[name](**network.arguments).state_dict()
    weights = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    own, built = ({(key, t.shape) for key, t in state.items()} for state in (weights, wanted))
    if odd := sorted({key for key, _ in own ^ built}):
        raise ValueError(
            f"expected the weights that {name} builds, got others: {listed(odd)}. Save the network "
            "as it was built (of a folded one, what it was made of), or give its state_dict() to "
            "safetensors.torch.save_file"
        )
    notes = {**(notes or {}), **({"multi_label": True} if network.multi_label else {})}
    about = {"architecture": name, "arguments": network.arguments, "notes": notes}
    write_files({Path(path): safetensors_bytes(weights, {"blvnet_lab": about})}, keep=True)


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return a safetensors file with JSON metadata, reproducible byte for byte.

    safetensors 0.8 writes several metadata entries in an order that changes from call to call, and
    other tools require a second entry, the format.
    """
    content = save(tensors, {"format": "pt", **{k: json.dumps(v) for k, v in metadata.items()}})
    end = 8 + int.from_bytes(content[:8], "little")  # of the header, after its own length
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stand at multiples of eight bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_model(path: str | os.PathLike) -> VideoNet:
    """Read the model that `save_model` wrote, on the CPU, in eval mode.

    Raises:
        ValueError: there is no such file, or it was not written by `save_model`.
    """
    about = _about(path)
    name = about["architecture"]
    try:
        model = BUILDERS[name](**about["arguments"])
        model.load_state_dict(load_file(path))
        model.multi_label = about.get("notes", {}).get("multi_label", False)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path}: expected a network as this blvnet_lab builds it ({', '.join(BUILDERS)}), got "
            f"{name}: {error}"
        ) from error
    return model.eval()


def load_notes(path: str | os.PathLike) -> dict[str, Any]:
    """Read the notes given to `save_model`, if any; errors as in `load_model`."""
    return _about(path).get("notes", {})


def _about(path: str | os.PathLike) -> dict[str, Any]:
    if not Path(path).is_file():
        raise ValueError(f"expected a model file, but there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a safetensors file written by save_model, got: {error}; "
            "published checkpoints are read by blvnet_lab.weights.load_official"
        ) from error
    if "blvnet_lab" not in metadata:
        wanted = "expected a file written by save_model, which says how its model was built"
        remedy = "build the model, then model.load_state_dict(safetensors.torch.load_file(path))"
        for key in metadata:
            if key.startswith("blvnet_lab_"):  # features or taps: no network can be built of them
                remedy = f"this one holds {key[11:]} only: give the network that they came from"
        raise ValueError(f"{path}: {wanted}; {remedy}")
    return json.loads(metadata["blvnet_lab"])


# --- Files of other people ------------------------------------------------------------------------


@dataclass
class LoadReport:
    """What was loaded; names are ours, except in `ignored`, where they are the checkpoint's."""

    layout: str  # one of `weights.names`; "own" for our networks
    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)  # loaded after changing their shape
    kept: list[str] = field(default_factory=list)  # not in the checkpoint, left unchanged
    ignored: list[str] = field(default_factory=list)  # in the checkpoint, but not used

    def __str__(self) -> str:
        lines = [f"{self.layout} checkpoint: {len(self.loaded)} tensors loaded"]
        for what, names in (
            ("adapted to the number of input channels", self.adapted),
            ("not in this checkpoint, left as they were", self.kept),
            ("of the checkpoint, not used", self.ignored),
        ):
            named = names
            if len(names) > MAX_LISTED:  # counted by part of the network, with all TAMs as one part
                split = [name.split(".") for name in names]
                parts = Counter("taps" if s[-1] == "taps" else ".".join(s[:-1][:2]) for s in split)
                named = [f"{part}: {count}" for part, count in parts.items()]
            if names:
                lines.append(f"  {len(names)} {what}: {', '.join(named)}")
        return "\n".join(lines)


def load_exactly(
    model: VideoNet, ours: Mapping[str, Tensor], report: LoadReport, remedy: str
) -> LoadReport:
    """Load tensors with our names, all except those in `report.kept`, or none at all.

    For a model with other input channels, RGB weights are averaged over colours and repeated.
    Raises ValueError, with the remedy, if a tensor is missing, left over or of another shape.
    """
    first = ours.get("stem.conv.weight")
    if first is not None and first.shape[1:2] == (3,) and model.in_channels != 3:
        first = first.mean(1, keepdim=True).repeat(1, model.in_channels, 1, 1)
        ours = {**ours, "stem.conv.weight": first}
        report.adapted.append("stem.conv.weight")
    wanted = model.state_dict()
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
        found = "; ".join(f"{what}: {listed(names)}" for what, names in complaints.items() if names)
        raise ValueError(f"expected a checkpoint that fits the model exactly; {found}. {remedy}")
    model.load_state_dict(ours, strict=not report.kept)
    report.loaded = list(ours)
    return report


def listed(names: Sequence[str], most: int = MAX_LISTED) -> str:
    """Join names for a message: "a, b and 7 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# What training scripts save beside weights: NumPy numbers (under the names before and since version
# 2), command-line arguments, paths, dates.
BESIDE = """
    numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct numpy.dtype numpy.ndarray
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct
    argparse.Namespace types.SimpleNamespace datetime.date datetime.datetime datetime.timedelta
    pathlib.PosixPath pathlib.WindowsPath pathlib._local.PosixPath pathlib._local.WindowsPath
""".split()
WOULD_CALL = re.compile(r"GLOBAL ([\w.]+)")  # in PyTorch's message about a pickle that calls code
DAMAGES = (  # what torch.load raises for files that are truncated, damaged, or something else
    *(pickle.UnpicklingError, struct.error, EOFError, OSError, RuntimeError, ValueError),
    *(LookupError, TypeError, AttributeError, AssertionError),
)


class Unread:
    """Stands in for whatever `BESIDE` names, so that reading a pickle does not create it."""

    def __new__(cls, *contents: object) -> Unread:
        return super().__new__(cls)

    def __setstate__(self, contents: object) -> None:
        pass


def read_pickle(path: str | os.PathLike) -> Any:
    """Read a PyTorch file, onto the CPU, if it holds only tensors and plain containers.

    What training scripts save beside weights is left out (`Unread`). Raises ValueError if the file
    is missing or damaged, or holds anything else.
    """
    if not os.path.isfile(path):
        raise ValueError(f"expected a checkpoint, e.g. model.safetensors; there is no file {path}")
    try:
        with torch.serialization.safe_globals([(Unread, name) for name in BESIDE]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:  # not its own text, which advises loading the pickle unsafely
        got = (
            f"one that is damaged or another kind of file ({type(error).__name__}): give the right "
            "file, or delete a damaged download and repeat it"
        )
        if called := WOULD_CALL.search(str(error)):
            got = (
                f"one that would call {called[1]}: a pickle can run any program when it is loaded. "
                "Save its tensors alone where it was made (torch.save(model.state_dict(), path))"
            )
        raise ValueError(
            f"{path}: expected a checkpoint that torch.load(weights_only=True) reads, got {got}"
        ) from error
