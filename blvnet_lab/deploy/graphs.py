"""Two more graphs as ONNX files: one whose taps are inputs, and one step of a live network.

    export_with_taps(model, "open.onnx")      # (clip, taps) -> (logits, maps)
    export_stream(causal, "live.onnx")        # (frames, states) -> (logits, states)

The first takes "clip" (B, T, C, H, W) and "stage1.tam.taps" (r, C), ... of every TAM; it gives
"logits", and by the names of `models.capture_points` what `introspect.capture` shows. The second
takes "frames", a pair (B, 2, C, H, W) or one (B, 1, C, H, W), and "stage1.tam.before", ...; it
gives "logits" of these frames and "stage1.tam.after", ..., which the next step takes as before.
A video begins with zeros, in the shapes that the file's inputs have.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from blvnet_lab.deploy import export
from blvnet_lab.deploy.export import Exported
from blvnet_lab.deploy.live import Step, Stream
from blvnet_lab.introspect.capture import capture
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models.networks import VideoNet, capture_points
from blvnet_lab.paths import atomic_write

STEPS = 20  # of a stream that the file is compared with


class WithTaps(nn.Module):
    """A network that is given its taps, and gives what is captured in it."""

    def __init__(self, network: VideoNet):
        super().__init__()
        self.network, self.outputs = network, ["logits", *capture_points(network)]
        self.taps = {f"{name}.taps": tam.taps.detach() for name, tam in tams(network).items()}

    def forward(self, clip: Tensor, *taps: Tensor) -> tuple[Tensor, ...]:
        with capture(self.network, detach=False) as cache:
            given = dict(zip(self.taps, taps, strict=True))
            logits = functional_call(self.network, given, clip)
        return logits, *(cache[point] for point in self.outputs[1:])


class NamedStep(Step):
    """A step whose states are one tensor for each module that remembers, with a name."""

    def __init__(self, network: VideoNet):
        super().__init__(Stream(network).model)
        self.inputs = [name.replace(".past", ".before") for name in self.pasts]
        self.outputs = ["logits", *(name.replace(".past", ".after") for name in self.pasts)]

    def forward(self, frames: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        logits, after = self.run(frames, [list(maps.unbind(1)) for maps in before])
        return logits, *(torch.stack(maps, 1) for maps in after)  # (B, length, C, h, w)


def export_with_taps(
    model: VideoNet,
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Exported:
    """Write an .onnx whose taps are inputs and whose captured maps are outputs, as said above.

    Args and errors as for `export_model`; all outputs are compared with the model's, at other taps.
    """
    model, network = export.prepared(model, path := Path(path), ".onnx", size=size)
    graph, reference = WithTaps(network), WithTaps(model)
    shapes = [(export.EXAMPLE_BATCH, export.EXAMPLE_SIZE), *export.TRIALS]

    def inputs(trial: int, before: Sequence[Tensor]) -> tuple[Tensor, ...]:
        batch, trial_size = shapes[trial]
        clip = export.random_clip(model, batch, size or trial_size)
        return clip, *(taps.flip(0) + 0.1 * batch for taps in graph.taps.values())

    axes = {"clip": {0: "batch"} if size else {0: "batch", 3: "height", 4: "width"}}
    axes |= {name: {} for name in graph.taps}
    return _write(path, graph, axes, inputs, reference, len(shapes), notes, "clips and taps,")


def export_stream(
    model: VideoNet,
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Exported:
    """Write an .onnx of one step of a causal network, and compare 20 steps with `Stream`.

    Args:
        size: height and width of the frames, 64 x 64 unless said; the states' shapes follow.

    The others, and errors, as for `export_model`; ValueError, too, for a model that is not causal.
    """
    model, network = export.prepared(model, path := Path(path), ".onnx", size=size)
    graph, stream = NamedStep(network), Stream(model)
    frames = export.random_clip(stream.model, STEPS * export.EXAMPLE_BATCH, size or (64, 64))
    frames = frames.unflatten(0, (STEPS, -1))  # (steps, B, 2 or 1, C, H, W)
    with torch.no_grad():
        start = [torch.zeros_like(state) for state in graph(frames[0])[1:]]

    def inputs(step: int, before: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return frames[step], *(before[1:] or start)

    axes = {name: {0: "batch"} for name in ("frames", *graph.inputs)}
    words = f"frames, {STEPS} steps of"
    return _write(path, graph, axes, inputs, lambda x, *_: [stream(x)], STEPS, notes, words)


def _write(
    path: Path,
    graph: WithTaps | NamedStep,
    axes: export.Axes,
    inputs: Callable[[int, Sequence[Tensor]], tuple[Tensor, ...]],  # of a trial, after outputs
    reference: Callable[..., Sequence[Tensor]],
    trials: int,
    notes: Mapping[str, Any] | None,
    words: str,
) -> Exported:
    """Write a graph, after comparing what the file gives for each trial's inputs."""
    outputs, deviations = (), []
    with atomic_write(path) as partial, torch.no_grad():
        program = export.record(graph, inputs(0, ()), axes)
        session = export.save_onnx(program, partial, axes, graph.outputs, notes or {})
        for trial in range(trials):
            given = inputs(trial, outputs)
            feeds = {name: x.numpy() for name, x in zip(axes, given, strict=True)}
            start = time.perf_counter()
            outputs = [torch.from_numpy(x) for x in session.run(graph.outputs, feeds)]
            middle = time.perf_counter()
            expected = reference(*given)
            seconds = middle - start, time.perf_counter() - middle
            for ours, theirs in zip(outputs, expected, strict=False):  # of a stream, the logits
                largest = theirs.abs().max().clamp(min=1e-30)  # a map may be silent everywhere
                deviations.append((ours - theirs).abs().max() / largest)
        worst, shape = torch.stack(deviations).max().item(), tuple(given[0].shape)
        return Exported(path, worst, [shape], *seconds, words).checked()
