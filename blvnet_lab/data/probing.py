"""What a video file holds, found by reading its packets (compressed pictures), not by decoding it.

    info = probe_video("clip.mp4")       # how many frames there are, their size, ...
    packed = pack_info(info)             # a line of text, for the manifest
    info = known_video("clip.mp4", packed)
    info = usable_video("clip.mp4", packed)     # or an error, if the file is damaged

This is also where damage is found that shows without decoding:

- a file that is cut short. (All but MPEG-TS, which has neither an index nor a length: of a part of
  one only a hole in time tells.)
- an altered file, where the container itself gives it away: Matroska has checksums, which FFmpeg
  writes but does not check; and the times in an mp4 can contradict each other.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

DECORD_CODECS = {"h264", "vp9", "av1", "mpeg4", "mjpeg"}
DECORD_CONTAINERS = {"mp4", "matroska", "webm", "avi"}
STRICT = {"err_detect": "explode+bitstream"}
# Titles and comments in a file are not always UTF-8; they do not matter here. PyAV 19 knows that.
LENIENT = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
HIDDEN = "hidden frames"
JPEG_FOLDER = "folder of JPEGs"  # what stands for the container's name


class VideoReadError(OSError):
    """A video file that cannot be read; the message says what was found and what helps.

    path: the file. The decoder's own error, if there was one, is the `__cause__`.
    """

    # `path` has a default since data loaders send errors between processes by message alone.
    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def unreadable(
    path: str, found: str, remedy: str = "fetch or make the file again, or leave it out"
) -> VideoReadError:
    return VideoReadError(f"{path}: expected a video file, but {found}; {remedy}", path)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, found without decoding it (but for its first picture)."""

    path: str
    num_frames: int  # that are shown and complete
    size: tuple[int, int]  # (height, width) in pixels as shown, after any rotation
    fps: float  # frames per second, on average; 0.0 if the file does not say
    codec: str  # "h264", "vp9", ...
    container: str  # FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2"
    reasons: tuple[str, ...]  # why decord cannot be trusted with this file; empty if it can
    # When each frame is shown, ascending, in the file's own units; None where that is in doubt.
    pts: tuple[int, ...] | None
    keyframe_pts: tuple[int, ...]  # where decoding may start; empty: only at the file's beginning
    damage: str = ""  # what is known to be wrong with the file, though some of it can be read
    num_bytes: int = 0  # the file's size, by which another file in its place is noticed
    whole: bool = False  # every frame was decoded once without a fault (`reading.check_video`)
    turns: int = 0  # quarter turns counter-clockwise that bring a stored picture upright

    @property
    def decord_exact(self) -> bool:
        return not self.reasons

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps if self.fps else 0.0


