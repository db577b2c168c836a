"""Locks: one process at a time writes an output or a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.files.names import beside, cannot_write
from sparsevod_core.printable import printable

_held: set[str] = set()  # locks of a process do not exclude the process itself


@contextmanager
def locked(paths: Sequence[Path]) -> Iterator[None]:
    """Hold the locks of several outputs; see `lock_file`."""
    with ExitStack() as stack:
        # In the same order in every process, so that one of two always gets all.
        for place, path in sorted((os.path.realpath(path), path) for path in paths):
            stack.enter_context(lock_file(beside(Path(place), ".lock"), path))
        yield


@contextmanager
def lock_file(file: Path, what: Path) -> Iterator[None]:
    """Hold a lock, which the system releases when the process ends, however it ends.

    The file says who holds the lock. A file that is left behind does no harm.

    Args:
        file: File to lock. It is created, with its folder, and removed.
        what: What the process writes, for the message.

    Raises:
        DataError: Another process holds the lock, or the file cannot be written.
    """
    place = os.path.realpath(file)
    if place in _held:
        raise _is_held(what, "this process")
    folder = Path(place).parent
    is_new_folder = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(Path(place), what)
    except OSError as error:
        raise cannot_write(what, error) from error
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        with suppress(OSError):
            Path(place).unlink()
            if is_new_folder:
                folder.rmdir()  # fails unless it is empty: nothing was written
        os.close(descriptor)


def _opened(file: Path, what: Path) -> int:
    """Return the descriptor of the locked file."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            content = os.pread(descriptor, 4096, 0)
            holder = _holder(content)
            if content and holder is None:
                raise DataError(
                    f"{file}: not a lock of sparsevod, which needs this name",
                    hint="rename the file, or choose another output",
                )
            try:
                # Unlike flock's, these locks do not pass to processes that outlive this one.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise _is_held(what, holder or "another process") from None
            except OSError:  # some network file systems have no locks
                pass
            # The process that held the lock before may have removed the file in the meantime.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.stat()):
                    _write_holder(descriptor, file)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _write_holder(descriptor: int, file: Path) -> None:
    entry = {
        "sparsevod": "lock",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(entry).encode() + b"\n", 0)
    except OSError:  # a full disk
        file.unlink()
        raise


def _holder(content: bytes) -> str | None:
    """Return who wrote a lock file; None if it is no such file."""
    try:
        entry = json.loads(content)
        if entry["sparsevod"] != "lock":
            return None
        text = f"process {int(entry['pid'])} on {entry['host']}, since {entry['since']}"
    except (ValueError, LookupError, TypeError):
        return None
    return printable(text)


def _is_held(what: Path, holder: str) -> DataError:
    return DataError(
        f"{what}: is being written by {holder}",
        hint="wait until it ends, or choose another output",
    )
