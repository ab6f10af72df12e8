"""What a video file holds: how many frames, their size, when they are shown.

    info = probe_video("clip.mp4")       # how many frames there are, their size, ...
    packed = pack_info(info)             # a line of text, for the manifest
    info = known_video("clip.mp4", packed)
    info = usable_video("clip.mp4", packed)     # or an error, if the file is damaged

Of the plain kinds, which nearly all files are, the packets (compressed pictures) tell it, without
decoding more than the first: each gives one frame, at its own time. All others are decoded
once, and what comes out is counted.

This is also where damage is found that shows without decoding:

- a file that is cut short. (All but MPEG-TS, which has neither an index nor a length.)
- an altered file, where the container itself gives it away: Matroska has sizes, which must add up,
  and checksums, which FFmpeg writes but does not check; and the times in an mp4 can contradict each
  other.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from blvnet_lab.data.decoding import (
    PROGRESSIVE,
    UPRIGHT,
    JoinedError,
    Orientation,
    open_video,
    orientation_of,
    pictures,
    unreadable,
)
from blvnet_lab.data.picture_folders import decode_picture, picture_names

# Each packet of these gives one frame, but for what `_is_plain` asks besides.
PLAIN_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "ffv1", "prores"}
PLAIN_CONTAINERS = {"mp4", "matroska", "webm", "avi"}
DECORD_CODECS = {"h264", "vp9", "av1", "mpeg4", "mjpeg"}
PICTURE_FOLDER = "folder of pictures"  # what stands for the container's name


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds."""

    path: str
    num_frames: int  # that are shown and complete
    size: tuple[int, int]  # (height, width) in pixels as shown, upright
    fps: float  # frames per second, on average; 0.0 if there is no telling
    codec: str  # "h264", "vp9", ...
    container: str  # FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2"
    decord_exact: bool  # whether decord gives the same frames, bit for bit
    # When each frame is shown, ascending, in the file's own units; None: not of a plain kind, so
    # that they are counted as they are decoded.
    pts: tuple[int, ...] | None
    keyframe_pts: tuple[int, ...]  # where decoding may start; empty: only at the file's beginning
    damage: str = ""  # what is known to be wrong with the file, though some of it can be read
    num_bytes: int = 0  # the file's size, by which another file in its place is noticed
    whole: bool = False  # every frame was decoded once without a fault (`reading.check_video`)
    orientation: Orientation = UPRIGHT  # what brings a stored picture upright
    joined: bool = False  # cut or joined within an open group: FFmpeg must patch up a picture
    first_picture: str = ""  # the name of the first of a folder of pictures

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps if self.fps else 0.0


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Find out what a video file, or a folder of numbered pictures, holds.

    path: of the file; or of a folder with the frames as 00001.jpg, 00002.jpg, ..., as
        Something-Something v1 comes, or numbered in another way: see `picture_names`.

    Raises VideoReadError if there is no video in it, or no reading it. A file that is cut short is
    described as far as it is complete; `VideoInfo.damage` says so.
    """
    path = os.fsdecode(path)
    if os.path.isdir(path):
        return _probe_pictures(path)
    with open_video(path) as (container, stream):
        packets = _scan(path, container, stream, _look_for_alterations(path))
        first = _decode_alone(stream, packets.first)
        plain = first is not None and _is_plain(container, stream, packets)
        times = [pts for pts, _ in packets.shown]
        damage, joined = packets.damage, False
        if plain:
            times.sort()
        else:
            counted = _count(path, packets, strict=True)
            joined = counted.is_joined
            if joined:
                counted = _count(path, packets, strict=False)
            first, times, damage = first or counted.first, counted.times, counted.damage
        if not times:
            raise unreadable(path, "there is not one frame in it that can be decoded")
        orientation = orientation_of(path, first)
        size = (first.height, first.width)
        codec, name = stream.codec_context.codec.canonical_name, container.format.name
        closed = plain and _are_groups_closed(packets)
        return VideoInfo(
            path=path,
            num_frames=len(times),
            size=size if orientation[0] else size[::-1],
            fps=_rate(stream, [time for time in times if time is not None]),
            codec=codec,
            container=name,
            decord_exact=closed
            and not (damage or packets.num_hidden)
            and orientation == UPRIGHT
            and codec in DECORD_CODECS
            and name != "avi",  # of which it was not found exact
            pts=tuple(times) if plain else None,
            keyframe_pts=tuple(sorted(packets.keyframes)) if closed else (),
            damage=damage,
            num_bytes=os.path.getsize(path),
            whole=not (plain or damage),
            orientation=orientation,
            joined=joined,
        )


def _decode_alone(stream: VideoStream, packet: av.Packet | None) -> av.VideoFrame | None:
    """The picture of a packet, or None if it cannot be decoded without others."""
    if packet is None:
        return None
    try:
        # A copy: of a packet that an edit list hides, the decoder would keep the picture back.
        pictures = stream.decode(av.Packet(bytes(packet))) + stream.decode(None)
    except av.error.FFmpegError:
        return None
    return pictures[0] if len(pictures) == 1 and not pictures[0].is_corrupt else None


def _is_plain(container: InputContainer, stream: VideoStream, packets: _Packets) -> bool:
    """Whether the packets tell all: each gives one frame, or is known to be hidden."""
    coder = stream.codec_context
    codec, name = coder.codec.canonical_name, container.format.name
    if codec not in PLAIN_CODECS or not PLAIN_CONTAINERS & set(name.split(",")):
        return False
    if (
        packets.is_doubtful
        or packets.is_edited
        or (codec == "h264" and coder.field_order != PROGRESSIVE)
    ):
        return False  # two fields, half a picture each, may be two packets
    times = [pts for pts, _ in packets.shown]
    if None in [pts for _, pts in packets.times] or len(set(times)) < len(times):
        return False
    # avi holds no times, and those that FFmpeg works out are wrong with B-frames.
    if name == "avi" and (coder.has_b_frames or times != sorted(times)):
        return False
    # Nothing is shown before the first keyframe, on which all is built.
    first = packets.times[0][1]
    return packets.keyframes[:1] == [first] and first == min(pts for _, pts in packets.times)


def _are_groups_closed(packets: _Packets) -> bool:
    """Whether what is stored after a keyframe is shown after it, so that decoding may start there.

    Not so in an open group of pictures (GOP).
    """
    order = sorted(range(len(packets.shown)), key=lambda k: packets.shown[k][0])
    return all(order[k] == k for k, (_, is_key) in enumerate(packets.shown) if is_key)


@dataclass
class _Counted:
    """What came out of a decoder."""

    first: av.VideoFrame | None = None
    times: list[int | None] = field(default_factory=list)
    damage: str = ""
    is_joined: bool = False


def _count(path: str, packets: _Packets, strict: bool) -> _Counted:
    """Decodes all up to the first fault."""
    found = _Counted(damage=packets.damage)
    num_packets = len(packets.times) if packets.damage else None
    with open_video(path, strict) as (container, stream):
        is_ts = container.format.name == "mpegts"
        lacks = is_ts and _first_hole([dts for dts, _ in packets.times]) is not None
        try:
            for picture, is_key in pictures(container, stream, num_packets):
                is_back = lacks and not is_key and picture.pts <= found.times[-1]
                if (picture.is_corrupt and strict) or is_back:
                    found.damage = found.damage or "damaged"
                    break
                found.first = found.first or picture
                found.times.append(picture.pts)
        except av.error.FFmpegError as error:
            found.is_joined = strict and (packets.is_edited or isinstance(error, JoinedError))
            found.damage = found.damage or f"damaged ({error.strerror})"
    # MPEG-TS has neither an index nor a length. A hole at the end may be from a cut without
    # encoding again, unless it was a cut through one of its packets, of 188 bytes (or 192, or 204).
    hole, num_bytes = _first_hole(found.times), os.path.getsize(path)
    if is_ts and hole is not None and num_bytes % 188 and num_bytes % 192 and num_bytes % 204:
        found.times = [time for time in found.times if time <= hole]
        found.damage = found.damage or "cut short"
    return found


def _rate(stream: VideoStream, times: Sequence[int]) -> float:
    """Frames a second: what the file says, unless its times belie it; 0.0 if nothing tells.

    Formats without a rate of their own make FFmpeg guess one, up to 60,000 frames a second.
    """
    said = float(stream.average_rate or 0)
    steps = [late - early for early, late in pairwise(times)]
    if sum(steps) <= 0:
        return said
    mean = float(len(steps) / (sum(steps) * stream.time_base))
    usual = float(1 / (max(median(steps), 1) * stream.time_base))
    # A recording may pause: then its frames are as far apart as it says, but for few.
    return said if any(0.8 < said / rate < 1.25 for rate in (mean, usual)) else mean


@dataclass
class _Packets:
    """A stream's packets (compressed pictures) as far as they matter here, in the file's order."""

    first: av.Packet | None = None
    shown: list[tuple[int | None, bool]] = field(default_factory=list)  # (pts, is it a keyframe)
    keyframes: list[int | None] = field(default_factory=list)  # their pts, the hidden ones' too
    num_hidden: int = 0  # to be decoded, but not shown
    times: list[tuple[int | None, int | None]] = field(default_factory=list)  # all (dts, pts)
    is_edited: bool = False  # whether an edit list of several parts has some read twice
    is_doubtful: bool = False  # whether some may give no frame of their own
    damage: str = ""


def _scan(path: str, container: InputContainer, stream: VideoStream, damage: str) -> _Packets:
    """Reads the stream's packets up to the first that is damaged or missing.

    damage: what is known of it already.

    Raises VideoReadError if there is no telling which frame is which.
    """
    found, last_dts = _Packets(damage=damage), None
    rank_of, found.is_edited = _index(container, stream)
    codec = stream.codec_context.codec.canonical_name
    is_ts, gap = container.format.name == "mpegts", None
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # marks the end
            num_before = len(found.times)
            corrupt = packet.is_corrupt
            if is_ts:
                # What lies before a gap is called corrupt. It does no harm where two broadcasts
                # were joined: a keyframe comes next, or next but one.
                gap = None if packet.is_keyframe else gap
                gap = num_before if corrupt else gap
                corrupt = gap is not None and num_before - gap == 3
            if corrupt or rank_of.get(packet.pos, 0) > num_before:
                found.damage = "cut short or damaged"
                del found.times[num_before if gap is None else gap :]
                break
            found.first = found.first or packet
            last_dts = packet.dts
            found.times.append((packet.dts, packet.pts))
            if packet.is_keyframe:
                found.keyframes.append(packet.pts)
            found.is_doubtful |= codec == "mpeg4" and not _is_one_picture(packet)
            # Hidden: what an edit list cuts off, and mere references.
            if packet.is_discard or _is_reference_only(codec, packet):
                found.num_hidden += 1
            else:
                found.shown.append((packet.pts, packet.is_keyframe))
    except av.error.FFmpegError as error:
        found.damage = f"damaged ({error.strerror})"
    is_all_there = len(rank_of) == len(found.times) and not found.damage
    if "mp4" in container.format.name and is_all_there and _contradict(found.times):
        raise unreadable(
            path,
            "its table of times was altered: frames stored at even times are shown at uneven ones",
        )
    if len(rank_of) > len(found.times) or _is_shorter_than_it_says(path):
        found.damage = found.damage or "cut short"
    if found.damage and last_dts is not None:
        # The lost packets may hold frames that belong between the last ones. No frame is shown
        # before it is decoded (pts >= dts), so up to the last dts none is missing.
        found.shown = [(pts, key) for pts, key in found.shown if pts is None or pts <= last_dts]
        hole = _first_hole([pts for pts, _ in found.shown])
        if hole is not None:
            found.shown = [(pts, key) for pts, key in found.shown if pts <= hole]
    return found


def _index(container: InputContainer, stream: VideoStream) -> tuple[dict[int, int], bool]:
    """Place in the file to rank, of all packets; empty where a container does not list them all.

    And whether some are read twice: an edit list of several parts decodes the same group for each.
    """
    names = container.format.name.split(",")
    if not {"mp4", "avi"} & set(names):
        return {}, False
    header = 8 if "avi" in names else 0  # avi's index points at the few bytes before a packet
    places = [entry.pos + header for entry in stream.index_entries if entry.size]
    ranks = {place: rank for rank, place in enumerate(places)}
    return (ranks, False) if len(ranks) == len(places) else ({}, True)


def _is_one_picture(packet: av.Packet) -> bool:
    """Whether an MPEG-4 packet holds one picture, and not a mere "as before" of a few bytes."""
    data = bytes(packet)
    return data.count(VOP) == 1 and len(data) - data.index(VOP) >= 16


def _is_reference_only(codec: str, packet: av.Packet) -> bool:
    """Whether a packet of VP8 or VP9 says of its picture that it is not shown."""
    data = memoryview(packet)
    if codec == "vp8":
        return not data[0] & 16
    if codec != "vp9" or data[-1] & 0xE0 == 0xC0:  # the end of several pictures, the last is shown
        return False
    flags = data[0] >> (0 if data[0] & 0x30 == 0x30 else 1)  # profile 3 has one bit more before
    return not flags & 0b101  # nor is one shown that was decoded before


VOP = b"\0\0\1\xb6"  # how MPEG-4 begins a picture


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
    """Whether packets (dts, pts) are to be decoded at even times, but some shown at once.

    An mp4 keeps the times of decoding, and how much later each frame is shown. An encoder takes
    the first from the second: where frames are shown unevenly, the times of decoding are so too.
    Holes are no sign of it: a cut without encoding again leaves some.
    """
    if len(times) < 3 or any(None in both for both in times):
        return False
    decoded, shown = (sorted(column) for column in zip(*times, strict=True))
    usual = median(late - early for early, late in pairwise(decoded))
    if any(abs(late - early - usual) > 0.1 * usual for early, late in pairwise(decoded)):
        return False
    return any(late - early < 0.5 * usual for early, late in pairwise(shown))


def _is_shorter_than_it_says(path: str) -> bool:
    """Whether a Matroska, WebM or avi file ends before the end that its first bytes announce."""
    with open(path, "rb") as file:
        begin, size = file.read(4096), os.path.getsize(path)
    if begin[:4] == b"RIFF":
        announced = int.from_bytes(begin[4:8], "little")
        return size < 8 + announced and announced != 0xFFFFFFFF  # what a pipe gets, unfinished
    announced, place = _ebml_segment(begin)
    # A stream that was written as it came has all ones there: it does not know its size.
    return announced not in UNKNOWN_SIZES and place + announced > size


def _look_for_alterations(path: str) -> str:
    """Whether the parts of a Matroska file fit together: "" or, if not, what is wrong.

    Raises VideoReadError if an avi's list of pictures is lost, or a Matroska checksum is wrong.
    """
    with open(path, "rb") as file:
        begin, num_bytes = file.read(1 << 20), os.path.getsize(path)
        is_avi = begin[:4] == b"RIFF" and begin[8:12] != b"WEBP"
        if is_avi and not re.search(rb"LIST....movi", begin, re.DOTALL):
            # FFmpeg would begin at the first picture that it comes across.
            raise unreadable(path, "the beginning of the list of its pictures is missing")
        size, place = _ebml_segment(begin)
        end = num_bytes + 1 if size in UNKNOWN_SIZES else place + size
        while place < min(end, num_bytes):  # one element of the segment after the other
            file.seek(place)
            begin = file.read(12)
            size, header = _ebml_size(begin, 9 - begin[0].bit_length())
            place += header
            if size in UNKNOWN_SIZES or num_bytes < min(place + size, end):
                break  # cut short, or written as it came: then without checksums
            file.seek(place)
            place, first = place + size, file.read(min(size, 2))
            # Of those that a segment is made of only padding and checksums have a name of 1 byte.
            fits = place <= end and (begin[0] >> 4 == 1 or begin[:1] in (b"\xec", b"\xbf"))
            if fits and size > 6 and first == CHECKSUM:  # of all that follows it in the element
                expected = int.from_bytes(file.read(4), "little")
                if zlib.crc32(file.read(size - 6)) != expected:
                    raise unreadable(path, "it was altered: a checksum in it does not match")
            elif begin[:4] == CLUSTER or first[:1] == TIME:  # which is what a cluster begins with
                content = first + file.read(size - len(first))
                fits = fits and begin[:4] == CLUSTER and _is_filled(content, IN_CLUSTER)
            if not fits:
                return "damaged (its parts do not fit together)"
    return ""


EBML, SEGMENT, CHECKSUM = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xbf\x84"
# A cluster holds a few seconds: blocks (pictures, sounds), plain or in a group with more about them
# or encrypted; what numbers describe it; tracks that pause, padding, and a checksum.
CLUSTER, BLOCK_GROUP, TIME = b"\x1f\x43\xb6\x75", b"\xa0", b"\xe7"
NUMBERS = {TIME, b"\xa7", b"\xab"}
IN_CLUSTER = {b"\xa3", BLOCK_GROUP, b"\xaf", b"\x58\x54", b"\xec", b"\xbf"} | NUMBERS
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


def _is_filled(data: bytes, names: Collection[bytes] = ()) -> bool:
    """Whether Matroska elements fill the data to its last byte; of these names, if any are given.

    Where they do not, FFmpeg may pass over the rest of the cluster without a word.
    """
    place = 0
    while place < len(data):
        begin = place
        place += 9 - data[place].bit_length()
        name = data[begin:place]
        size, place = _ebml_size(data, place)
        if (names and name not in names) or (name in NUMBERS and size > 8):
            return False
        if name == BLOCK_GROUP and not _is_filled(data[place : place + size]):
            return False
        place += size
    return place == len(data)


# --- Folders of pictures ------------------------------------------------------------------------


def _probe_pictures(folder: str) -> VideoInfo:
    names = picture_names(folder)
    first = decode_picture(folder, names[0])
    orientation, size = orientation_of(folder, first), (first.height, first.width)
    return VideoInfo(
        path=folder,
        num_frames=len(names),
        size=size if orientation[0] else size[::-1],
        fps=0.0,
        codec="png" if names[0].lower().endswith("png") else "mjpeg",
        container=PICTURE_FOLDER,
        decord_exact=False,  # it reads files, not folders
        pts=None,
        keyframe_pts=(),
        first_picture=names[0],
    )


# --- Keeping what was found ---------------------------------------------------------------------


def pack_info(info: VideoInfo) -> str:
    """What was found, but for the path, as one line of JSON: for a manifest's column `probe`."""
    values = {name: value for name, value in asdict(info).items() if name != "path"}
    values["pts"] = None if info.pts is None else _to_runs(info.pts)
    values["keyframe_pts"] = _to_runs(info.keyframe_pts)
    # Usual values are left out.
    values = {k: value for k, value in values.items() if k not in _USUAL or value != _USUAL[k]}
    return json.dumps(values, separators=(",", ":"))


