"""Pictures as bytes, for what moves: composed with NumPy and Pillow, a few milliseconds each.

A figure of matplotlib takes ten times as long, which one feels while dragging a slider.
"""

from __future__ import annotations

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
from PIL import Image, ImageColor, ImageDraw, ImageFont

from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, GREY

LABEL_PX = 12  # height of texts in pictures
LABEL_GREY = "#888888"  # legible on light and on dark pages


@cache
def font(size: int = LABEL_PX) -> ImageFont.FreeTypeFont:
    """matplotlib's own font: unlike Pillow's, it has the signs × and − and letters with accents."""
    path = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)  # Pillow 10 takes no Path


def as_images(frames: torch.Tensor | np.ndarray) -> np.ndarray:
    """Frames ``(T, 3, H, W)`` as an array ``(T, H, W, 3)``; raises ValueError, with the remedy."""
    if isinstance(frames, torch.Tensor):
        frames = frames.detach().cpu().numpy()
    frames = np.asarray(frames)
    if frames.ndim == 4 and frames.shape[1] == 3 and frames.dtype == np.uint8 and frames.size:
        return frames.transpose(0, 2, 3, 1)
    if frames.size == 0:
        remedy = "read or sample at least one frame"
    elif frames.ndim == 5:
        remedy = "pass one clip of the batch: clips[0]"
    elif frames.ndim == 3:
        remedy = "a single frame (3, H, W) becomes a clip with frame[None]"
    elif frames.ndim == 4 and frames.shape[1] != 3 and frames.shape[-1] == 3:
        remedy = "channels come first: frames.permute(0, 3, 1, 2), for arrays transpose"
    elif frames.dtype != np.uint8:
        remedy = "blvnet_lab.data.denormalize makes such frames from a clip"
    else:
        remedy = "grey frames (T, 1, H, W) become colour with frames.repeat(1, 3, 1, 1)"
    raise ValueError(
        f"expected uint8 frames shaped (T, 3, H, W), got {frames.dtype} {frames.shape}; {remedy}"
    )


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    """``(H, W, 3)`` to ``(H * factor, W * factor, 3)``, every pixel a square."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def jpeg(image: np.ndarray) -> bytes:
    """A JPEG file of ``(H, W, 3)`` uint8, about a tenth of a PNG for real video.

    Colours are kept at full resolution (4:4:4), or the edges of enlarged pixels would bleed.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    """A PNG file of ``(H, W, 3)`` or, with transparency, ``(H, W, 4)`` uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def mosaic(
    rows: Mapping[str, Sequence[np.ndarray | None]],
    *,
    column_labels: Sequence[str] = (),
    column_colours: Sequence[str] = (),
    row_colours: Sequence[str | None] = (),
    chosen: int | None = None,
    tile_px: int = 72,
    gap_px: int = 6,
) -> np.ndarray:
    """Small pictures in labelled rows on a transparent ground: (H, W, 4) uint8.

    Each is scaled to a tile, whatever its size: enlarged pixels are crisp squares.

    Args:
        rows: label to the pictures (h, w, 3) uint8 of the row; None leaves a place empty. A label
            may have several lines.
        column_labels: a text over every column.
        column_colours: an edge around every column's tiles.
        row_colours: the same by rows, where a row has a colour.
        chosen: the column that is framed, if any.
        tile_px: width of a tile; its height follows from the first picture.
        gap_px: between tiles.
    """
    pictures = [picture for row in rows.values() for picture in row if picture is not None]
    if not pictures:
        raise ValueError(
            f"expected at least one picture, got none in {len(rows)} rows; pass the pictures "
            "(h, w, 3) uint8 of each row under its label: mosaic({'clip': [first, second]})"
        )
    columns = max(len(row) for row in rows.values())
    tile_height = round(tile_px * pictures[0].shape[0] / pictures[0].shape[1])
    lines = [line for label in rows for line in label.split("\n")]
    widest = max(round(font().getlength(line)) for line in lines)
    left = widest + 3 * gap_px if any(lines) else gap_px
    top = LABEL_PX + 2 * gap_px if column_labels else gap_px
    step_x, step_y = tile_px + gap_px, tile_height + gap_px
    canvas = Image.new("RGBA", (left + columns * step_x, top + len(rows) * step_y))
    pen = ImageDraw.Draw(canvas)
    for column, text in enumerate(column_labels):
        place = (left + column * step_x + tile_px / 2, gap_px)
        pen.text(place, text, fill=LABEL_GREY, font=font(), anchor="ma")
    for number, (label, row) in enumerate(rows.items()):
        y = top + number * step_y
        middle = (left - 2 * gap_px, y + tile_height / 2)
        pen.multiline_text(middle, label, fill=LABEL_GREY, font=font(), anchor="rm", align="right")
        for column, picture in enumerate(row):
            if picture is None:
                continue
            x = left + column * step_x
            colour = column_colours[column] if column < len(column_colours) else None
            colour = row_colours[number] if number < len(row_colours) else colour
            if colour is not None:
                box = (x - 2, y - 2, x + tile_px + 1, y + tile_height + 1)
                pen.rectangle(box, fill=ImageColor.getrgb(colour))
            shrinks = picture.shape[1] > tile_px
            way = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
            canvas.paste(Image.fromarray(picture).resize((tile_px, tile_height), way), (x, y))
    if chosen is not None:
        x = left + chosen * step_x
        away = gap_px // 2 + 1
        box = (x - away, top - away, x + tile_px + away - 1, canvas.height - gap_px + away - 1)
        pen.rectangle(box, outline=ImageColor.getrgb(LABEL_GREY), width=2)
    return np.asarray(canvas)


def written(lines: Sequence[str]) -> np.ndarray:
    """Lines of text on a transparent ground, (H, W, 4) uint8, for pictures without a page."""
    width = max(round(font().getlength(line)) for line in lines) + 12
    canvas = Image.new("RGBA", (width, len(lines) * (LABEL_PX + 4) + 8))
    text = "\n".join(lines)
    ImageDraw.Draw(canvas).multiline_text((6, 4), text, fill=LABEL_GREY, font=font(), spacing=4)
    return np.asarray(canvas)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (h, w, 4) one below the other, from the left: (H, W, 4) uint8."""
    width = max(picture.shape[1] for picture in pictures)
    sides = [((0, 0), (0, width - picture.shape[1]), (0, 0)) for picture in pictures]
    return np.concatenate([np.pad(p, side) for p, side in zip(pictures, sides, strict=True)])


