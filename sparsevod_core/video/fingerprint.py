"""Identity of a source's content, by which results are known to be of this source."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sparsevod_core.errors import VideoError
from sparsevod_core.video.sources import Source

_NUM_BYTES = 2**16


def fingerprint(source: Source) -> str | None:
    """Return a text that differs for different videos, wherever they are; None for stdin.

    A file is identified by its size and its first and last 64 KiB, which hold its index in most
    containers, so that long videos are not read twice. A folder of images is identified by the
    names and sizes of its files, a stream or camera by its address.

    Raises:
        VideoError: The source cannot be read.
    """
    if source.kind == "stdin":
        return None
    if source.is_live:
        return str(source)
    path, content = Path(source.place), hashlib.sha256()
    try:
        if source.kind == "images":
            with os.scandir(path) as entries:
                for name, size in sorted((e.name, e.stat().st_size) for e in entries):
                    content.update(f"{size} {name}\n".encode(errors="surrogateescape"))
        elif not path.is_file():
            return None  # a pipe can be read only once
        else:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                content.update(f"{size}\n".encode())
                for start in (0, max(size - _NUM_BYTES, 0)):
                    file.seek(start)
                    content.update(file.read(_NUM_BYTES))
    except OSError as error:
        raise VideoError(f"{source}: cannot read: {error.strerror}") from error
    return content.hexdigest()[:16]
