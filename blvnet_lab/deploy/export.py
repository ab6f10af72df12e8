"""Export a model to a file that does not need this library: ONNX, or PyTorch's own .pt2.

    from blvnet_lab.deploy.export import export_model
    export_model(model, "model.onnx")       # onnxruntime, TensorRT, OpenVINO, ...
    export_model(model, "model.pt2")        # torch.export.load("model.pt2").module()(clip)

Either takes "clip" (B, T, C, H, W) and gives "logits" (B, num_classes), for any batch and, unless
a size is given, frames of any height and width above 32 pixels. The number of frames is fixed.
A .pt2 refuses other clips (AssertionError), and its output has no name.

Notes in the file, such as its classes, can be read as JSON where the model is used:

    session.get_modelmeta().custom_metadata_map["classes"]                        # of onnxruntime
    torch.export.load("model.pt2", extra_files=(files := {"notes.json": ""}))     # files has it
"""

import copy
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from blvnet_lab.deploy.inference import deviation, optimize_for_inference
from blvnet_lab.models.networks import VideoNet
from blvnet_lab.models.tam import TAM
from blvnet_lab.models.wrapped import check_as_built, network_of
from blvnet_lab.paths import atomic_write, check_target

TOLERANCE = 1e-4  # relative to the largest logit; sums in another order differ by about 1e-6
# The exporter's example. The last maps are 1/32 of the frames: both sides are above 32, since the
# exporter assumes that a side of 1 is always 1, and they differ, or it assumes that they are equal.
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, (64, 96)
# What the file is tested on: batches and sizes the exporter has not seen, also 1 and odd ones.
TRIALS = ((3, (96, 64)), (1, (75, 131)))
REMEDY = f"look for weights that are not finite, or try another PyTorch than {torch.__version__}"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Axes = Mapping[str, dict[int, str]]  # input name to its open axes and their names
Size = tuple[int, int] | None  # height and width that a file is for; None leaves them open
Notes = Mapping[str, Any] | None  # for the file, by name, with values that JSON can hold
Outputs = Callable[..., Iterable[Tensor]]  # computes the outputs of a file, or of its model


class Exported(NamedTuple):
    """A file that was written, and how closely it agrees with its model."""

    path: Path
    inputs: str  # description of the inputs that it was compared on
    deviation: float  # largest difference of any output, relative to the largest logit
    agreement: float  # share of clips that get the same class, in 0..1
    seconds: float  # the file takes for the last inputs, on the CPU
    model_seconds: float  # the model takes for them, in PyTorch

    def __str__(self) -> str:
        return (
            f"checked on {self.inputs}: the same class for {100 * self.agreement:.1f} %,\n"
            f"largest deviation {self.deviation:.1e} of the largest logit\n"
            f"the last took {self.seconds:.3g} s, in PyTorch {self.model_seconds:.3g} s\n"
            f"wrote {self.path}, {self.path.stat().st_size / 1e6:.1f} MB"
        )


def export_model(
    model: VideoNet, path: str | os.PathLike, size: Size = None, notes: Notes = None
) -> Exported:
    """Write a model as .onnx or .pt2, after checking that the file computes the same.

    It holds the folded network (`optimize_for_inference`), in float32 and eval mode; the model
    itself, which may be folded, compiled or wrapped, is not changed. `notes` go into the file.

    Raises ValueError for another ending, missing packages, a file that computes something else and
    a model that other tools have changed; TypeError for a model that is not one of ours.
    """
    path = Path(path)
    model, network = prepared(model, path, ".onnx", ".pt2")
    axes = {"clip": open_axes(size)}
    example = random_clip(network, EXAMPLE_BATCH, size or EXAMPLE_SIZE)
    mixes = network.pairs or any(isinstance(module, TAM) for module in network.modules())
    unrolls = path.suffix == ".onnx" and mixes  # other networks treat all frames alike
    program = record(frame_by_frame(network) if unrolls else network, (example,), axes)

    def save(file: Path) -> Outputs:
        if path.suffix == ".onnx":
            return save_onnx(program, file, axes, ["logits"], notes)
        # A .pt2 stores its example: here a single number, expanded to the shape of a clip.
        program.example_inputs = (torch.zeros(()).expand(example.shape),), {}
        texts = {"notes.json": json.dumps(dict(notes or {}))}
        with file.open("wb") as opened:  # given a name, PyTorch insists that it end in .pt2
            torch.export.save(program, opened, extra_files=texts)
        with file.open("rb") as opened:
            module = torch.export.load(opened).module()
        return lambda clip: [module(clip)]

    clips = [random_clip(model, batch, size or trial_size) for batch, trial_size in TRIALS]
    return write_checked(path, save, lambda clip: [model(clip)], [(clip,) for clip in clips])


