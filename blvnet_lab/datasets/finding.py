"""What there is in a data set's folder: videos, folders of pictures that are some, and the rest."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    ".mp4 .mkv .webm .avi .mov .m4v .mpg .mpeg .ts .3gp .flv .wmv .264 .265 .3g2 .amv .asf .divx "
    ".dv .f4v .gif .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .mj2 .mjpeg .mjpg .mod .mp4v .mpe "
    ".mpv .mts .mxf .nut .ogg .ogm .ogv .qt .rm .rmvb .tod .vob .wtv .xvid .y4m".split()
)
NUMBERED_PICTURE = re.compile(r"[0-9]\.(?:jpe?g|png)$", re.IGNORECASE)
Finding = tuple[str, str, str, str]  # kind, split, name, detail: a row of the report


def find_videos(
    root: Path, *, frames_from: int | None = None
) -> tuple[list[Path], list[Finding], Counter[str]]:
    """Find all videos below `root`, what cannot be looked into, and count other files by suffix.

    Links to folders are followed, but not back to a folder that holds them. Hidden files and
    folders are passed over. `frames_from` says how many folders deep one of numbered pictures,
    without videos, is a video itself; None for nowhere. Nothing is looked for below it.

    Raises OSError if `root` itself cannot be looked into.
    """
    videos, findings, others = [], [], Counter()

    def refuse(error: OSError) -> None:
        if error.filename == str(root):
            raise error
        findings.append(("folder that cannot be read", "", error.filename, error.strerror))

    for place, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folder, here = Path(place), os.path.realpath(place)
        hidden = {name for name in (*folders, *names) if name[0] == "."}
        odd = {name for name in (*folders, *names) if re.search(r"[\ud800-\udfff]", name)}
        files = set(names) - odd - hidden
        found = {name for name in files if _is_video(folder / name)}
        pictures = {name for name in files if NUMBERED_PICTURE.search(name)}
        depth = len(folder.relative_to(root).parts)
        if frames_from is not None and depth >= frames_from and pictures and not found:
            videos.append(folder)
            folders.clear()
            files -= pictures
        videos += [folder / name for name in found]
        others.update(Path(name).suffix.lower() or "without suffix" for name in files - found)
        others.update(["hidden"] * len(hidden) + ["name that is not UTF-8"] * len(odd))
        folders[:] = [
            name
            for name in set(folders) - odd - hidden
            if not f"{here}{os.sep}".startswith(f"{os.path.realpath(folder / name)}{os.sep}")
        ]
    return sorted(videos), findings, others


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def without_suffix(name: str) -> str:
    """Take .mp4 and the like off a video's name; other dots belong to the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name
