"""Export a model to a file that does not need this library: ONNX, or PyTorch's own .pt2.

    from blvnet_lab.deploy.export import export_model
    export_model(model, "model.onnx")       # onnxruntime, TensorRT, OpenVINO, ...
    export_model(model, "model.pt2")        # torch.export.load("model.pt2").module()(clip)

Either takes "clip" (B, T, C, H, W) and gives "logits" (B, num_classes), for any batch and, unless
a size is asked for, frames of any height and width above 32 pixels. The number of frames is fixed.
A .pt2 refuses other clips (AssertionError) and knows its output by its place only, not by name.

What a file should say of itself, such as its classes, can be read where the model is used, as JSON:

    session.get_modelmeta().custom_metadata_map["classes"]                        # of onnxruntime
    torch.export.load("model.pt2", extra_files=(files := {"notes.json": ""}))     # files has it
"""

import copy
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from blvnet_lab.deploy.fold import optimize_for_inference
from blvnet_lab.deploy.unrolled import frame_by_frame
from blvnet_lab.models.networks import VideoNet
from blvnet_lab.models.tam import TAM
from blvnet_lab.models.wrapped import check_as_built, network_of
from blvnet_lab.paths import atomic_write, check_target

TOLERANCE = 1e-4  # of the largest logit: another order of float32 sums makes about 1e-6
# What the exporter sees. The last maps are 1/32 of the frames: both sides are above 32, since it
# takes a side that has become 1 to be always 1; and they differ, lest it takes them to be equal.
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, (64, 96)
# What the file is tried on: batches and sizes the exporter has not seen, 1 and odd ones too.
TRIALS = ((3, (96, 64)), (1, (75, 131)))
TIMINGS = 3
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Exported(NamedTuple):
    """A file that was written, and how it was checked against its model."""

    path: Path
    deviation: float  # the largest, relative to the largest logit
    clips: list[tuple[int, ...]]  # shapes (B, T, C, H, W) of the random clips
    seconds: float  # of the file's run on the last of them, on the CPU; of a clip's, the median
    network_seconds: float  # of the (folded) network in PyTorch, run in turn with the file
    inputs: str = "clips,"  # what was random

    def __str__(self) -> str:
        shapes = ", ".join(" x ".join(map(str, shape)) for shape in self.clips)
        return (
            f"checked on random {self.inputs} {shapes}\n"
            f"largest deviation {self.deviation:.1e} of the largest logit\n"
            f"the last took {self.seconds:.3g} s, in PyTorch {self.network_seconds:.3g} s\n"
            f"wrote {self.path}"
        )

    def checked(self) -> "Exported":
        """Return itself, or raise ValueError where the file computes something else."""
        if self.deviation <= TOLERANCE:  # a NaN is not
            return self
        raise ValueError(
            f"expected the logits of {self.path} to be the model's to {TOLERANCE} of the largest, "
            f"got a deviation of {self.deviation:.1e}: look for weights that are not "
            f"finite, or try another PyTorch than {torch.__version__}; nothing was written"
        )


