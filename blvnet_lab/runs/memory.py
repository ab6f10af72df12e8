"""Count the memory that a recipe's network takes, without computing anything.

    count_memory(preset("ssv2-50-f8x2"), num_classes=174).training(clips=64)    # bytes

Tensors have no values here (PyTorch's FakeTensorMode): a laptop plans for a GPU it does not have.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blvnet_lab.training.engine import build
from blvnet_lab.training.evaluation import autocast
from blvnet_lab.training.recipe import Recipe
from blvnet_lab.training.state import frozen_body

COUNTED_CLIPS = 64  # many, so that fixed costs (half-precision copies of weights) are spread out


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of tensors on the device of one process."""

    weights: int  # parameters and running statistics
    gradients: int
    momentum: int
    average: int  # the moving average of the weights
    clip: int  # per clip of a training batch, including what is kept for the backward pass
    evaluation_clip: int  # per clip of an evaluation batch, at the peak
    origin: str = "counted"  # where `clip` comes from

    @property
    def model(self) -> int:
        """The weights and all that goes with them."""
        return self.weights + self.gradients + self.momentum + self.average

    def training(self, clips: int) -> int:
        """Add up the memory for training with `clips` at once."""
        return self.model + clips * self.clip

    def evaluation(self, clips: int) -> int:
        """Add up the memory for evaluating `clips` at once, between two epochs."""
        return self.model - self.gradients + clips * self.evaluation_clip

    def largest(self, limit: int) -> int:
        """Find how many clips at once fit into `limit` bytes; may be 0."""
        return max(0, (limit - self.model) // max(self.clip, self.evaluation_clip))


def count_memory(recipe: Recipe, num_classes: int) -> TrainingMemory:
    """Count the memory of the recipe's network, to a few per cent.

    Half precision is counted as autocast does it on a CPU. The libraries' own workspaces are not
    counted, nor is what torch.compile saves.
    """
    cpu = torch.device("cpu")
    with torch.random.fork_rng(range(torch.cuda.device_count())), cpu, FakeTensorMode():
        model = build(recipe, num_classes)
        shape = (COUNTED_CLIPS, recipe.num_frames, model.in_channels)
        clips = torch.empty(*shape, *recipe.size)
        views = torch.empty(*shape, *(recipe.evaluation.size or recipe.size))
        with frozen_body(model, recipe), autocast(cpu, recipe.hardware):
            learned = [tensor for tensor in model.parameters() if tensor.requires_grad]
            model.train(recipe.body_share > 0)
            kept = most_at_once(model, clips)
            with torch.no_grad():
                most = most_at_once(model.eval(), views)
        gradients = sum(tensor.nbytes for tensor in learned)
        weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    beside = (gradients if recipe.momentum else 0, weights if recipe.ema else 0)
    clips = (kept // COUNTED_CLIPS, most // COUNTED_CLIPS)
    return TrainingMemory(weights, gradients, *beside, *clips)


def kept_for_backward(model: nn.Module, clips: Tensor) -> int:
    """Count the bytes that a forward pass keeps for the backward pass, clips included.

    Parameters and buffers are not counted.
    """
    own = {id(tensor.untyped_storage()) for tensor in (*model.parameters(), *model.buffers())}
    kept = {id(clips.untyped_storage()): clips.untyped_storage()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # a view keeps all of it
        if id(storage) not in own:
            kept[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(clips)
    return sum(storage.nbytes() for storage in kept.values())


def most_at_once(model: nn.Module, clips: Tensor) -> int:
    """Count the bytes of maps at the peak of a forward pass, clips included.

    Where gradients are computed, that includes what is kept for the backward pass.
    """
    with _Alive(*model.parameters(), *model.buffers(), clips) as alive:
        model(clips)
    return clips.untyped_storage().nbytes() + alive.most


class _Alive(TorchDispatchMode):
    """Tracks the peak of bytes that results of operations take (`most`), except tensors `apart`."""

    def __init__(self, *apart: Tensor):
        super().__init__()
        self.now = self.most = 0
        self.known = {id(tensor.untyped_storage()) for tensor in apart}

    def __torch_dispatch__(self, operation: Callable, types: tuple, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor) and id(result.untyped_storage()) not in self.known:
                storage = result.untyped_storage()
                key, size = id(storage), storage.nbytes()
                self.known.add(key)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._freed, key, size)
        return results

    def _freed(self, key: int, size: int) -> None:
        self.now -= size
        self.known.discard(key)
