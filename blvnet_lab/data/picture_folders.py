"""Videos that are folders of numbered pictures, as Something-Something v1 comes."""

from __future__ import annotations

import os
from collections import defaultdict

from blvnet_lab.data.decoding import NUMBERED, unreadable


def picture_names(folder: str) -> list[str]:
    """Name the pictures of a folder in the order of their numbers: 00001.jpg, 00002.jpg, ...

    The first is 0 or 1, and none is missing. What precedes the number is the same in all:
    img_00001.jpg. Of several series one without a name counts, or whose name begins with "im" or
    "frame" (beside it may lie flow_x_00001.jpg), and then the longest.

    Raises VideoReadError if the folder cannot be listed, or holds no such pictures.
    """
    try:
        found = [match for name in os.listdir(folder) if (match := NUMBERED.fullmatch(name))]
    except OSError as error:
        raise unreadable(folder, f"it cannot be listed ({error.strerror})", "check it") from error
    if not found:
        words = "it is a folder without numbered pictures, such as 00001.jpg, 00002.jpg, ..."
        raise unreadable(folder, words, "check the path")
    series = defaultdict(list)
    for match in found:
        prefix, number, suffix = match.groups()
        is_usual = not prefix or prefix.lower().startswith(("im", "frame"))
        series[is_usual, prefix, suffix].append((int(number), match[0]))
    ranks = {key: (key[0], len(pictures)) for key, pictures in series.items()}
    chosen, *others = [key for key in series if ranks[key] == max(ranks.values())]
    if others:
        names = ", ".join(sorted(f"{prefix}*.{suffix}" for _, prefix, suffix in [chosen, *others]))
        raise unreadable(folder, f"it holds several series of pictures: {names}")
    (first, first_name), *_ = pictures = sorted(series[chosen])
    start = min(1, first)
    for index, (_, name) in enumerate(pictures):
        expected = picture_name(first_name, start + index - first)
        if name != expected:
            raise unreadable(
                folder, f"of its pictures up to {pictures[-1][1]}, {expected} is missing"
            )
    return [name for _, name in pictures]


def picture_name(first: str, index: int) -> str:
    """Name picture `index` of a folder whose first picture is `first`."""
    prefix, number, suffix = NUMBERED.fullmatch(first).groups()
    return f"{prefix}{int(number) + index:0{len(number)}d}.{suffix}"
