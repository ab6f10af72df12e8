"""Count what a model costs: multiply-accumulates (what papers call FLOPs) and parameters.

    count_cost(blvnet_tam(depth=50)).macs
    layer_table(blvnet_tam(depth=50)).groupby("stage", sort=False)["macs"].sum()

Nothing is computed: the model runs on the meta device, where tensors have shapes only.
"""

import copy
import math
import re
from typing import Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.models.files import BUILDERS
from blvnet_lab.models.networks import VideoNet, architecture_of
from blvnet_lab.models.tam import TAM
from blvnet_lab.models.wrapped import check_whole, unwrapped

COLUMNS = "stage part positions channels height width macs parameters".split()
PARTS = r"(stem|stage\d)\.(conv|pool|tam|big|little|merged|fusion|\d+)|stage4\.\d+\.tam|classifier"


class Cost(NamedTuple):
    macs: int  # of one clip, including TAMs
    tam_macs: int  # the TAMs' share
    parameters: int


class CostTable(NamedTuple):
    """What one clip costs each architecture."""

    about: str  # the depth and the clip
    costs: dict[str, Cost]  # by architecture

    def __str__(self) -> str:
        lines = [self.about, "     model   GMACs  of which TAM  M parameters  TSN / it"]
        for name, cost in self.costs.items():
            lines.append(
                f"{name:>10}{cost.macs / 1e9:8.3f}{cost.tam_macs / 1e9:14.3f}"
                f"{cost.parameters / 1e6:14.3f}{self.costs['tsn'].macs / cost.macs:10.3f}"
            )
        return "\n".join(lines)


def compare_costs(
    *,
    depth: Literal["tiny", 50, 101, 152] = 50,
    num_frames: int = 16,
    num_classes: int = 174,
    size: tuple[int, int] = (224, 224),
) -> CostTable:
    """Count what one clip costs each architecture.

    Args:
        depth: of all networks.
        num_frames: T, even.
        num_classes: of the classifier.
        size: height and width of the frames in pixels.
    """
    settings = {"depth": depth, "num_frames": num_frames, "num_classes": num_classes}
    with torch.device("meta"):
        costs = {name: count_cost(build(**settings), size) for name, build in BUILDERS.items()}
    return CostTable(f"depth {depth}, {num_frames} frames of {size[0]} x {size[1]} pixels", costs)


def count_cost(model: VideoNet, size: tuple[int, int] = (224, 224)) -> Cost:
    """Count one clip through the model: the sums of `layer_table`.

    Args:
        size: (height, width) of the frames, in pixels.
    """
    table = layer_table(model, size)
    tam_macs = table.loc[table["part"] == "tam", "macs"].sum()
    return Cost(int(table["macs"].sum()), int(tam_macs), int(table["parameters"].sum()))


def layer_table(model: VideoNet, size: tuple[int, int] = (224, 224)) -> pd.DataFrame:
    """Count part by part, in the order of computation; `viz.architecture_figure` draws the table.

    PyTorch's FLOP counter counts convolutions and the classifier, but no element-wise work. TAMs
    are counted as in equation 3, one multiplication per tap, channel, pixel and frame; TSM's shift
    only moves data, so it costs nothing and has no parameters.

    Returns:
        stage: "stem", "stage1" to "stage4", "classifier".
        part: "conv" (the first one), "pool", "tam", "big", "little", "merged" (their sum),
            "fusion", "block" (of a ResNet or of stage 4, without its TAM), "classifier".
        positions, channels, height, width: of the part's output; for "big", before enlarging.
        macs: multiply-accumulates of one clip.
        parameters: weights and biases, including those of batch norms.
    """
    model = without_values(model)
    modules = dict(model.named_modules())
    names = [n for n, m in modules.items() if re.fullmatch(PARTS, n) or isinstance(m, TAM)]
    outputs: dict[str, Tensor | tuple[Tensor, Tensor]] = {}  # in the order of computation
    for name in names:
        modules[name].register_forward_hook(
            lambda module, args, output, name=name: outputs.update({name: output})
        )
    clip = torch.empty(1, model.num_frames, model.in_channels, *size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clip)
    flops = counter.get_flop_counts()  # by module; modules without any are not in it
    is_shift = architecture_of(model) == "tsm"  # a shift moves maps and multiplies nothing
    parameters = dict.fromkeys(names, 0)
    for key, values in model.named_parameters():
        if is_shift and key.endswith(".taps"):
            continue
        within = key.replace("stem.bn.", "stem.conv.")  # the first convolution's batch norm
        owners = [name for name in names if within.startswith(f"{name}.")]
        parameters[max(owners, key=len)] += values.numel()  # the TAM, rather than its block
    rows = []
    for name, output in outputs.items():
        module, last = modules[name], name.rpartition(".")[2]
        maps = output if isinstance(output, tuple) else (output,)  # PairTAM: little, big
        numbers = sum(m.numel() for m in maps)
        shape = maps[0].shape[-3:] if maps[0].ndim > 3 else (maps[0].shape[-1], 1, 1)  # logits
        macs = sum(flops.get(f"{type(model).__name__}.{name}", {}).values()) // 2
        if isinstance(module, TAM):  # anywhere, also in a network of the user's own
            macs, last = macs + (0 if is_shift else module.num_taps * numbers), "tam"
        stage, part = name.partition(".")[0], "block" if last.isdigit() else last
        positions = numbers // math.prod(shape)
        rows.append((stage, part, positions, *shape, macs, parameters[name]))
    return pd.DataFrame(rows, columns=COLUMNS)


def without_values(model: nn.Module) -> nn.Module:
    """Copy a model to the meta device, in eval mode, without its hooks."""
    model = unwrapped(model)
    for name, parameter in model.named_parameters():
        check_whole(parameter, name)
    model = copy.deepcopy(model).to("meta").eval()
    for module in model.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return model
