"""Export variants of a network to ONNX: taps as inputs, one step of a live network, eight bits.

    export_with_taps(model, "open.onnx")      # (clip, taps) -> (logits, maps)
    export_stream(causal, "live.onnx")        # (frames, states) -> (logits, states)
    export_int8(model, "int8.onnx", clips)    # real clips, for the range of its maps

The first takes "clip" (B, T, C, H, W) and "stage1.tam.taps" (r, C), ... of every TAM; it returns
"logits" and, by the names of `models.capture_points`, the maps that `introspect.capture` shows. The
second takes "frames", a pair (B, 2, C, H, W) or one (B, 1, C, H, W), and "stage1.tam.before", ...;
it returns "logits" of these frames and "stage1.tam.after", ..., the next step's "before". A video
begins with zeros, in the shapes of the file's inputs. The command `export` is here, too.
"""

import copy
import logging
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import Dataset, TensorDataset

from blvnet_lab.data import ClipDataset, DataSet, evaluation_transform
from blvnet_lab.data.dataset import usable_rows
from blvnet_lab.data.transforms import MEAN, STD
from blvnet_lab.deploy import export
from blvnet_lab.deploy.live import Step, Stream
from blvnet_lab.introspect.capture import capture
from blvnet_lab.introspect.taps import tams
from blvnet_lab.models.networks import VideoNet, capture_points
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.paths import check_target
from blvnet_lab.progress import tqdm
from blvnet_lab.training.checkpoint import load_trained

CALIBRATION_CLIPS = 100  # roughly; at least two per class, one of which calibrates
STREAM_STEPS = 20  # that are compared with a `Stream`
INT8_TOLERANCE = 0.3  # relative to the largest logit, on real clips; a broken file is far beyond
INT8_OPERATIONS = ("Conv", "Add", "Relu", "Resize")  # the rest stays in float32


def export_file(
    checkpoint: Path,
    out: Path,
    /,
    *,
    size: tuple[int, int] | None = None,
    with_taps: bool = False,
    stream: bool = False,
    int8: bool = False,
    calibrate: Path | None = None,
) -> export.Exported:
    """Write a trained network for programs without this library: ONNX, or PyTorch's own .pt2.

    The input "clip" is (B, T, C, H, W), normalised as in training; the output "logits" is
    (B, classes). The file holds the mean and standard deviation for that (RGB from 0 to 1), the
    class names, and "multi_label" if a clip may have several classes (then probabilities are
    sigmoids of the logits). Before it gets its name, it is run and compared with the network.

    Args:
        checkpoint: model.safetensors or best.pt of a run.
        out: the file to write: .onnx needs onnx, onnxscript and onnxruntime, .pt2 nothing more.
        size: height and width that the file is for; without it, any above 32 pixels (for a stream,
            those of the training).
        with_taps: an .onnx file whose taps are inputs and whose captured maps are outputs.
        stream: an .onnx file of one step of a causal network, with its memory as input and output.
        int8: an .onnx file that computes in eight bits, for a single size.
        calibrate: manifest.csv of the training clips from which int8 learns the range of maps.
    """
    if with_taps + stream + int8 > 1:
        raise ValueError("expected --with-taps, --stream or --int8, got several: write one each")
    if int8 != (calibrate is not None):
        raise ValueError(
            f"expected --int8 with --calibrate MANIFEST, got int8={int8} and calibrate={calibrate}"
        )
    if int8:
        check_target(out, ".onnx")  # before the clips are read
    trained = load_trained(checkpoint)
    notes = {"classes": trained.classes, "mean": MEAN, "std": STD}
    notes |= {"multi_label": True} if trained.multi_label else {}
    if size is None and (recipe := trained.recipe) is not None and (stream or int8):
        size = recipe.evaluation.size or recipe.size
    if calibrate is None:
        write = export_stream if stream else export_with_taps if with_taps else export.export_model
        return write(trained.model, out, size, notes)
    if size is None:
        raise ValueError("expected the size of the clips for int8, got none: give --size")
    data_set = DataSet.read(calibrate).one_label("--calibrate")
    few = max(2, CALIBRATION_CLIPS // len(data_set.classes))
    rows = usable_rows(data_set, "train").sort_values("label", kind="stable")
    data_set = data_set.with_rows(rows.groupby("label").head(few))
    frames, transform = trained.model.num_frames, evaluation_transform(size)
    return export_int8(trained.model, out, ClipDataset(data_set, "train", frames, transform), notes)


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
    frames = export.random_clip(stream.model, STREAM_STEPS * export.EXAMPLE_BATCH, size or (64, 64))
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

    trials, words = [(new,) for new in frames], f"{STREAM_STEPS} steps of random frames"
    return export.write_checked(path, save, lambda new: [stream(new)], trials, words)


@torch.no_grad()
def export_int8(
    model: VideoNet, path: str | os.PathLike, clips: Tensor | Dataset, notes: export.Notes = None
) -> export.Exported:
    """Write a model as .onnx that computes in int8 (QDQ, weights per channel), by ONNX Runtime.

    Every second clip calibrates the range of the maps; on the others, file and model are compared.

    Args:
        clips: real training clips (N, T, C, H, W), N at least 2, of all classes, or a data set of
            (clip, label); the file is for their height and width.

    Raises ValueError as `export_model` does, for clips that the model does not accept, and for
    logits that are far from the model's.
    """
    check_target(path := Path(path), ".onnx")
    clips = TensorDataset(clips.detach().cpu()) if isinstance(clips, Tensor) else clips
    if len(clips) < 2:
        raise ValueError(f"expected at least 2 clips to calibrate with, got {len(clips)}")
    model = copy.deepcopy(network_of(model)).cpu().float().eval()
    first = clips[0][0]
    model.check_clip(first[None])

    def save(file: Path) -> export.Outputs:
        from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):
            numbers = iter(tqdm(range(0, len(clips), 2), "calibrating", leave=False, unit="clip"))

            def get_next(self) -> dict | None:
                number = next(self.numbers, None)
                return None if number is None else {"clip": clips[number][0][None].float().numpy()}

        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "float32.onnx")
            export.export_model(model, whole, first.shape[-2:], notes)
            disabled = logging.root.manager.disable
            logging.disable(logging.WARNING)  # it advises simplifying the graph, which is simple
            try:
                quantization.quantize_static(
                    whole, file, Reader(), per_channel=True, op_types_to_quantize=INT8_OPERATIONS
                )
            finally:
                logging.disable(disabled)
        return export.runner(file)

    trials = ((clips[number][0][None].float(),) for number in range(1, len(clips), 2))
    words = f"{len(clips) // 2} of the clips, which calibration has not seen"
    remedy = "calibrate with more of the training clips, or export without --int8"
    return export.write_checked(
        path, save, lambda clip: [model(clip)], trials, words, INT8_TOLERANCE, remedy
    )
