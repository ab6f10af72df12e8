"""Some classes of Kinetics-400 from a public mirror, without storing the rest.

    python -m blvnet_lab subset kinetics400 --num-classes 10 --out runs/mini --mirror sample

The mirror holds tar archives ("parts") of about 1.6 GB, and the classes are mixed over all of them:
to have every clip of a class, every part must be streamed, though next to nothing of it is kept.
242 parts hold the training clips, 20 the validation clips, some 50 of each class. So a subset for
learning comes from the validation parts, and is divided anew into training and validation.

What is on disk at any time is good: clips get their names when their first and last frame were
decoded, and a log says which parts are done. So one may stop at any time, and go on.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from blvnet_lab.data.dataset_files import DataSet, check_class_list
from blvnet_lab.data.reading import (
    VideoInfo,
    VideoReadError,
    pack_info,
    read_frames,
    usable_video,
)
from blvnet_lab.datasets.inventory import (
    ID_LENGTH,
    REPORT,
    set_aside,
    write_report,
)
from blvnet_lab.datasets.layouts import (
    choose_classes,
    kinetics_name,
    mirror_table,
    mirrored_names,
    read_kinetics_rows,
)
from blvnet_lab.datasets.mirror import OFFICIAL, REPLACEMENTS
from blvnet_lab.datasets.remote import (
    CHUNK,
    ChangedError,
    DownloadError,
    MissingError,
    RemoteFile,
    fetch_text,
    remote_size,
)
from blvnet_lab.datasets.sources import check_val_share, divide, one_sided_classes
from blvnet_lab.paths import plain_name, written_whole
from blvnet_lab.progress import tqdm

LEAST_FREE = 1_000_000_000  # bytes of disk that are left free
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
class Plan:
    """What a subset takes, before any of it is fetched."""

    mirror: str
    out: Path
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    clips_per_class: int
    rows: pd.DataFrame  # of the wanted classes: label, youtube_id, split, name
    num_rows: int  # of all classes, in these splits
    parts: tuple[tuple[str, str, int | None], ...]  # (split, name on the mirror, bytes)
    replacement_bytes: int | None  # of the archive that replaces corrupt clips

    @property
    def stream_bytes(self) -> int:
        known = [size for _, _, size in self.parts if size is not None]
        # Of parts that do not tell, the usual size.
        usual = sum(known) // max(1, len(known))
        return sum(known) + usual * (len(self.parts) - len(known)) + (self.replacement_bytes or 0)

    @property
    def expected_clips(self) -> int:
        per_class = self.rows.groupby(["split", "label"]).size()
        return int(per_class.clip(upper=self.clips_per_class).sum())

    @property
    def expected_bytes(self) -> int:
        """Of disk, if the clips of these classes are as large as the others."""
        return round(self.stream_bytes * self.expected_clips / max(1, self.num_rows))

    @property
    def expected_share(self) -> float:
        """Of the parts, that must be streamed until every class has its clips."""
        per_class = self.rows.groupby(["split", "label"]).size()
        return float((self.clips_per_class / per_class).clip(upper=1).max())

    def __str__(self) -> str:
        parts = ", ".join(
            f"{count} {split} parts"
            for split, count in Counter(split for split, _, _ in self.parts).items()
        )
        free = shutil.disk_usage(_existing(self.out)).free
        return "\n".join(
            [
                f"{len(self.classes)} classes of Kinetics-400 from {self.mirror}: "
                + ", ".join(self.classes[:8])
                + (", ..." if self.classes[8:] else ""),
                f"clips are mixed over {parts}: {_or_unknown(self.stream_bytes)} in all, of "
                f"which about {100 * self.expected_share:.0f} % must be streamed",
                f"to be kept: {self.expected_clips} clips, about "
                f"{_or_unknown(self.expected_bytes)} ({in_units(free)} are free)",
                *([ADVICE] if "train" in self.splits else []),
                LICENCE,
            ]
        )


@dataclass(frozen=True)
class Subset:
    """What came of a plan."""

    manifest: Path
    report: Path
    counts: pd.DataFrame  # a row a class: wanted, kept, unreadable
    problems: pd.DataFrame  # as in the report: kind, split, name, detail
    bytes_kept: int
    stopped: str  # why before the end; empty if it was not
    set_aside: tuple[Path, ...]  # older files that said more, under their new names


def plan_subset(
    out: str | os.PathLike,
    *,
    mirror: str = OFFICIAL,
    splits: Sequence[str] = ("val",),
    classes: Sequence[str] | None = None,
    class_list: Path | None = None,
    num_classes: int | None = None,
    clips_per_class: int = 100,
    seed: int = 0,
    **network: float,
) -> Plan:
    """Fetches the annotations, the lists of parts and the parts' sizes, and no clip.

    The annotations and the sizes (some MB) are kept in `out` from now on; another mirror must have
    the same annotations for the subset to go on.

    Args:
        out: folder for the subset.
        mirror: address in front of `400/...`; the official one, or a copy of it.
        splits: official splits to draw from: "train", "val".
        classes, class_list, num_classes, seed: as in `formats.choose_classes`.
        clips_per_class: at most so many of each class and split.
        network: timeout, tries and wait of `streaming.RemoteFile`.

    Raises:
        ValueError: no such split or class; or the folder holds other annotations.
        DownloadError: the mirror does not answer, lacks these files, or sends something else.
    """
    unknown = set(splits) - {"train", "val"}
    if unknown or not splits or len(set(splits)) < len(splits) or clips_per_class < 1:
        raise ValueError(
            "expected the splits train, val or both, and at least one clip a class, got "
            f"{', '.join(splits) or 'none'} and {clips_per_class}"
        )
    if not mirror.startswith(("http://", "https://")):
        raise ValueError(f"expected a mirror's address, http://... or https://..., got {mirror}")
    mirror, out = mirror.rstrip("/") + "/", Path(out).absolute()
    table = pd.concat([_annotations(mirror, split, out, network) for split in splits])
    chosen = choose_classes(
        sorted(set(table["label"])),
        classes=classes,
        class_list=class_list,
        num_classes=num_classes,
        seed=seed,
    )
    rows = table[table["label"].isin(chosen)].drop_duplicates(["youtube_id", "time_start"])
    columns = (rows["youtube_id"], rows["time_start"], rows["time_end"])
    names = [kinetics_name(*row) for row in zip(*columns, strict=True)]
    listed = [(split, name) for split in splits for name in _parts(mirror, split, network)]
    wanted = [name for _, name in listed] + [REPLACEMENTS]
    sizes = _sizes([_address(mirror, name) for name in wanted], out / "sizes.json", network)
    parts = [(*part, size) for part, size in zip(listed, sizes, strict=False)]
    return Plan(
        mirror=mirror,
        out=out,
        classes=tuple(chosen),
        splits=tuple(splits),
        clips_per_class=clips_per_class,
        rows=rows.assign(name=names).reset_index(drop=True),
        num_rows=len(table),
        parts=tuple(parts),
        replacement_bytes=sizes[-1],
    )


def _annotations(mirror: str, split: str, out: Path, network: dict[str, float]) -> pd.DataFrame:
    url = f"{mirror}400/annotations/{split}.csv"
    text = fetch_text(url, **network)
    file = out / "annotations" / f"{split}.csv"
    if file.is_file() and file.read_bytes() != text.encode():  # line ends, too, are as they came
        raise ValueError(
            f"expected the annotations with which {out} was begun, got others from {url}: take "
            "another folder, or the mirror of then"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as unfinished:
        unfinished.write_text(text, "utf-8", newline="")
        try:
            table = read_kinetics_rows(unfinished, split)
            if table.empty:
                raise ValueError("there are no rows below the header")
            return table
        except ValueError as error:
            why = str(error).removeprefix(f"{unfinished}: ")
            raise DownloadError(f"{url}: expected annotations of Kinetics, but: {why}") from error


def _parts(mirror: str, split: str, network: dict[str, float]) -> list[str]:
    """Names on the mirror, or whole addresses, of a split's archives."""
    url = f"{mirror}400/{split}/k400_{split}_path.txt"
    names = [line.removeprefix(OFFICIAL) for line in fetch_text(url, **network).split()]
    strange = [name for name in names if not name.endswith((".tar", ".tar.gz", ".tgz"))]
    if strange or not names:
        raise DownloadError(
            f"{url}: expected a list of tar archives, got {strange[0] if strange else 'nothing'}"
        )
    return names


