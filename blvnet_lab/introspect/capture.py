"""Look at the maps inside a model, and change them, while it runs.

    with capture(model, ["stage2.big", "stage*.little"]) as cache:
        model(clip)
    cache["stage2.big"]                                   # (B, P, C, H, W)

    with edit(model, {"stage2.little": zero}):
        logits = model(clip)                              # without the little branch of stage 2

Names are those of `blvnet_lab.models.capture_points(model)`; `*` in a pattern stands for any text.
Whatever a module returns inside the network, here its maps have their place in time as an axis:

    frames   (B, T, C, H, W)   stem.tam, everything in a TSN or a TSN-bLNet, and the TAMs of stages
                               1 to 3: the maps of little and big frames by turns, as in the clip
    pairs    (B, P, C, H, W)   everything else
    logits   (B, P, classes)   classifier; (B, T, classes) where positions are frames

`.big` has half the height and width of `.little`: it is captured before it is enlarged.

All points are there after `optimize_for_inference`, too. A compiled model runs as it was before it
was compiled while something is captured or edited: compiled code knows no modules.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from blvnet_lab.models import VideoNet, capture_points
from blvnet_lab.models.wrapped import network_of

EditFunction = Callable[[Tensor], Tensor]


class Captured(dict[str, Tensor]):
    """What `capture` has seen: name to tensor, in the order of computation."""

    def __missing__(self, name: str) -> Tensor:
        what = f"it holds {', '.join(self)}" if self else "it is empty: call the model inside it"
        raise KeyError(f"{name} is not in this capture; {what}")


def match_names(pattern: str, names: Sequence[str], what: str) -> list[str]:
    """Those of `names`, in their order, that the pattern matches.

    Raises:
        ValueError: it matches none; the message holds the pattern and the names near it.
    """
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
    model: VideoNet, names: str | Iterable[str] = "*", *, detach: bool = True, to_cpu: bool = False
) -> Iterator[Captured]:
    """Keep what the named modules return while the model runs inside the `with`.

    Of several forward calls the last one's maps are kept. Under autocast they are in half
    precision, as in the network. A capture inside an `edit` sees edited maps; an `edit` entered
    inside the capture still acts on the network, but is not seen at its own points.

    Args:
        names: names or patterns ("stage*.little"); one of them may be given alone.
        detach: True keeps copies, apart from the graph. False keeps tensors on the way to the
            logits, so that `torch.autograd.grad(logits.sum(), cache[name])` works.
        to_cpu: put the copies into the CPU's memory.

    Raises:
        ValueError: a name or pattern that matches no capture point of this model; `to_cpu` without
            `detach`.
    """
    if to_cpu and not detach:
        raise ValueError("to_cpu keeps copies, apart from the graph: expected detach=True with it")
    cache = Captured()

    def keep(name: str, maps: Tensor) -> Tensor | None:
        if detach:
            # A copy, so that nothing that later works in place can change it.
            maps = maps.detach()
            cache[name] = maps.to("cpu" if to_cpu else maps.device, copy=True)
            return None
        cache[name] = maps
        return maps.clone()  # on the way to the logits, and out of the reach of in-place work

    with _hooks(model, dict.fromkeys([names] if isinstance(names, str) else names, keep)):
        yield cache


@contextmanager
def edit(model: VideoNet, edits: Mapping[str, EditFunction]) -> Iterator[None]:
    """Change what the named modules return while the model runs inside the `with`.

    Args:
        edits: name or pattern to a function from maps to maps of the same shape, in the layout
            that `capture` shows. It gets a copy, which it may change in place; its result is moved
            to the maps' device and dtype. Where several patterns match, all run, in their order.

    Raises:
        ValueError: a name or pattern that matches no capture point; in the forward call, a function
            that returns another shape, or no tensor.
    """

    def change(function: EditFunction, name: str, maps: Tensor) -> Tensor:
        edited, shape = function(maps.clone()), tuple(maps.shape)
        is_tensor = isinstance(edited, Tensor)
        got = tuple(edited.shape) if is_tensor else f"{type(edited).__name__}: return a tensor"
        if got != shape:
            raise ValueError(f"expected the edit of {name} to keep the shape {shape}, got {got}")
        return edited.to(maps)

    with _hooks(model, {pattern: partial(change, function) for pattern, function in edits.items()}):
        yield


@contextmanager
def edit_clip(model: VideoNet, function: EditFunction) -> Iterator[None]:
    """Change the clip (B, T, C, H, W) on its way in: `edit` for what comes before all layers."""
    model = network_of(model)
    handle = model.register_forward_pre_hook(lambda module, args: (function(args[0]),))
    try:
        with torch.compiler.set_stance("force_eager"):  # as in _hooks
            yield
    finally:
        handle.remove()


def zero(maps: Tensor) -> Tensor:
    """An edit: ablate; maps of zeros."""
    return torch.zeros_like(maps)


def shuffle_positions(permutation: Sequence[int]) -> EditFunction:
    """An edit: position i gets what was at `permutation[i]`, in every clip of the batch."""
    order = [int(i) for i in permutation]

    def shuffle(maps: Tensor) -> Tensor:
        last = maps.shape[1] - 1
        if sorted(order) != list(range(last + 1)):
            raise ValueError(f"expected the positions 0 to {last} once each, got {order}")
        return maps[:, order]

    return shuffle


def replace_with(maps: Tensor) -> EditFunction:
    """An edit: patch in the maps of another clip, captured at the same point."""
    return lambda own: maps


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the `with`; afterwards every module is in the mode it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _hooks(model: VideoNet, functions: Mapping[str, Callable]) -> Iterator[None]:
    """Hooks that call `function(name, maps)`, and pass its result on unless it is None."""
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise TypeError(
            f"expected one network, got DataParallel with {len(model.device_ids)} copies, each of "
            "which sees its part of the batch: give model.module, and call that"
        )
    model = network_of(model)
    points = capture_points(model)
    positions = getattr(model, "num_positions", model.num_frames)
    what = f"a capture point of this {getattr(model, 'architecture', type(model).__name__)}"

    waiting: set[str] = set()  # points that the forward pass has not come to

    def add(name: str, function: Callable):
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple):
            waiting.discard(name)
            maps = function(name, _with_time_axis(output, positions))
            return None if maps is None else _as_returned(maps, output)

        return model.get_submodule(name).register_forward_hook(hook)

    def begin(module: nn.Module, args: tuple) -> None:
        waiting.update(hooked)

    def end(module: nn.Module, args: tuple, output: Tensor) -> None:
        if waiting:
            raise RuntimeError(
                f"expected the forward pass to reach {', '.join(sorted(waiting))}, but it did "
                "not: another tool has replaced a forward of this model, or it is a copy of a "
                "model where one was. Build it again, and load its state_dict()"
            )

    hooked: list[str] = []
    handles = []
    try:
        for pattern, function in functions.items():
            names = match_names(pattern, points, what)
            handles += [add(name, function) for name in names]
            hooked += names
        if hooked:
            handles.append(model.register_forward_pre_hook(begin))
            handles.append(model.register_forward_hook(end))
        # Compiled code was made without these hooks, and would leave them out without a word.
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _with_time_axis(output: Tensor | tuple[Tensor, Tensor], positions: int) -> Tensor:
    if isinstance(output, tuple):  # PairTAM: little and big, (B, P, C, H, W) each
        return torch.stack(output, dim=2).flatten(1, 2)  # (B, T, C, H, W), by turns
    if output.ndim == 4:  # (B*P, C, H, W)
        return output.unflatten(0, (-1, positions))
    return output


def _as_returned(maps: Tensor, output: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple:
    if isinstance(output, tuple):
        return maps[:, 0::2], maps[:, 1::2]
    return maps.flatten(0, 1) if output.ndim == 4 else maps
