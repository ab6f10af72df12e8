"""What a video's packets (compressed pictures) and its container tell us without decoding."""

import os
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from blvnet_lab.data.decoding import may_be_fields, slice_of, unreadable

# In these, each packet holds one frame, provided the other tests of `is_plain` pass too.
PLAIN_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "ffv1", "prores"}
PLAIN_CONTAINERS = {"mp4", "matroska", "webm", "avi"}
VOP = b"\0\0\1\xb6"  # how MPEG-4 begins a picture


class Packet(NamedTuple):
    """Hold what matters here of a packet (a compressed picture)."""

    dts: int | None
    pts: int | None
    is_key: bool


@dataclass
class Contents:
    """Hold what was found in a video: its packets in file order, and then its frames."""

    damage: str
    first: av.Packet | None = None
    all: list[Packet] = field(default_factory=list)
    shown: list[Packet] = field(default_factory=list)  # the others are decoded but not shown
    is_edited: bool = False  # whether an edit list of several parts has some packets read twice
    is_doubtful: bool = False  # whether some packets may not yield a frame of their own
    is_open: bool = False  # whether some keyframes of H.264 need what comes before them
    picture: av.VideoFrame | None = None  # the first
    times: Sequence[int | None] = ()  # of the frames, ascending
    joined: bool = False  # see `VideoInfo`


def scan(path: str, container: InputContainer, stream: VideoStream) -> Contents:
    """Read the stream's packets up to the first that is damaged or missing.

    Raises VideoReadError if one cannot tell which frame is which.
    """
    name, codec = container.format.name, stream.codec_context.codec.canonical_name
    found, gap = Contents(find_damage(path)), None
    # For mp4 and avi, which list all packets: from place in the file to rank. An edit list of
    # several parts decodes a group once for each; avi's index points at the header of a packet.
    listed = stream.index_entries if name == "avi" or "mp4" in name else ()
    places = [entry.pos + 8 * (name == "avi") for entry in listed if entry.size]
    rank_of = {place: rank for rank, place in enumerate(places)}
    found.is_edited = len(rank_of) < len(places)
    rank_of = {} if found.is_edited else rank_of
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # marks the end
            num_before = len(found.all)
            # Some whole JPEGs at the end of a camera's are marked as corrupt, too.
            is_bad = packet.is_corrupt and (codec != "mjpeg" or bytes(packet)[-2:] != b"\xff\xd9")
            if name == "mpegts":
                # FFmpeg marks the packet before a gap as corrupt. That is harmless where two
                # broadcasts were joined: a keyframe comes next, or next but one.
                gap = num_before if is_bad else None if packet.is_keyframe else gap
                is_bad = gap is not None and num_before - gap == 3
            if is_bad or rank_of.get(packet.pos, 0) > num_before:
                found.damage = "cut short or damaged"
                del found.all[num_before if gap is None else gap :]
                break
            found.first = found.first or packet
            found.all.append(Packet(packet.dts, packet.pts, packet.is_keyframe))
            found.is_open |= codec == "h264" and packet.is_keyframe and slice_of(packet)[0] != ""
            if codec == "mpeg4":  # several pictures, none, or a few bytes for "same as before"
                data = bytes(packet)
                found.is_doubtful |= data.count(VOP) != 1 or len(data) - data.index(VOP) < 16
            # Frames that an edit list cuts off, or that serve only as references, are not shown.
            if not (packet.is_discard or _is_reference_only(codec, packet)):
                found.shown.append(found.all[-1])
    except av.error.FFmpegError as error:
        # Cameras' JPEGs (mpjpeg, smjpeg) end in a mark of a few bytes, which FFmpeg calls invalid.
        left = container.size - packet.pos - packet.size if found.all else 99
        if left > 98 or not name.endswith("jpeg"):
            found.damage = f"damaged ({error.strerror})"
    if "mp4" in name and codec in PLAIN_CODECS and stream.frames == len(found.all) == len(rank_of):
        _refuse_contradictions(path, found.all)
    if len(rank_of) > len(found.all):
        found.damage = found.damage or "cut short"
    if found.damage and found.all and found.all[-1].dts is not None:
        # Lost packets may hold frames that belong between the last ones. No frame is shown before
        # it is decoded (pts >= dts), so none is missing up to the last dts.
        last = found.all[-1].dts
        found.shown = [p for p in found.shown if p.pts is None or p.pts <= last]
        if (hole := first_hole([p.pts for p in found.shown])) is not None:
            found.shown = [p for p in found.shown if p.pts <= hole]
    return found


def _is_reference_only(codec: str, packet: av.Packet) -> bool:
    """Tell whether a packet of VP8 or VP9 marks its picture as not to be shown."""
    data = memoryview(packet)
    if codec == "vp8":
        return not data[0] & 16
    if codec != "vp9" or data[-1] & 0xE0 == 0xC0:  # several pictures, of which the last is shown
        return False
    flags = data[0] >> (0 if data[0] & 0x30 == 0x30 else 1)  # profile 3 has one more bit before
    return not flags & 0b101  # neither "show" nor "show one decoded earlier"


def is_plain(container: InputContainer, stream: VideoStream, found: Contents) -> bool:
    """Tell whether the packets say it all: each holds one frame, or is known to be hidden."""
    coder, name = stream.codec_context, container.format.name
    if coder.codec.canonical_name not in PLAIN_CODECS or found.is_doubtful or found.is_edited:
        return False
    if may_be_fields(coder) or not PLAIN_CONTAINERS & set(name.split(",")):
        return False
    times, all_times = ([p.pts for p in some] for some in (found.shown, found.all))
    if None in all_times or not times:
        return False
    # Packets that yield no frame, such as AV1's references, take another's time, to the tick.
    if (np.diff(np.sort(times)) <= 0.01 * np.ptp(times) / len(times)).any():
        return False
    # avi stores no times, and those that FFmpeg works out are wrong if there are B-frames. Nor does
    # a bare stream copied into another container: it seems to be shown in decoding order.
    in_order = times == sorted(times)
    waits = name != "avi" and all(p.dts is not None and p.dts < p.pts for p in found.all)
    if (coder.has_b_frames and in_order and not waits) or (name == "avi" and not in_order):
        return False
    # Nothing may be shown before the first keyframe, on which all others build.
    return found.all[0].is_key and all_times[0] == min(all_times)


