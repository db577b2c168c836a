"""A folder of many files that appears under its name when it is complete."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

from sparsevod_core.errors import ConfigError, DataError


class NewFolder:
    """Files are written to `partial`, which becomes `path` when the block ends well.

    Use it as a context manager. After an exception nothing is left.

    Args:
        path: must not be there, or be empty: what is in a folder is never mixed or overwritten.

    Attributes:
        path: the folder.
        partial: where it grows; what a killed run has left there is removed.

    Raises:
        ConfigError: something is there already.
        DataError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise ConfigError(
                f"{path}: is there already", hint="name a folder that is not; none is overwritten"
            )
        try:
            if self.partial.is_dir():
                shutil.rmtree(self.partial)
            self.partial.mkdir(parents=True)
        except OSError as error:
            raise self._cannot_write(error) from error

    def write(self, name: str, content: bytes) -> None:
        """A file in the folder; `name` may have folders of its own.

        Raises:
            DataError: it cannot be written.
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
