"""Files that appear under their names only when they are complete.

Until then, a file has the name `NAME.12345678.partial`, with random digits. Its process holds a
lock on it, so that the remains of a killed process can be told from the work of one that runs.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sparsevod_core.files.check import require_own
from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.names import beside, cannot_write

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_DIGITS = "0" * 8


class Unfinished:
    """A file that is being written. Without `publish`, it is removed with this object.

    Args:
        path: Final path; missing folders are created. A symbolic link is followed.
        kind: Kind of the file; None if only this program can have written a file of this name.
        is_folder: Whether it is a folder.

    Attributes:
        temporary: Path to write to, of an existing empty file or folder.

    Raises:
        ConfigError: There is a file of another kind.
        DataError: The file cannot be written.
    """

    def __init__(self, path: Path, kind: Kind | None = None, *, is_folder: bool = False) -> None:
        if kind is not None:
            require_own(path, kind)
        self.path = path
        self._final = Path(os.path.realpath(path))
        try:
            self._final.parent.mkdir(parents=True, exist_ok=True)
            remove_remains(self._final)
            self.temporary, descriptor = _created(self._final, is_folder)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._close = weakref.finalize(self, os.close, descriptor)
        self._remove = weakref.finalize(self, _remove, self.temporary, os.getpid())

    def publish(self) -> None:
        """Give the file its name, replacing an earlier one.

        Raises:
            DataError: The file cannot be written.
        """
        try:
            self.temporary.replace(self._final)
        except OSError as error:
            self.discard()
            raise cannot_write(self.path, error) from error
        self._remove.detach()
        self._close()

    def discard(self) -> None:
        """Remove the file. This never fails, as an error has been raised already."""
        self._remove()
        self._close()


@contextmanager
def writing(path: Path, kind: Kind | None = None) -> Iterator[Path]:
    """Provide a path to write to, which becomes `path` if the block ends without an exception.

    Raises:
        ConfigError: There is a file of another kind.
        DataError: The file cannot be written; OSErrors of the block are converted.
    """
    file = Unfinished(path, kind)
    try:
        yield file.temporary
    except OSError as error:
        file.discard()
        raise cannot_write(path, error) from error
    except BaseException:
        file.discard()
        raise
    file.publish()


class BytesSink(io.BufferedWriter):
    """A binary file for libraries that hide an OSError, which is kept in `error`."""

    error: OSError | None = None

    def write(self, content: Buffer) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def writing_bytes(path: Path, kind: Kind | None = None) -> Iterator[BytesSink]:
    """Provide a binary file that becomes `path`, see `writing`.

    torch raises a RuntimeError that does not say why, whatever the reason.
    """
    with writing(path, kind) as temporary, BytesSink(io.FileIO(temporary, "wb")) as file:
        try:
            yield file
            file.flush()
        except Exception as error:
            if file.error is not None:
                raise file.error from error
            raise


def write_text(path: Path, text: str, kind: Kind | None = None) -> None:
    """Write a text file in UTF-8; see `writing`."""
    with writing(path, kind) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def remove_remains(path: Path) -> None:
    """Remove unfinished files for `path` whose processes have ended without removing them."""
    pattern = re.compile(re.escape(_name(path)).replace(_DIGITS, "[0-9a-f]{8}"))
    with os.scandir(path.parent) as entries:
        found = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]
    for remains in found:
        with suppress(OSError):
            descriptor = os.open(remains, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(remains, os.getpid())
            finally:
                os.close(descriptor)


def _name(path: Path) -> str:
    return beside(path, f".{_DIGITS}.partial").name


def _created(path: Path, is_folder: bool) -> tuple[Path, int]:
    """Create a file or folder with a new name, and return its path and its locked descriptor."""
    while True:
        name = _name(path)
        at = name.rindex(_DIGITS)
        place = path.with_name(name[:at] + secrets.token_hex(4) + name[at + len(_DIGITS) :])
        try:
            if is_folder:
                place.mkdir()
            descriptor = os.open(
                place, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666
            )
        except FileExistsError:
            continue
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(place):  # not taken for remains before it was locked
            return place, descriptor
        os.close(descriptor)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() != owner:  # a process that was forked meanwhile
        return
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
