"""Trained networks at work: folded, compiled, exported, and live."""

from blvnet_lab.deploy.compiled import compile_for_inference
from blvnet_lab.deploy.export import Exported, export_model
from blvnet_lab.deploy.fold import optimize_for_inference
from blvnet_lab.deploy.graphs import export_stream, export_with_taps
from blvnet_lab.deploy.int8 import export_int8
from blvnet_lab.deploy.live import Stream
from blvnet_lab.threads import keep_memory
