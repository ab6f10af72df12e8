"""The public mirror of Kinetics: where things are on it, and a miniature made of sample clips.

    with serve_mirror(write_mirror(folder)) as url: ...     # http://127.0.0.1:41234/

Like the real one, the miniature has rows without a video and videos without a row, ids that begin
with "-", a plain tar named .tar.gz, and corrupt clips, one of them with a replacement. A quarter of
Kinetics-600's rows is missing, and much of Kinetics-400's val is in Kinetics-700's train.
"""

import base64
import gzip
import hashlib
import io
import random
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.published import kinetics_name
from blvnet_lab.paths import data_samples

OFFICIAL = "https://s3.amazonaws.com/kinetics/"
# The releases and their folders. The classes of the first are mixed in all its archives.
FOLDERS = {"kinetics400": "400", "kinetics600": "600", "kinetics700-2020": "700_2020"}
REPLACEMENTS = "400/replacement_for_corrupted_k400.tgz"
PARTS = {"train": 4, "val": 3}
CLIPS_PER_CLASS = {"train": 12, "val": 8}


def class_archive(dataset: str, split: str, class_name: str, classes: Sequence[str]) -> str:
    """Name the archive of a class on the mirror, by the class or by its place in the list."""
    if dataset == "kinetics600":
        return f"600/{split}/{class_name.replace(' ', '%20')}.tar.gz"
    return f"700_2020/{split}/k700_{split}_{classes.index(class_name) + 1:03d}.tar.gz"


# --- In miniature -------------------------------------------------------------------------------


def write_mirror(folder: str | Path, datasets: Iterable[str] = ("kinetics400",)) -> Path:
    """Write annotations, lists of archives and archives, reproducibly; return `folder`.

    The classes are those of the motion samples ("moves right", ...), each with 12 clips in "train"
    and 8 in "val", of which Kinetics-700-2020 has 5 or 6 in "train" instead.
    """
    folder = Path(folder)
    for dataset in datasets:
        for name, content in _contents(dataset).items():
            path = folder / FOLDERS[dataset] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def _clips(dataset: str) -> dict[str, list[tuple[str, str, int, bytes]]]:
    """Choose samples by split, and give each a label, an id and a start (s)."""
    samples, clips = DataSet.read(data_samples() / "motion" / "manifest.csv").rows, {}
    for split, count in CLIPS_PER_CLASS.items():
        chosen, clips[split] = samples[samples["split"] == split].groupby("label").head(count), []
        for number, clip in enumerate(chosen.itertuples()):
            # Like real ids: letters, digits, - and _, also at the beginning.
            digest = hashlib.sha1(f"{split} {number}".encode()).digest()
            youtube_id = "-_"[number % 2] * (number % 5 == 0)
            youtube_id = (youtube_id + base64.urlsafe_b64encode(digest).decode())[:11]
            label, content = clip.class_name.replace("_", " "), Path(clip.path).read_bytes()
            clips[split].append((label, youtube_id, 7 * number, content))
    if dataset == "kinetics700-2020":
        clips["train"] += [clip for number, clip in enumerate(clips["val"]) if number % 3]
        clips["val"] = clips["val"][::3]
    return clips


def _contents(dataset: str) -> dict[str, bytes]:
    """Make all files of one data set, by their paths in its folder."""
    folder, contents, replaced = FOLDERS[dataset], {}, []
    for split, clips in _clips(dataset).items():
        files, archives = [], defaultdict(list)
        ending = {"400": f"{split},0", "700_2020": split.replace("val", "validate")}
        ending = ending.get(folder, split)
        lines = ["label,youtube_id,time_start,time_end,split" + ",is_cc" * (folder == "400")]
        for number, (label, youtube_id, start, content) in enumerate(clips):
            if number == 3:  # truncated, like some real ones, and replaced
                name = f"replacement_for_corrupted_k400/{youtube_id}_replacement.mp4"
                replaced.append((name, content))
            if number in (3, 20):  # the second is never replaced
                content = content[: len(content) // 3]
            files.append((label, f"{kinetics_name(youtube_id, start, start + 10)}.mp4", content))
            if folder != "600" or number % 4 != 1:
                lines.append(f'"{label}",{youtube_id},{start},{start + 10},{ending}')
        files[7] = (files[7][0], files[7][1].replace("0", "9", 1), files[7][2])  # in no row
        lines.append(f'"moves right",gone_{split:_<6},0,10,{ending}')  # in no archive
        random.Random(split).shuffle(files)
        labels = sorted({label for label, *_ in clips})
        for k, (label, name, content) in enumerate(files):
            archive = f"400/{split}/part_{k % PARTS[split]}.tar.gz"
            if folder != "400":
                archive = class_archive(dataset, split, label, labels)
            inside = f"{label}/{name}" if folder == "700_2020" else name
            archives[archive].append((inside, content))
        for k, name in enumerate(sorted(archives)):
            archive = tar_bytes(archives[name])
            content = archive if k == 1 else gzip.compress(archive, mtime=0)
            contents[unquote(name).removeprefix(f"{folder}/")] = content
        urls = "".join(f"{OFFICIAL}{name}\n" for name in sorted(archives))
        contents[f"{split}/k{folder}_{split}_path.txt"] = urls.encode()
        contents[f"annotations/{split}.csv"] = ("\n".join(lines) + "\n").encode()
    if folder == "400":
        contents[Path(REPLACEMENTS).name] = gzip.compress(tar_bytes(replaced), mtime=0)
    return contents


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack files (name, content) into a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the files of a folder without logging requests."""

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serve_mirror(folder: str | Path, handler: type[QuietHandler] = QuietHandler) -> Iterator[str]:
    """Serve `folder` to this machine only, until the block ends; yield its address."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that disconnect."""

    with Server(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
