"""Damage that FFmpeg passes over, but the bytes of a Matroska (mkv, WebM) or avi file give away."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Collection
from typing import BinaryIO

from blvnet_lab.data.decoding import unreadable

EBML, SEGMENT, CHECKSUM = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xbf\x84"
# A cluster holds a few seconds: blocks (pictures, sounds), plain or in a group with more about them
# or encrypted; what numbers describe it; tracks that pause, padding, and a checksum.
CLUSTER, BLOCK_GROUP, TIME = b"\x1f\x43\xb6\x75", b"\xa0", b"\xe7"
NUMBERS = {TIME, b"\xa7", b"\xab"}
IN_CLUSTER = {b"\xa3", BLOCK_GROUP, b"\xaf", b"\x58\x54", b"\xec", b"\xbf"} | NUMBERS
# All ones: what is written to a pipe does not know its size.
UNKNOWN_SIZES = {(1 << 7 * length) - 1 for length in range(1, 9)}


def find_damage(path: str) -> str:
    """Look for damage to a Matroska or avi file: "" or what is wrong with it.

    It may end before the end that its first bytes announce, or its parts do not fit together.

    Raises VideoReadError if an avi's list of pictures is lost, or a Matroska checksum is wrong.
    """
    num_bytes = os.path.getsize(path)
    with open(path, "rb") as file:
        begin = file.read(4096)
        if begin[:4] == b"RIFF":
            begin += file.read(1 << 20)
            if begin[8:12] != b"WEBP" and not re.search(rb"LIST....movi", begin, re.DOTALL):
                # FFmpeg would begin at the first picture that it comes across.
                raise unreadable(path, "the beginning of the list of its pictures is missing")
            size, place = int.from_bytes(begin[4:8], "little"), 8
            is_known = size != 0xFFFFFFFF
        else:
            size, place = _segment(begin)
            is_known = size not in UNKNOWN_SIZES
            end = place + size if is_known else num_bytes + 1
            if not _do_parts_fit(path, file, place, end):
                return "damaged (its parts do not fit together)"
    return "cut short" if is_known and place + size > num_bytes else ""


def _do_parts_fit(path: str, file: BinaryIO, place: int, end: int) -> bool:
    """Whether the elements of a Matroska segment fill it, and those of its clusters these."""
    num_bytes = os.path.getsize(path)
    while place < min(end, num_bytes):
        file.seek(place)
        begin = file.read(12)
        size, header = _size(begin, 9 - begin[0].bit_length())
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
            return False
    return True


def _is_filled(data: bytes, names: Collection[bytes] = ()) -> bool:
    """Whether Matroska elements fill the data to its last byte; of these names, if any are given.

    Where they do not, FFmpeg may pass over the rest of the cluster without a word.
    """
    place = 0
    while place < len(data):
        begin = place
        place += 9 - data[place].bit_length()
        name = data[begin:place]
        size, place = _size(data, place)
        if (names and name not in names) or (name in NUMBERS and size > 8):
            return False
        if name == BLOCK_GROUP and not _is_filled(data[place : place + size]):
            return False
        place += size
    return place == len(data)


def _segment(begin: bytes) -> tuple[int, int]:
    """Size of a Matroska file's segment, which holds nearly all, and its place; or (0, 0)."""
    if begin[:4] != EBML:
        return 0, 0
    header, place = _size(begin, 4)
    place += header
    return _size(begin, place + 4) if begin[place : place + 4] == SEGMENT else (0, 0)


def _size(data: bytes, place: int) -> tuple[int, int]:
    """An element's size and the place behind it: the first byte's leading zeros say how long."""
    length = 9 - (data[place] if place < len(data) else 1).bit_length()
    number = int.from_bytes(data[place : place + length], "big")
    return number & ((1 << 7 * length) - 1), place + length
