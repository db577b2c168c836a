"""Text files written frame by frame, so that memory does not grow with the video."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO

from sparsevod_core.errors import DataError
from sparsevod_core.structures import FrameDetections


class TextFormat(Protocol):
    """Content of a text file, part by part."""

    def start(self) -> str:
        """Return the text before the first frame."""

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        """Return the text of the next frame."""

    def end(self, *, truncated: bool) -> str:
        """Return the text after the last frame."""


class ResultsFile(Protocol):
    """File or folder of detections.

    Use it as a context manager: it appears under its name if the block ends without an exception,
    and is removed otherwise.
    """

    path: Path

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Append the detections of a frame."""

    def finish(self, *, truncated: bool) -> None:
        """Write the end; call once, after the last frame."""

    def __enter__(self) -> ResultsFile: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def _standard_output() -> TextIO:
    """Return stdout, which becomes UTF-8 as in a file, whatever the terminal's encoding."""
    if sys.stdout is None:
        raise DataError("-: stdout is closed", hint="name a file")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    return sys.stdout


class ResultsText:
    """Text file of any format.

    Args:
        path: Path of the file; missing folders are created. `-` is stdout.
        content: Format of the file.

    Raises:
        DataError: The file cannot be written.
    """

    def __init__(self, path: Path, content: TextFormat) -> None:
        self.path = path
        self._content = content
        self._partial = path.with_name(path.name + ".partial")
        try:
            if str(path) == "-":
                self._file = _standard_output()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Formats write their own line ends.
                self._file = self._partial.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._cannot_write(error) from error
        self._append(content.start())

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Append the detections of a frame.

        Raises:
            DataError: The file cannot be written, e.g. because the disk is full.
        """
        self._append(self._content.frame(found, time_s))

    def finish(self, *, truncated: bool) -> None:
        """Write the end; call once, after the last frame. Raises as `write` does."""
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
