"""Computing in float32, bfloat16 or float16, in which gradients can overflow."""

from __future__ import annotations

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from blvnet_lab.training.recipe import Hardware

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIN_SCALE = 2.0**-9  # of the loss in float16: from 65536 it falls there in 25 steps that overflow


def autocast(device: torch.device, hardware: Hardware) -> torch.autocast:
    """Compute with the hardware's precision within `with`."""
    dtype = PRECISIONS[hardware.precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def make_scaler(device: torch.device, hardware: Hardware) -> GradScaler:
    """Make what scales the loss in float16, so that small gradients do not become 0."""
    return GradScaler(device.type, enabled=hardware.precision == "float16")


def update_weights(
    model: nn.Module, optimizer: Optimizer, scaler: GradScaler, clip_norm: float | None
) -> bool:
    """Step the optimizer and clear the gradients; False if they overflowed and it was skipped.

    Raises:
        FloatingPointError: they overflow, however little the loss is scaled.
    """
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    after = scaler.get_scale()
    if after < before and after <= MIN_SCALE:
        raise FloatingPointError(
            f"expected finite gradients, but they overflowed in float16 with the loss scaled by no "
            f"more than {before:g}: train in bfloat16 or float32, or lower the learning rate"
        )
    return after >= before
