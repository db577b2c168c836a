"""Text that grows frame by frame, so that an hour of video needs no more memory than a minute."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

from sparsevod_core.errors import DataError
from sparsevod_core.structures import FrameDetections


class TextFormat(Protocol):
    """What stands in a file: its text, part by part."""

    def start(self) -> str:
        """Before the first frame."""

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        """Of one frame; frames come in order, each once."""

    def end(self, *, truncated: bool) -> str:
        """After the last frame."""


class ResultsFile(Protocol):
    """Where detections go. A context manager: what it writes is complete when the block ends well,
    and not there when it ends with an exception."""

    path: Path

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Append a frame."""

    def finish(self, *, truncated: bool) -> None:
        """Say how it ended; to be called once, after the last frame."""

    def __enter__(self) -> ResultsFile: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class ResultsText:
    """A text file of some format.

    Args:
        path: the file; its folder is made if need be. `-` is stdout.
        content: its format.

    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: Path, content: TextFormat) -> None:
        self.path = path
        self._content = content
        self._partial = path.with_name(path.name + ".partial")
        try:
            if str(path) == "-":
                self._file = sys.stdout
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                # No translation of line ends: each format knows its own.
                self._file = self._partial.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._cannot_write(error) from error
        self._append(content.start())

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Append a frame.

        Raises:
            DataError: the file cannot be written, e.g. as the disk is full.
        """
        self._append(self._content.frame(found, time_s))

    def finish(self, *, truncated: bool) -> None:
        """Say how it ended; to be called once, after the last frame. Raises as `write` does."""
        self._append(self._content.end(truncated=truncated))

    def __enter__(self) -> ResultsText:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is sys.stdout:
            self._file.flush()
            return
        try:
            self._file.close()
            if kind is None:
                self._partial.replace(self.path)
        except OSError as failure:
            raise self._cannot_write(failure) from failure
        finally:
            self._partial.unlink(missing_ok=True)

    def _append(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot write: {error.strerror}")
