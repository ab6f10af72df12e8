"""Record clips of your own classes in the notebook, into a folder that `manifest folder` reads.

ClipRecorder("my_clips", ["wave left", "wave right"])
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from html import escape
from itertools import chain, count
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from blvnet_lab.data import VideoReadError, probe_video, read_frames
from blvnet_lab.data.dataset import smaller_size
from blvnet_lab.data.decoding import unreadable
from blvnet_lab.data.probing import refuse_damage
from blvnet_lab.datasets.encoding import Showing, showing_of, write_h264
from blvnet_lab.datasets.motion import FRAMES, X264
from blvnet_lab.datasets.published import SPLIT_OF
from blvnet_lab.deploy.live import frame_edges
from blvnet_lab.paths import atomic_write, plain_name
from blvnet_lab.viz.explorers.base import Camera, Explorer, row
from blvnet_lab.viz.images import as_images, mosaic, paragraph, text_picture
from blvnet_lab.viz.theme import GREEN, VERMILLION

SHORT_SIDE = 128  # of clips, in pixels
FEWEST = 8  # different frames of a clip: the course's networks take 8
SHOWN = range(1, FRAMES, 3)  # the frames shown of a clip, those that the networks get


class ClipRecorder(Explorer):
    """Record clips, or choose files; class 2k and class 2k + 1 are partners.

    A recording makes two clips of 24 frames, encoded alike, so that time alone tells them apart:
    as filmed, and reversed, as a clip of the partner class. The folder holds

    - clips/CLASS/NUMBER/: `manifest folder` reads clips/, and keeps clips of a number in one split;
    - originals/CLASS/: what was recorded or chosen, unchanged;
    - removed/: what *remove the last* took away; .numbers/: the numbers in use.

    In Python, ``label.value`` is the class, `add` takes a file, and `counts()` counts clips.

    Args:
        folder: where all this is written; an earlier one is continued.
        class_names: also the names of folders.
        seconds: length of a recording; a longer video is cut to its first seconds.
        reversed_copies: make clips of the partner class; if not, any number of classes will do.

    Raises ValueError for names that cannot name folders, or an odd number of classes where copies
    are made.
    """

    def __init__(
        self,
        folder: str | Path,
        class_names: Sequence[str],
        *,
        seconds: float = 2.0,
        reversed_copies: bool = True,
    ) -> None:
        super().__init__()
        names = check_folder_names(class_names)
        if reversed_copies and len(names) % 2:
            raise ValueError(
                f"expected classes that are partners by twos, got {len(names)}: add the one that "
                "is played backwards, or say reversed_copies=False"
            )
        self.folder, self._names, self._reversed = Path(folder), names, reversed_copies
        self._note, self._pieces = paragraph(""), []
        self._choice("label", names)
        self._named("camera", Camera(seconds=seconds, label=names[0]))
        self.camera.on_msg(self._receive)
        self._button("remove", "remove the last", self.remove_last, "it goes to the folder removed")
        notice = f"What is filmed goes from this page to its kernel, which writes it to {folder}."
        notice = widgets.HTML(paragraph(f"<small>{escape(notice)} Nowhere else.</small>"))
        numbers = row(self.remove, self._text("numbers"))
        shown = (self._text("message"), self._image("strip"), notice)
        self._arrange(self.label, self.camera, numbers, *shown)

    def add(self, file: str | Path, class_name: str) -> None:
        """Copy a video file into the folder and make its clips, or nothing at all.

        Raises VideoReadError if it cannot be read or has too few frames, ValueError for an unknown
        class.
        """
        probe_video(file)  # raises the error for a missing file
        self._set_off(partial(self._store, str(file), class_name, Path(file).read_bytes()))

    def counts(self) -> dict[str, int]:
        """Count the clips of each class."""
        clips = self.folder / "clips"
        return {name: len([*(clips / name).glob("*/*.mp4")]) for name in self._names}

    def remove_last(self) -> None:
        """Move the last recording and its clips to the folder `removed`."""
        for last in self._recordings("originals")[-1:]:
            for path in [*self._clips(last), last]:
                target = self.folder / "removed" / path.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
            self._note = paragraph(f"Removed: {escape(last.parent.name)}, {last.stem}.")

    def _recordings(self, *folders: str) -> list[Path]:
        found = chain(*(self.folder.glob(f"{folder}/*/*") for folder in folders))
        return sorted((path for path in found if path.stem.isdecimal()), key=lambda p: int(p.stem))

    def _clips(self, recording: Path) -> list[Path]:
        found = self.folder.glob(f"clips/*/{recording.stem}/*.mp4")
        return sorted(found, key=lambda path: path.name)  # filmed, reversed

    def _receive(self, camera: Camera, piece: dict, buffers: list) -> None:
        """Collect the pieces of a file; once it is complete, make clips of it."""
        if not piece["start"]:
            self._pieces = []
        self._pieces.append(bytes(buffers[0]))
        try:
            if piece["last"]:
                data, self._pieces = b"".join(self._pieces), []
                self._set_off(partial(self._take, piece["name"], piece["label"], data))
        finally:  # the page is waiting for an answer
            camera.send({})

    def _take(self, *recording: object) -> None:
        try:
            self._store(*recording)
        except (OSError, ValueError) as error:  # no video, a full disk
            self._note = paragraph(f"<b>Not taken.</b> {escape(str(error))}", VERMILLION)

    def _new_number(self) -> str:
        """Claim an unused number, by making its folder: only one of two kernels can."""
        *_, last = "0", *self._recordings("originals", "removed/originals", "clips")
        for number in count(1 + int(Path(last).stem)):
            with suppress(FileExistsError):
                (self.folder / f".numbers/{number:03}").mkdir(parents=True)
                return f"{number:03}"

    def _store(self, name: str, label: str, data: bytes) -> None:
        """Write a recording and its clips, or nothing at all."""
        if label not in self._names:
            raise ValueError(f"expected one of {', '.join(self._names)}, got {label!r}")
        number = self._new_number()
        original = f"originals/{label}/{number}{plain_name(Path(name).suffix or '.video')}"
        ways = {label: ("filmed", 1)}
        if self._reversed:
            ways[self._names[self._names.index(label) ^ 1]] = ("reversed", -1)
        with ExitStack() as stack:
            file = stack.enter_context(atomic_write(self.folder / original))
            file.write_bytes(data)
            try:
                frames, showing, used = read_clip(file, self.camera.seconds)
            except VideoReadError as error:
                raise VideoReadError(str(error).replace(str(file), name), name) from error
            for of_class, (way, step) in ways.items():
                path = self.folder / f"clips/{of_class}/{number}/{way}.mp4"
                clip = stack.enter_context(atomic_write(path))
                write_h264(clip, frames[::step], showing, gop=1, x264=X264)
        self._note = paragraph(f"Taken: {escape(label)}, number {number}{used}.", GREEN)

    def draw(self) -> None:
        self.camera.label = self.now.label
        counts, last = self.counts().items(), self._recordings("originals")[-1:]
        found = ", ".join(f"{name}: {number}" for name, number in counts)
        self.numbers.value = paragraph(f"<b>Clips.</b> {escape(found)}")
        self.about = f"ClipRecorder({', '.join(f'{number} x {name}' for name, number in counts)})"
        self.remove.disabled, self.message.value = not last, self._note
        clips = [path for recording in last for path in self._clips(recording)]
        frames = {path.parents[1].name: as_images(read_frames(path, SHOWN)) for path in clips}
        labels = [f"frame {number}" for number in SHOWN]
        none = text_picture("Nothing recorded yet.")
        self._show("strip", mosaic(frames, column_labels=labels) if frames else none)


def check_folder_names(names: Sequence[str]) -> list[str]:
    """Return class names if each can name a folder; raise ValueError if not."""
    names = list(map(str, names))
    for name in names:
        if name != (better := plain_name(name).strip(". ") or "a"):
            raise ValueError(f"expected a name for a class's folder, got {name!r}: try {better!r}")
        if name.lower() in SPLIT_OF:
            raise ValueError(f"expected the name of a class, got {name!r}, which names a split")
    if len({name.lower() for name in names}) < max(1, len(names)):
        raise ValueError(f"expected different class names, got {', '.join(names)}")
    return names


def read_clip(path: Path, seconds: float) -> tuple[np.ndarray, Showing, str]:
    """Read 24 frames (24, H, W, 3), evenly spaced in time, from the first seconds of a video.

    Also returns how to show them, and a remark if the rest is left out. Browsers record without a
    rate and at uneven times, so each frame is the one that a player shows at its moment.
    """
    info = refuse_damage(probe_video(path))
    if not info.fps:
        raise unreadable(str(path), "its frames have no times", "take a video file with times")
    edges = frame_edges(info)
    whole = edges[-1] - edges[0]
    length = min(whole, seconds)
    moments = edges[0] + (np.arange(FRAMES) + 0.5) * length / FRAMES
    numbers = np.searchsorted(edges, moments, "right") - 1
    if (different := len(set(numbers))) < FEWEST:
        found = f"there are {different} frames in its first {length:.2g} s"
        raise unreadable(str(path), found, f"take one with {FEWEST} or more")
    size = tuple(max(2, side // 2 * 2) for side in smaller_size(info.size, SHORT_SIDE))
    frames = read_frames(info, numbers.tolist(), size).permute(0, 2, 3, 1).numpy()
    fps = Fraction(FRAMES / length).limit_denominator(1001)
    used = f" (the first {length:g} s of {whole:.1f})" if whole > 1.1 * seconds else ""
    return frames, replace(showing_of(info), fps=fps, times=None), used
