"""The Kinetics subset against a mirror on this machine, with everything going wrong that can.

Whatever the network does, what is on disk in the end is what the fault-free run has: every clip
that was to be had, none twice, none half.
"""

import hashlib
import json
import os
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from lab import LIMIT_S, contents, type_command
from training_process import forked
from videos import write_video

from blvnet_lab.data import ClipDataset, DataSet, probe_video, read_frames
from blvnet_lab.datasets import kinetics_subset as subset_module
from blvnet_lab.datasets import remote
from blvnet_lab.datasets.inventory import build_manifest
from blvnet_lab.datasets.kinetics_plan import compare_releases
from blvnet_lab.datasets.kinetics_subset import fetch_subset, plan_subset
from blvnet_lab.datasets.reencoding import CODINGS, reencode_video
from blvnet_lab.datasets.remote import FOLDERS, QuietHandler, serve_mirror, tar_bytes, write_mirror
from blvnet_lab.datasets.selection import Selection
from blvnet_lab.datasets.sources import count_shared
from blvnet_lab.paths import data_samples

CLASSES = ["grows then shrinks", "left then right", "moves down", "moves right"]
BOTH = ("train", "val")
# The fixtures are for Kinetics-400 otherwise.
every_release = pytest.mark.parametrize("dataset", FOLDERS, scope="module")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(remote, "TRIES", 4)
    monkeypatch.setattr(remote, "WAIT_S", 0.01)
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("mirror"), FOLDERS)


@pytest.fixture(scope="module")
def dataset() -> str:
    return "kinetics400"


