"""Walks a large JSON object or list entry by entry, so that memory does not grow with the file.

The annotations of ImageNet VID's training set are 2.8 million entries: 2.4 GB of Python objects
when `json.load` makes them all. Here some thousand exist at a time, and reading takes no longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

import orjson

from sparsevod_core.errors import DataError

_CHUNK_CHARACTERS = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_OPENING = re.compile(r"[ \t\n\r]*\{")


def stream_sections(path: Path, lists: Collection[str] = ()) -> Iterator[tuple[str, Iterator[Any]]]:
    """Key and entries of every member of the JSON object in `path`, in the file's order.

    A list gives its entries one by one; any other value is the only entry of its section. Entries
    that the caller leaves unread are skipped.

    Args:
        path: the file.
        lists: sections that have to be lists.

    Raises:
        DataError: the file cannot be read, is not JSON, holds no object, or has another value where
            a list is wanted.
    """
    with _walking(path) as walker:
        if walker.peek() != "{":
            walker.fail("expected an object with named sections")
        for _ in walker.separated("{", "}"):
            key = walker.value()
            if not isinstance(key, str):
                walker.fail("expected a name in quotes")
            walker.take(":")
            if key in lists and walker.peek() != "[":
                raise DataError(f"{path}: expected a list `{key}`, got another value")
            entries = walker.entries()
            yield key, entries
            for _ in entries:
                pass
        walker.end()


def stream_list(path: Path) -> Iterator[Any]:
    """The entries of the JSON list in `path`.

    Raises:
        DataError: the file cannot be read, is not JSON, or holds no list.
    """
    with _walking(path) as walker:
        if walker.peek() != "[":
            walker.fail("expected a list")
        yield from walker.entries()
        walker.end()


def parse_json(text: str | bytes) -> Any:
    """Return `json.loads(text)`, three times as fast; whole numbers beyond 64 bits become floats.

    Raises:
        ValueError, RecursionError: as `json.loads`.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # the standard library accepts more, such as NaN
        return json.loads(text)


@contextmanager
def _walking(path: Path) -> Iterator[_Walker]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield _Walker(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a JSON file: it is not UTF-8 text") from error


class _Walker:
    """A position in a file of which one stretch is in memory."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._scan = json.JSONDecoder().raw_decode
        self._buffer = ""
        self._position = 0
        self._dropped = 0  # characters before the buffer
        self._single_before = 0  # in the buffer, where objects have to be walked one by one

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._buffer, self._position)
            assert space is not None  # the pattern also matches nothing
            self._position = space.end()
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_on():
                return ""

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            self.fail(f"expected {expected!r}")
        self._position += 1

    def end(self) -> None:
        if self.peek():
            self.fail("expected the end of the file")

    def separated(self, opening: str, closing: str) -> Iterator[None]:
        """Stops before every item of a list or object, for the caller to take it."""
        self.take(opening)
        if self.peek() == closing:
            self._position += 1
            return
        while True:
            yield
            separator = self.peek()
            if separator not in (",", closing):
                self.fail(f"expected ',' or {closing!r}")
            self._position += 1
            if separator == closing:
                return
            self.peek()

    def entries(self) -> Iterator[Any]:
        if self.peek() == "[":
            for _ in self.separated("[", "]"):
                yield from self._complete_objects()
                yield self.value()
        else:
            yield self.value()

    def _complete_objects(self) -> list[Any]:
        """The objects from here on that the buffer holds whole, several times faster than singly.

        The stretch ends where a comma stands between braces. Should these be no entries' but
        something within one, or within a text, the stretch does not parse; nor does it where an
        entry is broken. Then all entries of this buffer are left to be walked one by one.
        """
        if self._single_before > self._position:
            return []
        end = len(self._buffer)
        while (end := self._buffer.rfind("},", self._position, end)) >= 0:
            if _OPENING.match(self._buffer, end + 2):
                break
        else:
            return []
        try:
            objects = parse_json(f"[{self._buffer[self._position : end + 1]}]")
        except (ValueError, RecursionError):
            self._single_before = len(self._buffer)
            return []
        self._position = end + 2
        self.peek()
        return objects

    def value(self) -> Any:
        """The whole value that begins here."""
        while True:
            try:
                value, end = self._scan(self._buffer, self._position)
            except ValueError as error:
                if self._read_on():  # it may only have been cut at the end of the buffer
                    continue
                self.fail(error.msg if isinstance(error, json.JSONDecodeError) else str(error))
            except RecursionError:
                self.fail("nested too deeply")
            if end + 2 >= len(self._buffer) and self._read_on():
                continue  # a number may go on in the next stretch: 1|2, 1|.5, 1|e+5
            self._position = end
            return value

    def fail(self, what: str) -> NoReturn:
        place = self._dropped + self._position
        raise DataError(f"{self._path}: not valid JSON at character {place:,}: {what}")

    def _read_on(self) -> bool:
        """Replace what has been walked by a stretch at least as long as what is left, if any."""
        left = self._buffer[self._position :]
        more = self._file.read(max(_CHUNK_CHARACTERS, len(left)))
        if not more:
            return False
        self._dropped += self._position
        self._buffer = left + more
        self._position = self._single_before = 0
        return True
