"""Kinds of output files, by which a result of an earlier run is told from any other file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_NUM_BYTES = 2**16  # at each end of a file


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of output.

    Attributes:
        name: What the file is, e.g. `a table of detections`.
        recognizes: Returns True if a file that is not empty is of this kind.
    """

    name: str
    recognizes: Callable[[Path], bool]


def marked(name: str, *marks: bytes) -> Kind:
    """Return the kind of files that contain one of the marks near their start or end."""

    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            content = file.read(_NUM_BYTES)
            file.seek(max(os.fstat(file.fileno()).st_size - _NUM_BYTES, 0))
            content += b"\n" + file.read(_NUM_BYTES)
        return any(mark in content for mark in marks)

    return Kind(name, recognizes)


def starting(name: str, pattern: bytes) -> Kind:
    """Return the kind of files whose first bytes match a regular expression."""

    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            return bool(re.match(pattern, file.read(_NUM_BYTES)))

    return Kind(name, recognizes)


def json_with(schema: str) -> Kind:
    """Return the kind of JSON files that start with this schema, in any version."""
    pattern = rb'\{\s*"schema": "%s/' % re.escape(schema).encode()
    return starting(f"JSON of the schema {schema}", pattern)
