"""Look at the maps inside a model, and change them, while it runs.

    with capture(model, ["stage2.big", "stage*.little"]) as cache:
        model(clip)
    cache["stage2.big"]                                   # (B, P, C, H, W)

    with edit(model, {"stage2.little": zero}):
        logits = model(clip)                              # without the little branch of stage 2

Names are those of `blvnet_lab.models.capture_points(model)`; `*` in a pattern stands for any text.
Whatever modules return inside the network, here time is an axis of its own:

    frames   (B, T, C, H, W)   stem.tam, everything in a ResNet or a TSN-bLNet, and the TAMs of
                               stages 1 to 3: maps of little and big frames alternately, as in the
                               clip
    pairs    (B, P, C, H, W)   everything else
    logits   (B, P, classes)   classifier; (B, T, classes) where positions are frames

In stages 1 to 3 `.big` has half the height and width of `.little`: it is captured before it is
enlarged.

All points exist after `optimize_for_inference`, too. While something is captured or edited, a
compiled model runs uncompiled.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from blvnet_lab.models import VideoNet, capture_points
from blvnet_lab.models.wrapped import network_of

EditFunction = Callable[[Tensor], Tensor]


class Captured(dict[str, Tensor]):
    """The maps of a `capture`: name to tensor, in the order of computation."""

    def __missing__(self, name: str) -> Tensor:
        what = f"it holds {', '.join(self)}" if self else "it is empty: call the model inside it"
        raise KeyError(f"{name} is not in this capture; {what}")


def match_names(pattern: str, names: Sequence[str], what: str) -> list[str]:
    """Find the names that match a pattern, in their order; raise ValueError if there are none."""
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        near = difflib.get_close_matches(pattern, names, n=4, cutoff=0.5)
        raise ValueError(
            f'expected {what}, got "{pattern}", which matches none; '
            f"near: {', '.join(near) or 'nothing'}; "
            "list all of them with blvnet_lab.models.capture_points(model)"
        )
    return found


@contextmanager
def capture(
    model: VideoNet, names: str | Iterable[str] = "*", *, detach: bool = True
) -> Iterator[Captured]:
    """Keep what the named modules return while the model runs inside the `with`.

    Each forward call replaces the maps of the one before. A capture inside an `edit` sees edited
    maps; an `edit` entered inside the capture is not seen at its own points.

    Args:
        names: names or patterns ("stage*.little"), or a single one.
        detach: True keeps detached copies. False keeps tensors of the graph, so that
            `torch.autograd.grad(logits.sum(), cache[name])` works.

    Raises ValueError if a name or pattern matches no capture point of this model.
    """
    cache = Captured()

    def keep(name: str, maps: Tensor) -> Tensor | None:
        if detach:  # a copy that no later in-place operation can change
            cache[name] = maps.detach().clone()
            return None
        cache[name] = maps
        return maps.clone()  # leads on to the logits; in-place operations change only the clone

    with _hooks(model, dict.fromkeys([names] if isinstance(names, str) else names, keep)):
        yield cache


@contextmanager
def edit(model: VideoNet, edits: Mapping[str, EditFunction]) -> Iterator[None]:
    """Change what the named modules return while the model runs inside the `with`.

    Args:
        edits: name or pattern to a function from maps to maps of the same shape, in the layout
            that `capture` shows. It gets a copy, which it may change in place; its result is moved
            to the maps' device and dtype. If several patterns match, all run, in order.

    Raises ValueError as `capture`; and, in the forward call, if a function returns another shape.
    """

    def change(function: EditFunction, name: str, maps: Tensor) -> Tensor:
        edited, shape = function(maps.clone()), tuple(maps.shape)
        got = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
        if got != shape:
            raise ValueError(f"expected the edit of {name} to return the shape {shape}, got {got}")
        return edited.to(maps)

    with _hooks(model, {pattern: partial(change, function) for pattern, function in edits.items()}):
        yield


@contextmanager
def edit_clip(model: VideoNet, function: EditFunction) -> Iterator[None]:
    """Change the clip (B, T, C, H, W) before it enters the model."""
    hook = network_of(model).register_forward_pre_hook(lambda module, args: (function(args[0]),))
    with hook, torch.compiler.set_stance("force_eager"):  # as in _hooks
        yield


def zero(maps: Tensor) -> Tensor:
    """Ablate maps, as an edit: return zeros."""
    return torch.zeros_like(maps)


def shuffle_positions(permutation: Sequence[int]) -> EditFunction:
    """Make an edit that moves the maps at `permutation[i]` to position i, in every clip."""
    order = [int(i) for i in permutation]

    def shuffle(maps: Tensor) -> Tensor:
        last = maps.shape[1] - 1
        if sorted(order) != list(range(last + 1)):
            raise ValueError(f"expected the positions 0 to {last} once each, got {order}")
        return maps[:, order]

    return shuffle


def replace_with(maps: Tensor) -> EditFunction:
    """Make an edit that patches in maps of another clip, captured at the same point."""
    return lambda own: maps


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set eval mode inside the `with`; restore every module's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _hooks(model: nn.Module, functions: Mapping[str, Callable]) -> Iterator[None]:
    """Add hooks that call `function(name, maps)`; its result, unless None, replaces the maps."""
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise TypeError(
            f"expected one network, got DataParallel with {len(model.device_ids)} copies, each of "
            "which sees its part of the batch: give model.module, and call that"
        )
    network = network_of(model)
    points, what = capture_points(network), f"a capture point of this {network.architecture}"
    hooked: set[str] = set()
    reached: set[str] = set()

    def hook(name: str, function: Callable, module: nn.Module, args: tuple, output: Tensor | tuple):
        reached.add(name)
        maps = function(name, _with_time_axis(output, network.num_positions))
        return None if maps is None else _as_returned(maps, output)

    def check(module: nn.Module, args: tuple, output: Tensor) -> None:
        if missed := sorted(hooked - reached):
            raise RuntimeError(
                f"expected the forward pass to reach {', '.join(missed)}, but it did not: another "
                "tool has replaced a forward of this model. Build it again, and load its "
                "state_dict()"
            )
        reached.clear()

    with ExitStack() as stack:  # removes the hooks
        for pattern, function in functions.items():
            for name in match_names(pattern, points, what):
                hooked.add(name)
                module = network.get_submodule(name)
                stack.enter_context(module.register_forward_hook(partial(hook, name, function)))
        stack.enter_context(network.register_forward_hook(check))
        # Compiled code would ignore hooks that were not there when it was compiled.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _with_time_axis(output: Tensor | tuple[Tensor, Tensor], positions: int) -> Tensor:
    if isinstance(output, tuple):  # PairTAM: little and big, (B, P, C, H, W) each
        return torch.stack(output, dim=2).flatten(1, 2)  # (B, T, C, H, W), alternately
    if output.ndim == 4:  # (B*P, C, H, W)
        return output.unflatten(0, (-1, positions))
    return output


def _as_returned(maps: Tensor, output: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple:
    if isinstance(output, tuple):
        return maps[:, 0::2], maps[:, 1::2]
    return maps.flatten(0, 1) if output.ndim == 4 else maps
