"""Check and bounded reading of input files: opening a FIFO waits, and a device may never end."""

from __future__ import annotations

import stat
from pathlib import Path

from sparsevod_core.errors import SparseVodError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular_file(path: Path | str, error: type[SparseVodError]) -> None:
    """Raise `error` if the path is a folder, FIFO, socket or device; a missing file passes.

    Call it before opening, which waits for a writer if the path is a FIFO. The error for a missing
    file is left to the caller, which knows what the file is for.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # ValueError: a null character in the path
        return
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        hint = None if stat.S_ISDIR(mode) else "write its content to a file first"
        raise error(f"{path}: expected a file, got {kind}", hint)


def read_limited(path: Path, max_bytes: int, error: type[SparseVodError]) -> bytes:
    """Return the content of a regular file of at most `max_bytes`.

    Raises:
        SparseVodError: `error`, for a larger file or one that is not regular.
        OSError: the file cannot be read.
    """
    require_regular_file(path, error)
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise error(f"{path}: expected at most {max_bytes:,} bytes, got more")
    return content