def file_url(path: str | os.PathLike[str]) -> str:
    """The path as FFmpeg takes it for a path, whatever it holds: it reads "12:30.mp4" as a URL."""
    return f"file:{os.fsdecode(path)}"


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened file and its main video stream; closes both."""
    if not os.path.isfile(path):
        found = "it is a folder" if os.path.isdir(path) else "it does not exist"
        raise unreadable(path, found, "check the path")
    try:
        container = av.open(file_url(path), **LENIENT)
    except (av.error.FFmpegError, OSError) as error:
        found = f"its {os.path.getsize(path)} bytes cannot be opened as one ({error.strerror})"
        raise unreadable(path, f"{found}: it is something else, or cut short") from error
    with container:
        stream = container.streams.best("video")
        # An audio file may hold its cover as a "video" of one picture.
        if stream is None or stream.disposition & Disposition.attached_pic:
            raise unreadable(path, "it holds no pictures, only sound or data")
        # FFmpeg opens a picture file as a video of one frame. A picture named .mp4 is a mistake
        # in some download, and a network should not learn from it.
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise unreadable(path, f"it is a still picture ({stream.name})")
        if stream.codec_context is None:
            raise unreadable(path, "there is no decoder for it", "encode it again as H.264")
        if stream.codec_context.codec.canonical_name == "vp8":
            # In slices, and only so, its decoder sees when it runs past the end of the data.
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 2
        else:
            stream.thread_type = "NONE"  # a data loader has its own workers
        # Faults are errors: FFmpeg would otherwise patch up a picture, and say so on a terminal.
        stream.codec_context.options = STRICT
        try:
            yield container, stream
        except OSError as error:
            if isinstance(error, (VideoReadError, av.error.FFmpegError)):
                raise
            found = f"it cannot be read ({error.strerror or error})"
            raise unreadable(path, found, "see whether the disk is well") from error


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads the file's packets and decodes only the first.

    path: of the file; or of a folder with the frames as 00001.jpg, 00002.jpg, ..., as
        Something-Something v1 comes.

    Raises VideoReadError if there is no video in it, or no reading it. A file that is cut short is
    described as far as it is complete; `VideoInfo.damage` says so.
    """
    path = os.fsdecode(path)
    if os.path.isdir(path):
        return _probe_jpegs(path)
    with open_video(path) as (container, stream):
        _refuse_what_was_altered(path)
        packets = _scan(path, container, stream)
        name, codec = container.format.name, stream.codec_context.codec.canonical_name
        if not packets.shown:
            raise unreadable(path, "there is not one complete frame in it")
        turns = _turns(stream, packets.first)
        size = (stream.codec_context.height, stream.codec_context.width)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        reorders = stream.codec_context.has_b_frames

    times = [pts for pts, _ in packets.shown]
    timed = None not in times + packets.keyframes and len(set(times)) == len(times)
    doubts = []  # whether decoding may start at a keyframe and finds the right frame
    if not timed:
        doubts.append("frames without a time of their own")
    elif name == "avi" and (reorders or times != sorted(times)):
        timed = False  # avi holds no times, and those that FFmpeg works out are wrong here
        doubts.append("avi with B-frames")
    else:
        order = sorted(range(len(times)), key=times.__getitem__)
        if any(is_key and order[i] != i for i, (_, is_key) in enumerate(packets.shown)):
            doubts.append("open GOP: frames shown before a keyframe are stored after it")
    if turns is None:
        doubts.append("does not begin with a picture that can be decoded on its own")
    if not set(name.split(",")) & DECORD_CONTAINERS:
        doubts.append(f"decord was not found exact on the container {name}")
    reasons = [packets.damage] if packets.damage else []
    if packets.num_hidden:
        reasons.append(f"{packets.num_hidden} {HIDDEN}, as after a cut without encoding again")
    if codec not in DECORD_CODECS:
        reasons.append(f"decord was not found exact on the codec {codec}")
    return VideoInfo(
        path=path,
        num_frames=len(times),
        size=size[::-1] if turns in (1, 3) else size,
        fps=fps,
        codec=codec,
        container=name,
        reasons=(*reasons, *doubts),
        pts=tuple(sorted(times)) if timed else None,
        keyframe_pts=() if doubts else tuple(sorted(packets.keyframes)),
        damage=packets.damage,
        num_bytes=os.path.getsize(path),
        turns=turns or 0,
    )


@dataclass
class _Packets:
    """A stream's packets (compressed pictures) as far as they matter here, in the file's order."""

    first: av.Packet | None = None
    shown: list[tuple[int | None, bool]] = field(default_factory=list)  # (pts, is it a keyframe)
    keyframes: list[int | None] = field(default_factory=list)  # their pts, the hidden ones' too
    num_hidden: int = 0  # to be decoded, but not shown
    times: list[tuple[int | None, int | None]] = field(default_factory=list)  # all (dts, pts)
    damage: str = ""


