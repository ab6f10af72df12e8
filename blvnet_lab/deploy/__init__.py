"""Trained networks at work: folded, compiled, exported, and live."""

from blvnet_lab.deploy.export import Exported, export_model
from blvnet_lab.deploy.inference import compile_for_inference, optimize_for_inference
from blvnet_lab.deploy.live import Stream
from blvnet_lab.deploy.variants import export_int8, export_stream, export_with_taps
from blvnet_lab.threads import keep_memory
