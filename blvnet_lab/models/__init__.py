"""The four architectures, their one equation, and their files."""

from blvnet_lab.models.cost import Cost, count_cost
from blvnet_lab.models.export import Exported, export_model
from blvnet_lab.models.files import load_model, load_notes, save_model
from blvnet_lab.models.official import import_official, load_official
from blvnet_lab.models.optimize import optimize_for_inference
from blvnet_lab.models.pretrained import load_resnet
from blvnet_lab.models.streaming import Stream
from blvnet_lab.models.tam import TAM, PairTAM
from blvnet_lab.models.video_net import (
    BigLittleNet,
    VideoNet,
    blvnet,
    blvnet_tam,
    capture_points,
    tsn,
    tsn_blnet,
)

__all__ = [
    "TAM",
    "BigLittleNet",
    "Cost",
    "Exported",
    "PairTAM",
    "Stream",
    "VideoNet",
    "blvnet",
    "blvnet_tam",
    "capture_points",
    "count_cost",
    "export_model",
    "import_official",
    "load_model",
    "load_notes",
    "load_official",
    "load_resnet",
    "optimize_for_inference",
    "save_model",
    "tsn",
    "tsn_blnet",
]