def _scan(path: str, container: InputContainer, stream: VideoStream) -> _Packets:
    """Reads the stream's packets up to the first that is damaged or missing.

    Raises VideoReadError if there is no telling which frame is which.
    """
    found, last_dts, rank_of = _Packets(), None, _index(container, stream)
    is_vp8 = stream.codec_context.codec.canonical_name == "vp8"
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # marks the end
            num_before = len(found.shown) + found.num_hidden
            if packet.is_corrupt or rank_of.get(packet.pos, 0) > num_before:
                found.damage = "cut short or damaged"
                break
            found.first = found.first or av.Packet(bytes(packet))
            last_dts = packet.dts
            found.times.append((packet.dts, packet.pts))
            if packet.is_keyframe:
                found.keyframes.append(packet.pts)
            # Hidden: what an edit list cuts off, and VP8's mere references (bit 4 is not set).
            if packet.is_discard or (is_vp8 and not bytes(packet)[0] & 16):
                found.num_hidden += 1
            else:
                found.shown.append((packet.pts, packet.is_keyframe))
    except av.error.FFmpegError as error:
        found.damage = f"damaged ({error.strerror})"
    is_all_there = len(rank_of) == len(found.times) and not found.damage
    if "mp4" in container.format.name and is_all_there and _contradict(found.times):
        raise unreadable(path, "its table of times was altered: evenly stored, unevenly shown")
    if (
        len(rank_of) > len(found.shown) + found.num_hidden
        or _is_shorter_than_it_says(path)
        or _ends_too_soon(container, stream, found.shown)
    ):
        found.damage = found.damage or "cut short"
    if found.damage and last_dts is not None:
        # The lost packets may hold frames that belong between the last ones. No frame is shown
        # before it is decoded (pts >= dts), so up to the last dts none is missing.
        found.shown = [(pts, key) for pts, key in found.shown if pts is None or pts <= last_dts]
    if found.damage or container.format.name == "mpegts":
        hole = _first_hole([pts for pts, _ in found.shown])
        if hole is not None:
            found.shown = [(pts, key) for pts, key in found.shown if pts <= hole]
            found.damage = found.damage or "cut short"
    return found


def _index(container: InputContainer, stream: VideoStream) -> dict[int, int]:
    """Place in the file to rank, of all packets; empty where a container does not list them all."""
    names = container.format.name.split(",")
    if not {"mp4", "avi"} & set(names):
        return {}
    header = 8 if "avi" in names else 0  # avi's index points at the few bytes before a packet
    places = [entry.pos + header for entry in stream.index_entries if entry.size]
    return {place: rank for rank, place in enumerate(places)}


def _ends_too_soon(
    container: InputContainer, stream: VideoStream, shown: Sequence[tuple[int | None, bool]]
) -> bool:
    """Whether a Matroska or WebM file lasts longer, by its first bytes, than its pictures do."""
    times = [pts for pts, _ in shown if pts is not None]
    if "matroska" not in container.format.name or not container.duration or not times:
        return False
    announced = container.duration / av.time_base
    # Sound may last a little longer than the pictures.
    return announced - float(max(times) * stream.time_base) > max(0.5, 0.05 * announced)


def _first_hole(times: Sequence[int | None]) -> int | None:
    """The last time before frames are missing, in a video that is otherwise evenly timed."""
    if None in times or len(times) < 3:
        return None
    times = sorted(times)
    steps = [late - early for early, late in pairwise(times)]
    usual = median(steps)
    if sum(abs(step - usual) <= 0.1 * usual for step in steps) < 0.8 * len(steps):
        return None
    return next((t for t, step in zip(times, steps, strict=False) if step > 1.5 * usual), None)


def _contradict(times: Sequence[tuple[int | None, int | None]]) -> bool:
    """Whether packets (dts, pts) are to be decoded at even times, but not to be shown so.

    An mp4 keeps the times of decoding, and how much later each frame is shown. An encoder takes
    the first from the second: where frames are shown unevenly, the times of decoding are so too.
    """
    if len(times) < 3 or any(None in both for both in times):
        return False
    decoded, shown = (sorted(column) for column in zip(*times, strict=True))
    usual = median(late - early for early, late in pairwise(decoded))
    if any(abs(late - early - usual) > 0.1 * usual for early, late in pairwise(decoded)):
        return False
    return any(abs(late - early - usual) > 0.5 * usual for early, late in pairwise(shown))


def _is_shorter_than_it_says(path: str) -> bool:
    """Whether a Matroska, WebM or avi file ends before the end that its first bytes announce."""
    with open(path, "rb") as file:
        begin, size = file.read(4096), os.path.getsize(path)
    if begin[:4] == b"RIFF":
        return 8 + int.from_bytes(begin[4:8], "little") > size
    announced, place = _ebml_segment(begin)
    # A stream that was written as it came has all ones there: it does not know its size.
    return announced not in UNKNOWN_SIZES and place + announced > size


