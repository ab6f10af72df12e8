"""Export two more graphs to ONNX: a network whose taps are inputs, and one step of a live network.

    export_with_taps(model, "open.onnx")      # (clip, taps) -> (logits, maps)
    export_stream(causal, "live.onnx")        # (frames, states) -> (logits, states)

The first takes "clip" (B, T, C, H, W) and "stage1.tam.taps" (r, C), ... of every TAM; it returns
"logits" and, by the names of `models.capture_points`, the maps that `introspect.capture` shows. The
second takes "frames", a pair (B, 2, C, H, W) or one (B, 1, C, H, W), and "stage1.tam.before", ...;
it returns "logits" of these frames and "stage1.tam.after", ..., the next step's "before". A video
begins with zeros, in the shapes of the file's inputs.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from blvnet_lab.deploy import export
from blvnet_lab.deploy.live import Step, Stream
from blvnet_lab.introspect.capture import capture
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models.networks import VideoNet, capture_points

STEPS = 20  # that are compared with a `Stream`


class WithTaps(nn.Module):
    """A network that takes its taps as inputs, and returns its captured maps."""

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
    """A step with one named state tensor for each module that has a memory."""

    def __init__(self, network: VideoNet):
        super().__init__(Stream(network).model)
        self.inputs = [name.replace(".past", ".before") for name in self.pasts]
        self.outputs = ["logits", *(name.replace(".past", ".after") for name in self.pasts)]

    def forward(self, frames: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        logits, after = super().forward(frames, [list(maps.unbind(1)) for maps in before])
        return logits, *(torch.stack(maps, 1) for maps in after)  # (B, length, C, h, w)


def export_with_taps(
    model: VideoNet, path: str | os.PathLike, size: export.Size = None, notes: export.Notes = None
) -> export.Exported:
    """Write an .onnx file whose taps are inputs and whose captured maps are outputs.

    Args and errors as for `export_model`; all outputs are compared with the model's, for other
    taps than its own.
    """
    model, network = export.prepared(model, path := Path(path), ".onnx")
    graph = WithTaps(network)
    axes = {"clip": export.open_axes(size)} | {name: {} for name in graph.taps}

    def inputs(batch: int, trial_size: tuple[int, int]) -> tuple[Tensor, ...]:
        clip = export.random_clip(model, batch, size or trial_size)
        return clip, *(taps.flip(0) + 0.1 * batch for taps in graph.taps.values())

    example = inputs(export.EXAMPLE_BATCH, export.EXAMPLE_SIZE)

    def save(file: Path) -> export.Outputs:
        program = export.record(graph, example, axes)
        return export.save_onnx(program, file, axes, graph.outputs, notes)

    trials = [example, *(inputs(*trial) for trial in export.TRIALS)]
    return export.write_checked(path, save, WithTaps(model), trials, "random clips and taps")


def export_stream(
    model: VideoNet, path: str | os.PathLike, size: export.Size = None, notes: export.Notes = None
) -> export.Exported:
    """Write an .onnx file of one step of a causal network, and compare 20 steps with `Stream`.

    Args:
        size: height and width of the frames, 64 x 64 by default; they fix the states' shapes.

    Other args and errors as for `export_model`; also ValueError for a model that is not causal.
    """
    model, network = export.prepared(model, path := Path(path), ".onnx")
    graph, stream = NamedStep(network), Stream(model)
    axes = {name: {0: "batch"} for name in ("frames", *graph.inputs)}
    frames = export.random_clip(stream.model, STEPS * export.EXAMPLE_BATCH, size or (64, 64))
    frames = frames.split(export.EXAMPLE_BATCH)  # of each step (B, 2 or 1, C, H, W)
    with torch.no_grad():
        state = [torch.zeros_like(maps) for maps in graph(frames[0])[1:]]

    def save(file: Path) -> export.Outputs:
        program = export.record(graph, (frames[0], *state), axes)
        run = export.save_onnx(program, file, axes, graph.outputs, notes)

        def step(new: Tensor) -> list[Tensor]:
            logits, *after = run(new, *state)
            state[:] = after
            return [logits]

        return step

    trials, words = [(new,) for new in frames], f"{STEPS} steps of random frames"
    return export.write_checked(path, save, lambda new: [stream(new)], trials, words)
