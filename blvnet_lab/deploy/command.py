"""The command `export`: choose which file to write for a trained network."""

from pathlib import Path

from blvnet_lab.data import ClipDataset, DataSet, evaluation_transform
from blvnet_lab.data.dataset import usable_rows
from blvnet_lab.data.transforms import MEAN, STD
from blvnet_lab.deploy.export import Exported, export_model
from blvnet_lab.deploy.graphs import export_stream, export_with_taps
from blvnet_lab.deploy.int8 import export_int8
from blvnet_lab.paths import check_target
from blvnet_lab.training.checkpoint import load_trained

CALIBRATION_CLIPS = 100  # roughly; at least two per class, one of which calibrates


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
) -> Exported:
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
        write = export_stream if stream else export_with_taps if with_taps else export_model
        return write(trained.model, out, size, notes)
    if size is None:
        raise ValueError("expected the size of the clips for int8, got none: give --size")
    data_set = DataSet.read(calibrate).one_label("--calibrate")
    few = max(2, CALIBRATION_CLIPS // len(data_set.classes))
    rows = usable_rows(data_set, "train").sort_values("label", kind="stable")
    data_set = data_set.with_rows(rows.groupby("label").head(few))
    frames, transform = trained.model.num_frames, evaluation_transform(size)
    return export_int8(trained.model, out, ClipDataset(data_set, "train", frames, transform), notes)
