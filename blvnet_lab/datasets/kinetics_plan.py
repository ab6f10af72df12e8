"""Plan a subset of Kinetics from the mirror's lists and the sizes of its archives.

The classes of Kinetics-400 are mixed in archives ("parts") of about 1.6 GB: to get every clip of a
class, every part must be streamed, though next to nothing of it is kept. Kinetics-600 and -700-2020
have an archive for each class and split.
"""

import io
import math
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from urllib.parse import unquote, urljoin

import pandas as pd

from blvnet_lab.data.dataset_files import COLUMNS
from blvnet_lab.datasets import remote
from blvnet_lab.datasets.journal import in_units
from blvnet_lab.datasets.published import kinetics_name, read_kinetics_rows
from blvnet_lab.datasets.selection import Selection
from blvnet_lab.paths import plain_name
from blvnet_lab.progress import tqdm

RATE = 10e6  # bytes per second, assumed for the minutes of a download
LICENCE = (
    "The annotations are licensed CC BY 4.0 by Google; the clips belong to the people who put them "
    "on YouTube. Use them for research and teaching, and do not pass them on."
)
LEAK = (
    "Much of Kinetics-400's val is in Kinetics-700's train: do not evaluate there what is trained "
    "here (`python -m blvnet_lab shared` counts the clips that two manifests share)\n"
)


@dataclass(frozen=True, kw_only=True)
class SubsetPlan:
    """What a subset takes, before any of it is fetched."""

    dataset: str
    mirror: str  # address before 400/...
    out: Path
    selection: Selection
    short_side: int | None  # of the clips kept, in pixels; None keeps them as they are
    splits: list[str]
    classes: list[str]
    all_classes: list[str]  # of the data set
    rows: pd.DataFrame  # rows of a manifest, indexed by clip name
    listed: frozenset[str]  # names of the clips of all classes in these splits
    parts: dict[str, int | None]  # archive name to bytes; the replacements come first
    group_of: dict[str, tuple[str, str]]  # split and class of an archive; empty if mixed
    annotations: dict[str, str]  # by split, as fetched

    @property
    def quota(self) -> pd.Series:
        """Count the listed clips to keep, by split and class."""
        available = self.rows.groupby(["split", "class_name"]).size()
        return available.clip(upper=self.selection.clips_per_class)

    @property
    def expected_clips(self) -> int:
        return int(self.quota.sum())

    @property
    def bytes_to_read(self) -> float:
        """Estimate what is streamed: the archive of a class only until there are enough clips."""
        if not self.classes:
            return 0.0
        shares = self.quota / self.rows.groupby(["split", "class_name"]).size()
        groups = [(size or 0, self.group_of.get(part)) for part, size in self.parts.items()]
        return sum(size * (shares.get(group, 1) if group else 1) for size, group in groups)

    @property
    def minutes(self) -> int:
        return math.ceil(self.bytes_to_read / RATE / 60)

    def __str__(self) -> str:
        place = next(folder for folder in (self.out, *self.out.parents) if folder.is_dir())
        free, read = in_units(shutil.disk_usage(place).free), self.bytes_to_read
        # For mixed archives, as if all clips were equally large.
        kept = read if self.group_of else read * self.expected_clips / len(self.listed)
        small = f", before re-encoding to {self.short_side} pixels" if self.short_side else ""
        leak = LEAK * (self.dataset == "kinetics700-2020" and "train" in self.splits)
        return (
            f"{len(self.classes)} classes of {self.dataset.replace('kinetics', 'Kinetics-')} from "
            f"{self.mirror}: {', '.join(self.classes)}\n"
            f"to be read: about {in_units(read)} (where the mirror tells) of {len(self.parts)} "
            f"archives, {self.minutes} min at {RATE / 1e6:.0f} MB a second\n"
            f"to be kept: {self.expected_clips} listed clips of {' and '.join(self.splits)}, about "
            f"{in_units(kept)}{small} ({free} are free)\n{leak}{LICENCE}"
        )


