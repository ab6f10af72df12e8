"""Export a model as an ONNX file that computes in eight bits.

export_int8(model, "int8.onnx", clips)  # real clips, for the range of its maps
"""

import copy
import logging
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from blvnet_lab.deploy.export import Exported, Notes, Outputs, export_model, runner, write_checked
from blvnet_lab.models.networks import VideoNet
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.paths import check_target
from blvnet_lab.progress import tqdm

INT8_TOLERANCE = 0.3  # relative to the largest logit, on real clips; a broken file is far beyond
INT8_STEPS = ("Conv", "Add", "Relu", "Resize")  # the rest stays in float32


@torch.no_grad()
def export_int8(
    model: VideoNet, path: str | os.PathLike, clips: Tensor | Dataset, notes: Notes = None
) -> Exported:
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

    def save(file: Path) -> Outputs:
        from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):
            numbers = iter(tqdm(range(0, len(clips), 2), "calibrating", leave=False, unit="clip"))

            def get_next(self) -> dict | None:
                number = next(self.numbers, None)
                return None if number is None else {"clip": clips[number][0][None].float().numpy()}

        with tempfile.TemporaryDirectory() as folder:
            export_model(model, whole := Path(folder, "float32.onnx"), first.shape[-2:], notes)
            disabled = logging.root.manager.disable
            logging.disable(logging.WARNING)  # it advises simplifying the graph, which is simple
            try:
                quantization.quantize_static(
                    whole, file, Reader(), per_channel=True, op_types_to_quantize=INT8_STEPS
                )
            finally:
                logging.disable(disabled)
        return runner(file)

    trials = ((clips[number][0][None].float(),) for number in range(1, len(clips), 2))
    words = f"{len(clips) // 2} of the clips, which calibration has not seen"
    remedy = "calibrate with more of the training clips, or export without --int8"
    return write_checked(
        path, save, lambda clip: [model(clip)], trials, words, INT8_TOLERANCE, remedy
    )
