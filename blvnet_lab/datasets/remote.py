"""The public mirror of Kinetics: what is where, how to read it, and a miniature of sample clips.

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
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from urllib3.exceptions import HTTPError

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.published import kinetics_name
from blvnet_lab.paths import data_samples

OFFICIAL = "https://s3.amazonaws.com/kinetics/"
# The releases and their folders. The classes of the first are mixed in all its archives.
FOLDERS = {"kinetics400": "400", "kinetics600": "600", "kinetics700-2020": "700_2020"}
REPLACEMENTS = "400/replacement_for_corrupted_k400.tgz"
CHUNK = 1 << 16  # bytes read at once; at most this many are read again after a lost connection
GONE = (401, 403, 404, 410)  # status codes for which retrying is pointless
TIMEOUT_S = 60.0  # without a byte, after which a connection counts as lost
TRIES = 6  # in a row without getting a byte
WAIT_S = 1.0  # before the second try, doubled for each further one


def class_archive(dataset: str, split: str, class_name: str, classes: Sequence[str]) -> str:
    """Name the archive of a class on the mirror, by the class or by its place in the list."""
    if dataset == "kinetics600":
        return f"600/{split}/{class_name.replace(' ', '%20')}.tar.gz"
    return f"700_2020/{split}/k700_{split}_{classes.index(class_name) + 1:03d}.tar.gz"


class DownloadError(OSError):
    """A file cannot be fetched; what was fetched stays."""


class MissingError(DownloadError):
    """The server does not have the file, or the file has changed since reading began."""


class RemoteFile:
    """A file read forwards over HTTP, which resumes after a lost or stalled connection.

    `on_bytes` is called with the number of bytes that arrived, for a progress bar.

    Raises (when read):
        MissingError: the server has no such file, or it changed while it was being read.
        DownloadError: all tries failed.
    """

    def __init__(self, url: str, on_bytes: Callable[[int], object] = lambda count: None):
        self.url, self.on_bytes = url, on_bytes
        self.place, self.length = 0, 0  # bytes read; bytes in all, 0 if unknown
        self._version: str | None = None  # the file's ETag, or the time of its last change
        self._session, self._response = session_for(url), None

    def close(self) -> None:
        self._session.close()

    def read(self, size: int = CHUNK) -> bytes:
        """Read up to `size` bytes; none at the end."""
        for attempt in range(TRIES):
            if attempt:
                self._response = None
                time.sleep(WAIT_S * 2 ** (attempt - 1))
            try:
                self._response = self._response or self._connect()
                data = self._response.raw.read(size)
                if not data and self.place < self.length:  # older versions of urllib3 do not notice
                    raise HTTPError(f"{self.place} of {self.length} bytes came")
            except (requests.RequestException, HTTPError, ConnectionError) as error:
                last = error
                continue
            self.place += len(data)
            self.on_bytes(len(data))
            return data
        raise DownloadError(
            f"{self.url}: expected an answer, got none in {TRIES} tries ({last}): check the "
            "address and the network, then run the same command again; what was fetched is kept"
        ) from last

    def _connect(self) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if self.place:  # a header that is None is not sent
            headers |= {"Range": f"bytes={self.place}-", "If-Range": self._version}
        response = self._session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_S)
        if response.status_code in GONE:
            raise MissingError(f"{self.url}: the server says {response.status_code}, no such file")
        response.raise_for_status()
        if not self.place:
            self._version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            self.length = int(response.headers.get("Content-Length", 0))
        elif response.status_code != 206:  # the server would send all of it again
            why = "another file took its place while it was read, or the server knows no ranges"
            raise MissingError(f"{self.url}: {why}")
        return response


def session_for(url: str) -> requests.Session:
    """Make a session that uses no proxy for a mirror on this machine."""
    session = requests.Session()
    session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    return session


def fetch_text(url: str) -> str:
    """Fetch a small text file."""
    with closing(RemoteFile(url)) as file:
        return b"".join(iter(file.read, b"")).decode("utf-8-sig")


def remote_size(url: str) -> int | None:
    """Ask the server for a file's size in bytes; None if it does not say."""
    try:
        with session_for(url) as session:
            response = session.head(url, allow_redirects=True, timeout=TIMEOUT_S)
        response.raise_for_status()
        return int(response.headers["Content-Length"])
    except (requests.RequestException, KeyError):
        return None


# --- In miniature -------------------------------------------------------------------------------

PARTS = {"train": 4, "val": 3}
CLIPS_PER_CLASS = {"train": 12, "val": 8}


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
