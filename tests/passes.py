"""What a training step reads and writes, eager and compiled: python tests/passes.py

One clip, 16 frames of 224 pixels, depth 50, float32. A step is an operation of PyTorch, or one of
the kernels that torch.compile makes for this processor, and counts once what it reads and writes.
It takes some minutes.
"""

import torch
from torch import Tensor, nn
from torch._inductor.graph import GraphLowering
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blvnet_lab.models import blvnet_tam, tsn


class Eager(TorchDispatchMode):
    """Adds up what the operations between the tensors of a step read and write, but for views."""

    steps = size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and not func.__name__.startswith("empty"):
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.steps += 1
            self.size += sum(x.numel() * x.element_size() for x in tensors)
        return out


class Compiled:
    """The same of the kernels, as Inductor counts it."""

    steps = size = 0

    def __enter__(self):
        self.whole = whole = GraphLowering.codegen

        def codegen(graph: GraphLowering):
            made = whole(graph)
            sizes = [node.get_read_write_buffers_sizes() for node in graph.scheduler.nodes]
            self.steps, self.size = self.steps + len(sizes), self.size + sum(sizes)
            return made

        GraphLowering.codegen = codegen
        return self

    def __exit__(self, *error):
        GraphLowering.codegen = self.whole


def step(net: nn.Module, clip: Tensor) -> None:
    net.zero_grad()
    net(clip).sum().backward()


for builder in (tsn, blvnet_tam):
    model = builder(num_frames=16).train().to(memory_format=torch.channels_last)
    clip = torch.randn(1, 16, 3, 224, 224)
    for count, net in ((Eager(), model), (Compiled(), torch.compile(model))):
        with count:
            step(net, clip)
        kind = type(count).__name__.lower()
        print(f"{builder.__name__}, {kind}: {count.size / 1e9:.2f} GB in {count.steps} steps")
