"""What a subset of Kinetics-400 takes, found out before any clip is fetched."""

from __future__ import annotations

import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pandas as pd

from blvnet_lab.datasets.journal import in_units
from blvnet_lab.datasets.layouts import kinetics_name, read_kinetics_rows
from blvnet_lab.datasets.mirror import OFFICIAL, REPLACEMENTS
from blvnet_lab.datasets.remote import DownloadError, fetch_text, remote_size
from blvnet_lab.datasets.selection import Selection
from blvnet_lab.paths import plain_name
from blvnet_lab.progress import tqdm

LICENCE = (
    "The annotations are licensed CC BY 4.0 by Google; the clips belong to the people who put them "
    "on YouTube. Use them for research and teaching, and do not pass them on."
)


@dataclass(frozen=True, kw_only=True)
class SubsetPlan:
    """Describe what a subset takes, before any of it is fetched."""

    mirror: str  # address in front of 400/...
    out: Path
    selection: Selection
    max_disk_gb: float | None
    splits: list[str]
    classes: list[str]
    rows: pd.DataFrame  # rows of a manifest, by the clips' names
    num_rows: int  # of all classes, in these splits
    parts: dict[str, int | None]  # names of the archives, and bytes; the replacements come first

    @property
    def quota(self) -> pd.Series:
        """Count the clips to be kept by split and class."""
        available = self.rows.groupby(["split", "class_name"]).size()
        return available.clip(upper=self.selection.clips_per_class)

    @property
    def expected_clips(self) -> int:
        return int(self.quota.sum())

    def __str__(self) -> str:
        place = next(folder for folder in (self.out, *self.out.parents) if folder.is_dir())
        stream = sum(filter(None, self.parts.values()))
        kept = stream * self.expected_clips / self.num_rows  # as if all clips were equally large
        return (
            f"{len(self.classes)} classes of Kinetics-400 from {self.mirror}: "
            f"{', '.join(self.classes)}\n"
            f"clips of {' and '.join(self.splits)} are mixed over {len(self.parts) - 1} parts: "
            f"{in_units(stream)} in all (where the mirror tells)\n"
            f"to be kept: {self.expected_clips} clips, about {in_units(kept)} "
            f"({in_units(shutil.disk_usage(place).free)} are free)\n{LICENCE}"
        )


def plan_subset(
    out: Path, selection: Selection, *, mirror: str = OFFICIAL, max_disk_gb: float | None = None
) -> SubsetPlan:
    """Fetch the annotations, the lists of parts and the parts' sizes, and no clip.

    Args:
        out: folder for the subset; the annotations are kept in it from now on.
        selection: which clips; without a split those of "val".
        mirror: address in front of `400/...`; the official one, or a copy of it.
        max_disk_gb: of clips, at which to stop.

    Raises:
        ValueError: no such split or class.
        DownloadError: the mirror does not answer, lacks these files, or sends something else.
    """
    splits = list(selection.split) or ["val"]
    if set(splits) - {"train", "val"} or len(set(splits)) < len(splits):
        raise ValueError(f"expected the splits train, val or both, got {', '.join(splits)}")
    if not (selection.classes or selection.class_list or selection.num_classes is not None):
        raise ValueError("expected classes, got none: name some, or say how many")
    if max_disk_gb is not None and not max_disk_gb > 0:
        raise ValueError(f"expected a positive max_disk_gb, got {max_disk_gb}")
    if not mirror.startswith(("http://", "https://")):
        raise ValueError(f"expected a mirror's address, http://... or https://..., got {mirror}")
    mirror, out = mirror.rstrip("/") + "/", Path(out).absolute()
    table = pd.concat([_annotations(mirror, split, out) for split in splits])
    classes = selection.choose_classes(sorted(set(table["label"])))
    rows = table[table["label"].isin(classes)].drop_duplicates(["youtube_id", "time_start"])
    rows.columns = ["class_name", "source_id", "start", "end", "split"]
    rows.index = list(map(kinetics_name, rows["source_id"], rows["start"], rows["end"]))
    folders = [out / "clips" / plain_name(name) for name in rows["class_name"]]
    rows = rows.assign(
        path=[f"{folder / name}.mp4" for folder, name in zip(folders, rows.index, strict=True)],
        label=list(map(classes.index, rows["class_name"])),
        status="ok",
    )
    parts = [REPLACEMENTS, *(name for split in splits for name in _parts(mirror, split))]
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(remote_size, (urljoin(mirror, part) for part in parts))
        sizes = list(tqdm(asked, "sizes of the parts", len(parts), leave=False, unit="part"))
    return SubsetPlan(
        mirror=mirror,
        out=out,
        selection=selection,
        max_disk_gb=max_disk_gb,
        splits=splits,
        classes=classes,
        rows=rows,
        num_rows=len(table),
        parts=dict(zip(parts, sizes, strict=True)),
    )


def _annotations(mirror: str, split: str, out: Path) -> pd.DataFrame:
    url, file = f"{mirror}400/annotations/{split}.csv", out / "annotations" / f"{split}.csv"
    text = fetch_text(url)
    try:
        table = read_kinetics_rows(io.StringIO(text), split, name=url)
    except ValueError as error:
        raise DownloadError(str(error)) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8", newline="")
    return table


def _parts(mirror: str, split: str) -> list[str]:
    """Fetch the names on the mirror, or whole addresses, of a split's archives."""
    url = f"{mirror}400/{split}/k400_{split}_path.txt"
    names = [line.removeprefix(OFFICIAL) for line in fetch_text(url).split()]
    if not names or not all(name.endswith((".tar", ".tar.gz", ".tgz")) for name in names):
        raise DownloadError(f"{url}: expected a list of tar archives, got {names[:1]}")
    return names
