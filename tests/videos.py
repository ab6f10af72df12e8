"""Makes the small test videos: every frame shows its own number, so that a test can read it back.

The number is written as a Gray code in eight bright or dark cells (four columns, two rows), on an
orange ground that shows whether the colour channels are in the right order. The cells are large
enough to survive lossy coding and resizing.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLUMNS, ROWS = 4, 2
GROUND = (210, 120, 40)  # orange: red > green > blue, each by a wide margin


def _cells(height: int, width: int) -> list[tuple[slice, slice]]:
    """Where the cell of each bit lies, lowest bit first, as (rows, columns) of the picture."""
    cell_h, cell_w = height / (ROWS + 1), width / (COLUMNS + 1)
    cells = []
    for bit in range(COLUMNS * ROWS):
        row, column = divmod(bit, COLUMNS)
        top, left = (row + 0.5) * cell_h, (column + 0.5) * cell_w
        # A margin of an eighth of a cell on each side is left to the ground.
        rows = slice(round(top + cell_h / 8), round(top + cell_h * 7 / 8))
        columns = slice(round(left + cell_w / 8), round(left + cell_w * 7 / 8))
        cells.append((rows, columns))
    return cells


def draw(number: int, size: tuple[int, int]) -> np.ndarray:
    """The picture that shows `number` (0 to 255): uint8 (H, W, 3), RGB."""
    picture = np.empty((*size, 3), np.uint8)
    picture[:] = GROUND
    code = number ^ (number >> 1)
    for bit, cell in enumerate(_cells(*size)):
        picture[cell] = 230 if code >> bit & 1 else 25
    return picture


def read_number(frame: np.ndarray) -> int:
    """The number that a frame, uint8 (3, H, W), shows; -1 if it is unreadable or off-colour."""
    frame = np.asarray(frame, dtype=np.float32)
    edge = frame[:, 0].mean(axis=-1)  # the top line is all ground
    if np.abs(edge - GROUND).max() > 40:
        return -1
    code = 0
    for bit, (rows, columns) in enumerate(_cells(*frame.shape[1:])):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        middle = slice(rows.start + height // 4, rows.stop - height // 4)
        inner = frame[:, middle, columns.start + width // 4 : columns.stop - width // 4]
        if 90 < inner.mean() < 165:
            return -1
        code |= int(inner.mean() > 127) << bit
    number = 0
    while code:
        number, code = number ^ code, code >> 1
    return number


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    """What each of the frames (T, 3, H, W) shows."""
    return [read_number(frame) for frame in np.asarray(frames)]


def write_video(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 112),
    gop: int = 12,
    b_frames: int = 0,
    codec_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    times: Iterable[int] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    container_options: dict[str, str] | None = None,
    pictures: Sequence[np.ndarray] = (),
    rate: int = 25,
    aspect: Fraction | None = None,
    colours: tuple[int, int, int, int] | None = None,
) -> Path:
    """Encodes frames 0 to count-1 at 25 frames per second; the container follows from the suffix.

    pictures, rate: instead of numbers (H, W, 3), and frames per second.
    times: when to show each frame, in units of 1/rate s; 0, 1, 2, ... if left out.
    rotation, mirrored: what the file asks players to do, in degrees counter-clockwise, and then.
        The stored pictures are turned the other way, so that the numbers are upright on display.
    aspect, colours: of a pixel; FFmpeg's numbers for matrix, primaries, transfer and range.
    """
    pictures = pictures[:count] if len(pictures) else [draw(k, size) for k in range(count)]
    shown = [picture[:, :: -1 if mirrored else 1] for picture in pictures]
    stored = [np.rot90(picture, -rotation // 90) for picture in shown]
    times = range(count) if times is None else times
    with av.open(path, "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = stored[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        stream.codec_context.options = codec_options or {}
        coder = stream.codec_context
        if aspect:
            coder.sample_aspect_ratio = aspect
        if colours:
            coder.colorspace, coder.color_primaries, coder.color_trc, coder.color_range = colours
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        for picture, time in zip(stored, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if colours:
                matrix, full = colours[0] if colours[0] != 2 else None, colours[3] or None
                frame = frame.reformat(
                    format=pix_fmt, dst_colorspace=matrix, dst_color_range=full
                )  # fmt: skip
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if codec == "libsvtav1" and sys.platform == "linux":  # of root it makes a real-time thread
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def write_shown(path: Path, *, size=(96, 160), ticks=1, **options) -> Path:
    """24 frames, the k-th at `ticks * k` or `ticks[k]` milliseconds, of that shape and coding."""
    times = [ticks * k for k in range(24)] if isinstance(ticks, int) else ticks
    return write_video(path, 24, size=size, times=times, rate=1000, gop=60, **options)


def shown_by_ffmpeg(path: Path) -> tuple[list[float], float, tuple[int, ...]]:
    """By FFmpeg alone: when each frame is shown, width by height as shown, coding of colours."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [float((frame.pts - frames[0].pts) * frame.time_base) for frame in frames]
        shape = Fraction(frames[0].width, frames[0].height) * (stream.sample_aspect_ratio or 1)
        shape = 1 / shape if round(frames[0].rotation) % 180 else shape
        coder = stream.codec_context
        is_full = coder.color_range == 2  # else it is 1, or 0, which means the same
        colours = coder.colorspace, coder.color_primaries, coder.color_trc, is_full
    return times, float(shape), colours


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """A file with a silent sound track and no pictures."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = np.zeros((1, int(16000 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets_of(path: Path) -> list[av.Packet]:
    with av.open(path) as file:
        return [packet for packet in file.demux(video=0) if packet.size]


Stored = tuple[bytes, int | None, int | None, bool]  # a packet's data, pts, dts, is it a keyframe


def stored(path: Path, shift: int = 0) -> list[Stored]:
    """A video's packets, `shift` ticks later."""
    found = ((bytes(p), p.pts + shift, p.dts, p.is_keyframe) for p in packets_of(path))
    return [(data, pts, None if dts is None else dts + shift, key) for data, pts, dts, key in found]


def copy_packets(source: Path, target: Path, shift: int) -> Path:
    """Copies a video's packets without decoding them, `shift` frames (of 1/25 s) later.

    A negative shift to mp4 does what cutting with a stream copy does: the frames before time 0
    stay in the file, hidden by an edit list.
    """
    ticks = round(shift * Fraction(1, 25) / packets_of(source)[0].time_base)
    return mux(source, target, stored(source, ticks))


def mux(
    like: Path,
    target: Path,
    packets: Iterable[Stored],
    time_base: Fraction | None = None,
    flags: str = "",
) -> Path:
    """Writes packets of the same stream as in `like`; `flags` are those of mp4's writer."""
    options = {"movflags": flags} if flags else {}
    with av.open(like) as file, av.open(target, "w", container_options=options) as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for data, pts, dts, is_key in packets:
            packet = av.Packet(data)
            packet.pts, packet.dts, packet.is_keyframe, packet.stream = pts, dts, is_key, stream
            packet.time_base = time_base or file.streams.video[0].time_base
            out.mux(packet)
    return target


def count_pictures(module, monkeypatch) -> list[int | None]:
    """The times of the pictures that a module will decode."""
    decode, decoded = module.pictures, []

    def pictures(*args):
        for found in decode(*args):
            decoded.append(found[0].pts)
            yield found

    monkeypatch.setattr(module, "pictures", pictures)
    return decoded
