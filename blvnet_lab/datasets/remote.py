"""A file on a web server, read from its beginning to its end whatever the network does.

with RemoteFile(url) as file, tarfile.open(fileobj=file, mode="r|*") as archive: ...
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

CHUNK = 1 << 16  # bytes read at once: at most this many are read again after a cut
GONE = (401, 403, 404, 410)  # what trying again does not mend


class DownloadError(OSError):
    """Report that a file cannot be fetched, and why; what was fetched stays."""


class MissingError(DownloadError):
    """Report that the server does not have the file, or does not give it."""


class ChangedError(DownloadError):
    """Report that another file of that name is on the server than when reading it began."""


@dataclass(frozen=True)
class Retries:
    """Set how patient to be with a server."""

    timeout: float = 60.0  # seconds without a byte after which a connection counts as lost
    tries: int = 6  # in a row without getting a byte
    wait: float = 1.0  # seconds before the second try; twice as long before each further one

    def persist(
        self, step: Callable[[], Any], url: str, after: Callable[[], object] = lambda: None
    ) -> Any:
        """Do `step` until the network lets it, with growing waits; `after` each failure."""
        for attempt in range(self.tries):
            try:
                return step()
            except (requests.RequestException, HTTPError, ConnectionError) as error:
                after()
                last = error
                if attempt + 1 < self.tries:
                    time.sleep(self.wait * 2**attempt)
        raise DownloadError(
            f"{url}: expected an answer, got none in {self.tries} tries ({last}): check the "
            "address and the network, then run the same command again; what was fetched is kept"
        ) from last


RETRIES = Retries()


class RemoteFile(io.RawIOBase):
    """Read a file forward over HTTP; after a cut or a stall it goes on where it stopped.

    Args:
        url: of the file.
        retries: how patient to be.
        on_bytes: called with the number of bytes that came, for a progress bar.

    Raises (when opened and when read):
        MissingError: the server says that there is no such file.
        ChangedError: the file changed on the server while it was read.
        DownloadError: all tries failed.
    """

    def __init__(
        self,
        url: str,
        retries: Retries = RETRIES,
        on_bytes: Callable[[int], object] = lambda count: None,
    ):
        self.url, self.retries, self.on_bytes = url, retries, on_bytes
        self.place, self.length = 0, None  # bytes read; bytes in all, None if nobody says
        self._version: str | None = None  # the file's ETag, or when it was last changed
        self._session, self._response = _session_for(url), None
        self._persist(self._connect)

    def close(self) -> None:
        if not self.closed:
            self._disconnect()
            self._session.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Read some bytes, at most as many as there is room for; none at the end."""
        data = self._persist(lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self.place += len(data)
        self.on_bytes(len(data))
        return len(data)

    def _read(self, size: int) -> bytes:
        if self._response is None:
            self._connect()
        data = self._response.raw.read(size)
        # Older versions of urllib3 do not notice this themselves.
        if not data and self.length is not None and self.place < self.length:
            raise HTTPError(f"{self.place} of {self.length} bytes came")
        return data

    def _persist(self, step: Callable[[], Any]) -> Any:
        return self.retries.persist(step, self.url, after=self._disconnect)

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None

    def _connect(self) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self.place:
            headers["Range"] = f"bytes={self.place}-"
            if self._version is not None:
                headers["If-Range"] = self._version
        response = self._session.get(
            self.url, headers=headers, stream=True, timeout=self.retries.timeout
        )
        if response.status_code in GONE:
            raise MissingError(f"{self.url}: the server says {response.status_code}, no such file")
        response.raise_for_status()
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        length, skip = response.headers.get("Content-Length"), self.place
        if response.status_code == 206:
            begin, length = re.match(
                r"bytes (\d+)-\d+/(\d*)", response.headers["Content-Range"]
            ).groups()
            if int(begin) != self.place:
                raise HTTPError(f"asked for byte {self.place} on, got {begin}")
            length, skip = length or self.length, 0
        length = None if length is None else int(length)
        if self.place and (version, length) != (self._version, self.length):
            response.close()
            raise ChangedError(f"{self.url}: another file took its place while it was read")
        self._version, self.length, self._response = version, length, response
        while skip:  # the server knows nothing of ranges, and begins again
            passed = len(response.raw.read(min(CHUNK, skip)))
            if not passed:
                raise HTTPError("the connection was cut again")
            skip -= passed


def _session_for(url: str) -> requests.Session:
    session = requests.Session()
    # A proxy, which many schools have, would look for a mirror of this machine on its own.
    session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    return session


def fetch_text(url: str, retries: Retries = RETRIES) -> str:
    """Fetch a small text file."""
    with RemoteFile(url, retries) as file:
        return file.readall().decode("utf-8-sig")


def remote_size(url: str, retries: Retries = RETRIES) -> int | None:
    """Ask for a file's size in bytes; None if the server does not say.

    Raises DownloadError if it does not answer, as some do that know GET only.
    """

    def ask() -> int | None:
        with _session_for(url) as session:
            response = session.head(url, allow_redirects=True, timeout=retries.timeout)
        if 400 <= response.status_code <= 501:
            return None  # it knows GET only, or does not have the file: GET will tell
        response.raise_for_status()
        size = response.headers.get("Content-Length", "")
        return int(size) if size.isdigit() else None

    return retries.persist(ask, url)
