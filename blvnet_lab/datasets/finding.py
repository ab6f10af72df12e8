"""What there is in a data set's folder: videos, folders of pictures that are some, and the rest."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    ".mp4 .mkv .webm .avi .mov .m4v .mpg .mpeg .ts .3gp .flv .wmv .264 .265 .3g2 .amv .asf .divx "
    ".dv .f4v .gif .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .mj2 .mjpeg .mjpg .mod .mp4v .mpe "
    ".mpv .mts .mxf .nut .ogg .ogm .ogv .qt .rm .rmvb .tod .vob .wtv .xvid .y4m".split()
)
NUMBERED_PICTURE = re.compile(r"[0-9]\.(?:jpe?g|png)$", re.IGNORECASE)
Finding = tuple[str, str, str, str]  # kind, split, name, detail: a row of the report


@dataclass(frozen=True)
class Found:
    """List what is in a data set's folder."""

    videos: list[Path] = field(default_factory=list)  # in the order of their names
    findings: list[Finding] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(  # all other files, by suffix
        default_factory=lambda: defaultdict(list)
    )


def find_videos(root: Path, *, frames_from: int | None = None) -> Found:
    """Find all videos below `root`; say what cannot be looked into, and what else is there.

    Links to folders are followed, but not back to a folder that holds them. Hidden files and
    folders are passed over.

    Args:
        root: where to look.
        frames_from: how many folders deep one of numbered pictures, without videos, is a video
            itself; None for nowhere. Nothing is looked for below it.

    Raises:
        OSError: `root` itself cannot be looked into.
    """
    found = Found()
    _look_into(root, frames_from, (), found)
    return found


def _look_into(folder: Path, frames_from: int | None, above: tuple[str, ...], found: Found) -> None:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        paths = sorted(folder.iterdir())
        os.stat(os.path.join(folder, "."))  # to list a folder is one right, to enter it another
    except OSError as error:
        if not above:
            raise
        why = error.strerror or ""
        found.findings.append(("folder that cannot be read", "", str(folder), why))
        return
    videos = {
        path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and os.path.isfile(path)
    }
    pictures = {path for path in paths if NUMBERED_PICTURE.search(path.name)}
    is_video = frames_from is not None and len(above) >= frames_from and not videos and pictures
    if is_video:
        found.videos.append(folder)
    for path in paths:
        name = str(path).encode(errors="backslashreplace").decode()
        if name != str(path):  # no table could hold it
            found.findings.append(("name that is not UTF-8", "", name, "give it another name"))
        elif path.name.startswith("."):
            found.passed_over["hidden"].append(path)
        elif os.path.isdir(path) and not is_video:
            _look_into(path, frames_from, (*above, here), found)
        elif path in videos:
            found.videos.append(path)
        elif not (is_video and path in pictures):
            found.passed_over[path.suffix.lower() or "without suffix"].append(path)


def without_suffix(name: str) -> str:
    """Take .mp4 and the like off a video's name; other dots belong to the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name
