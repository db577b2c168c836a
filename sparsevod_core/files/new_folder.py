"""Output folder that appears under its name only when it is complete."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import Unfinished


class NewFolder:
    """Context manager that writes files to a temporary folder and renames it on success.

    After an exception nothing is left behind.

    Args:
        path: Must be absent or an empty folder; nothing is ever overwritten.
        is_own: Whether an earlier attempt of the same run may have written the folder. It is then
            replaced, unless it contains a file that the new folder does not.

    Attributes:
        path: Final path of the folder.

    Raises:
        ConfigError: `path` exists and is not an empty folder.
        DataError: The folder cannot be created.
    """

    def __init__(self, path: Path, *, is_own: bool = False) -> None:
        self.path = path
        self._is_own = is_own
        if not is_own:
            require_new_folder(path)
        self._folder = Unfinished(path, is_folder=True)

    def write(self, name: str, content: bytes) -> None:
        """Write a file into the folder; `name` may contain subfolders.

        Raises:
            DataError: The file cannot be written.
        """
        file = self._folder.temporary / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> NewFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._folder.discard()
            return
        earlier = None
        if self._is_own and self.path.is_dir():
            earlier = self._moved_away()
        self._folder.publish()
        if earlier is not None:
            earlier.discard()

    def _moved_away(self) -> Unfinished:
        """Move the earlier folder to a temporary name and return it."""
        others = _files(self.path) - _files(self._folder.temporary)
        if others:
            self._folder.discard()
            raise ConfigError(
                f"{self.path / min(others)}: was not written by this run",
                hint="move the file elsewhere, or choose another folder",
            )
        try:
            earlier = Unfinished(self.path, is_folder=True)
            self.path.replace(earlier.temporary)
        except OSError as error:
            self._folder.discard()
            raise cannot_write(self.path, error) from error
        return earlier


def require_new_folder(path: Path) -> None:
    """Raise a ConfigError if `path` is neither absent nor an empty folder."""
    try:
        is_new = not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise cannot_write(path, error) from error
    if not is_new:
        raise ConfigError(f"{path}: already exists", hint="use another folder; none is overwritten")


def _files(folder: Path) -> set[str]:
    """Return the paths of all files in a folder, relative to it."""
    return {
        os.path.relpath(Path(parent) / name, folder)
        for parent, _, names in os.walk(folder)
        for name in names
    }
