"""How long things take, side by side, and how much memory: the means of the benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.models import VideoNet, count_cost
from blvnet_lab.models.cost import without_values
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.memory import most_at_once

MATMUL = "matmul"  # among what is timed
# Side of the matrices: enough to keep all units busy, not more.
CPU_SIDE, GPU_SIDE = 2048, 4096
WARM_UPS = 1


def interleaved(
    runs: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, title: str
) -> pd.DataFrame:
    """Times all runs by turns, so that whatever else the machine does hits all of them alike.

    Returns:
        Seconds: a row for each repeat, a column for each run, and "matmul" for a matrix product in
        float32, of which `matmul_peak` makes the machine's speed.
    """
    side = _side(device)
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    product = torch.empty_like(a)
    runs = {**runs, MATMUL: lambda: torch.mm(a, b, out=product)}
    rows = []
    with tqdm(total=(WARM_UPS + repeats) * len(runs), desc=title, unit="run", leave=False) as bar:
        for number in range(-WARM_UPS, repeats):
            row = {}
            for name, run in runs.items():
                bar.set_postfix_str(name)
                wait_for(device)
                begin = time.perf_counter()
                run()
                wait_for(device)
                row[name] = time.perf_counter() - begin
                bar.update()
            if number >= 0:
                rows.append(row)
    return pd.DataFrame(rows)


def _side(device: torch.device) -> int:
    return CPU_SIDE if device.type == "cpu" else GPU_SIDE


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def matmul_peak(seconds: pd.DataFrame, device: torch.device) -> float:
    """GMACs a second of the quickest matrix product: what the machine can do at best."""
    return _side(device) ** 3 / seconds[MATMUL].min() / 1e9


def summary(seconds: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Of each run: median, lowest and highest ms; how many times as fast as the reference.

    The latter is the median of the ratios within each repeat, in which both ran under the same
    conditions.
    """
    rows = {}
    for name in seconds.columns.drop(MATMUL):
        row = {
            "ms": 1e3 * seconds[name].median(),
            "lowest": 1e3 * seconds[name].min(),
            "highest": 1e3 * seconds[name].max(),
        }
        if reference is not None:
            row["speed-up"] = (seconds[reference] / seconds[name]).median()
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def gmacs(model: nn.Module, clip: Tensor) -> float:
    """Of one clip; TAMs included, where the model is one of ours."""
    if isinstance(model, VideoNet):
        return count_cost(model, tuple(clip.shape[-2:])).macs / 1e9
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        without_values(model)(clip[:1].to("meta"))
    return counter.get_total_flops() / 2 / 1e9


@torch.no_grad()
def peak_gb(model: nn.Module, clip: Tensor) -> float:
    """Weights, clip and the maps that are there at once in a forward pass, in GB (1e9 bytes).

    On a GPU what PyTorch took of its memory; on a CPU, which does not tell, what is counted.
    """
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if clip.device.type != "cuda":
        return (weights + most_at_once(model, clip)) / 1e9
    torch.cuda.reset_peak_memory_stats(clip.device)
    others = torch.cuda.memory_allocated(clip.device) - weights - clip.nbytes
    model(clip)
    return (torch.cuda.max_memory_allocated(clip.device) - others) / 1e9


def faster_layout(model: nn.Module, clip: Tensor) -> tuple[nn.Module, str]:
    """The model in the memory layout in which it runs faster here, and that layout's name."""
    three_d = any(isinstance(module, nn.Conv3d) for module in model.modules())
    layouts = {
        "default": torch.contiguous_format,
        "channels-last": torch.channels_last_3d if three_d else torch.channels_last,
    }
    seconds = {name: [] for name in layouts}
    with torch.inference_mode():
        for _ in range(2):  # the first warms up
            for name, layout in layouts.items():
                model.to(memory_format=layout)
                begin = time.perf_counter()
                model(clip)
                wait_for(clip.device)
                seconds[name].append(time.perf_counter() - begin)
    best = min(layouts, key=lambda name: seconds[name][-1])
    return model.to(memory_format=layouts[best]), best
