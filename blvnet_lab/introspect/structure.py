"""What a model is made of, part by part: what each gives on, and what it costs.

    table = layer_table(blvnet_tam(depth=50))
    table.groupby("stage", sort=False)["macs"].sum()

`blvnet_lab.viz.architecture_figure(table)` draws the network.
"""

from __future__ import annotations

import math
import re
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.models import TAM, VideoNet
from blvnet_lab.models.cost import without_values

PARTS = r"(stem|stage\d)\.(conv|pool|tam|big|little|merged|fusion|\d+)|stage4\.\d+\.tam|classifier"


def layer_table(model: VideoNet, size: tuple[int, int] = (224, 224)) -> pd.DataFrame:
    """One row per part of the model, in the order of computation, without computing anything.

    The sums over the rows are what `blvnet_lab.models.count_cost` finds for the whole model.

    Args:
        size: (height, width) of the frames, in pixels.

    Returns:
        stage: "stem", "stage1" to "stage4", "classifier".
        part: "conv" (the first one), "pool", "tam", "big", "little", "merged" (their sum),
            "fusion", "block" (a bottleneck, without the TAM in front of it), "classifier".
        positions, channels, height, width: of what the part gives on. Positions are frames (T) or
            pairs (P); the maps of "big" are as they are before they are enlarged.
        macs: multiply-accumulates of one clip, TAMs as in equation 3.
        parameters: weights and biases, with those of batch norms.
    """
    model = without_values(model)
    names = [name for name, _ in model.named_modules() if re.fullmatch(PARTS, name)]
    outputs: dict[str, Tensor | tuple[Tensor, Tensor]] = {}  # in the order of computation

    def keep(name: str, module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        outputs[name] = output

    for name in names:
        model.get_submodule(name).register_forward_hook(partial(keep, name))
    clip = torch.empty(1, model.num_frames, model.in_channels, *size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clip)
    flops = counter.get_flop_counts()  # by module; modules without any are not in it
    parameters = _parameters(model, names)
    rows = []
    for name, output in outputs.items():
        module, last = model.get_submodule(name), name.rpartition(".")[2]
        maps = output if isinstance(output, tuple) else (output,)  # PairTAM: little, big
        numbers = sum(m.numel() for m in maps)
        shape = maps[0].shape[-3:] if maps[0].ndim > 3 else (maps[0].shape[-1], 1, 1)  # logits
        macs = sum(flops.get(f"{type(model).__name__}.{name}", {}).values()) // 2
        if isinstance(module, TAM):  # element-wise, so that PyTorch's counter does not see it
            macs += module.num_taps * numbers
        row = {"stage": name.partition(".")[0], "part": "block" if last.isdigit() else last}
        row["positions"] = numbers // math.prod(shape)
        row |= dict(zip(("channels", "height", "width"), shape, strict=True))
        rows.append(row | {"macs": macs, "parameters": parameters[name]})
    return pd.DataFrame(rows)


def _parameters(model: VideoNet, names: list[str]) -> dict[str, int]:
    """How many parameters each of the named parts has: all of the model's, each counted once."""
    counts = dict.fromkeys(names, 0)
    for parameter, values in model.named_parameters():
        within = parameter.replace("stem.bn.", "stem.conv.")  # the first convolution's batch norm
        owners = [name for name in names if within.startswith(f"{name}.")]
        counts[max(owners, key=len)] += values.numel()  # of a block and its TAM, the TAM
    return counts
