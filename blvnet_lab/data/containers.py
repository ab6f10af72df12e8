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


def find_damage(path: str) -> str:
    """Look for damage to a Matroska or avi file: "" or what is wrong with it.

    It may end before the end that its first bytes announce, or its parts do not fit together.

    Raises VideoReadError if an avi's list of pictures is lost, or a Matroska checksum is wrong.
    """
    size, place, num_bytes = None, 0, os.path.getsize(path)
    with open(path, "rb") as file:
        begin = file.read(4096)
        if begin[:4] == b"RIFF":
            begin += file.read(1 << 20)
            if begin[8:12] != b"WEBP" and not re.search(rb"LIST....movi", begin, re.DOTALL):
                # FFmpeg would begin at the first picture that it comes across.
                raise unreadable(path, "the beginning of the list of its pictures is missing")
            size, place = int.from_bytes(begin[4:8], "little"), 8
            size = None if size == 0xFFFFFFFF else size
        elif begin[:4] == EBML:
            header, place = _size(begin, 4)
            place += header or 0
            if begin[place : place + 4] == SEGMENT:  # it holds nearly all of the file
                size, place = _size(begin, place + 4)
                if not _do_parts_fit(
                    path, file, place, num_bytes + 1 if size is None else place + size
                ):
                    return "damaged (its parts do not fit together)"
    return "cut short" if size is not None and place + size > num_bytes else ""


def _do_parts_fit(path: str, file: BinaryIO, place: int, end: int) -> bool:
    """Whether the elements of a Matroska segment fill it, and those of its clusters these."""
    num_bytes = os.path.getsize(path)
    while place < min(end, num_bytes):
        file.seek(place)
        begin = file.read(12)
        size, header = _size(begin, 9 - begin[0].bit_length())
        place += header
        if size is None or num_bytes < min(place + size, end):
            break  # cut short, or written as it came: then without checksums
        # Of those that a segment is made of only padding and checksums have a name of 1 byte.
        if place + size > end or (begin[0] >> 4 != 1 and begin[:1] not in (b"\xec", b"\xbf")):
            return False
        file.seek(place)
        content = memoryview(file.read(size))
        place += size
        if size > 6 and content[:2] == CHECKSUM:  # of all that follows it in the element
            if zlib.crc32(content[6:]) != int.from_bytes(content[2:6], "little"):
                raise unreadable(path, "it was altered: a checksum in it does not match")
        elif begin[:4] == CLUSTER or content[:1] == TIME:  # which is what a cluster begins with
            if begin[:4] != CLUSTER or not _is_filled(bytes(content), IN_CLUSTER):
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
        if size is None or (names and name not in names) or (name in NUMBERS and size > 8):
            return False
        if name == BLOCK_GROUP and not _is_filled(data[place : place + size]):
            return False
        place += size
    return place == len(data)


def _size(data: bytes, place: int) -> tuple[int | None, int]:
    """An element's size and the place behind it: the first byte's leading zeros say how long.

    All ones are None: what is written to a pipe does not know its size.
    """
    length = 9 - (data[place] if place < len(data) else 1).bit_length()
    number = int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1)
    return None if number == (1 << 7 * length) - 1 else number, place + length