_USUAL = {
    "damage": "",
    "whole": False,
    "orientation": UPRIGHT,
    "joined": False,
    "first_picture": "",
    "keyframe_pts": [],
    "pts": None,
}


def unpack_info(path: str | os.PathLike[str], packed: str) -> VideoInfo:
    """What `pack_info` packed. Raises ValueError for anything else."""
    try:
        values = _USUAL | json.loads(packed)
        values["size"], values["orientation"] = tuple(values["size"]), tuple(values["orientation"])
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

    So it is, too, if nothing useful was packed: nothing at all, or by hand, or by another version.

    Raises VideoReadError if there is no such file, and what `probe_video` raises.
    """
    try:
        info = unpack_info(path, packed)
    except ValueError:
        return probe_video(path)
    if info.container == PICTURE_FOLDER:
        return info  # each picture is looked at when it is read
    try:
        unchanged = os.path.getsize(info.path) == info.num_bytes
    except OSError as error:
        raise unreadable(info.path, "it does not exist", "check the path") from error
    return info if unchanged else probe_video(path)


def usable_video(path: str | os.PathLike[str], packed: str) -> VideoInfo:
    """As `known_video`, but raises VideoReadError for a file that is damaged, too.

    A network is to learn from whole videos: the beginning of one may show another action.
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