def prepared(model: VideoNet, path: Path, *endings: str) -> tuple[VideoNet, VideoNet]:
    """Check the target file, and copy the model, as it is and folded."""
    check_target(path, *endings)
    lacking = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and lacking:
        raise ValueError(
            f"expected {', '.join(ONNX_PACKAGES)} to be installed, but there is no "
            f"{', '.join(lacking)}: pip install {' '.join(lacking)} (or the extra `export` of "
            "blvnet_lab), or write a .pt2, which needs none of them"
        )
    check_as_built(network_of(model))
    model = copy.deepcopy(network_of(model)).cpu().float().eval()
    network = model if model.folded else optimize_for_inference(model)
    # Not channels-last: PyTorch warns about such tensors when it reads a .pt2.
    return model, network.to(memory_format=torch.contiguous_format)


def open_axes(size: Size) -> dict[int, str]:
    """Name the axes of clips that are open in a file, with or without a size."""
    return {0: "batch"} if size else {0: "batch", 3: "height", 4: "width"}


def random_clip(model: VideoNet, batch: int, size: tuple[int, int]) -> Tensor:
    rng = torch.Generator().manual_seed(batch)  # the caller's RNG stays as it is
    return torch.randn(batch, model.num_frames, model.in_channels, *size, generator=rng)


def record(network: nn.Module, example: tuple[Tensor, ...], axes: Axes) -> ExportedProgram:
    """Record a network on `example`, for any sizes of the open axes."""
    shapes = [dict.fromkeys(names, Dim.DYNAMIC) for names in axes.values()]
    program = torch.export.export(network, example, dynamic_shapes=_as_arguments(shapes))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    return program


def _as_arguments(each: Iterable[Any]) -> tuple[Any, ...]:
    """Arrange one thing per input in the form of `forward(self, clip, *others)`."""
    first, *others = each
    return (first, tuple(others)) if others else (first,)


def save_onnx(
    program: ExportedProgram, file: Path, axes: Axes, outputs: list[str], notes: Notes
) -> Outputs:
    """Write an .onnx file whose inputs are named as in `axes`; return a function that runs it."""
    first, *others = axes.values()
    written = torch.onnx.export(
        program,
        dynamo=True,
        input_names=list(axes),
        output_names=outputs,
        dynamic_shapes=_as_arguments([first, *({} for _ in others)]),  # names of axes in the file
        verbose=False,
    )
    written.model.metadata_props.update({k: json.dumps(v) for k, v in (notes or {}).items()})
    written.save(file, external_data=False)  # one file
    return runner(file)


