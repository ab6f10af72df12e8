"""Pictures as bytes for everything that moves, made with NumPy and Pillow in a few milliseconds.

A matplotlib figure takes ten times as long, which one notices while dragging a slider.
"""

import html
import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from IPython.display import Image as DisplayImage
from PIL import Image, ImageDraw, ImageFont

from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY

LABEL_PX = 12  # height of text in pictures
LABEL_GREY = "#888888"  # legible on light and dark pages
MAX_CLASSES = 10


@cache
def font(size: int = LABEL_PX) -> ImageFont.FreeTypeFont:
    """Load matplotlib's own font: unlike Pillow's, it has ×, − and accented letters."""
    path = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)  # Pillow 10 takes no Path


def text_width(text: str) -> int:
    """Measure one line of text, in pixels."""
    return round(font().getlength(text))


def abridged(name: str, letters: int) -> str:
    """Cut a name in the middle, down to `letters`: often only the ends tell classes apart."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[:half]}…{name[half + 1 - letters :]}"


def as_images(frames: torch.Tensor | np.ndarray) -> np.ndarray:
    """Turn frames ``(T, 3, H, W)`` into ``(T, H, W, 3)``; ValueError for another shape or type."""
    if isinstance(frames, torch.Tensor):
        frames = frames.detach().cpu().numpy()
    frames = np.asarray(frames)
    if frames.ndim == 4 and frames.shape[1] == 3 and frames.dtype == np.uint8 and frames.size:
        return frames.transpose(0, 2, 3, 1)
    raise ValueError(
        f"expected uint8 frames shaped (T, 3, H, W), got {frames.dtype} {frames.shape}; "
        "blvnet_lab.data.denormalize makes such frames from a clip, frame[None] from one frame, "
        "clips[0] from a batch, and frames.permute(0, 3, 1, 2) brings channels to the front"
    )


def fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale (h, w, 3) to fit a box: pixels are enlarged to crisp squares, large frames shrink."""
    factor = min(height // image.shape[0], width // image.shape[1])
    if factor:
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    shrunken = Image.fromarray(image)
    shrunken.thumbnail((width, height))
    return np.asarray(shrunken)


def jpeg(image: np.ndarray) -> bytes:
    """Encode ``(H, W, 3)`` uint8 as a JPEG file, about a tenth of a PNG's size for real video."""
    buffer = io.BytesIO()  # colours at full resolution, or the edges of enlarged pixels would blur
    Image.fromarray(image).save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    """Encode ``(H, W, 3)`` or, with transparency, ``(H, W, 4)`` uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


class Sheet:
    """A transparent picture to draw on; `pen` is Pillow's, x and y are in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._canvas = Image.new("RGBA", (width, height))
        self.pen = ImageDraw.Draw(self._canvas)

    def text(self, x: float, y: float, words: str, anchor: str = "mm", size: int = 12) -> None:
        """Write one or more lines in grey."""
        style = {"fill": LABEL_GREY, "font": font(size), "anchor": anchor, "align": "right"}
        self.pen.text((x, y), words, **style)

    def paste(
        self, picture: np.ndarray, x: int, y: int, size: tuple[int, int], edge: str | None = None
    ) -> None:
        """Paste (h, w, 3) scaled to `size` (width, height): crisp if enlarged, else averaged."""
        if edge is not None:
            self.pen.rectangle((x - 2, y - 2, x + size[0] + 1, y + size[1] + 1), fill=edge)
        way = Image.Resampling.BOX if picture.shape[1] > size[0] else Image.Resampling.NEAREST
        self._canvas.paste(Image.fromarray(picture).resize(size, way), (x, y))

    def array(self) -> np.ndarray:
        """Return the picture, (H, W, 4) uint8."""
        return np.asarray(self._canvas)


def mosaic(
    rows: Mapping[str, Sequence[np.ndarray]],
    *,
    column_labels: Sequence[str] = (),
    edges: Sequence[Sequence[str]] = (),
    chosen: int | None = None,
    tile_px: int = 72,
    gap_px: int = 6,
    below: Sequence[str] = (),
) -> np.ndarray:
    """Arrange small pictures in labelled rows on a transparent ground: (H, W, 4) uint8.

    Args:
        rows: label (one or more lines) to the row's pictures (h, w, 3) uint8, each scaled to a
            tile: enlarged pixels are crisp squares.
        edges: for every row, the colours of its tiles' edges.
        chosen: the column to frame, if any.
        tile_px: width of a tile; its height follows from the first picture.
        below: a text under each column.
    """
    first = next(iter(rows.values()))[0]
    columns = max(len(row) for row in rows.values())
    tile_height = round(tile_px * first.shape[0] / first.shape[1])
    widest = max(text_width(line) for label in rows for line in label.split("\n"))
    left = widest + 3 * gap_px if widest else gap_px
    top = LABEL_PX + 2 * gap_px if column_labels else gap_px
    step_x, step_y = tile_px + gap_px, tile_height + gap_px
    height = top + len(rows) * step_y
    sheet = Sheet(left + columns * step_x, height + (LABEL_PX + gap_px if below else 0))
    for y, texts in ((gap_px, column_labels), (height, below)):
        for column, text in enumerate(texts):
            sheet.text(left + column * step_x + tile_px / 2, y, text, anchor="ma")
    for number, (label, row) in enumerate(rows.items()):
        y = top + number * step_y
        sheet.text(left - 2 * gap_px, y + tile_height / 2, label, anchor="rm")
        for column, picture in enumerate(row):
            edge = edges[number][column] if edges else None
            sheet.paste(picture, left + column * step_x, y, (tile_px, tile_height), edge)
    if chosen is not None:
        x, away = left + chosen * step_x, gap_px // 2 + 1
        box = (x - away, top - away, x + tile_px + away - 1, height - gap_px + away - 1)
        sheet.pen.rectangle(box, outline=LABEL_GREY, width=2)
    return sheet.array()


def text_picture(*lines: str) -> np.ndarray:
    """Write lines of text on a transparent ground, (H, W, 4) uint8."""
    sheet = Sheet(max(map(text_width, lines)) + 12, len(lines) * (LABEL_PX + 4) + 8)
    for number, line in enumerate(lines):
        sheet.text(6, 4 + number * (LABEL_PX + 4), line, anchor="la")
    return sheet.array()


def stacked(*pictures: np.ndarray) -> np.ndarray:
    """Stack pictures (h, w, 4) below each other, aligned left: (H, W, 4) uint8."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0))) for p in pictures])


def picture(image: np.ndarray) -> DisplayImage:
    """Show (H, W, 3) or (H, W, 4) uint8 as the last line of a cell."""
    return DisplayImage(png(image))


def number(value: float, digits: int = 2) -> str:
    """Format a number with a typographic minus, and never as minus zero."""
    return f"{value:z.{digits}f}".replace("-", "−")


def digits_for(limit: float) -> int:
    """Choose the number of decimals for values up to `limit`: 2, or more below 1."""
    return 2 + max(0, -math.floor(math.log10(limit)))


def sum_of(terms: Sequence[str], total: str) -> str:
    """Write out a sum with its total."""
    return " + ".join(terms).replace("+ −", "− ") + f" = {total}"


def underlined(branch: str) -> str:
    """Underline a branch's name in the branch's colour: HTML."""
    return f"<span style='border-bottom:3px solid {BRANCH_COLOURS[branch]}'>{branch}</span>"


def paragraph(text: str, edge: str | None = None) -> str:
    """Set text with tighter lines than ipywidgets does, and a note's coloured edge if any: HTML."""
    border = f";border-left:4px solid {edge};padding-left:8px" if edge else ""
    return f"<div style='line-height:1.4{border}'>{text}</div>"


def score_tables(
    scores: Mapping[str, Sequence[float]],
    names: Sequence[str],
    before: Mapping[str, Sequence[float]] | None = None,
    true_class: int | None = None,
) -> str:
    """Draw the class probabilities of one or more models as bars, side by side: HTML.

    Args:
        scores: title to one value in 0..1 per class; values that are not finite have no bar.
        names: of the classes; if there are many, those with the highest scores are shown.
        before: earlier scores, shown as thin grey bars, with the changes in points.
        true_class: the class whose name is set in bold.
    """
    peaks = np.nan_to_num([*scores.values(), *(before or {}).values()]).max(0)
    shown = sorted(np.argsort(-peaks, kind="stable")[:MAX_CLASSES].tolist())
    bar_px = 70 if len(scores) > 2 else 120  # four tables fit beside each other
    tables = []
    for title, values in scores.items():
        best, rows = np.nan_to_num(values).argmax(), ""
        for i in shown:
            name = html.escape(names[i])
            bars = _bar(values[i], 9, BLUE if i == best else GREY)
            number = f"{100 * values[i]:.0f} %"
            if before is not None:
                old = before[title][i]
                bars += _bar(old, 3, f"{GREY};opacity:.6")
                number += f" ({100 * (values[i] - old):+.0f})".replace("-0", "+0")
            label = f"<b>{name}</b>" if i == true_class else name
            cell = f"<td style='padding:0 6px;text-align:right'>{label}</td>"
            rows += f"<tr data-class='{name}' data-score='{values[i]:.4f}'>{'' if tables else cell}"
            rows += f"<td style='width:{bar_px}px'>{bars}</td>"
            rows += f"<td style='padding:0 6px;white-space:nowrap'>{number}</td></tr>"
        title, style = html.escape(title), "border-collapse:collapse;line-height:15px"
        table = f"<table class='blvnet-scores' style='{style};font-size:12px'>{rows}</table>"
        tables.append(f"<div data-model='{title}'><b>{title}</b>{table}</div>")
    style = "display:flex;gap:4px 16px;align-items:flex-end;overflow-x:auto"
    return f"<div style='{style}'>{''.join(tables)}</div>"


def _bar(score: float, height: int, colour: str) -> str:
    width = 100 * np.nan_to_num(score)
    return f"<div style='width:{width:.1f}%;height:{height}px;background:{colour}'></div>"