class MirrorHandler(QuietHandler):
    """As the real mirror: also from the middle on (Range), if it is still that file (If-Range)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content, asked = path.read_bytes(), self.headers.get("Range", "bytes=0-")
        version = f'"{hashlib.sha1(content).hexdigest()}"'
        begin = int(asked[6:-1]) if self.headers.get("If-Range", version) == version else 0
        self.send_response(206 if begin else 200)
        self.send_header("ETag", version)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if self.command == "GET":
            self.send_content(content[begin:])

    def do_HEAD(self):
        self.do_GET()

    def send_content(self, content):
        self.wfile.write(content)


@contextmanager
def served(folder: Path, fault: Callable | None = None) -> Iterator[tuple[str, list]]:
    """The mirror's address, and a log of the requests for parts: (name, first byte asked for).

    fault(handler, content) may send something else than `content`; it gets each GET of an archive.
    """
    requests = []

    class Handler(MirrorHandler):
        def send_content(self, content):
            if self.path.endswith(("gz", ".tar")):
                asked = self.headers.get("Range", "bytes=0-")
                requests.append((self.path.lstrip("/"), int(asked[6:-1])))
                if fault is not None and fault(self, content):
                    return
            super().send_content(content)

    with serve_mirror(folder, Handler) as url:
        yield url, requests


OPTIONS = ("dataset", "short_side")


def plan_of(url: str, out: Path, **wishes):
    options = {name: wishes.pop(name) for name in OPTIONS if name in wishes}
    wishes = Selection(**{"clips_per_class": 100, **wishes})
    return plan_subset(out, wishes, mirror=url, **options)


def fetch(url: str, out: Path, **wishes):
    return fetch_subset(plan_of(url, out, **{"classes": CLASSES, "split": BOTH, **wishes}))


def fetch_from(mirror: Path, out: Path, handler: type = MirrorHandler, **wishes):
    with serve_mirror(mirror, handler) as url:
        return fetch(url, out, **wishes)


def files(out: Path) -> dict[str, bytes]:
    """Everything below clips/, by its path."""
    return {f"clips/{name}": content for name, content in contents(out / "clips").items()}


@pytest.fixture(scope="module")
def faultless(mirror, dataset, tmp_path_factory):
    """What a run makes where all goes well, and a check that another run made the same."""
    out = tmp_path_factory.mktemp("faultless")
    with served(mirror) as (url, requests):
        found = fetch(url, out, dataset=dataset)
    assert Counter(requests).most_common(1)[0][1] == 1 and len(requests) == 8

    def same(other) -> bool:
        pd.testing.assert_frame_equal(other.problems, found.problems)
        folder = other.manifest.parent
        assert files(folder) == same.files
        return other.manifest.read_bytes() == found.manifest.read_bytes()

    same.files, same.problems, same.dataset = files(out), found.problems, dataset
    return same


def whole(mirror: Path, out: Path, same: Callable, **wishes) -> list[str]:
    """Go on in `out` with a mirror without faults, to the end; the parts that were asked for."""
    with served(mirror) as (url, requests):
        assert same(fetch(url, out, dataset=same.dataset, **wishes))
    return [name for name, _ in requests]


def test_what_the_mirror_is_like(mirror, tmp_path):
    """As the real one: quoted labels, ids with - and _ in front, a plain tar among the others."""
    again = write_mirror(tmp_path, reversed(FOLDERS))
    names = sorted(p.relative_to(mirror) for p in mirror.rglob("*") if p.is_file())
    assert Counter(name.parts[0] for name in names) == {"400": 12, "600": 24, "700_2020": 24}
    assert all((again / name).read_bytes() == (mirror / name).read_bytes() for name in names)
    text = (mirror / "400/annotations/val.csv").read_text()
    assert text.startswith("label,youtube_id,time_start,time_end,split,is_cc\n")
    assert '",-' in text and '",_' in text
    places = (mirror / "600/val/k600_val_path.txt").read_text().splitlines()
    assert "https://s3.amazonaws.com/kinetics/600/val/moves%20up.tar.gz" in places
    begins = [(mirror / f"400/val/part_{k}.tar.gz").read_bytes()[:2] for k in range(3)]
    assert [begin == b"\x1f\x8b" for begin in begins] == [True, False, True]


@every_release
def test_a_subset_of_the_mirror(mirror, faultless, dataset, tmp_path):
    """Worked out from the samples themselves: which clips there should be, and what is in them."""
    contents, problems = faultless.files, faultless.problems
    originals = DataSet.read(data_samples() / "motion" / "manifest.csv").rows
    names = originals["class_name"].str.replace("_", " ")
    known = {Path(p).read_bytes(): n for p, n in zip(originals["path"], names, strict=True)}
    folder = FOLDERS[dataset]
    table = pd.concat(pd.read_csv(mirror / folder / f"annotations/{split}.csv") for split in BOTH)
    table = table[table["label"].isin(CLASSES)]
    listed = {
        f"clips/{row.label}/{row.youtube_id}_{row.time_start:06d}_{row.time_end:06d}.mp4"
        for row in table.itertuples()
    }
    assert len(table) == len(listed)
    found = set()  # in the archives of these classes, of which each has its own
    for split in BOTH if folder != "400" else ():
        paths = sorted((mirror / folder / split).glob("*.gz"))
        for name, path in zip(sorted(set(known.values())), paths, strict=True):
            members = tarfile.open(path).getnames() if name in CLASSES else ()
            found |= {f"clips/{name}/{Path(member).name}" for member in members}
    unlisted = found - listed
    lost = (listed | unlisted) - contents.keys()
    assert contents.keys() <= listed | unlisted
    kinds = problems.groupby("kind")["name"].agg(set)
    counts = {"kinetics400": (2, 4, 0), "kinetics600": (4, 4, 22), "kinetics700-2020": (3, 4, 2)}
    names = ("unreadable", "row without video", "video without row")
    assert tuple(len(kinds.get(kind, ())) for kind in names) == counts[dataset]
    assert (problems["kind"] == "class with fewer clips").sum() == 6
    assert set(problems["kind"]) <= {*names, "class with fewer clips"}
    assert {Path(name).stem for name in lost} == kinds["unreadable"] | kinds["row without video"]
    assert {Path(name).stem for name in unlisted} == kinds.get("video without row", set())
    for name, content in contents.items():
        assert known[content] == name.split("/")[1]


def test_the_manifest_is_ready_for_training(mirror, tmp_path):
    found = fetch_from(mirror, tmp_path, split=("val",))
    table = DataSet.read(found.manifest).rows
    assert set(table["status"]) == {"ok"} and set(table["num_frames"]) == {24}
    data_set = DataSet.read(found.manifest)
    assert list(data_set.classes) == CLASSES
    # The mirror images of "left then right" and "moves right" are not among these classes.
    assert data_set.mirror == (0, None, 2, None)
    by_split = table.groupby(["class_name", "split"]).size()
    assert all(by_split[name, "val"] in (1, 2) and by_split[name, "train"] > 4 for name in CLASSES)
    assert table.groupby("source_id")["split"].nunique().max() == 1
    row = table.iloc[0]
    assert Path(row["path"]).stem == f"{row.source_id}_{int(row.start):06d}_{int(row.end):06d}"
    clips = ClipDataset(DataSet(table), "train", 8, lambda frames: frames)
    assert clips[0][0].shape == (8, 3, 64, 64)


def test_a_proxy_is_not_asked_for_a_mirror_on_this_machine(mirror, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve_mirror(mirror) as url:
        assert plan_of(url, tmp_path / "out", num_classes=2).parts


@every_release
def test_it_stops_when_every_class_has_its_clips(mirror, dataset, tmp_path):
    classes = ["moves left", "moves up"]
    wishes = {"dataset": dataset, "classes": classes, "split": ("val",), "clips_per_class": 1}
    with served(mirror) as (url, requests):
        found = fetch(url, tmp_path, **wishes)
        asked = {name for name, _ in requests} - {remote.REPLACEMENTS}
        requests.clear()
        fetch(url, tmp_path, **wishes)
    for name in classes:
        assert found.counts.loc[name].to_dict() == {"wanted": 1, "kept": 1, "unreadable": 0}
    assert len(files(tmp_path)) == 2 and not requests
    if dataset == "kinetics400":
        assert len(asked) < 3
    else:  # no archive was read to its end
        assert len(asked) == 2 and not finished_parts(tmp_path / "progress.jsonl")
    assert set(found.problems["kind"]) - {"video without row"} == {"class without val"}


def test_clips_are_reencoded_on_the_way(mirror, faultless, tmp_path):
    """As `prepare` re-encodes them, frame for frame; and the originals are not kept."""
    with served(mirror) as (url, _):
        found = fetch(url, tmp_path / "out", short_side=48)
        with pytest.raises(ValueError, match="short side of 2 pixels or more, got 1"):
            fetch(url, tmp_path / "other", short_side=1)
        fetch(url, tmp_path / "all")
    assert set(found.problems["kind"]) == set(faultless.problems["kind"])
    rows = DataSet.read(found.manifest).rows
    assert set(rows["height"]) == set(rows["width"]) == {48} and set(rows["num_frames"]) == {24}
    small = files(tmp_path / "out")
    assert small.keys() == faultless.files.keys() and not list(tmp_path.rglob("*.part"))
    for name in [*small][::20]:
        done = reencode_video(str(tmp_path / "all" / name), "", str(tmp_path / "x.mp4"), 48)
        assert done["how"] == "encoded"
        assert (tmp_path / "x.mp4").read_bytes() == (tmp_path / "out" / name).read_bytes()
    # Begun when there was only h264, the same folder goes on with that.
    file, (gone, *others) = tmp_path / "out" / "subset.json", small
    settings = json.loads(file.read_text())
    assert {name: settings.pop(name) for name in ("coding", *CODINGS["mpeg4"])}["coding"] == "mpeg4"
    file.write_text(json.dumps(settings))
    (tmp_path / "out" / gone).unlink()
    fetch_from(mirror, tmp_path / "out", short_side=48)
    assert json.loads(file.read_text())["coding"] == "h264"
    assert probe_video(tmp_path / "out" / gone).codec == "h264"
    assert all(files(tmp_path / "out")[name] == small[name] for name in others)


def test_the_same_classes_of_all_releases(mirror, tmp_path):
    """From lists and sizes alone; "moves up" is missing in one of them."""
    copy = shutil.copytree(mirror, tmp_path / "mirror")

    def size(*patterns: str) -> float:
        return sum(p.stat().st_size for name in patterns for p in copy.glob(name)) / 1e9

    for path in copy.glob("400/annotations/*.csv"):
        path.write_text(path.read_text().replace('"moves up"', '"moves about"'))
    with served(copy) as (url, requests):
        wishes = {"classes": ["moves up", "moves down"], "clips_per_class": None}
        plan = plan_of(url, tmp_path / "out", dataset="kinetics600", split=BOTH, **wishes)
        table = compare_releases(plan)
        assert requests == [] and not (tmp_path / "out").exists()
        few = plan_of(url, tmp_path, dataset="kinetics700-2020", classes=["moves up"],
                      clips_per_class=1)  # fmt: skip
        with pytest.raises(ValueError, match="'moves about'; near it are moves"):
            plan_of(url, tmp_path / "out", dataset="kinetics600", classes=["moves about"])
    assert table["classes"].to_dict() == {"kinetics400": 1, "kinetics600": 2, "kinetics700-2020": 2}
    assert table["clips"].tolist() == [20, 30, 40]
    k400, k600 = ("400/*/part*", "400/repl*"), ("600/*/moves up*", "600/*/moves down*")
    k700 = ("700_2020/*/*_003.*", "700_2020/*/*_006.*")
    sizes = [size(*patterns) for patterns in (k400, k600, k700)]
    assert table["GB to read"].tolist() == pytest.approx(sizes, rel=0.005)
    assert sum(plan.parts.values()) / 1e9 == size(*k600)
    assert plan.bytes_to_read == sum(plan.parts.values()) and table["minutes"].tolist() == [1] * 3
    listed = (copy / "700_2020/annotations/val.csv").read_text().count('"moves up"')
    assert few.bytes_to_read == pytest.approx(size("700_2020/val/*_006.*") * 1e9 / listed)
    assert "Kinetics-600" in str(plan) and "of 4 archives, 1 min at 10 MB a second" in str(plan)


def test_of_kinetics_700_a_training_tells_what_is_not_to_be_evaluated(mirror, tmp_path):
    with served(mirror) as (url, _):
        for split, words in (("train", 1), ("val", 0)):
            plan = plan_of(url, tmp_path / "k700", dataset="kinetics700-2020", split=(split,),
                           classes=CLASSES)  # fmt: skip
            assert str(plan).count("Much of Kinetics-400's val is in Kinetics-700's train") == words
        k700 = fetch(url, tmp_path / "k700", dataset="kinetics700-2020")
        k400 = fetch(url, tmp_path / "k400")
    table = count_shared(k700.manifest, k400.manifest)
    first, second = (DataSet.read(found.manifest).rows for found in (k700, k400))
    names = {Path(name).name for name in first[first["split"] == "train"]["path"]}
    shared = [Path(name).name in names for name in second[second["split"] == "val"]["path"]]
    assert table.at["val", "in train of the first"] == sum(shared) > 0
    assert table.at["val", "clips"] == len(shared)


@pytest.mark.parametrize(
    "times, shared",
    [((10, 20), 1), ((19, 29), 1), ((0, 11), 1), ((0, 10), 0), ((20, 30), 0), (("", ""), 1)],
)
def test_clips_that_two_manifests_share_overlap(times, shared, tmp_path):
    header = "path,label,class_name,split,source_id,start,end,status\n"
    rows = "a.mp4,0,a,train,one,10,20,ok\nb.mp4,0,a,train,,,,ok\nc.mp4,0,a,train,two,0,9,missing"
    (tmp_path / "a.csv").write_text(header + rows)
    rows = "\ne.mp4,0,a,val,,,,ok\nf.mp4,0,a,val,two,0,9,ok"
    begin = f"d.mp4,0,a,val,one,{times[0]},{times[1]},ok"
    (tmp_path / "b.csv").write_text(header + begin + rows)
    table = count_shared(tmp_path / "a.csv", tmp_path / "b.csv")
    assert table.to_dict("index") == {"val": {"clips": 3, "in train of the first": shared}}
    if times[0]:  # the same as parts of a file that begins elsewhere in its source
        first, last = times[0] - 5, times[1] - 5
        parts = (f"5,99,{first},{end}" for end in (last, last + 0.5))
        rows = [begin.replace(f"{times[0]},{times[1]}", part) for part in parts]
        table = header.replace("end,", "end,part_start,part_end,") + "\n".join(rows)
        (tmp_path / "b.csv").write_text(table)
        table = count_shared(tmp_path / "a.csv", tmp_path / "b.csv")
        assert table.to_numpy().tolist() == [[2, 2 * shared]]


# ---------------------------------------------------------------- faults of the network
def half(handler, content):
    """The connection is cut in the middle, every other time."""
    handler.server.count = getattr(handler.server, "count", 0) + 1
    if handler.server.count % 2:
        handler.wfile.write(content[: len(content) // 2])
        handler.close_connection = True
        return True


def a_few_bytes(handler, content):
    """The connection is cut after a few bytes, again and again."""
    handler.wfile.write(content[:9000])
    if len(content) > 9000:
        handler.close_connection = True
        return True


def stall(handler, content):
    """Some bytes come, and then nothing more, for the first two parts."""
    seen = handler.server.__dict__.setdefault("seen", set())
    if handler.path not in seen and len(seen) < 2:
        seen.add(handler.path)
        handler.wfile.write(content[:70_000])
        handler.connection.recv(1)  # until the other side has had enough
        handler.close_connection = True
        return True


@pytest.mark.parametrize(
    "dataset, fault",
    [
        *(("kinetics400", fault) for fault in (half, a_few_bytes, stall)),
        ("kinetics600", half),
        ("kinetics700-2020", a_few_bytes),
    ],
    scope="module",
)
def test_faults_on_the_way_lose_nothing(dataset, fault, mirror, faultless, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT_S", 1 if fault is stall else 60)
    with served(mirror, fault) as (url, requests):
        assert faultless(fetch(url, tmp_path, dataset=dataset))
    assert any(begin for _, begin in requests), "it went on where it had stopped"


def refusing(code: int, refused: Callable[[MirrorHandler], bool]) -> type[MirrorHandler]:
    """A server that answers some requests with an error."""

    class Refusing(MirrorHandler):
        def do_GET(self):
            self.server.count = getattr(self.server, "count", 0) + 1
            self.send_error(code) if refused(self) else super().do_GET()

    return Refusing


def test_a_server_that_fails_now_and_then(mirror, faultless, tmp_path):
    """Every other answer is "try later"; and it knows GET only."""
    fails = refusing(503, lambda handler: handler.server.count % 2 or handler.command == "HEAD")
    with serve_mirror(mirror, fails) as url:
        plan = plan_of(url, tmp_path / "plan", classes=["moves up"])
        assert faultless(fetch(url, tmp_path / "out"))
    assert set(plan.parts.values()) == {None}
    assert "about 0.00 MB (where the mirror tells) of 4 archives" in str(plan)


def lacking(name: str) -> type[MirrorHandler]:
    """A server that has all files but one."""
    return refusing(404, lambda handler: name in handler.path)


def page(name: str) -> type[MirrorHandler]:
    """A server that sends a web page in the place of some parts."""

    class Page(MirrorHandler):
        def send_content(self, content):
            text = b"<html>please log in</html>".ljust(len(content))
            super().send_content(text if name in self.path else content)

    return Page


@pytest.mark.parametrize(
    "dataset, gone, fault, words",
    [
        ("kinetics400", "400/train/part_2.tar.gz", lacking, "404"),
        ("kinetics400", "400/train/part_2.tar.gz", page, "expected a whole tar archive"),
        ("kinetics600", "600/train/moves%20down.tar.gz", lacking, "404"),
        ("kinetics700-2020", "700_2020/train/k700_train_003.tar.gz", page, "expected a whole tar"),
    ],
    scope="module",
)
def test_a_part_that_comes_back(dataset, gone, fault, words, mirror, faultless, tmp_path):
    found = fetch_from(mirror, tmp_path, fault(gone), dataset=dataset)
    problem = problem_of(found, "missing part")
    assert problem.name == gone and words in problem.detail
    lost = found.problems[found.problems["kind"] == "row without video"]
    unknown = lost if dataset == "kinetics400" else lost[lost["detail"] == "moves down"]
    assert "train" not in set(unknown["split"]), "nobody knows yet"
    assert files(tmp_path).items() < faultless.files.items()
    assert whole(mirror, tmp_path, faultless) == [gone]


def test_replacements_come_first_and_later_too(mirror, faultless, tmp_path):
    found = fetch_from(mirror, tmp_path, lacking(remote.REPLACEMENTS))
    unreadable = set(found.problems.query("kind == 'unreadable'")["name"])
    assert set(faultless.problems.query("kind == 'unreadable'")["name"]) < unreadable
    assert whole(mirror, tmp_path, faultless) == [remote.REPLACEMENTS]
    # A class is not filled up before its replacements came.
    assert whole(mirror, tmp_path.with_name("other"), faultless)[0] == remote.REPLACEMENTS


@pytest.mark.parametrize(
    "dataset, part",
    [
        *(("kinetics400", part) for part in ("part_0", "part_1")),  # compressed and not
        ("kinetics600", "left then right"),
        ("kinetics700-2020", "_002"),
    ],
    scope="module",
)
def test_an_archive_that_was_truncated_before(dataset, part, mirror, faultless, tmp_path):
    copy = shutil.copytree(mirror, tmp_path / "mirror")
    for path in copy.rglob(f"*{part}*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])
    found = fetch_from(copy, tmp_path / "out", dataset=dataset)
    assert (found.problems["kind"] == "truncated part").sum() == 2
    assert files(tmp_path / "out").items() < faultless.files.items()
    assert len(files(tmp_path / "out")) > len(faultless.files) / 2
    with served(mirror) as (url, requests):
        fetch(url, tmp_path / "out", dataset=dataset)
    assert requests == [], "it is as it is on the mirror: fetching it again would not mend it"


def test_the_server_goes_away_in_the_middle(mirror, faultless, tmp_path):
    def three_parts(handler, content):
        handler.server.count = getattr(handler.server, "count", 0) + 1
        if handler.server.count > 3:
            handler.close_connection = True
            return True

    with served(mirror, three_parts) as (url, _):
        with pytest.raises(remote.DownloadError, match="what was fetched is kept"):
            fetch(url, tmp_path)
        there = files(tmp_path)
        assert there and there.items() < faultless.files.items()
    assert len(whole(mirror, tmp_path, faultless)) == 8 - 3


def test_a_file_that_changes_while_it_is_read(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(200_000))

    def change(handler, content):
        (tmp_path / "a.tar").write_bytes(os.urandom(200_000))
        handler.wfile.write(content[:50_000])
        handler.close_connection = True
        return True

    with served(tmp_path, change) as (url, _):
        file = remote.RemoteFile(f"{url}a.tar")
        with pytest.raises(remote.MissingError, match="read, or the server knows no ranges"):
            while file.read(10_000):
                pass


# ---------------------------------------------------------------- faults of the machine
def finished_parts(log: Path) -> set[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return {entry["part"] for entry in entries if "part" in entry}


@pytest.mark.parametrize("dataset", ["kinetics400", "kinetics600"], scope="module")
def test_killed_at_any_moment(dataset, mirror, faultless, tmp_path):
    """SIGKILL after so many clips; then the same command again, until it ends by itself."""

    def gently(handler, content):
        for begin in range(0, len(content), 15_000):
            handler.wfile.write(content[begin : begin + 15_000])
            time.sleep(0.02)
        return True

    wishes = {"dataset": dataset, "classes": CLASSES, "split": BOTH}
    with served(mirror, gently) as (url, requests):
        for number in (1, 30):
            process = forked(fetch_subset, plan_of(url, tmp_path, **wishes))
            deadline = time.monotonic() + LIMIT_S
            while len([*tmp_path.glob("clips/*/*.mp4")]) < number and time.monotonic() < deadline:
                time.sleep(0.002)
            process.kill()
            process.join()
            named = {k: v for k, v in files(tmp_path).items() if not k.endswith(".part")}
            assert len(named) >= number, "it had come that far"
            assert named.items() <= faultless.files.items(), "no half file has a final name"
            done = finished_parts(tmp_path / "progress.jsonl")
            requests.clear()
            # A line that was being written at that moment is passed over.
            with (tmp_path / "progress.jsonl").open("a") as log:
                log.write('{"part": "400/tr')
        for name in faultless.files:
            leftover = tmp_path / Path(name).with_name(f".{Path(name).name}.1.part")
            leftover.parent.mkdir(parents=True, exist_ok=True)
            leftover.write_bytes(b"half of it")
        assert faultless(fetch(url, tmp_path, dataset=dataset))
    assert not {name for name, _ in requests} & done, "they are not fetched again"
    assert not list(tmp_path.rglob(".*")), "leftovers are gone"


def test_disk_that_is_full(mirror, faultless, tmp_path, monkeypatch):
    usage = subset_module.shutil.disk_usage(tmp_path)

    def filling(path):
        there = len(files(tmp_path)) if (tmp_path / "clips").exists() else 0
        return usage._replace(free=10**9 - 1 if there >= 5 else 10**11)

    with served(mirror) as (url, _):
        monkeypatch.setattr(subset_module.shutil, "disk_usage", filling)
        found = fetch(url, tmp_path)
        assert "stopped: less than 1.0 GB of disk are free" in str(found)
        assert len(files(tmp_path)) == 5
        assert len(DataSet.read(found.manifest).rows) == 5
        monkeypatch.undo()
        found = fetch(url, tmp_path)
    assert "stopped" not in str(found) and files(tmp_path) == faultless.files


def one_part(mirror: Path, folder: Path, clips: Callable, **wishes):
    """What is kept of a mirror with one part of clips(names of the wanted ones)."""
    with served(mirror) as (url, _):
        plan = plan_of(url, folder / "out", classes=["moves up"], **wishes)
    part = folder / "mirror" / "part.tar"
    part.parent.mkdir(parents=True)
    wanted = clips(list(plan.rows.index))
    part.write_bytes(tar_bytes((f"{name}.mp4", clip) for name, clip in wanted))
    parts = {remote.REPLACEMENTS: None, part.name: None}
    with serve_mirror(folder / "mirror") as url:
        return fetch_subset(replace(plan, mirror=url, parts=parts))


CLIP = next((data_samples() / "motion" / "val").rglob("*.mp4")).read_bytes()


def cut_short(path: Path) -> bytes:
    """A video whose beginning can be read, and whose table of contents says nothing of its end."""
    content = write_video(path, 48, container_options={"movflags": "+faststart"}).read_bytes()
    return content[: len(content) * 3 // 4]


def problem_of(found, kind: str):
    (problem,) = found.problems[found.problems["kind"] == kind].itertuples()
    return problem


def test_members_cannot_leave_the_folder(mirror, tmp_path, monkeypatch):
    """Nothing but the base names of wanted clips counts, whatever an archive says."""
    given, tar_info = [], tarfile.TarInfo

    def evil(names):
        given.extend(names)
        named = (f"../../{names[0]}", "/tmp/evil", "../evil")
        return [*((name, CLIP) for name in named), (names[1], b"")]

    def linked(name):
        member = tar_info(name)
        if given[1] in name:
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        return member

    monkeypatch.setattr(tarfile, "TarInfo", linked)
    found = one_part(mirror, tmp_path, evil)
    assert list(files(tmp_path / "out")) == [f"clips/moves up/{given[0]}.mp4"]
    assert not list(tmp_path.glob("*.mp4"))
    assert not (found.problems["kind"] == "truncated part").any(), "links are passed over"
    assert problem_of(found, "missing part").name == remote.REPLACEMENTS, "this mirror has none"


def test_clips_that_are_not_whole_are_not_kept(mirror, tmp_path):
    """One that is cut short, and one whose last pictures cannot be decoded; both begin well."""
    clip = write_video(tmp_path / "a.mp4", 48, size=(64, 64), gop=48).read_bytes()
    place = clip.index(b"mdat") + (len(clip) - clip.index(b"mdat")) // 2
    noise = bytes(range(200))
    spoilt = clip[:place] + noise + clip[place + len(noise) :]
    (tmp_path / "b.mp4").write_bytes(spoilt)
    assert read_frames(tmp_path / "b.mp4", [0]).shape[0] == 1
    given = []

    def three(names):
        given.extend(names[:3])
        return zip(given, (clip, spoilt, cut_short(tmp_path / "c.mp4")), strict=True)

    found = one_part(mirror, tmp_path, three)
    assert [Path(path).stem for path in DataSet.read(found.manifest).rows["path"]] == given[:1]
    problems = found.problems.query("kind == 'unreadable'").set_index("name")["detail"]
    assert set(problems.index) == set(given[1:]) and "cut short" in problems[given[2]]


# ---------------------------------------------------------------- what happened to the folder since
@every_release
def test_clips_that_were_spoilt_or_deleted_are_fetched_again(dataset, mirror, faultless, tmp_path):
    """Of one the begin can still be read, and its table of contents says nothing of its end."""
    whole(mirror, tmp_path, faultless)
    clips = sorted((tmp_path / "clips").rglob("*.mp4"))[::19][:4]
    clips[0].write_bytes(b"")
    clips[1].unlink()
    clips[2].write_bytes(clips[2].read_bytes()[:2000])
    clips[3].write_bytes(cut_short(clips[3]))
    asked = whole(mirror, tmp_path, faultless)
    assert 1 <= len(asked) <= 4, "no more than the parts that hold them"
    assert whole(mirror, tmp_path, faultless) == [], "nor when the mirror has moved"


def test_a_journal_of_an_earlier_version_goes_on(mirror, faultless, tmp_path):
    """Written before `Journal` was: 29 clips of three archives, then the disk was full."""
    out, journal = tmp_path / "out", Path(__file__).parent / "data" / "journals"
    shutil.copytree(journal, out)
    whole(mirror, tmp_path / "all", faultless)
    entries = map(json.loads, (journal / "progress.jsonl").read_text().split("\n\n"))
    kept = {f"{entry['kept']}.mp4": entry["from"] for entry in entries if "kept" in entry}
    gone = next(name for name, part in kept.items() if part.endswith("train/part_1.tar.gz"))
    for path in (tmp_path / "all").glob("clips/*/*.mp4"):
        target = out / path.relative_to(tmp_path / "all")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name in kept and path.name != gone:  # deleted since
            shutil.copy(path, target)
    parts = [*(f"train/part_{k}" for k in (1, 2, 3)), *(f"val/part_{k}" for k in range(3))]
    assert whole(mirror, out, faultless) == [f"400/{part}.tar.gz" for part in parts]
    with pytest.raises(ValueError, match=r"clips_per_class with which .*100, got 3"):
        fetch_from(mirror, out, clips_per_class=3)


def test_a_web_page_instead_of_lists(mirror, tmp_path):
    web = shutil.copytree(mirror, tmp_path / "m")
    for name, words in (
        ("val/k400_val_path.txt", r"path\.txt: expected a list of tar archives, got \['<html>log"),
        ("annotations/val.csv", r"val\.csv: expected the columns label, youtube_id.*got <html>"),
    ):
        (web / "400" / name).write_text("<html>log in</html>")
        with pytest.raises(remote.DownloadError, match=words):
            fetch_from(web, tmp_path / "out", split=("val",))


def test_lists_of_classes_that_changed(mirror, tmp_path):
    """The numbers of Kinetics-700's archives are places in the list of classes."""
    web = shutil.copytree(mirror, tmp_path / "m")
    val = web / "700_2020/val"
    (val / "k700_val_003.tar.gz").rename(val / "old")  # "moves down" is now number 4
    (val / "k700_val_004.tar.gz").rename(val / "k700_val_003.tar.gz")
    (val / "old").rename(val / "k700_val_004.tar.gz")
    wishes = {"dataset": "kinetics700-2020", "split": ("val",)}
    found = fetch_from(web, tmp_path / "out", **wishes)
    problem = problem_of(found, "missing part")
    assert problem.name.endswith("k700_val_003.tar.gz")
    assert "expected clips of moves down, got moves left" in problem.detail
    assert found.counts.loc["moves down", "kept"] == 0
    found = fetch_from(mirror, tmp_path / "out", **wishes)
    assert found.counts.loc["moves down", "kept"] == 2