def runner(file: Path) -> Outputs:
    """Open an .onnx file; return a function that runs it on its inputs, in order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # After a run its threads would spin for tens of milliseconds, and slow whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        given = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
        return [torch.from_numpy(found) for found in session.run(None, given)]

    return run


@torch.no_grad()
def write_checked(
    path: Path,
    save: Callable[[Path], Outputs],
    reference: Outputs,
    trials: Iterable[tuple[Tensor, ...]],
    words: str = "random clips",
    tolerance: float = TOLERANCE,
    remedy: str = REMEDY,
) -> Exported:
    """Save a file; give it its name only if its outputs (logits first) match the reference's.

    Raises ValueError if they do not, on the inputs of all trials together.
    """
    found, wanted, shapes = [], [], []
    with atomic_write(path, keep=True) as partial:
        run = save(partial)
        for inputs in trials:
            start = time.perf_counter()
            found.append(run(*inputs))
            middle = time.perf_counter()
            wanted.append(reference(*inputs))
            seconds = middle - start, time.perf_counter() - middle
            shapes.append(" x ".join(map(str, inputs[0].shape)))
        pairs = list(zip(zip(*found, strict=True), zip(*wanted, strict=True), strict=True))
        worst = torch.stack([deviation(*pair) for pair in pairs]).max().item()
        if not worst <= tolerance:  # nor is a NaN
            raise ValueError(
                f"expected the logits of {path} to be the model's to {tolerance} of the largest, "
                f"got a deviation of {worst:.1e}: {remedy}; nothing was written"
            )
    same = [ours.argmax(1) == theirs.argmax(1) for ours, theirs in zip(*pairs[0], strict=True)]
    words = f"{words}, {', '.join(dict.fromkeys(shapes))}"
    return Exported(path, words, worst, torch.cat(same).float().mean().item(), *seconds)


def frame_by_frame(network: VideoNet) -> VideoNet:
    """Unroll a network over time: it computes on `Frames`, with the same parameters and names."""
    unrolled = copy.copy(network)
    unrolled.forward_features = lambda clip: network.forward_features(
        Frames(clip[:, frame] for frame in range(network.num_frames))
    )
    return unrolled


class Frames:
    """The maps of a clip's frames, or of its pairs, each as a tensor (B, C, H, W).

    The network runs on them as it does on a single tensor, but nothing is sliced, padded or
    concatenated along time. So ONNX Runtime can keep maps in its blocked layout from the first
    convolution to the pooling, and fuse a tap, here a depthwise convolution, with the sum and the
    ReLU that follow.
    """

    dtype = torch.float32

    def __init__(self, maps: Iterable[Tensor | None]):
        self.maps = list(maps)  # None is a frame before or after the clip: zero

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Self:
        if function is F.pad:  # `tam.temporal_shift`
            frames, (*_, before, after) = args
            return cls([None] * before + frames.maps + [None] * after)
        if function is Tensor.mul:  # `tam.weighted_sum`
            tap, frames = args  # (C, 1, 1)
            weight = tap[:, None]
            maps = (x if x is None else F.conv2d(x, weight, groups=len(tap)) for x in frames.maps)
            return cls(maps)
        if function is F.interpolate:
            size, (height, width) = kwargs["size"], args[0].shape[-2:]
            # Of sides that are known ONNX Runtime takes a factor into its layout, not a size.
            if all(isinstance(side, int) for side in size) and size == (2 * height, 2 * width):
                kwargs = {"scale_factor": 2.0, "mode": kwargs["mode"]}
        count = next(len(each.maps) for each in args if isinstance(each, cls))
        columns = (each.maps if isinstance(each, cls) else [each] * count for each in args)
        return cls(function(*row, **(kwargs or {})) for row in zip(*columns, strict=True))

    def __add__(self, other: Self | int) -> Self:
        if not isinstance(other, Frames):  # the 0 that `sum` begins with
            return self
        pairs = zip(self.maps, other.maps, strict=True)
        return Frames(b if a is None else a if b is None else a + b for a, b in pairs)

    __radd__ = __add__

    def __getitem__(self, index: tuple[slice, slice]) -> Self:
        return Frames(self.maps[index[1]])

    @property
    def shape(self) -> tuple[int, ...]:
        batch, *rest = self.maps[0].shape
        return (batch, len(self.maps), *rest)

    def _itself(self, *_: object) -> Self:
        return self

    flatten = unflatten = to = _itself  # no axis is shared with other frames; float32 throughout

    def mean(self, dims: tuple[int, int]) -> Tensor:
        return torch.stack([x.mean(dims) for x in self.maps], 1)  # (B, P, C): one tensor again