def _address(mirror: str, name: str) -> str:
    return name if "://" in name else mirror + name


def _sizes(urls: Sequence[str], memory: Path, network: dict[str, float]) -> list[int | None]:
    """Of files, in bytes; None if the mirror does not say, or does not have one.

    memory: file for the sizes, so that they are not asked for again.

    One can do without: a mirror that gave its lists, but no answer here, is not asked any more.
    """
    known = json.loads(memory.read_text("utf-8")) if memory.is_file() else {}
    try:
        for url in tqdm(urls, "sizes of the parts", leave=False, unit="part"):
            if url not in known:
                try:
                    size = remote_size(url, **network | {"tries": 2})
                except DownloadError:
                    break
                if size is not None:
                    known[url] = size
    finally:
        with written_whole(memory) as unfinished:
            unfinished.write_text(json.dumps(known, indent=0), "utf-8")
    return [known.get(url) for url in urls]


def fetch_subset(
    plan: Plan,
    *,
    val_share: float = 0.2,
    seed: int = 0,
    max_disk_gb: float | None = None,
    **network: float,
) -> Subset:
    """Streams the parts until every class has its clips, and writes manifest and report.

    Run again with the same plan it goes on where it stopped.

    Args:
        val_share: with one official split, the share of the sources of each class that becomes
            "val"; the rest is "train". With several, their names stay.
        seed: of this division.
        max_disk_gb: of clips, at which to stop.
        network: as in `plan_subset`.

    Raises:
        ValueError: the folder holds a subset of other classes or splits, or another class list; or
            what `check_limits` raises.
        DownloadError: the mirror does not answer any more; what was fetched stays.
    """
    check_limits(val_share, max_disk_gb)
    work = _Work(plan, max_disk_gb)
    check_class_list(plan.classes, _mirror(plan), plan.out / "manifest.csv")
    # The replacements first, so that they stand in for what is corrupt in the parts.
    parts = [("", REPLACEMENTS, plan.replacement_bytes), *plan.parts]
    waiting = [part for part in parts if not work.is_done(part[1])]
    with tqdm(
        total=sum(size or 0 for _, _, size in waiting),
        desc="streaming",
        unit="B",
        unit_scale=True,
    ) as bar:
        for _, name, _ in waiting:
            if work.stop():
                break
            work.take(name, bar, network)
    return work.finish(val_share, seed)