def plan_subset(
    out: Path,
    selection: Selection,
    *,
    dataset: str = "kinetics400",
    mirror: str = remote.OFFICIAL,
    short_side: int | None = None,
    partly: bool = False,
) -> SubsetPlan:
    """Fetch annotations, lists of archives and their sizes, but no clips.

    The arguments are those of `subset`. With `partly`, classes that the data set lacks are left
    out. Raises ValueError if there is no such data set, split or class, DownloadError if the mirror
    does not answer, lacks these files, or sends something else.
    """
    splits = list(selection.split) or ["val"]
    if dataset not in remote.FOLDERS:
        raise ValueError(f"expected one of {', '.join(remote.FOLDERS)}, got {dataset}")
    if sorted(splits) not in (["train"], ["val"], ["train", "val"]):
        raise ValueError(f"expected the splits train, val or both, got {', '.join(splits)}")
    if not (selection.classes or selection.class_list or selection.num_classes is not None):
        raise ValueError("expected classes, got none: name some, or say how many")
    if short_side is not None and short_side < 2:
        raise ValueError(f"expected a short side of 2 pixels or more, got {short_side}")
    if not mirror.startswith(("http://", "https://")):
        raise ValueError(f"expected a mirror's address, http://... or https://..., got {mirror}")
    mirror, out = mirror.rstrip("/") + "/", Path(out).absolute()
    lists = {split: _fetch_lists(dataset, mirror, split) for split in splits}
    table = pd.concat([rows for _, rows, _ in lists.values()])
    names, known = [name for *_, names in lists.values() for name in names], set(table["label"])
    if dataset == "kinetics600":  # all archives exist, but not all annotations
        known |= {unquote(name.rpartition("/")[2]).partition(".tar")[0] for name in names}
    known = sorted(known)
    chosen = [name for name in selection.classes if name in known]
    chosen = chosen if partly else selection.choose_classes(known)
    is_mixed = dataset == "kinetics400"
    groups = [] if is_mixed else product(splits, chosen)
    group_of = {remote.class_archive(dataset, *group, known): group for group in groups}
    parts = [remote.REPLACEMENTS, *names] if is_mixed else [*group_of]
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(remote.remote_size, [urljoin(mirror, part) for part in parts])
        sizes = [*tqdm(asked, "sizes of the parts", len(parts), leave=False, unit="part")]
    rows = table[table["label"].isin(chosen)].drop_duplicates(["youtube_id", "time_start"])
    clips = map(kinetics_name, table["youtube_id"], table["time_start"], table["time_end"])
    return SubsetPlan(
        dataset=dataset,
        mirror=mirror,
        out=out,
        selection=selection,
        short_side=short_side,
        splits=splits,
        classes=chosen,
        all_classes=known,
        rows=clip_rows(rows.itertuples(index=False), chosen, out),
        listed=frozenset(clips),
        parts=dict(zip(parts, sizes, strict=True)),
        group_of=group_of,
        annotations={split: text for split, (text, *_) in lists.items()},
    )


def clip_rows(clips: Iterable[Sequence], classes: list[str], out: Path) -> pd.DataFrame:
    """Make a manifest's rows of clips (class, id, start, end, split), indexed by clip name."""
    rows = pd.DataFrame(clips, columns=["class_name", "source_id", "start", "end", "split"])
    rows.index = [*map(kinetics_name, rows["source_id"], rows["start"], rows["end"])]
    paths = [str(clip_path(out, *row)) for row in zip(rows["class_name"], rows.index, strict=True)]
    rows = rows.assign(path=paths, label=[*map(classes.index, rows["class_name"])], status="ok")
    return rows.astype({name: COLUMNS[name] for name in rows})


def clip_path(out: Path, class_name: str, name: str) -> Path:
    return out / "clips" / plain_name(class_name) / f"{name}.mp4"


def compare_releases(plan: SubsetPlan) -> pd.DataFrame:
    """Compare what the classes of a plan take from each release of Kinetics; fetch no clips."""
    columns, table = ["classes", "GB to read", "minutes", "clips"], {}
    wanted = replace(plan.selection, classes=plan.classes, class_list=None, num_classes=None)
    for dataset in tqdm(remote.FOLDERS, "lists of releases", leave=False, unit="release"):
        other = plan_subset(plan.out, wanted, dataset=dataset, mirror=plan.mirror, partly=True)
        gb = float(f"{other.bytes_to_read / 1e9:.3g}")
        table[dataset] = len(other.classes), gb, other.minutes, other.expected_clips
    return pd.DataFrame.from_dict(table, orient="index", columns=columns)


def _fetch_lists(dataset: str, mirror: str, split: str) -> tuple[str, pd.DataFrame, list[str]]:
    """Fetch a split's annotations, and the names or full addresses of its archives."""
    folder = remote.FOLDERS[dataset]
    url = f"{mirror}{folder}/annotations/{split}.csv"
    text = remote.fetch_text(url)
    try:
        table = read_kinetics_rows(io.StringIO(text), split, name=url)
    except ValueError as error:
        raise remote.DownloadError(str(error)) from error
    url = f"{mirror}{folder}/{split}/k{folder}_{split}_path.txt"
    lines = filter(None, map(str.strip, remote.fetch_text(url).splitlines()))
    names = [line.removeprefix(remote.OFFICIAL).replace(" ", "%20") for line in lines]
    if not names or not all(name.endswith((".tar", ".tar.gz", ".tgz")) for name in names):
        raise remote.DownloadError(f"{url}: expected a list of tar archives, got {names[:1]}")
    return text, table, names
