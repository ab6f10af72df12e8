"""What a model costs: multiply-accumulates (what the papers call FLOPs) and parameters."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.models.networks import VideoNet
from blvnet_lab.models.tam import TAM
from blvnet_lab.models.wrapped import check_whole, unwrapped


class Cost(NamedTuple):
    macs: int  # of one clip, TAMs included
    tam_macs: int  # the TAMs' part of it
    parameters: int


def without_values(model: VideoNet) -> VideoNet:
    """A copy on the meta device, in eval mode: it computes shapes only.

    Hooks are left behind: a capture or edit that is going on is none of the copy's business.
    """
    model = unwrapped(model)
    for name, parameter in model.named_parameters():
        check_whole(parameter, name)
    model = copy.deepcopy(model).to("meta").eval()
    for module in model.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return model


def count_cost(model: VideoNet, size: tuple[int, int] = (224, 224)) -> Cost:
    """Count one clip through the model, without computing anything (on the meta device).

    Convolutions and the classifier are counted by PyTorch's own FLOP counter. It does not see
    element-wise work, so the TAMs are added as equation 3 has them: one multiplication per tap,
    channel, pixel and frame.

    Args:
        size: (height, width) of the frames, in pixels.
    """
    model = without_values(model)
    clip = torch.empty(1, model.num_frames, model.in_channels, *size, device="meta")
    tam_macs = 0

    def add_tam(module: nn.Module, args: tuple, output: torch.Tensor | tuple) -> None:
        nonlocal tam_macs
        maps = output if isinstance(output, tuple) else (output,)
        tam_macs += module.num_taps * sum(m.numel() for m in maps)

    for module in model.modules():
        if isinstance(module, TAM):
            module.register_forward_hook(add_tam)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clip)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(counter.get_total_flops() // 2 + tam_macs, tam_macs, parameters)
