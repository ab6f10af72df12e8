"""Small networks and tensors for tests of models: float64, and equal from run to run."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from blvnet_lab.models import TAM, blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.models.networks import Size


def tsm(**arguments) -> nn.Module:
    return tsn(temporal="shift", **arguments)


def tam_resnet(**arguments) -> nn.Module:
    return tsn(temporal="tam", **arguments)


RESNETS = (tsn, tsm, tam_resnet)
BUILDERS = (*RESNETS, tsn_blnet, blvnet, blvnet_tam)
ON_FRAMES = (*RESNETS, tsn_blnet)  # the others go on with pairs after the stem
WITH_TAMS = (tsm, tam_resnet, blvnet_tam)
# What compiles takes its time for every layer: no more than show every kind of block.
FEW_BLOCKS = Size(8, (1, 2, 1, 1), (2, 2, 2, 1))
EXACT = {"rtol": 0, "atol": 1e-12}  # of float64


def random64(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def tiny(builder, *, num_frames: int = 8, num_classes: int = 5, **arguments) -> nn.Module:
    torch.manual_seed(0)
    return builder(depth="tiny", num_frames=num_frames, num_classes=num_classes, **arguments)


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64 and eval mode, with nothing left at 0 or 1 that hides a difference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(module, TAM):
                module.taps.uniform_(-0.5, 1, generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.1, generator=generator)
    return model.double().eval()


def network(builder=blvnet_tam, **arguments) -> nn.Module:
    """A tiny network with random values everywhere."""
    return randomized(tiny(builder, **arguments))


def conv3d_tam(frames: torch.Tensor, taps: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """Equation 3 by PyTorch: ReLU of a depthwise 3-D convolution; (B, T, C, H, W)."""
    r, channels = taps.shape
    padding = (r - 1, 0) if causal else (r // 2, r // 2)
    x = F.pad(frames.transpose(1, 2), (0, 0, 0, 0, *padding))
    x = F.conv3d(x, taps.t().reshape(channels, 1, r, 1, 1), groups=channels)
    return x.transpose(1, 2).relu()


def assert_same_gradients(ours, expected, parameters) -> None:
    """Of a random weighting of two tuples of maps."""
    found = []
    for maps in (ours, expected):
        loss = sum((m * random64(*m.shape, seed=i)).sum() for i, m in enumerate(maps, start=1))
        found.append(torch.autograd.grad(loss, parameters))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def watched(model: nn.Module, *names: str) -> dict:
    """What these modules return, or all, by name: filled whenever the model is called."""
    seen, modules = {}, dict(model.named_modules())
    for name in names or modules:
        modules[name].register_forward_hook(lambda *call, name=name: seen.update({name: call[2]}))
    return seen


def count_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_state(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