def export_model(
    model: VideoNet,
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a model as .onnx or .pt2, after checking that the file computes the same.

    What is written is the folded network (`optimize_for_inference`), in float32 and eval mode; the
    model itself, which may be folded, compiled or wrapped, stays as it is. The notes are what the
    file should say of itself, by name, in values that JSON has.

    Raises:
        ValueError: another ending or a size below 1, packages are lacking, the file computes
            something else than the model, or the model is not as it was built.
        TypeError: there is no model of one of the four builders in it.
    """
    path = Path(path)
    model, network = prepared(model, path, ".onnx", ".pt2", size=size)
    axes = {0: "batch"} if size else {0: "batch", 3: "height", 4: "width"}  # which are open
    example = random_clip(network, EXAMPLE_BATCH, size or EXAMPLE_SIZE)
    mixes = network.pairs or any(isinstance(module, TAM) for module in network.modules())
    unrolls = path.suffix == ".onnx" and mixes  # in the others all frames are alike
    program = record(frame_by_frame(network) if unrolls else network, (example,), {"clip": axes})
    # A .pt2 carries its example, here one number in the shape of a clip.
    program.example_inputs = (torch.zeros(()).expand(example.shape),), {}
    with atomic_write(path) as partial:
        write = _write_onnx if path.suffix == ".onnx" else _write_program
        run = write(program, partial, axes, notes or {})
        return Exported(path, *_compare(model, network, run, size)).checked()


def prepared(
    model: VideoNet, path: Path, *endings: str, size: tuple[int, int] | None
) -> tuple[VideoNet, VideoNet]:
    """Copy a model, as it is and folded, for export to a file that can be written."""
    check_target(path, *endings)
    if size is not None and min(size) < 1:
        raise ValueError(
            f"expected height and width of at least 1, got {size}: give those of the clips, or "
            "leave them out"
        )
    lacking = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and lacking:
        raise ValueError(
            f"expected {', '.join(ONNX_PACKAGES)} to be installed, but there is no "
            f"{', '.join(lacking)}: pip install {' '.join(lacking)} (or the extra `export` of "
            "blvnet_lab), or write a .pt2, which needs none of them"
        )
    model = network_of(model)
    check_as_built(model)
    model = copy.deepcopy(model).cpu().float().eval()
    network = model if model.folded else optimize_for_inference(model)
    # Not channels-last: PyTorch warns of such tensors when it reads a .pt2.
    return model, network.to(memory_format=torch.contiguous_format)


Axes = Mapping[str, dict[int, str]]  # by the name of an input: which are open, and their names


def record(network: nn.Module, example: tuple[Tensor, ...], axes: Axes) -> ExportedProgram:
    """Record a network that takes `example`, whatever the sides of the open axes."""
    shapes = [dict.fromkeys(names, Dim.DYNAMIC) for names in axes.values()]
    program = torch.export.export(network, example, dynamic_shapes=_as_arguments(shapes))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    return program


def _as_arguments(each: Iterable[Any]) -> tuple[Any, ...]:
    """Put what belongs to the inputs into the form of `forward(self, clip, *others)`."""
    first, *others = each
    return (first, tuple(others)) if others else (first,)


def _write_onnx(
    program: ExportedProgram, file: Path, axes: dict[int, str], notes: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Write the file, and return what runs it."""
    session = save_onnx(program, file, {"clip": axes}, ["logits"], notes)
    return lambda clip: torch.from_numpy(session.run(["logits"], {"clip": clip.numpy()})[0])


def save_onnx(
    program: ExportedProgram, file: Path, axes: Axes, outputs: list[str], notes: Mapping[str, Any]
) -> Any:
    """Write one .onnx file, whose inputs have the names in `axes`, and return its session."""
    import onnxruntime

    first, *others = axes.values()  # whose axes are the same
    written = torch.onnx.export(
        program,
        dynamo=True,
        input_names=list(axes),
        output_names=outputs,
        dynamic_shapes=_as_arguments([first, *({} for _ in others)]),  # their names in the file
        verbose=False,
    )
    written.model.metadata_props.update({name: json.dumps(notes[name]) for name in notes})
    written.save(file, external_data=False)  # one file
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def _write_program(
    program: ExportedProgram, file: Path, axes: dict[int, str], notes: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    with file.open("wb") as opened:  # of a name, PyTorch wants it to end in .pt2
        torch.export.save(program, opened, extra_files={"notes.json": json.dumps(dict(notes))})
    with file.open("rb") as opened:
        return torch.export.load(opened).module()


@torch.no_grad()
def _compare(
    model: VideoNet,
    network: VideoNet,
    exported: Callable[[Tensor], Tensor],
    size: tuple[int, int] | None,
) -> tuple[float, list[tuple[int, ...]], float, float]:
    """Compute the fields of `Exported` that follow its path."""
    clips = [random_clip(model, batch, size or trial_size) for batch, trial_size in TRIALS]
    deviations = []
    for clip in clips:
        logits = model(clip)
        deviations.append((exported(clip) - logits).abs().max() / logits.abs().max())
    seconds: dict[Callable, list[float]] = {exported: [], network: []}
    for _ in range(TIMINGS):
        for run, taken in seconds.items():
            start = time.perf_counter()
            run(clips[-1])
            taken.append(time.perf_counter() - start)
    shapes = [tuple(clip.shape) for clip in clips]
    return torch.stack(deviations).max().item(), shapes, *map(statistics.median, seconds.values())


def random_clip(model: VideoNet, batch: int, size: tuple[int, int]) -> Tensor:
    rng = torch.Generator().manual_seed(batch)  # the caller's RNG stays as it is
    return torch.randn(batch, model.num_frames, model.in_channels, *size, generator=rng)