def underlined(branch: str) -> str:
    """HTML: a branch's name in the page's own colour, over a line in the branch's."""
    return f"<span style='border-bottom:3px solid {BRANCH_COLOURS[branch]}'>{branch}</span>"


def paragraph(text: str, edge: str | None = None) -> str:
    """HTML: lines closer together than in ipywidgets' labels; a note has an edge of some colour."""
    border = f";border-left:4px solid {edge};padding-left:8px" if edge else ""
    return f"<div style='line-height:1.4{border}'>{text}</div>"


def score_bars(
    scores: Sequence[float],
    names: Sequence[str],
    before: Sequence[float] | None = None,
    top: int = 10,
    true_class: int | None = None,
    show_names: bool = True,
    bar_px: int = 120,
) -> str:
    """Class probabilities as HTML bars, with the colours of the page.

    Args:
        scores: one value in 0..1 per class; one that is not finite is printed and has no bar.
        before: what the scores were, drawn as a thin grey bar, with the change in points.
        top: of more classes, only so many are shown, highest first (of `scores` or `before`).
        true_class: whose name stands in bold.
        show_names: False where a table beside this one has them.
        bar_px: width of a bar of 100 %.
    """
    scores = [float(score) for score in scores]
    reference = [float(score) for score in before] if before is not None else scores
    lengths, thin = [[_finite(x) for x in numbers] for numbers in (scores, reference)]
    shown = range(len(scores))
    if len(scores) > top:
        highest = sorted(shown, key=lambda i: -max(lengths[i], thin[i]))
        shown = highest[:top]
    best = max(range(len(scores)), key=lengths.__getitem__)
    rows = []
    for i in shown:
        colour = BLUE if i == best else GREY
        bar = f"<div style='width:{100 * lengths[i]:.1f}%;height:9px;background:{colour}'></div>"
        number = f"{100 * scores[i]:.0f} %"
        if before is not None:
            old = f"width:{100 * thin[i]:.1f}%;height:3px;background:{GREY};opacity:.6"
            bar += f"<div style='{old}'></div>"
            change = 100 * (scores[i] - reference[i])
            number += f" ({round(change):+d})" if math.isfinite(change) else " (nan)"
        name = html.escape(names[i], quote=True)
        shown_name = f"<b>{name}</b>" if i == true_class else name
        cell = f"<td style='padding:0 6px;text-align:right'>{shown_name}</td>"
        label = f"<td style='padding:0 6px;white-space:nowrap'>{number}</td>"
        rows.append(
            f"<tr data-class='{name}' data-score='{scores[i]:.4f}'>{cell if show_names else ''}"
            f"<td style='width:{bar_px}px'>{bar}</td>{label}</tr>"
        )
    return (
        "<table class='blvnet-scores' style='border-collapse:collapse;line-height:15px;"
        f"font-size:12px'>{''.join(rows)}</table>"
    )


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0


def picture(image: np.ndarray) -> DisplayImage:
    """What a notebook shows as the last line of a cell, of (H, W, 3) or (H, W, 4) uint8."""
    return DisplayImage(png(image))


def score_tables(
    scores: Mapping[str, Sequence[float]],
    names: Sequence[str],
    before: Mapping[str, Sequence[float]] | None = None,
    top: int = 10,
    true_class: int | None = None,
) -> str:
    """`score_bars` of several models side by side: HTML.

    Args:
        scores: title to one value in 0..1 per class.
        names: of the classes, the same in all models.
        before, top, true_class: as for `score_bars`.
    """
    few = len(names) <= top  # then the rows are the same in all tables: their names once are enough
    tables = []
    for title, values in scores.items():
        bars = score_bars(
            values,
            names,
            before[title] if before is not None else None,
            top=top,
            true_class=true_class,
            show_names=not few or not tables,
            bar_px=70 if len(scores) > 2 else 120,  # four fit beside each other
        )
        title = html.escape(title, quote=True)
        tables.append(f"<div data-model='{title}'><b>{title}</b>{bars}</div>")
    wrap = "nowrap" if few else "wrap"
    style = f"display:flex;flex-wrap:{wrap};gap:4px 16px;align-items:flex-end;overflow-x:auto"
    return f"<div style='{style}'>{''.join(tables)}</div>"
