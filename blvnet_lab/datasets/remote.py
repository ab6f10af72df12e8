"""Read a file on a web server from beginning to end, whatever the network does."""

import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

CHUNK = 1 << 16  # bytes read at once; at most this many are read again after a lost connection
GONE = (401, 403, 404, 410)  # status codes for which retrying is pointless
TIMEOUT_S = 60.0  # without a byte, after which a connection counts as lost
TRIES = 6  # in a row without getting a byte
WAIT_S = 1.0  # before the second try, doubled for each further one


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
