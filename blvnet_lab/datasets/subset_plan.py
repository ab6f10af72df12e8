"""What a subset of Kinetics-400 takes, found out before any clip is fetched."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from blvnet_lab.datasets.journal import in_units
from blvnet_lab.datasets.layouts import kinetics_name, read_kinetics_rows
from blvnet_lab.datasets.mirror import OFFICIAL, REPLACEMENTS
from blvnet_lab.datasets.remote import RETRIES, DownloadError, Retries, fetch_text, remote_size
from blvnet_lab.datasets.selection import Selection
from blvnet_lab.paths import atomic_write
from blvnet_lab.progress import tqdm

LICENCE = (
    "The annotations are licensed CC BY 4.0 by Google; the clips belong to the people who put them "
    "on YouTube. Use them for research and teaching, and do not pass them on."
)
ADVICE = (
    "On the official mirror the training clips are in 242 parts, the validation clips (about 50 a "
    "class) in 20: a subset of the latter alone (--split val) is divided into train and val, and "
    "streams a tenth as much."
)


@dataclass(frozen=True)
class SubsetPlan:
    """Describe what a subset takes, before any of it is fetched."""

    mirror: str
    out: Path
    selection: Selection
    max_disk_gb: float | None
    retries: Retries
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    rows: pd.DataFrame  # of the wanted classes: label, youtube_id, split, name
    num_rows: int  # of all classes, in these splits
    parts: tuple[tuple[str, str, int | None], ...]  # (split, name on the mirror, bytes)
    replacement_bytes: int | None  # of the archive that replaces corrupt clips

    @property
    def available(self) -> pd.Series:
        """Count the clips of the annotations by split and label."""
        return self.rows.groupby(["split", "label"]).size()

    @property
    def quota(self) -> pd.Series:
        """Count the clips to be kept by split and label."""
        return self.available.clip(upper=self.selection.clips_per_class)

    @property
    def stream_bytes(self) -> int:
        known = [size for _, _, size in self.parts if size is not None]
        usual = sum(known) // max(1, len(known))  # where the mirror does not say
        return sum(known) + usual * (len(self.parts) - len(known)) + (self.replacement_bytes or 0)

    @property
    def expected_clips(self) -> int:
        return int(self.quota.sum())

    @property
    def expected_bytes(self) -> int:
        """Estimate the disk needed, if the clips of these classes are as large as the others."""
        return round(self.stream_bytes * self.expected_clips / max(1, self.num_rows))

    @property
    def expected_share(self) -> float:
        """Estimate the share of the parts to stream until every class has its clips."""
        return float((self.quota / self.available).max())

    def address(self, name: str) -> str:
        """Complete a name on the mirror, unless it is a whole address."""
        return name if "://" in name else self.mirror + name

    def __str__(self) -> str:
        counts = Counter(split for split, _, _ in self.parts)
        parts = ", ".join(f"{count} {split} parts" for split, count in counts.items())
        place = next(folder for folder in (self.out, *self.out.parents) if folder.is_dir())
        stream, kept = (
            in_units(size) if size else "a size that the mirror does not tell"
            for size in (self.stream_bytes, self.expected_bytes)
        )
        lines = [
            f"{len(self.classes)} classes of Kinetics-400 from {self.mirror}: "
            + ", ".join(self.classes[:8])
            + ", ..." * bool(self.classes[8:]),
            f"clips are mixed over {parts}: {stream} in all, of which about "
            f"{100 * self.expected_share:.0f} % must be streamed",
            f"to be kept: {self.expected_clips} clips, about {kept} "
            f"({in_units(shutil.disk_usage(place).free)} are free)",
        ]
        return "\n".join([*lines, *[ADVICE] * ("train" in self.splits), LICENCE])


def plan_subset(
    out: Path,
    selection: Selection,
    *,
    mirror: str = OFFICIAL,
    max_disk_gb: float | None = None,
    retries: Retries = RETRIES,
) -> SubsetPlan:
    """Fetch the annotations, the lists of parts and the parts' sizes, and no clip.

    The annotations and the sizes (some MB) are kept in `out` from now on; another mirror must have
    the same annotations for the subset to go on.

    Args:
        out: folder for the subset.
        selection: which clips; without a split those of "val".
        mirror: address in front of `400/...`; the official one, or a copy of it.
        max_disk_gb: of clips, at which to stop.
        retries: how patient to be.

    Raises:
        ValueError: no such split or class; or the folder holds other annotations.
        DownloadError: the mirror does not answer, lacks these files, or sends something else.
    """
    splits = tuple(selection.split) or ("val",)
    if set(splits) - {"train", "val"} or len(set(splits)) < len(splits):
        raise ValueError(f"expected the splits train, val or both, got {', '.join(splits)}")
    if not (selection.classes or selection.class_list or selection.num_classes is not None):
        raise ValueError(
            "expected classes, got none: name some, or say how many (as --num-classes 10)"
        )
    if max_disk_gb is not None and not max_disk_gb > 0:
        raise ValueError(f"expected a positive max_disk_gb, got {max_disk_gb}")
    if not mirror.startswith(("http://", "https://")):
        raise ValueError(f"expected a mirror's address, http://... or https://..., got {mirror}")
    mirror, out = mirror.rstrip("/") + "/", Path(out).absolute()
    table = pd.concat([_annotations(mirror, split, out, retries) for split in splits])
    classes = selection.choose_classes(sorted(set(table["label"])))
    rows = table[table["label"].isin(classes)].drop_duplicates(["youtube_id", "time_start"])
    columns = (rows["youtube_id"], rows["time_start"], rows["time_end"])
    plan = SubsetPlan(
        mirror=mirror,
        out=out,
        selection=selection,
        max_disk_gb=max_disk_gb,
        retries=retries,
        classes=tuple(classes),
        splits=splits,
        rows=rows.assign(name=list(map(kinetics_name, *columns))).reset_index(drop=True),
        num_rows=len(table),
        parts=(),
        replacement_bytes=None,
    )
    parts = [(split, name) for split in splits for name in _parts(mirror, split, retries)]
    *sizes, last = _sizes(plan, [name for _, name in parts] + [REPLACEMENTS])
    sized = tuple((*part, size) for part, size in zip(parts, sizes, strict=True))
    return replace(plan, parts=sized, replacement_bytes=last)


def _annotations(mirror: str, split: str, out: Path, retries: Retries) -> pd.DataFrame:
    url = f"{mirror}400/annotations/{split}.csv"
    text = fetch_text(url, retries)
    file = out / "annotations" / f"{split}.csv"
    if file.is_file() and file.read_bytes() != text.encode():  # line ends, too, are as they came
        raise ValueError(
            f"expected the annotations with which {out} was begun, got others from {url}: take "
            "another folder, or the mirror used before"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as partial:
        partial.write_text(text, "utf-8", newline="")
        try:
            table = read_kinetics_rows(partial, split)
            if table.empty:
                raise ValueError("there are no rows below the header")
        except ValueError as error:
            why = str(error).removeprefix(f"{partial}: ")
            raise DownloadError(f"{url}: expected annotations of Kinetics, but: {why}") from error
    return table


def _parts(mirror: str, split: str, retries: Retries) -> list[str]:
    """Fetch the names on the mirror, or whole addresses, of a split's archives."""
    url = f"{mirror}400/{split}/k400_{split}_path.txt"
    names = [line.removeprefix(OFFICIAL) for line in fetch_text(url, retries).split()]
    strange = [name for name in names if not name.endswith((".tar", ".tar.gz", ".tgz"))]
    if strange or not names:
        raise DownloadError(
            f"{url}: expected a list of tar archives, got {strange[0] if strange else 'nothing'}"
        )
    return names


def _sizes(plan: SubsetPlan, names: Sequence[str]) -> list[int | None]:
    """Ask for the sizes of archives in bytes; None if the mirror does not say, or has no such.

    They are kept in sizes.json, so that nobody asks again. One can do without: a mirror that gave
    its lists, but no answer here, is not asked any more.
    """
    memory, urls = plan.out / "sizes.json", list(map(plan.address, names))
    known = json.loads(memory.read_text("utf-8")) if memory.is_file() else {}
    retries = replace(plan.retries, tries=2)
    try:
        for url in tqdm(urls, "sizes of the parts", leave=False, unit="part"):
            size = known.get(url) or remote_size(url, retries)
            known |= {} if size is None else {url: size}
    except DownloadError:
        pass
    finally:
        with atomic_write(memory) as partial:
            partial.write_text(json.dumps(known, indent=0), "utf-8")
    return [known.get(url) for url in urls]
