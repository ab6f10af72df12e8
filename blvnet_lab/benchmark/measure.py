"""Measure times side by side, and memory; print, save and read the tables."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.models import VideoNet, count_cost
from blvnet_lab.models.cost import without_values
from blvnet_lab.paths import write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.memory import most_at_once

Runs = Mapping[Any, Callable[[], object]]  # by name
MATMUL = "matmul"  # a name among the timed runs
# Side of the matrices: just enough to keep all units busy.
CPU_SIDE, GPU_SIDE = 2048, 4096
HEADINGS = {
    "forms": "one clip through bLVNet-TAM of depth 50, computed in several ways",
    "training": "forward and backward pass of one clip, and what is kept in between",
    "models": "forward pass of one clip, each model at the input it was published for",
    "accuracies": "accuracies as published, beside the times measured here",
    "claims": "against TSN on the same frames, counted",
    "scaling": "with more frames, and with more clips at once",
    "streaming": "a causal model, pair by pair; ms per pair",
    "steps": "CPU milliseconds per clip, median, one core",
    "loaders": "data loaders, by the wall clock",
    "memory": "resident memory after reading a number of clips",
}


def time_alternately(runs: Runs, repeats: int, clock: Callable[[], float]) -> pd.DataFrame:
    """Time runs in seconds, a row per round and a column per run, after a round to warm up.

    Runs alternate, so that whatever else the machine does slows all of them alike. `clock` returns
    the time once the work before it is done.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(1 + repeats), "timing", unit="round", leave=False):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return pd.DataFrame(seconds)[1:]


def time_on(device: torch.device) -> float:
    """Return the time in seconds, once the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def compare_times(
    runs: Runs,
    repeats: int,
    device: torch.device,
    *,
    reference: str | None = None,
    gmacs: float | pd.Series | None = None,
) -> pd.DataFrame:
    """Time runs alternately; return a row for each: ms (the median), lowest, highest.

    Args:
        reference: name of a run, for the column "speed-up": the median of the ratios per round.
        gmacs: of one run, for the column "of peak": its speed relative to the fastest float32
            matrix product, which is timed along with the runs.
    """
    side = CPU_SIDE if device.type == "cpu" else GPU_SIDE
    a, b = torch.randn(2, side, side, device=device)
    product = torch.empty_like(a)
    runs = {**runs, MATMUL: lambda: torch.mm(a, b, out=product)}
    seconds = time_alternately(runs, repeats, partial(time_on, device))
    peak = side**3 / 1e9 / seconds.pop(MATMUL).min()  # GMACs per second
    table = 1e3 * seconds.agg(["median", "min", "max"]).T
    table.columns = ["ms", "lowest", "highest"]
    if reference is not None:
        table["speed-up"] = seconds.rdiv(seconds[reference], axis=0).median()
    if gmacs is not None:
        table["of peak"] = gmacs / peak / (table["ms"] / 1e3)
    return table


def count_gmacs(model: nn.Module, clip: Tensor) -> float:
    """Count the GMACs of one clip, including TAMs if the model is one of ours."""
    if isinstance(model, VideoNet):
        return count_cost(model, tuple(clip.shape[-2:])).macs / 1e9
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        without_values(model)(clip[:1].to("meta"))
    return counter.get_total_flops() / 2 / 1e9


@torch.no_grad()
def peak_gb(model: nn.Module, clip: Tensor) -> float:
    """Measure weights, clip and the maps that a forward pass holds at once, in GB (1e9 bytes).

    On a GPU that is the memory PyTorch allocated; on a CPU it is counted.
    """
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if clip.device.type != "cuda":
        return (weights + most_at_once(model, clip)) / 1e9
    torch.cuda.reset_peak_memory_stats(clip.device)
    others = torch.cuda.memory_allocated(clip.device) - weights - clip.nbytes
    model(clip)
    return (torch.cuda.max_memory_allocated(clip.device) - others) / 1e9


@torch.inference_mode()
def faster_layout(model: nn.Module, clip: Tensor) -> tuple[nn.Module, str]:
    """Convert the model to the memory layout in which it runs faster here; name that layout."""
    three_d = any(isinstance(module, nn.Conv3d) for module in model.modules())
    channels_last = torch.channels_last_3d if three_d else torch.channels_last
    layouts = {"default": torch.contiguous_format, "channels-last": channels_last}

    def seconds(name: str) -> float:
        run = partial(model.to(memory_format=layouts[name]), clip)
        return time_alternately({name: run}, 1, partial(time_on, clip.device))[name].item()

    best = min(layouts, key=seconds)
    return model.to(memory_format=layouts[best]), best


@dataclass(frozen=True)
class Benchmark:
    """Tables of measurements; times in ms, memory in GB (1e9 bytes) unless stated otherwise."""

    machine: dict[str, str | int | float]  # machine, software and input
    tables: dict[str, pd.DataFrame]  # by their names in `HEADINGS`
    figure: Path | None = None  # where the command line draws accuracy against cost

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {value}" for name, value in self.machine.items())]
        for name, table in self.tables.items():
            lines.append(f"\n{HEADINGS[name]}\n{table.to_string(float_format='{:.4g}'.format)}")
        return "\n".join(lines)

    def save(self, file: Path) -> None:
        """Write everything to a file, which `from_json` reads."""
        contents = {"machine": self.machine}
        for name, table in self.tables.items():
            contents[name] = json.loads(table.to_json(orient="split", double_precision=12))
        write_files({file: json.dumps(contents, indent=1)}, keep=True)


def from_json(text: str) -> Benchmark:
    """Read what `Benchmark.save` wrote; raise ValueError for anything else."""
    try:
        contents = json.loads(text)
        machine = contents.pop("machine")
        return Benchmark(machine, {name: pd.DataFrame(**part) for name, part in contents.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected a file written by `python -m blvnet_lab benchmark --json`, got: {error}"
        ) from error
