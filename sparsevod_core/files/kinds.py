"""Kinds of output files, by which a result of an earlier run is told from any other file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARK = "made by sparsevod"
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


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        content = file.read(_NUM_BYTES)
        file.seek(max(os.fstat(file.fileno()).st_size - _NUM_BYTES, 0))
        return MARK.encode("ascii") in content + file.read(_NUM_BYTES)


MARKED = Kind("written by sparsevod", _is_marked)
"""A file with `MARK` in its metadata, near its start or end."""


def starting(name: str, pattern: bytes) -> Kind:
    """Return the kind of files whose first bytes match a regular expression."""

    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            return bool(re.match(pattern, file.read(_NUM_BYTES)))

    return Kind(name, recognizes)


def json_with(schema: str) -> Kind:
    """Return the kind of JSON files that start with this schema, e.g. `sparsevod.eval/1`.

    Those of another version are of this kind, too.
    """
    name = schema.partition("/")[0]
    pattern = rb'\{\s*"schema": "%s/' % re.escape(name).encode()
    return starting(f"JSON of the schema {name}", pattern)


COCO_RESULTS = starting("a COCO results file of sparsevod", rb'\[\n(\{"image_id": |\n?\])')