def test_a_class_that_is_in_no_list(mirror, tmp_path):
    """Of Kinetics-600 the archives' names are complete, the annotations are not."""
    web = shutil.copytree(mirror, tmp_path / "m")
    for file in web.glob("600/annotations/*.csv"):
        lines = [line for line in file.read_text().splitlines() if "moves down" not in line]
        file.write_text("\n".join(lines))
    wishes = {"dataset": "kinetics600", "classes": ["moves down"]}
    with serve_mirror(web) as url:
        assert plan_of(url, tmp_path / "out", **wishes).expected_clips == 0
        found = fetch(url, tmp_path / "out", **wishes)
        assert fetch(url, tmp_path / "out", **wishes).problems.equals(found.problems)
        with pytest.raises(ValueError, match=r"the dataset with which .* kinetics600, got kine"):
            fetch(url, tmp_path / "out", classes=["moves down"])
    assert found.counts.loc["moves down"].to_dict() == {"wanted": 20, "kept": 19, "unreadable": 1}
    row = DataSet.read(found.manifest).rows.iloc[0]
    assert Path(row["path"]).stem == f"{row.source_id}_{int(row.start):06d}_{int(row.end):06d}"


@pytest.mark.parametrize("label, folder", [("..", "__"), ("moves/up: 1", "moves_up_ 1")])
def test_labels_that_are_no_names_of_folders(label, folder, mirror, tmp_path):
    """And rows that are there twice."""
    file = shutil.copytree(mirror, tmp_path / "m") / "400/annotations/val.csv"
    text = file.read_text()
    rows = [row for row in text.splitlines() if row.startswith('"moves up"')]
    file.write_text("\n".join([text.strip(), *rows, ""]).replace('"moves up"', f'"{label}"'))
    found = fetch_from(tmp_path / "m", tmp_path / "out", classes=[label], split=("val",))
    assert {Path(name).parts[1] for name in files(tmp_path / "out")} == {folder}
    table = DataSet.read(found.manifest).rows
    assert set(table["class_name"]) == {label} and table["path"].is_unique
    assert found.counts.loc[label, "wanted"] == 8


