"""Videos that are folders of numbered pictures, as Something-Something v1 comes."""

from __future__ import annotations

import os
import re
from collections import defaultdict

import av

from blvnet_lab.data.decoding import STRICT, VideoReadError, unreadable

NUMBERED = re.compile(r"(|[^.].*?)([0-9]+)\.(jpe?g|png)", re.IGNORECASE | re.ASCII)


def picture_names(folder: str | os.PathLike[str]) -> list[str]:
    """Name the pictures of a folder in the order of their numbers: 00001.jpg, 00002.jpg, ...

    The first is 0 or 1, and none is missing. What precedes the number is the same in all:
    img_00001.jpg. Of several series one without a name counts, or whose name begins with "im" or
    "frame" (beside it may lie flow_x_00001.jpg), and then the longest.

    Raises VideoReadError if the folder cannot be listed, holds no such pictures, or a number is
    missing or there twice: the message names it.
    """
    folder = os.fsdecode(folder)
    try:
        found = [match for name in os.listdir(folder) if (match := NUMBERED.fullmatch(name))]
    except OSError as error:
        raise unreadable(folder, f"it cannot be listed ({error.strerror})", "check it") from error
    if not found:
        words = "it is a folder without numbered pictures, such as 00001.jpg, 00002.jpg, ..."
        raise unreadable(folder, words, "check the path")
    series = defaultdict(dict)
    for match in found:
        prefix, number, suffix = match.groups()
        pictures = series[prefix, suffix]
        if int(number) in pictures:
            twice = f"{pictures[int(number)]} and {match[0]}"
            raise unreadable(folder, f"two of its pictures have the same number: {twice}")
        pictures[int(number)] = match[0]

    def rank(key: tuple[str, str]) -> tuple[bool, int]:
        return not key[0] or key[0].lower().startswith(("im", "frame")), len(series[key])

    longest = max(map(rank, series))
    chosen = [key for key in series if rank(key) == longest]
    if len(chosen) > 1:
        names = ", ".join(sorted(f"{prefix}*.{suffix}" for prefix, suffix in chosen))
        raise unreadable(folder, f"it holds several series of pictures: {names}")
    pictures = series[chosen[0]]
    first = min(pictures)
    for number in range(min(1, first), max(pictures) + 1):
        name = picture_name(pictures[first], number - first)
        if pictures.get(number) != name:
            raise unreadable(folder, f"of its pictures up to {max(pictures)}, {name} is missing")
    return [pictures[number] for number in sorted(pictures)]


def picture_name(first: str, index: int) -> str:
    """The name of picture `index` of a folder whose first has the name `first`."""
    prefix, number, suffix = NUMBERED.fullmatch(first).groups()
    return f"{prefix}{int(number) + index:0{len(number)}d}.{suffix}"


def decode_picture(folder: str, name: str) -> av.VideoFrame:
    """Decode a picture of a folder. Raises VideoReadError, which names it.

    FFmpeg decodes it: with these options it stops at nearly every fault. What Pillow and
    torchvision are built on goes on, and gives pictures that are grey or shifted from there on.
    """
    decoder = av.CodecContext.create("png" if name.lower().endswith("png") else "mjpeg", "r")
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
        raise unreadable(folder, f"its picture {name} is damaged, or of another kind") from error
    except OSError as error:
        if isinstance(error, VideoReadError):
            raise
        raise unreadable(folder, f"its picture {name} cannot be read ({error})") from error
    if len(pictures) != 1 or pictures[0].is_corrupt:
        raise unreadable(folder, f"its picture {name} is damaged, or of another kind")
    return pictures[0]
