"""Export a model as an ONNX file that computes in eight bits.

export_int8(model, "int8.onnx", clips)  # real clips, which say how large maps become
"""

import copy
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from blvnet_lab.deploy.export import export_model
from blvnet_lab.models.networks import VideoNet
from blvnet_lab.models.wrapped import network_of
from blvnet_lab.paths import atomic_write, check_target

INT8_TOLERANCE = 0.3  # of the largest logit, on real clips; all classes are confused far beyond
INT8_STEPS = ("Conv", "Add", "Relu", "Resize")  # the rest stays in float32


class Int8Exported(NamedTuple):
    """A file in eight bits that was written, and how near it is to its model on real clips."""

    path: Path
    deviation: float  # of a logit, the largest, relative to the largest logit
    agreement: float  # share of the clips that get the same class, in 0..1
    clips: int  # that it was compared on; every second of those given
    megabytes: float

    def __str__(self) -> str:
        return (
            f"checked on {self.clips} of the clips, which calibration has not seen: the same class "
            f"for {100 * self.agreement:.1f} %,\n"
            f"largest deviation {self.deviation:.1e} of the largest logit\n"
            f"wrote {self.path}, {self.megabytes:.1f} MB"
        )


def _is_no_advice(record: logging.LogRecord) -> bool:
    # ONNX Runtime advises what it would do itself with a graph less simple than ours.
    return "pre-processing" not in record.getMessage()


@torch.no_grad()
def export_int8(
    model: VideoNet,
    path: str | os.PathLike,
    clips: Tensor,
    notes: Mapping[str, Any] | None = None,
) -> Int8Exported:
    """Write a model as .onnx that computes in int8 (QDQ, weights per channel), by ONNX Runtime.

    Every second clip says how large maps become; on the others, file and model are compared.

    Args:
        clips: real training clips (N, T, C, H, W), N at least 2, of all classes; the file is for
            their height and width.

    Raises ValueError as `export_model` does, for clips that the model does not take, and for logits
    that are nowhere near the model's.
    """
    path = Path(path)
    check_target(path, ".onnx")
    if len(clips) < 2:
        raise ValueError(f"expected at least 2 clips to calibrate with, got {len(clips)}")
    model = copy.deepcopy(network_of(model)).cpu().float().eval()
    model.check_clip(clips)
    clips = clips.detach().cpu().float()
    with tempfile.TemporaryDirectory() as folder, atomic_write(path) as partial:
        whole = Path(folder, "float32.onnx")
        export_model(model, whole, tuple(clips.shape[-2:]), notes)
        from onnxruntime import InferenceSession, quantization

        class Reader(quantization.CalibrationDataReader):
            given = iter(clips[::2].split(1))

            def get_next(self) -> dict | None:
                clip = next(self.given, None)
                return None if clip is None else {"clip": clip.numpy()}

        logging.root.addFilter(_is_no_advice)
        try:
            quantization.quantize_static(
                str(whole),
                str(partial),
                Reader(),
                per_channel=True,
                op_types_to_quantize=INT8_STEPS,
            )
        finally:
            logging.root.removeFilter(_is_no_advice)
        session = InferenceSession(partial, providers=["CPUExecutionProvider"])
        seen = clips[1::2].split(1)
        wanted = torch.cat([model(clip) for clip in seen])
        found = [session.run(["logits"], {"clip": clip.numpy()})[0] for clip in seen]
        found = torch.from_numpy(np.concatenate(found))
        deviation = float((found - wanted).abs().max() / wanted.abs().max())
        if not deviation <= INT8_TOLERANCE:
            raise ValueError(
                f"expected logits in int8 within {INT8_TOLERANCE} of the largest, got a deviation "
                f"of {deviation:.1e}: calibrate with more of the training clips, or export without "
                "--int8; nothing was written"
            )
    same = float((found.argmax(1) == wanted.argmax(1)).float().mean())
    return Int8Exported(path, deviation, same, len(seen), path.stat().st_size / 1e6)
