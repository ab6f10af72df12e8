"""The same functions and gradients in less time or memory: sums, pairs, recomputed parts.

PyTorch's automatic gradient of the weighted sum of `tam.py` copies all maps for every tap: 33 ms on
an H200 for the stem's TAM, forward and backward, 32 clips in bfloat16. `fused_sum` takes 12.
"""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import FunctionCtx
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def fused_sum(x: Tensor, taps: Tensor, first: int) -> Tensor:
    """Compute `tam.weighted_sum` with the memory of a single map, in the memory layout of `x`.

    Where operations are recorded (torch.compile, export, tracing), and in forward-mode
    differentiation, which PyTorch cannot nest over a custom gradient, `weighted_sum` itself runs.
    """
    if isinstance(x, torch.fx.Proxy):  # one node of the graph that is recorded
        return x.tracer.create_proxy("call_function", fused_sum, (x, taps, first), {})
    goes_forward = getattr(forward_ad, "_current_level", -1) >= 0
    if goes_forward or torch.compiler.is_compiling() or torch.jit.is_tracing():
        from blvnet_lab.models.tam import weighted_sum  # which imports this file

        y = weighted_sum(x, taps, first)
        return y.clone() if goes_forward else y  # no ReLU in place on a symbolic zero
    return _FusedSum.apply(x, taps, first)


class _FusedSum(torch.autograd.Function):
    """Linear in `x` and in `taps`, so its derivatives of any order are such sums, too."""

    @staticmethod
    def forward(x: Tensor, taps: Tensor, first: int) -> Tensor:
        weights = taps.to(x.dtype)[:, :, None, None]  # under autocast x may be in half precision
        y = weights[-first] * x  # offset 0: a new tensor, which no hook sees before it is done
        for offset, weight in enumerate(weights, start=first):
            if offset != 0:
                here, there = _meet(y, x, offset)
                here.addcmul_(there, weight)
        return y

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        x, taps, ctx.first = inputs
        ctx.save_for_backward(x, taps)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:  # the same sum, looking the other way
            grad_x = fused_sum(grad_y, taps.flip(0), 1 - ctx.first - len(taps))
        if ctx.needs_input_grad[1]:
            offsets = range(ctx.first, ctx.first + len(taps))
            products = (torch.mul(*_meet(grad_y, x, offset)) for offset in offsets)
            grad_taps = torch.stack([p.sum((0, 1, 3, 4), dtype=taps.dtype) for p in products])
        return grad_x, grad_taps, None

    @staticmethod
    def vmap(info, in_dims: tuple, x: Tensor, taps: Tensor, first: int) -> tuple[Tensor, int]:
        """Channels do not mix, so that a batch of sums is one sum with more channels."""
        x, taps = (
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip((x, taps), in_dims, strict=False)
        )
        x, taps = x.movedim(0, 2).flatten(2, 3), taps.movedim(0, 1).flatten(1, 2)  # (.., N*C, ..)
        return fused_sum(x, taps, first).unflatten(2, (info.batch_size, -1)), 2


def _meet(y: Tensor, x: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """Return the frames of `y` with a neighbour in `x` at this offset, if any, and the latter."""
    before, after = (min(max(0, frames), x.shape[1]) for frames in (-offset, offset))
    count = x.shape[1] - before - after
    return y.narrow(1, before, count), x.narrow(1, after, count)


def split_pairs(x: Tensor) -> tuple[Tensor, ...]:
    """Return `x[:, 0::2], x[:, 1::2]`; in training, join their gradients in the layout of `x`.

    The gradients of slices are joined in PyTorch's default layout, which takes 4 of the 64 ms of a
    step of the tiny network on a CPU (findings/slices_lose_the_layout_of_gradients.sh).
    """
    if not isinstance(x, Tensor) or not x.requires_grad or x.stride(-3) != 1:  # or a stand-in
        return x[:, 0::2], x[:, 1::2]
    pairs = x.movedim(-3, -1).unflatten(1, (-1, 2))  # (B, P, 2, H, W, C), as it lies in memory
    return tuple(frames.movedim(-1, -3) for frames in pairs.unbind(2))


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
