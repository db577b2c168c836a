"""Download of a file over HTTP, continued where a connection broke off.

Proxies are those of the environment (`https_proxy`, `no_proxy`), as in urllib.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import FileIO
from typing import IO

from sparsevod_core.reporting import Reporter
from sparsevod_core.version import version

MAX_BYTES = 2**32  # all published weights have less than 1 GB
TIMEOUT_S = 30.0  # for a connection, and for the next bytes
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before further attempts, while nothing comes
ENOUGH_BYTES = 2**20  # for the pauses to start again
RETRIED = {408, 425, 429, 500, 502, 503, 504}  # HTTP errors that pass
MIB = 2**20
_PART = r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)"


class DownloadError(Exception):
    """A download that failed for good; the text is the reason."""


class _CutError(Exception):
    """A download that another attempt may continue."""


def download(url: str, file: FileIO, label: str, reporter: Reporter) -> None:
    """Append to a file what it lacks of the content of an address.

    What the file has must be the start of the content: the server is asked for the rest. It sends
    everything if it does not support that or if the content has changed meanwhile, and the file
    then starts over.

    Args:
        url: Address, of HTTP or HTTPS.
        file: Unbuffered file, opened for reading and writing.
        label: Text beside the progress.
        reporter: Receives the progress, and a warning before every further attempt.

    Raises:
        DownloadError: The download failed. The file keeps what has come.
        OSError: The file cannot be written. It is empty then, so that it fills no disk.
    """
    pauses = iter(PAUSES_S)
    rest = _Rest(url, file)
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            rest.fetch(label, reporter)
            return
        except OSError:
            file.truncate(0)
            raise
        except _CutError as error:
            if file.seek(0, os.SEEK_END) >= before + ENOUGH_BYTES:
                pauses = iter(PAUSES_S)
            pause = next(pauses, None)
            if pause is None:
                raise DownloadError(str(error)) from error
            reporter.warning(f"{label}: {error}; trying again in {pause:g} s")
            time.sleep(pause)


class _Rest:
    """What a file lacks of the content of an address."""

    def __init__(self, url: str, file: FileIO) -> None:
        self._url = url
        self._file = file
        self._opener = urllib.request.build_opener(_Redirects)
        self._version: str | None = None  # ETag or date of what the file has, if known
        self._was_reached = False

    def fetch(self, label: str, reporter: Reporter) -> None:
        """Append it.

        Raises:
            _CutError: The connection broke off, or the server cannot answer now.
            DownloadError: Another attempt would fail, too.
            OSError: The file cannot be written.
        """
        with self._response() as response:
            start, total = self._place(response.status, response.headers)
            self._require_room(start, total)
            expected = None if total is None else -(-total // MIB)
            with reporter.progress(label, expected, "MiB") as progress:
                shown = start // MIB
                progress.advance(shown)
                for size in self._written(response, start):
                    done = -(-size // MIB) if size == total else size // MIB
                    if done > shown:
                        progress.advance(done - shown)
                        shown = done
        if total is not None and self._file.tell() < total:
            raise _CutError(f"the connection broke off after {self._file.tell() / 1e6:.1f} MB")

    def _response(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"sparsevod/{version()}", "Accept-Encoding": "identity"}
        size = self._file.seek(0, os.SEEK_END)
        if size:
            headers["Range"] = f"bytes={size}-"
            if self._version is not None:
                headers["If-Range"] = self._version
        request = urllib.request.Request(self._url, headers=headers)
        try:
            response = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, size) from error
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or str(error.reason)
            # Without any connection before, there is no network or no such server.
            raise (_CutError if self._was_reached else DownloadError)(reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise _CutError(_reason(error)) from error
        self._was_reached = True
        return response

    def _refusal(self, error: urllib.error.HTTPError, size: int) -> Exception:
        self._was_reached = True
        if error.code == 416 and size:  # the file has more than the content
            self._file.truncate(0)
            return _CutError("the server has another file")
        text = f"HTTP error {error.code}: {' '.join(str(error.reason).split())}"
        return _CutError(text) if error.code in RETRIED else DownloadError(text)

    def _place(self, status: int, headers: http.client.HTTPMessage) -> tuple[int, int | None]:
        """Return where the response continues the file, and the size of the content if known."""
        size = self._file.seek(0, os.SEEK_END)
        before, self._version = self._version, _validator(headers)
        if status == 206:
            found = re.fullmatch(_PART, headers.get("Content-Range") or "")
            is_same = before in (None, self._version)
            if not found or int(found[1]) != size or not is_same:
                self._file.truncate(0)
                raise _CutError("the server sent another part than asked for")
            return size, int(found[2]) if found[2] != "*" else None
        if status != 200:
            raise DownloadError(f"HTTP status {status}")
        self._file.truncate(0)
        self._file.seek(0)
        length = re.fullmatch(r"\d{1,15}", headers.get("Content-Length") or "")
        return 0, int(length[0]) if length else None

    def _require_room(self, start: int, total: int | None) -> None:
        if total is None:
            return
        if total > MAX_BYTES:
            raise DownloadError(f"expected at most {MAX_BYTES:,} bytes, the server has {total:,}")
        disk = os.fstatvfs(self._file.fileno())
        free = disk.f_bavail * disk.f_frsize
        if disk.f_blocks and free < total - start:
            text = f"{os.strerror(errno.ENOSPC)}: {total - start:,} bytes needed, {free:,} free"
            raise OSError(errno.ENOSPC, text)

    def _written(self, response: http.client.HTTPResponse, size: int) -> Iterator[int]:
        """Append the body to the file, and yield its size after every part."""
        while True:
            try:
                part = response.read1(MIB)
            except (OSError, http.client.HTTPException) as error:
                raise _CutError(_reason(error)) from error
            if not part:
                return
            size += len(part)
            if size > MAX_BYTES:
                self._file.truncate(0)
                raise DownloadError(f"expected at most {MAX_BYTES:,} bytes, got more")
            _write_all(self._file, part)
            yield size


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to HTTP and HTTPS, but never from HTTPS to HTTP."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = newurl.partition(":")[0].lower()
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise DownloadError(f"refused a redirection from {req.type} to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """Return what tells one version of the content from another, for If-Range."""
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _write_all(file: FileIO, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[file.write(view) :]