def check_limits(val_share: float, max_disk_gb: float | None) -> None:
    """Raises ValueError if the share is not between 0 and 1, or there is to be no room at all."""
    check_val_share(val_share)
    if max_disk_gb is not None and not max_disk_gb > 0:
        raise ValueError(f"expected a positive max_disk_gb, got {max_disk_gb}")


def _mirror(plan: Plan) -> list[int | None]:
    # Of Kinetics every class is its own mirror image; of the sample mirror not all are.
    return mirror_table(plan.classes, mirrored_names(plan.classes))


class _Work:
    """A subset in the making: what is there, what is wanted, and the log of it."""

    def __init__(self, plan: Plan, max_disk_gb: float | None):
        self.plan, self.max_disk_gb = plan, max_disk_gb
        self.log = plan.out / "progress.jsonl"
        self._same_settings()
        self.row_of = {row.name: row for row in plan.rows.itertuples(index=False)}
        self.names_of = plan.rows.groupby("youtube_id")["name"].agg(list).to_dict()
        entries = self._read_log()
        # The last word about each counts.
        self.parts = {entry["part"]: entry for entry in entries if "part" in entry}
        unreadable = {entry["clip"]: entry["detail"] for entry in entries if "clip" in entry}
        self.kept = self._look(entries)  # name -> what the probe found
        self.bytes_kept = sum(info.num_bytes for info in self.kept.values())
        self.counts = Counter(self._group(name) for name in self.kept)
        self.unreadable = {k: v for k, v in unreadable.items() if k not in self.kept}
        per_class = plan.rows.groupby(["split", "label"]).size().clip(upper=plan.clips_per_class)
        self.quota = per_class.to_dict()
        for leftover in plan.out.glob("clips/*/.*.part"):
            leftover.unlink()  # of a run that was killed
        self.stopped = ""

    def _same_settings(self) -> None:
        path = self.plan.out / "subset.json"
        settings = {
            "classes": list(self.plan.classes),
            "splits": list(self.plan.splits),
            "clips_per_class": self.plan.clips_per_class,
        }
        if path.is_file():
            before = json.loads(path.read_text("utf-8"))
            for name, value in settings.items():
                if before.get(name) != value:
                    raise ValueError(
                        f"expected the {name} with which {self.plan.out} was begun, "
                        f"{before.get(name)}, got {value}: take another folder, or the same "
                        f"{name}"
                    )
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as unfinished:
            unfinished.write_text(json.dumps(settings, indent=2), "utf-8")

    def _read_log(self) -> list[dict]:
        entries = []
        for line in self.log.read_text("utf-8").splitlines() if self.log.is_file() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue  # a line that was being written when the process was killed
        return entries

    def _look(self, entries: list[dict]) -> dict[str, VideoInfo]:
        """The clips that are there. The parts of those that are gone or spoilt wait again."""
        logged = {entry["kept"]: entry for entry in entries if "kept" in entry}
        kept = {}
        for name in tqdm(self.row_of, "looking at the clips", leave=False, unit="clip"):
            path, entry = self._path(name), logged.get(name, {"from": "", "probe": ""})
            if path.is_file():
                try:
                    kept[name] = _check_clip(path, entry["probe"])
                    continue
                except VideoReadError:
                    path.unlink()
            self.parts.pop(entry["from"], None)
        return kept

    def _note(self, **entry: object) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")  # begins anew behind a line that was cut off
            file.flush()
            os.fsync(file.fileno())

    def is_done(self, part: str) -> bool:
        return self.parts.get(part, {"state": "missing"})["state"] != "missing"

    def _group(self, name: str) -> tuple[str, str]:
        return self.row_of[name].split, self.row_of[name].label

    def _path(self, name: str) -> Path:
        return self.plan.out / "clips" / plain_name(self.row_of[name].label) / f"{name}.mp4"

    def stop(self) -> bool:
        """Whether there is nothing more to fetch, or no room for it (`stopped` says which)."""
        if all(self.counts[group] >= number for group, number in self.quota.items()):
            return True
        limit = None if self.max_disk_gb is None else self.max_disk_gb * 1e9
        if limit is not None and self.bytes_kept >= limit:
            self.stopped = f"the clips take {in_units(self.bytes_kept)}, as much as allowed"
        elif shutil.disk_usage(self.plan.out).free < LEAST_FREE:
            self.stopped = f"less than {in_units(LEAST_FREE)} of disk are free"
        return bool(self.stopped)

    def take(self, part: str, bar: tqdm, network: dict[str, float]) -> None:
        """Streams one archive and keeps what is wanted of it."""
        before = bar.n
        address = _address(self.plan.mirror, part)
        try:
            with RemoteFile(address, on_bytes=bar.update, **network) as file:
                state, detail = self._keep_wanted(file, part, bar)
        except (MissingError, ChangedError) as error:
            bar.update(before - bar.n)
            state, detail = "missing", str(error)
        if state != "stopped":
            self.parts[part] = {"part": part, "state": state, "detail": detail}
            self._note(**self.parts[part])

    def _keep_wanted(self, file: RemoteFile, part: str, bar: tqdm) -> tuple[str, str]:
        """(what became of the archive, details): finished, truncated, missing or stopped."""
        state = "missing"  # some web pages are sent in the place of what is not there
        stream = _Unpacked(file)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    # Now it is known to be an archive. If all bytes came and it ends too early, it
                    # was put on the mirror so; what comes before its end is as good as any.
                    state = "truncated"
                    archive.members = []  # it would remember them all
                    name = self._wanted_name(member)
                    if name is None:
                        continue
                    self._keep(name, archive.extractfile(member).read(), part)
                    bar.set_postfix(clips=f"{len(self.kept)}/{sum(self.quota.values())}")
                    if self.stop():
                        return "stopped", ""
                # tarfile takes a damaged header for the end; behind that is nothing but zeros.
                while rest := archive.fileobj.read(CHUNK):
                    if rest.strip(b"\0"):
                        raise tarfile.ReadError("a header in it is damaged")
            if not stream.ended:
                raise tarfile.ReadError("its end is missing")
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            return state, f"{file.url}: expected a whole tar archive, got: {error}"
        return "finished", ""

    def _wanted_name(self, member: tarfile.TarInfo) -> str | None:
        """The clip that a member of an archive is, if it is wanted and not there yet."""
        base = os.path.basename(member.name)
        stem, suffix = os.path.splitext(base)
        if not member.isreg() or suffix.lower() != ".mp4":
            return None
        names = self.names_of.get(base[:ID_LENGTH], [])
        if stem not in names:
            # Replacements are named by their ids, and more that varies.
            is_replacement = "replacement" in os.path.dirname(member.name)
            if not names or not is_replacement:
                return None
            stem = names[0]
        group = self._group(stem)
        if stem in self.kept or self.counts[group] >= self.quota[group]:
            return None
        return stem

    def _keep(self, name: str, content: bytes, part: str) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with written_whole(path) as unfinished:
                unfinished.write_bytes(content)
                info = _check_clip(unfinished)
                # Before it has its name: a clip that nobody knows of would not be missed.
                self._note(**{"kept": name, "from": part, "probe": pack_info(info)})
        except VideoReadError as error:
            self.unreadable[name] = str(error).removeprefix(f"{unfinished}: ")
            self._note(clip=name, detail=self.unreadable[name])
            return
        self.kept[name] = replace(info, path=str(path))
        self.unreadable.pop(name, None)
        self.bytes_kept += len(content)
        self.counts[self._group(name)] += 1

    def finish(self, val_share: float, seed: int) -> Subset:
        """Writes manifest and report of what is there."""
        plan = self.plan
        rows = plan.rows[plan.rows["name"].isin(self.kept)]
        if rows.empty:
            raise DownloadError(
                f"expected clips of {len(plan.classes)} classes in {len(plan.parts)} parts, found "
                f"none: see {self.log}"
            )
        infos = [self.kept[name] for name in rows["name"]]
        table = pd.DataFrame(
            {
                "path": [info.path for info in infos],
                "label": [plan.classes.index(label) for label in rows["label"]],
                "class_name": rows["label"].to_numpy(),
                "split": rows["split"].to_numpy(),
                "source_id": rows["youtube_id"].to_numpy(),
                "start": rows["time_start"].to_numpy(),
                "end": rows["time_end"].to_numpy(),
                "num_frames": [info.num_frames for info in infos],
                "fps": [info.fps or None for info in infos],
                "height": [info.size[0] for info in infos],
                "width": [info.size[1] for info in infos],
                "status": "ok",
                "probe": [pack_info(info) for info in infos],
            }
        )
        problems = self._problems()
        if len(plan.splits) == 1:
            table["split"] = divide(table, val_share, seed)
            problems += one_sided_classes(table, ("train", "val"))
        aside = set_aside(plan.out, table)
        data_set = DataSet(table, plan.classes, _mirror(plan))
        manifest = data_set.save(plan.out / "manifest.csv")
        report = write_report(sorted(problems), plan.out)
        counts = pd.DataFrame(
            {
                "wanted": pd.Series(self.quota).groupby(level=1).sum(),
                "kept": table.groupby("class_name").size(),
                "unreadable": Counter(self.row_of[name].label for name in self.unreadable),
            }
        )
        counts = counts.fillna(0).astype(int)
        return Subset(
            manifest, plan.out / REPORT, counts, report, self.bytes_kept, self.stopped, aside
        )

    def _problems(self) -> list[tuple[str, str, str, str]]:
        found = []
        for part, entry in self.parts.items():
            if entry["state"] in ("missing", "truncated"):
                kind = "no replacements" if part == REPLACEMENTS else f"{entry['state']} part"
                found.append((kind, "", part, entry["detail"]))
        for name, detail in self.unreadable.items():
            found.append(("unreadable", self.row_of[name].split, name, detail))
        for (split, label), number in self.quota.items():
            if self.counts[split, label] < number:
                detail = f"{self.counts[split, label]} of {number}"
                found.append(("class with fewer clips", split, label, detail))
        if not self.stopped and all(self.is_done(part) for _, part, _ in self.plan.parts):
            for name, row in self.row_of.items():
                group = self._group(name)
                there = name in self.kept or name in self.unreadable
                if not there and self.counts[group] < self.quota[group]:
                    found.append(("row without video", row.split, name, row.label))
        return found


def _check_clip(path: Path, packed: str = "") -> VideoInfo:
    """Decodes the first and the last frame. Raises VideoReadError if that, or more, is lacking.

    packed: what was found when it came. A file of the same size is the one of then.
    """
    info = usable_video(path, packed)
    if pack_info(info) != packed:
        read_frames(info, [0, info.num_frames - 1])
    return info


class _Unpacked:
    """The bytes of a tar archive, whether they come compressed or not: names do not tell."""

    def __init__(self, file: RemoteFile):
        buffered = io.BufferedReader(file, CHUNK)
        compressed = buffered.peek(2)[:2] == b"\x1f\x8b"
        self._source = gzip.GzipFile(fileobj=buffered) if compressed else buffered
        self._last = b""

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._last = (self._last + data)[-2 * tarfile.BLOCKSIZE :]
        return data

    @property
    def ended(self) -> bool:
        """Whether the last bytes were the two empty blocks that end an archive."""
        return self._last == bytes(2 * tarfile.BLOCKSIZE)


def in_units(count: float) -> str:
    """A number of bytes as people write it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def _or_unknown(count: float) -> str:
    return in_units(count) if count else "a size that the mirror does not tell"


def _existing(path: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
