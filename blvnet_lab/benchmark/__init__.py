"""Measure what models cost on this machine, next to the published formulation and other models."""

from blvnet_lab.benchmark.measure import Benchmark, from_json
from blvnet_lab.benchmark.peers import all_peers, published_form
from blvnet_lab.benchmark.run import run_benchmark
