"""A file on a web server, read from its begin to its end whatever the network does.

with RemoteFile(url) as file, tarfile.open(fileobj=file, mode="r|*") as archive: ...
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

CHUNK = 1 << 16  # bytes read at once: so many may have to be read again after a cut
GONE = (401, 403, 404, 410)  # what trying again does not mend


class DownloadError(OSError):
    """A file cannot be fetched; the message says why, and that what was fetched stays."""


class MissingError(DownloadError):
    """The server does not have the file, or does not give it."""


class ChangedError(DownloadError):
    """The server now has another file of that name than when reading it began."""


class RemoteFile(io.RawIOBase):
    """Reads forward over HTTP; after a cut or a stall it goes on where it stopped.

    Args:
        url: of the file.
        timeout: seconds without a byte after which a connection counts as lost.
        tries: how often in a row to connect anew without getting a byte.
        wait: seconds before the first new try; twice as long before each further one.
        on_bytes: called with the number of bytes that came, for a progress bar.

    Raises (when opened and when read):
        MissingError: the server says that there is no such file.
        ChangedError: the file changed on the server while it was read.
        DownloadError: all tries were in vain.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 60.0,
        tries: int = 6,
        wait: float = 1.0,
        on_bytes: Callable[[int], object] = lambda count: None,
    ):
        self.url, self.timeout, self.tries, self.wait = url, timeout, tries, wait
        self.on_bytes = on_bytes
        self.place, self.length = 0, None  # bytes read; bytes in all, None if nobody says
        self._version: str | None = None  # the file's ETag, or when it was last changed
        self._session = requests.Session()
        # A proxy, which many schools have, would look for a mirror of this machine on its own.
        self._session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
        self._response: requests.Response | None = None
        self._persist(self._connect)

    def close(self) -> None:
        if not self.closed:
            self._disconnect()
            self._session.close()
        super().close()

    def readable(self) -> bool:
        return True

    @property
    def complete(self) -> bool:
        """Whether all bytes came that the server had announced."""
        return self.length is None or self.place >= self.length

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes, at most as many as there is room for; none at the end."""
        data = self._persist(lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self.place += len(data)
        self.on_bytes(len(data))
        return len(data)

    def _read(self, size: int) -> bytes:
        if self._response is None:
            self._connect()
        data = self._response.raw.read(size)
        if not data and not self.complete:  # older versions of urllib3 do not say so themselves
            raise HTTPError(f"{self.place} of {self.length} bytes came")
        return data

    def _persist(self, step: Callable[[], Any]) -> Any:
        return persist(step, self.url, tries=self.tries, wait=self.wait, after=self._disconnect)

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
        response = self._session.get(self.url, headers=headers, stream=True, timeout=self.timeout)
        _must_be_there(response)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        length = response.headers.get("Content-Length")
        length = None if length is None else int(length)
        skip = self.place
        if response.status_code == 206:
            begin, _, whole = (
                response.headers["Content-Range"].removeprefix("bytes ").partition("/")
            )
            if int(begin.partition("-")[0]) != self.place:
                raise HTTPError(f"asked for byte {self.place} on, got {begin}")
            length, skip = (int(whole) if whole.isdigit() else self.length), 0
        if self.place and (version, length) != (self._version, self.length):
            response.close()
            raise ChangedError(f"{self.url}: another file took its place while it was read")
        self._version, self.length, self._response = version, length, response
        while skip:  # the server knows nothing of ranges, and begins again
            passed = len(response.raw.read(min(CHUNK, skip)))
            if not passed:
                raise HTTPError("the connection was cut again")
            skip -= passed


def persist(
    step: Callable[[], Any],
    url: str,
    *,
    tries: int = 6,
    wait: float = 1.0,
    after: Callable[[], object] = lambda: None,
) -> Any:
    """Does `step` until the network lets it, with growing waits; `after` each failure."""
    for attempt in range(tries):
        try:
            return step()
        except (requests.RequestException, HTTPError, ConnectionError) as error:
            after()
            last = error
            if attempt + 1 < tries:
                time.sleep(wait * 2**attempt)
    raise DownloadError(
        f"{url}: expected an answer, got none in {tries} tries ({last}): see whether the address "
        "and the network are right, then run the same command again; what was fetched stays"
    ) from last


def _must_be_there(response: requests.Response) -> None:
    if response.status_code in GONE:
        raise MissingError(f"{response.url}: the server says {response.status_code}, no such file")
    response.raise_for_status()


def fetch_text(url: str, **network: float) -> str:
    """A small text file; `network` is timeout, tries and wait of `RemoteFile`."""
    with RemoteFile(url, **network) as file:
        return file.readall().decode("utf-8-sig")


def remote_size(
    url: str, *, timeout: float = 60.0, tries: int = 6, wait: float = 1.0
) -> int | None:
    """A file's size in bytes, None if the server does not say.

    Raises DownloadError if it does not answer, as some do that know GET only.
    """

    def ask() -> int | None:
        response = requests.head(url, allow_redirects=True, timeout=timeout)
        if 400 <= response.status_code <= 501:
            return None  # it knows GET only, or does not have the file: GET will tell
        response.raise_for_status()
        size = response.headers.get("Content-Length", "")
        return int(size) if size.isdigit() else None

    return persist(ask, url, tries=tries, wait=wait)
