"""An HTTP server for files of weights, which breaks off, refuses and redirects as told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WeightsServer:
    """What the server has, what it does with the next requests, and those it got.

    Attributes:
        files: Contents by path.
        has_ranges: Whether it sends parts.
        etag: Its version of all files; None: it has no versions.
        states_length: Whether it sends the size of a file.
        heeds_versions: Whether it compares `If-Range` with its version.
        answers: What happens to the next requests, one each: the number of bytes after which the
            connection breaks off, an HTTP error `"503"`, or the address of a redirection. Then, and
            for None, it sends what was asked for.
        goes_on: While it is cleared, the server waits before the second half of a file.
        requests: Path and headers of all requests.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    has_ranges: bool = True
    etag: str | None = '"1"'
    states_length: bool = True
    heeds_versions: bool = True
    answers: list[int | str | None] = field(default_factory=list)
    goes_on: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def ranges(self) -> list[str | None]:
        """Return the ranges that were asked for."""
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def running() -> Iterator[WeightsServer]:
    """Provide a server on a free port of this machine."""
    state = WeightsServer()
    state.goes_on.set()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that were killed
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.goes_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: WeightsServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        state = self.state
        state.requests.append((self.path, dict(self.headers)))
        answer = state.answers.pop(0) if state.answers else None
        content = state.files.get(self.path)
        if isinstance(answer, str) and answer.isdecimal():
            self.send_error(int(answer))
        elif isinstance(answer, str):
            self.send_response(302)
            self.send_header("Location", answer)
            self.end_headers()
        elif content is None:
            self.send_error(404)
        else:
            self._send(content, answer)

    def _send(self, content: bytes, until: int | None) -> None:
        state, size = self.state, len(content)
        start = self._start()
        if start >= size:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if state.states_length:
            self.send_header("Content-Length", str(size - start))
        if state.etag is not None:
            self.send_header("ETag", state.etag)
        self.end_headers()
        body = content[start:][:until]
        self.wfile.write(body[: len(body) // 2])
        state.goes_on.wait()
        self.wfile.write(body[len(body) // 2 :])

    def _start(self) -> int:
        asked = self.headers["Range"]
        is_same = self.headers["If-Range"] in (None, self.state.etag)
        is_same |= not self.state.heeds_versions
        if not self.state.has_ranges or asked is None or not is_same:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))