def first_hole(times: Sequence[int | None]) -> int | None:
    """Find the last time before frames are missing, in a video that is otherwise evenly timed."""
    if None in times or len(times) < 3:
        return None
    times = np.sort(times)
    steps = np.diff(times)
    usual = np.median(steps)
    is_even = (abs(steps - usual) <= 0.1 * usual).mean() >= 0.8
    holes = np.flatnonzero(steps > 1.5 * usual)
    return int(times[holes[0]]) if is_even and holes.size else None


def _refuse_contradictions(path: str, packets: Sequence[Packet]) -> None:
    """Raise VideoReadError if packets are decoded at even times but shown at crowded ones.

    Encoders derive one from the other. Holes prove nothing: cutting by copying leaves some.
    """
    if len(packets) < 3 or any(None in packet for packet in packets):
        return
    decoded, shown = (np.diff(np.sort([p[column] for p in packets])) for column in (0, 1))
    usual = decoded.mean()
    if (abs(decoded - usual) <= 0.1 * usual).all() and (shown < 0.5 * usual).any():
        raise unreadable(path, "its table of times was altered: even ones became uneven")


# Damage that FFmpeg overlooks, but that shows in the bytes of a Matroska (mkv, WebM) or avi file.

EBML, SEGMENT, CHECKSUM = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xbf\x84"
# A cluster holds blocks (pictures, sound), plain, grouped or encrypted; numbers that describe it;
# the tracks that pause; padding; and a checksum.
CLUSTER, BLOCK_GROUP, TIME = b"\x1f\x43\xb6\x75", b"\xa0", b"\xe7"
NUMBERS = {TIME, b"\xa7", b"\xab"}
IN_CLUSTER = {b"\xa3", BLOCK_GROUP, b"\xaf", b"\x58\x54", b"\xec", b"\xbf"} | NUMBERS


def find_damage(path: str) -> str:
    """Return what is wrong with a Matroska or avi file, or ""; VideoReadError if it was altered."""
    size, place, num_bytes = None, 0, os.path.getsize(path)
    with open(path, "rb") as file:
        begin = file.read(4096)
        if begin[:4] == b"RIFF":
            begin += file.read(1 << 20)
            if begin[8:11] == b"AVI" and not re.search(rb"LIST....movi", begin, re.DOTALL):
                # FFmpeg would begin at the first picture that it comes across.
                raise unreadable(path, "the beginning of its list of pictures is missing")
            size, place = int.from_bytes(begin[4:8], "little") % 0xFFFFFFFF, 8  # all ones: unknown
        elif begin[:4] == EBML:
            header, place = _size(begin, 4)
            place += header or 0
            if begin[place : place + 4] == SEGMENT:  # which holds nearly all of the file
                size, place = _size(begin, place + 4)
                end = num_bytes + 1 if size is None else place + size
                if not _do_parts_fit(file, num_bytes, place, end):
                    return "damaged (its parts do not fit together)"
    return "cut short" if size is not None and place + size > num_bytes else ""


def _do_parts_fit(file: BinaryIO, num_bytes: int, place: int, end: int) -> bool:
    """Tell whether a Matroska segment's elements fill it, and its clusters' elements fill them."""
    while place < min(end, num_bytes):
        file.seek(place)
        begin = file.read(12)
        size, header = _size(begin, 9 - begin[0].bit_length())
        place += header
        if size is None or num_bytes < min(place + size, end):
            break  # cut short, or recorded live: then it has no checksums
        # Of a segment's elements, only padding and checksums have a name of 1 byte.
        if place + size > end or (begin[0] >> 4 != 1 and begin[:1] not in (b"\xec", b"\xbf")):
            return False
        file.seek(place)
        content = memoryview(file.read(size))
        place += size
        if size > 6 and content[:2] == CHECKSUM:  # over all that follows it in the element
            if zlib.crc32(content[6:]) != int.from_bytes(content[2:6], "little"):
                raise unreadable(file.name, "it was altered: a checksum in it does not match")
        elif begin[:4] == CLUSTER or content[:1] == TIME:  # with which every cluster begins
            if begin[:4] != CLUSTER or not _is_filled(bytes(content), IN_CLUSTER):
                return False
    return True


def _is_filled(data: bytes, names: Collection[bytes] = ()) -> bool:
    """Tell whether Matroska elements, with these names if any are given, fill the data exactly."""
    place = 0
    while place < len(data):
        begin = place
        place += 9 - data[place].bit_length()
        name = data[begin:place]
        size, place = _size(data, place)
        if size is None or (names and name not in names) or (name in NUMBERS and size > 8):
            return False
        if name == BLOCK_GROUP and not _is_filled(data[place : place + size]):
            return False
        place += size
    return place == len(data)


def _size(data: bytes, place: int) -> tuple[int | None, int]:
    """Read an element's size (None, all ones, if written to a pipe) and where its data begins."""
    length = 9 - (data[place] if place < len(data) else 1).bit_length()
    ones = (1 << 7 * length) - 1
    number = int.from_bytes(data[place : place + length], "big") & ones
    return None if number == ones else number, place + length
