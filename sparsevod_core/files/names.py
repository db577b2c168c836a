"""Names of files that fit the file system, and the error of a file that cannot be written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sparsevod_core.errors import DataError

MAX_BYTES = 255
"""Length of a file name on nearly all file systems."""


def fitted(stem: str, suffix: str) -> str:
    """Return `stem + suffix`, with a shortened stem and its hash if the name were too long."""
    name = stem + suffix
    if len(os.fsencode(name)) <= MAX_BYTES:
        return name
    end = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{suffix}"
    start = os.fsencode(stem)[: MAX_BYTES - len(os.fsencode(end))]
    return start.decode(errors="ignore") + end


def beside(path: Path, suffix: str) -> Path:
    """Return a path in the same folder, whose name is that of `path` with a suffix."""
    return path.with_name(fitted(path.name, suffix))


def cannot_write(path: Path | str, error: Exception) -> DataError:
    """Return the error for a file that cannot be written, e.g. because the disk is full."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DataError(f"{path}: cannot write: {reason.splitlines()[0]}")
