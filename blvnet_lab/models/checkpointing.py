"""Trade time for memory in training: compute a part of the network again in the backward pass."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_checkpointed(part: nn.Module, *args: Tensor | int) -> Tensor:
    """Compute `part(*args)`, keeping only what goes in; the gradients are the same.

    A part that is captured or edited runs as usual: in the backward pass the hooks may be gone.
    """
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in part.modules())
    if hooked or not torch.is_grad_enabled():
        return part(*args)
    # Nothing is random in these parts, so there is no RNG state to keep. A compiled graph has its
    # effects once, however often it is computed.
    options = {"use_reentrant": False, "preserve_rng_state": False}
    if not torch.compiler.is_compiling():
        options["context_fn"] = lambda: (nullcontext(), _StatisticsKept(part))
    return checkpoint(part, *args, **options)


class _StatisticsKept:
    """Lets batch norms update copies of their statistics, which have seen this batch already.

    A class, since it is entered again in every backward pass (`retain_graph`).
    """

    def __init__(self, part: nn.Module):
        self.part = part

    def __enter__(self) -> None:
        modules = self.part.modules()
        self.own = [(module, dict(module.named_buffers(recurse=False))) for module in modules]
        for module, buffers in self.own:
            for name, buffer in buffers.items():
                setattr(module, name, buffer.clone())

    def __exit__(self, *error: object) -> None:
        for module, buffers in self.own:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