def test_mistakes_are_noticed_before_anything_is_streamed(mirror, tmp_path):
    for address in ("localhost:1", "s3://kinetics"):
        with pytest.raises(ValueError, match=rf"a mirror's address, http.*got {address}"):
            plan_of(address, tmp_path, classes=["moves up"])
    with served(mirror) as (url, requests):
        for wish, words in [
            ({"split": ("test",)}, "the splits train, val or both"),
            ({"split": ("val", "val")}, "the splits train, val or both"),
            ({"clips_per_class": 0}, "at least one clip a class"),
            ({"classes": ["moves lefft"]}, "near it are moves left"),
            ({"classes": ()}, "expected classes, got none"),
            ({"val_share": 1}, "between 0 and 1, got 1"),
            ({"dataset": "ucf101"}, "kinetics700-2020, got ucf101"),
        ]:
            with pytest.raises(ValueError, match=words):
                fetch(url, tmp_path, **wish)
        (tmp_path / "classes.csv").write_text("label,class_name\n0,mine\n")
        with pytest.raises(ValueError, match=r"classes\.csv is there and differs"):
            fetch(url, tmp_path)
        assert requests == []


def test_a_folder_with_another_subset(mirror, tmp_path):
    """Nothing in it is written over, nor annotations that somebody had there before."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/val.csv").write_text("mine")
    wish = {"classes": ["moves up"]}
    with served(mirror) as (url, _):
        for _ in "ab":
            fetch(url, tmp_path, **wish)
        for other, words in [
            ({"classes": ["moves left"]}, r"the classes .*\['moves up'\], got \['moves left'\]"),
            ({"clips_per_class": 3}, r"the clips_per_class .*100, got 3"),
            ({"split": ("val",)}, "the splits with which"),
            ({"dataset": "kinetics600"}, "the dataset with which"),
        ]:
            with pytest.raises(ValueError, match=words):
                fetch(url, tmp_path, **wish | other)
        # Begun when there was no other data set, and nothing was made smaller.
        settings = json.loads((tmp_path / "subset.json").read_text())
        del settings["dataset"], settings["short_side"]
        (tmp_path / "subset.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match="begun, kinetics400, got kinetics600"):
            fetch(url, tmp_path, **wish, dataset="kinetics600")
        fetch(url, tmp_path, **wish)
    there = {path.name: path.read_bytes() for path in (tmp_path / "annotations").iterdir()}
    official = {f"{s}.csv": (mirror / f"400/annotations/{s}.csv").read_bytes() for s in BOTH}
    assert there == official | {"val.1.csv": b"mine"}


def test_a_plan_and_the_splits_of_the_subset(mirror, tmp_path):
    """With both official splits they stay; a single one is divided by the share asked for."""
    with served(mirror) as (url, requests):
        plan = plan_of(url, tmp_path / "half", classes=CLASSES, split=("val",), val_share=0.5)
        assert requests == [], "sizes come without the files"
        both = fetch(url, tmp_path / "both")
        half = fetch_subset(plan)
    sizes = [p.stat().st_size for p in (mirror / "400").rglob("*gz") if "train" not in p.parts]
    assert sum(plan.parts.values()) == sum(sizes)
    assert "to be read: about 0.31 MB (where the mirror tells) of 4 archives" in str(plan)
    assert "to be kept: 33 listed clips of val, about 0.13 MB" in str(plan)
    official = {
        row.youtube_id: split
        for split in ("train", "val")
        for row in pd.read_csv(mirror / f"400/annotations/{split}.csv").itertuples()
    }
    table = DataSet.read(both.manifest).rows
    assert table["split"].tolist() == [official[name] for name in table["source_id"]]
    table = DataSet.read(half.manifest).rows
    shares = (table["split"] == "val").groupby(table["class_name"]).mean()
    assert shares.between(0.4, 0.6).all()
    # The folder is a data set, too, of which `manifest` makes a part.
    few = Selection(classes=["moves down"], clips_per_class=3)
    found = build_manifest("kinetics400", tmp_path / "both", out=tmp_path / "few", selection=few)
    table = DataSet.read(found.manifest).rows
    assert table.groupby("split").size().to_dict() == {"train": 3, "val": 3}


def test_the_command_asks_first(mirror, tmp_path, monkeypatch, capsys):
    wishes = {"mirror": "sample", "selection": Selection(num_classes=2)}
    answer = subset_module.subset("kinetics400", tmp_path / "out", **wishes)  # not on a terminal
    assert "CC BY 4.0" in answer and "--yes to begin" in answer
    table = subset_module.subset("kinetics600", tmp_path / "out", compare=True, **wishes)
    assert "kinetics700-2020        2" in table
    assert not (tmp_path / "out").exists()
    command = "subset kinetics400 --mirror sample --num-classes 2 --yes --out"
    type_command(monkeypatch, *command.split(), tmp_path / "out")
    assert len(DataSet.read(tmp_path / "out" / "manifest.csv").rows) >= 15
    said = capsys.readouterr()
    assert "streaming: 100%" in said.err and "kept" in said.out
    with serve_mirror(mirror, page("part_0")) as url:
        with pytest.raises(remote.DownloadError, match="run the same command again"):
            wishes |= {"mirror": url, "yes": True}
            subset_module.subset("kinetics400", tmp_path / "lacking", **wishes)
    assert (tmp_path / "lacking" / "manifest.csv").is_file()
