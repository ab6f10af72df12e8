"""A Kinetics-400 mirror in miniature, in the official layout, from the sample clips.

    with serve_mirror(write_mirror(folder)) as url: ...     # http://127.0.0.1:41234/

As the real one it holds rows without a video and videos without a row, ids that begin with "-", a
plain tar named .tar.gz, and corrupt clips, one of them with a replacement.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import random
import re
import tarfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.layouts import kinetics_name
from blvnet_lab.paths import data_samples

OFFICIAL = "https://s3.amazonaws.com/kinetics/"
PARTS = {"train": 4, "val": 3}
CLIPS_PER_CLASS = {"train": 12, "val": 8}
REPLACEMENTS = "400/replacement_for_corrupted_k400.tgz"


def write_mirror(folder: str | Path) -> Path:
    """Write annotations, lists of parts, parts and replacements; the same bytes each time.

    The classes are those of the motion samples ("moves right", ...), with 12 clips each in the
    split "train" and 8 in "val". Returns `folder`.
    """
    folder = Path(folder)
    samples, replaced = DataSet.read(data_samples() / "motion" / "manifest.csv").rows, []
    contents: dict[str, bytes] = {}
    for split, num_parts in PARTS.items():
        chosen = samples[samples["split"] == split].groupby("label").head(CLIPS_PER_CLASS[split])
        lines, files = ["label,youtube_id,time_start,time_end,split,is_cc"], []
        for number, clip in enumerate(chosen.itertuples()):
            # As in the real ones: letters, digits, - and _, also as the first.
            digest = hashlib.sha1(f"{split} {number}".encode()).digest()
            youtube_id = "-_"[number % 2] * (number % 5 == 0)
            youtube_id = (youtube_id + base64.urlsafe_b64encode(digest).decode())[:11]
            start = 7 * number
            content = Path(clip.path).read_bytes()
            if number == 3:  # cut off, like some of the real ones, and replaced
                name = f"replacement_for_corrupted_k400/{youtube_id}_replacement.mp4"
                replaced.append((name, content))
            if number in (3, 20):  # the second is never replaced
                content = content[: len(content) // 3]
            files.append((f"{kinetics_name(youtube_id, start, start + 10)}.mp4", content))
            label = clip.class_name.replace("_", " ")
            lines.append(f'"{label}",{youtube_id},{start},{start + 10},{split},0')
        files[7] = (files[7][0].replace("0", "9", 1), files[7][1])  # no row has this name
        lines.append(f'"moves right",gone_{split:_<6},0,10,{split},0')  # no part has this one
        random.Random(split).shuffle(files)
        contents[f"annotations/{split}.csv"] = ("\n".join(lines) + "\n").encode()
        names = [f"{split}/part_{k}.tar.gz" for k in range(num_parts)]
        for k, name in enumerate(names):
            archive = tar_bytes(files[k::num_parts])
            contents[name] = archive if k == 1 else gzip.compress(archive, mtime=0)
        urls = "".join(f"{OFFICIAL}400/{name}\n" for name in names)
        contents[f"{split}/k400_{split}_path.txt"] = urls.encode()
    contents[Path(REPLACEMENTS).name] = gzip.compress(tar_bytes(replaced), mtime=0)
    for name, content in contents.items():
        (folder / "400" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "400" / name).write_bytes(content)
    return folder


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack (name, content) of files into a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class MirrorHandler(BaseHTTPRequestHandler):
    """Serve the files below `server.folder`, also from the middle on (Range, If-Range)."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = (self.server.folder / self.path.lstrip("/")).resolve()
        if not path.is_relative_to(self.server.folder) or not path.is_file():
            self.send_error(404)
            return
        content, begin = path.read_bytes(), 0
        version = f'"{hashlib.sha1(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range", version) == version:
            begin = int(asked[1])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", version)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if self.command == "GET":
            self.send_content(content[begin:])

    def send_content(self, content: bytes) -> None:
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serve_mirror(
    folder: str | Path, handler: type[BaseHTTPRequestHandler] = MirrorHandler
) -> Iterator[str]:
    """Serve `folder` to this machine only, until the block ends; gives its address."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Pass over a reader that went away."""

    with Server(("127.0.0.1", 0), handler) as server:
        server.folder = Path(folder).resolve()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
