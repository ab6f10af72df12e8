"""Fold a model for inference: fewer passes over memory, the same function.

from blvnet_lab.deploy.fold import optimize_for_inference
fast = optimize_for_inference(model)
logits = fast(clip)                     # equal to rounding
"""

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from blvnet_lab.models.networks import VideoNet
from blvnet_lab.models.wrapped import check_as_built


class ConvReLU(nn.Conv2d):
    """A convolution followed by a ReLU in place, which is safe: nothing else uses its result."""

    def __init__(self, conv: nn.Conv2d):
        sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
        super().__init__(*sizes, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(super().forward(x))


def optimize_for_inference(model: VideoNet) -> VideoNet:
    """Copy a model and fold each batch norm, and the ReLU after it, into its convolution.

    In eval mode a batch norm only scales and shifts, which the convolution before it can do as
    well. The copy is in channels-last layout, where the numbers of a pixel lie together, as matrix
    products need them, and in eval mode without gradients; `capture` and `edit` work as before.

    Raises TypeError for a model that is not from one of our builders (a compiled one, say),
    ValueError for one that is folded already or that other tools have changed.
    """
    if not isinstance(model, VideoNet):
        raise TypeError(
            f"expected a model from tsn, tsn_blnet, blvnet or blvnet_tam, got "
            f"{type(model).__name__}: give the network itself; optimize first, then torch.compile"
        )
    if model.folded:
        raise ValueError("expected a model with batch norms, got one that is folded already")
    check_as_built(model)
    model = copy.deepcopy(model).eval()
    for parent in model.modules():
        _merge(parent, nn.BatchNorm2d, fuse_conv_bn_eval)
        # With the batch norms gone, a ReLU may follow its convolution directly.
        _merge(parent, nn.ReLU, lambda conv, _: ConvReLU(conv))
    model.folded, model.grad_checkpointing = True, False
    return model.requires_grad_(False).to(memory_format=torch.channels_last)


def _merge(parent: nn.Module, kind: type[nn.Module], merged: Callable[..., nn.Conv2d]) -> None:
    """Replace each convolution followed by a child of this kind by `merged(conv, child)`."""
    children = [(k, m) for k, m in parent.named_children() if not isinstance(m, nn.Identity)]
    for (name, conv), (after, follower) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(follower, kind):
            setattr(parent, name, merged(conv, follower).eval())
            setattr(parent, after, nn.Identity().eval())