def _refuse_what_was_altered(path: str) -> None:
    """Raises VideoReadError if the list of an avi's pictures, or a Matroska checksum, is wrong."""
    with open(path, "rb") as file:
        begin, num_bytes = file.read(1 << 20), os.path.getsize(path)
        if begin[:4] == b"RIFF" and not re.search(rb"LIST....movi", begin, re.DOTALL):
            # FFmpeg would begin at the first picture that it comes across.
            raise unreadable(path, "the list of its pictures has lost its beginning")
        size, place = _ebml_segment(begin)
        while size and place + 12 < num_bytes:  # one element of the segment after the other
            file.seek(place)
            begin = file.read(12)
            size, header = _ebml_size(begin, 9 - begin[0].bit_length())
            place += header
            if size in UNKNOWN_SIZES or place + size > num_bytes:
                break  # cut short, or written as it came: then without checksums
            file.seek(place)
            place += size
            if size > 6 and file.read(2) == CHECKSUM:  # of all that follows it in the element
                expected = int.from_bytes(file.read(4), "little")
                if zlib.crc32(file.read(size - 6)) != expected:
                    raise unreadable(path, "it was altered: a checksum in it does not fit")


EBML, SEGMENT, CHECKSUM = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xbf\x84"
UNKNOWN_SIZES = {(1 << 7 * length) - 1 for length in range(1, 9)}


def _ebml_segment(begin: bytes) -> tuple[int, int]:
    """Size of a Matroska file's segment, which holds nearly all, and its place; or (0, 0)."""
    if begin[:4] != EBML:
        return 0, 0
    header, place = _ebml_size(begin, 4)
    place += header
    return _ebml_size(begin, place + 4) if begin[place : place + 4] == SEGMENT else (0, 0)


def _ebml_size(data: bytes, place: int) -> tuple[int, int]:
    """An element's size and the place behind it: the first byte's leading zeros say how long."""
    length = 9 - (data[place] if place < len(data) else 1).bit_length()
    number = int.from_bytes(data[place : place + length], "big")
    return number & ((1 << 7 * length) - 1), place + length


def _turns(stream: VideoStream, packet: av.Packet) -> int | None:
    """Quarter turns counter-clockwise that bring a picture upright: 0, 1, 2 or 3.

    PyAV tells it on decoded pictures only. None if this one, the first, cannot be decoded alone.
    """
    try:
        pictures = stream.decode(packet) + stream.decode(None)
    except av.error.FFmpegError:
        return None
    return round(pictures[0].rotation / 90) % 4 if pictures else None


# --- Folders of JPEGs ---------------------------------------------------------------------------


def _probe_jpegs(folder: str) -> VideoInfo:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise unreadable(folder, f"it cannot be listed ({error.strerror})", "check it") from error
    numbers = sorted(int(name[:5]) for name in names if re.fullmatch(r"[0-9]{5}\.jpg", name))
    numbers = [number for number in numbers if number > 0]
    if not numbers:
        found = "it is a folder without pictures 00001.jpg, 00002.jpg, ..."
        raise unreadable(folder, found, "check the path")
    for expected, number in enumerate(numbers, 1):
        if number != expected:
            raise unreadable(folder, f"of its {numbers[-1]} pictures {expected:05d}.jpg is missing")
    first = decode_jpeg(folder, 0)
    return VideoInfo(
        path=folder,
        num_frames=len(numbers),
        size=(first.height, first.width),
        fps=0.0,
        codec="mjpeg",
        container=JPEG_FOLDER,
        reasons=("decord reads files, not folders",),
        pts=None,
        keyframe_pts=(),
    )


