"""The decision whether outputs may be written, before the work begins.

No output may be an input, another output, or a file that the command did not write.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.names import MAX_BYTES, cannot_write


def check_outputs(
    outputs: Sequence[tuple[Path, Kind | None]], inputs: Mapping[Path, str] | None = None
) -> None:
    """Check that all outputs can be written without loss of any other file.

    Args:
        outputs: Paths of files and their kinds; None for a folder.
        inputs: What the command reads, by path, e.g. `the source`. Missing files are ignored.

    Raises:
        ConfigError: An output is an input, another output, or a file of another kind.
        DataError: An output cannot be written, e.g. because its folder is read-only.
    """
    paths = [path for path, _ in outputs]
    require_not_inputs(paths, inputs or {})
    require_distinct(paths)
    for path, kind in outputs:
        if kind is not None:
            require_own(path, kind)
        _require_writable(path)


def require_not_inputs(outputs: Iterable[Path], inputs: Mapping[Path, str]) -> None:
    """Raise a ConfigError if an output is an input, however the paths are spelled."""
    known = {identity: what for path, what in inputs.items() for identity in _identities(path)}
    for path in outputs:
        for identity in _identities(path):
            if identity in known:
                raise ConfigError(
                    f"{path}: this is {known[identity]}, which is never overwritten",
                    hint="choose another path",
                )


def require_distinct(outputs: Iterable[Path]) -> None:
    """Raise a ConfigError if two outputs are the same, or one of them lies inside another."""
    known: dict[object, Path] = {}
    inner: dict[str, Path] = {}
    for path in outputs:
        # Names that differ only in case are the same file on some systems.
        name = _folded(_real(path))
        for identity in {name, *_identities(path)}:
            if identity in known:
                raise ConfigError(
                    f"{path}: two outputs have this path", hint="give each output its own path"
                )
            known[identity] = path
        inner |= {str(parent): path for parent in Path(name).parents}
    for outer in inner.keys() & known.keys():
        raise ConfigError(
            f"{inner[outer]}: lies inside another output, {known[outer]}",
            hint="give each output its own path",
        )


def _identities(path: Path) -> Iterator[object]:
    """Yield what is the same for all ways of naming one file."""
    yield _real(path)  # also if the path leads through a folder that does not exist yet
    try:
        status = path.stat()
    except OSError:
        return
    yield status.st_dev, status.st_ino


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def require_own(path: Path, kind: Kind) -> None:
    """Check that a file may be replaced: it is absent, empty, or of this kind.

    Raises:
        ConfigError: It is something else.
        DataError: It cannot be read.
    """
    try:
        try:
            status = Path(_real(path)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ConfigError(f"{path}: is {what}", hint="give the path of a file, or of a new one")
        own = is_own(path, kind)
    except OSError as error:
        raise cannot_write(path, error) from error
    if not own:
        raise ConfigError(
            f"{path}: already exists, and is not {kind.name}",
            hint="choose another path, or remove the file",
        )


def is_own(path: Path, kind: Kind) -> bool:
    """Return True if a file is empty or of this kind, so that it may be replaced."""
    return path.stat().st_size == 0 or kind.recognizes(path)


def _require_writable(path: Path) -> None:
    """Raise a DataError if a file cannot be created at `path`, as far as can be known before."""
    place = Path(_real(path))
    for part in (place, *place.parents):
        if len(os.fsencode(part.name)) > MAX_BYTES:
            raise cannot_write(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
    try:
        folder = next(part for part in place.parents if os.path.lexists(part))
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
            code = errno.EROFS if read_only else errno.EACCES
            raise OSError(code, os.strerror(code))
    except OSError as error:
        raise cannot_write(path, error) from error


def _real(path: Path) -> str:
    return os.path.realpath(path)
