"""Trade time for memory in training: recompute a part of the network in the backward pass."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def run_checkpointed(part: nn.Module, *args: Tensor | int) -> Tensor:
    """Compute `part(*args)`, keeping only its inputs; gradients are the same.

    A part with hooks (of `capture`, `edit`, FSDP2's `fully_shard`) runs as usual, which saves no
    memory, since in the backward pass its hooks may be gone.
    """
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in part.modules())
    if hooked or not torch.is_grad_enabled():
        return part(*args)
    kept: dict[str, Tensor] = {}

    def run(*args: Tensor | int) -> Tensor:
        if not kept:
            # Weights may be lent, as by `functional_call`; batch norms are to count a batch once.
            kept.update(part.named_parameters())
            kept.update((name, buffer.clone()) for name, buffer in part.named_buffers())
            return part(*args)
        return functional_call(part, kept, args)

    # A compiled graph has its side effects once, however often it is computed.
    function = part if torch.compiler.is_compiling() else run
    # Nothing is random in these parts, so there is no RNG state to keep.
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