def decode_jpeg(folder: str, index: int) -> av.VideoFrame:
    """A frame of a folder of JPEGs. Raises VideoReadError, which names the picture.

    FFmpeg decodes it: told to, it stops at nearly every fault. What Pillow and torchvision are
    built on goes on after a fault, and gives pictures that are grey or shifted from there on.
    """
    name = f"{index + 1:05d}.jpg"
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count, decoder.options = 1, STRICT
    try:
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        if not content:
            raise unreadable(folder, f"its picture {name} is empty")
        pictures = decoder.decode(av.Packet(content)) + decoder.decode(None)
    except FileNotFoundError as error:
        raise unreadable(folder, f"its picture {name} is missing") from error
    except av.error.FFmpegError as error:
        raise unreadable(folder, f"its picture {name} is damaged, or no JPEG") from error
    except OSError as error:
        if isinstance(error, VideoReadError):
            raise
        raise unreadable(folder, f"its picture {name} cannot be read ({error})") from error
    if len(pictures) != 1 or pictures[0].is_corrupt:
        raise unreadable(folder, f"its picture {name} is damaged, or no JPEG")
    return pictures[0]


# --- Keeping what was found ---------------------------------------------------------------------


def pack_info(info: VideoInfo) -> str:
    """What was found, but for the path, as one line of JSON: for a manifest's column `probe`."""
    values = {name: value for name, value in asdict(info).items() if name != "path"}
    values["pts"] = None if info.pts is None else _to_runs(info.pts)
    values["keyframe_pts"] = _to_runs(info.keyframe_pts)
    # What is as it mostly is need not be said.
    values = {k: value for k, value in values.items() if k not in _USUAL or value != _USUAL[k]}
    return json.dumps(values, separators=(",", ":"))


_USUAL = {"reasons": (), "damage": "", "whole": False, "turns": 0, "keyframe_pts": [], "pts": None}


def unpack_info(path: str | os.PathLike[str], packed: str) -> VideoInfo:
    """What `pack_info` packed. Raises ValueError for anything else."""
    try:
        values = _USUAL | json.loads(packed)
        values["size"], values["reasons"] = tuple(values["size"]), tuple(values["reasons"])
        values["pts"] = None if values["pts"] is None else _from_runs(values["pts"])
        values["keyframe_pts"] = _from_runs(values["keyframe_pts"])
        return VideoInfo(path=os.fsdecode(path), **values)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{os.fsdecode(path)}: expected what pack_info wrote about the file, got "
            f"{packed[:60]!r}: write the manifest again, or empty its column probe"
        ) from error


def known_video(path: str | os.PathLike[str], packed: str) -> VideoInfo:
    """What `pack_info` packed about a file, if it is still that file; otherwise it is probed again.

    So it is, too, if nothing of use was packed: nothing at all, or by hand, or by another version.

    Raises VideoReadError if there is no such file, and what `probe_video` raises.
    """
    try:
        info = unpack_info(path, packed)
    except ValueError:
        return probe_video(path)
    if info.container == JPEG_FOLDER:
        return info  # each picture is looked at when it is read
    try:
        unchanged = os.path.getsize(info.path) == info.num_bytes
    except OSError as error:
        raise unreadable(info.path, "it does not exist", "check the path") from error
    return info if unchanged else probe_video(path)


def usable_video(path: str | os.PathLike[str], packed: str) -> VideoInfo:
    """As `known_video`, but raises VideoReadError for a file that is damaged, too.

    A network is to learn from whole videos: the begin of one may show another action.
    """
    return refuse_damage(known_video(path, packed))


def refuse_damage(info: VideoInfo) -> VideoInfo:
    """The same, if nothing is known to be wrong with the file. Raises VideoReadError otherwise."""
    if info.damage:
        raise unreadable(info.path, f"it is {info.damage}, after {info.num_frames} frames")
    return info


def _to_runs(values: Sequence[int]) -> list[list[int]]:
    """(first, step, count) of runs of equal steps: of 0, 5, 10, 17 [[0, 5, 3], [17, 0, 1]]."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][2] == 1:
            runs[-1][1:] = value - runs[-1][0], 2
        elif runs and value == runs[-1][0] + runs[-1][1] * runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([value, 0, 1])
    return runs


def _from_runs(runs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(first + step * k for first, step, count in runs for k in range(count))
