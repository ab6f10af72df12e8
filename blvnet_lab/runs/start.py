"""Start a network from trained weights instead of random ones.

print(start_from(model, "checkpoints/bLResNet-50.pth", classes))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blvnet_lab.models import VideoNet
from blvnet_lab.models.files import LoadReport, load_exactly, read_pickle
from blvnet_lab.training.checkpoint import Trained, is_checkpoint, load_trained
from blvnet_lab.weights.official import load_official
from blvnet_lab.weights.torchvision import check_depth, is_resnet, load_resnet, torchvision_resnet

TORCHVISION = "torchvision"


def start_from(model: VideoNet, source: str, classes: Sequence[str] = ()) -> LoadReport:
    """Load weights into a model, and report which were loaded and which were not.

    Args:
        source: "torchvision" downloads a ResNet of the model's depth, trained on ImageNet; or a
            file: a network that was trained here (`model.safetensors`, `best.pt`), also one for
            fewer frames or other classes; a published bLResNet or video checkpoint; a ResNet of
            torchvision.
        classes: of the model, in the order of labels. The classifier of a network that was trained
            here is loaded if it has the same ones.

    Raises:
        ValueError: there is no such file, or it does not fit; the model is unchanged.
        OSError: the download failed.
    """
    if source == TORCHVISION:
        check_depth(model)
        return load_resnet(model, torchvision_resnet(model.arguments["depth"]))
    if not Path(source).is_file():
        raise ValueError(
            f'expected a file with weights to start from, or "{TORCHVISION}", but there is no file '
            f"{source}"
        )
    if Path(source).suffix == ".safetensors":
        return _load_own(model, load_trained(source), classes)
    contents = read_pickle(source)
    if is_checkpoint(contents):
        return _load_own(model, load_trained(source), classes)
    return (load_resnet if is_resnet(contents) else load_official)(model, contents)


def _load_own(model: VideoNet, trained: Trained, classes: Sequence[str]) -> LoadReport:
    weights = trained.model.state_dict()
    report = LoadReport("own")
    head = [name for name in weights if name.startswith("classifier.")]
    if not classes or tuple(classes) != trained.classes:
        report.kept += head
        report.ignored += head
        weights = {name: tensor for name, tensor in weights.items() if name not in head}
    if not any(name.endswith(".taps") for name in weights):
        # A network without temporal aggregation may be the start of one with it.
        report.kept += [name for name in model.state_dict() if name.endswith(".taps")]
    remedy = (
        f"It holds a {trained.model.architecture} built with {trained.model.arguments}: build the "
        "same but for num_frames, num_classes and dropout"
    )
    return load_exactly(model, weights, report, remedy)
