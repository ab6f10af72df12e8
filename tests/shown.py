"""What widgets show, read back: pictures as pixels, texts without tags, scores as numbers."""

import base64
import io
import re
from collections.abc import Iterator
from html import unescape

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from blvnet_lab.data import DataSet
from blvnet_lab.models import load_model
from blvnet_lab.paths import data_samples

MOTION = DataSet.read(data_samples() / "motion" / "manifest.csv")
MANIFEST, NAMES = MOTION.rows, MOTION.classes


def shipped(name: str) -> torch.nn.Module:
    return load_model(data_samples() / "checkpoints" / f"{name}.safetensors")


def a_clip(num_frames: int = 8, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_frames, 3, size, size, generator=generator)


def decoded(file: bytes) -> np.ndarray:
    """The pixels of a picture file, (H, W, 3 or 4) as int."""
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


def still(widget: widgets.Widget) -> np.ndarray:
    """The pixels of the picture that stands for a widget where no kernel runs."""
    bundle = widget._repr_mimebundle_()
    (kind,) = (kind for kind in bundle if kind.startswith("image/"))
    return decoded(base64.b64decode(bundle[kind]))


def bytes_of(colour: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(colour)]


def plain(html: str) -> str:
    return unescape(re.sub("<.*?>", "", html))


def scores_in(html: str) -> dict[str, dict[str, float]]:
    """Title of a model to class name to probability."""
    tables = re.split(r"<div data-model='([^']*)'>", html)[1:]
    row = r"data-class='([^']*)' data-score='([\d.]+)'"
    return {
        unescape(title): {unescape(name): float(score) for name, score in re.findall(row, table)}
        for title, table in zip(tables[::2], tables[1::2], strict=True)
    }


def everything_in(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything_in(child)


def shown(widget: widgets.Widget) -> list:
    """All pictures and texts, and what the controls are set to, but for measured times.

    A play button's value follows its slider in the browser only.
    """
    parts = [part for part in everything_in(widget) if hasattr(part, "value")]
    values = [part.value for part in parts if not isinstance(part, widgets.Play)]
    return [re.sub(r"[\d.]+ ms here", "", v) if isinstance(v, str) else v for v in values]
