"""Output folder that appears under its name only when it is complete."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

from sparsevod_core.errors import ConfigError, DataError


class NewFolder:
    """Context manager that writes files to `partial` and renames it to `path` on success.

    After an exception nothing is left behind.

    Args:
        path: must be absent or an empty folder; nothing is ever overwritten.

    Attributes:
        path: final path of the folder.
        partial: temporary path of the folder; remains of a killed run are removed.

    Raises:
        ConfigError: `path` exists and is not an empty folder.
        DataError: the folder cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise ConfigError(
                f"{path}: already exists", hint="use another folder; none is overwritten"
            )
        try:
            if self.partial.is_dir():
                shutil.rmtree(self.partial)
            self.partial.mkdir(parents=True)
        except OSError as error:
            raise self._cannot_write(error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file into the folder; `name` may contain subfolders.

        Raises:
            DataError: the file cannot be written.
        """
        file = self.partial / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise self._cannot_write(error) from error

    def __enter__(self) -> NewFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.partial.replace(self.path)
            else:
                shutil.rmtree(self.partial)
        except OSError as failure:
            raise self._cannot_write(failure) from failure

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot write: {error.strerror}")
