"""A file that several processes want: one writes it, after interruptions from where it was left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from sparsevod_core.files.names import beside, cannot_write


@contextmanager
def resumable(path: Path, waiting: Callable[[], object]) -> Iterator[FileIO | None]:
    """Provide the file `NAME.partial`, which becomes `path` if the block ends without an exception.

    After an exception, and if the process is killed, the file stays, to be continued; an empty one
    is removed. It is locked until then. The file is neither buffered nor at its end.

    Args:
        path: Final path; missing folders are created. A symbolic link is followed.
        waiting: Called if another process is writing the file, before waiting for its end.

    Yields:
        The file, or None if `path` exists, because another process has completed it.

    Raises:
        DataError: The file cannot be written; OSErrors of the block are converted.
    """
    final = Path(os.path.realpath(path))
    partial = beside(final, ".partial")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(partial, final, waiting)
        if file is None:
            yield None
            return
        with file:
            try:
                yield file
                os.fsync(file.fileno())
                partial.replace(final)
            finally:
                if not os.fstat(file.fileno()).st_size and not final.exists():
                    partial.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def _locked(partial: Path, final: Path, waiting: Callable[[], object]) -> FileIO | None:
    """Return the opened and locked file; None if `final` exists."""
    while not final.exists():
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        file = FileIO(descriptor, "r+")
        try:
            with suppress(FileNotFoundError):
                _lock(descriptor, waiting)
                # The process that held the lock before may have renamed or removed the file.
                if os.path.samestat(os.fstat(descriptor), partial.stat()):
                    if not final.exists():
                        return file
                    partial.unlink()
        except BaseException:
            file.close()
            raise
        file.close()
    return None


def _lock(descriptor: int, waiting: Callable[[], object]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # some network file systems have no locks
        pass
