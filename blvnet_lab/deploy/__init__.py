"""Trained networks at work: folded, exported, and live."""

from blvnet_lab.deploy.export import Exported, export_model
from blvnet_lab.deploy.fold import optimize_for_inference
from blvnet_lab.deploy.graphs import export_stream, export_with_taps
from blvnet_lab.deploy.live import Stream

__all__ = [
    "Exported",
    "Stream",
    "export_model",
    "export_stream",
    "export_with_taps",
    "optimize_for_inference",
]
