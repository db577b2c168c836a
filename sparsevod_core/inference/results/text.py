"""Text files written frame by frame, so that memory does not grow with the video."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.stdout import write_stdout
from sparsevod_core.files.unfinished import Unfinished
from sparsevod_core.structures import FrameDetections


class TextFormat(Protocol):
    """Content of a text file, part by part."""

    def start(self) -> str:
        """Return the text before the first frame."""

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        """Return the text of the next frame."""

    def end(self, *, truncated: bool) -> Iterable[str]:
        """Return the text after the last frame, in pieces."""


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


class ResultsText:
    """Text file of any format.

    Args:
        path: Path of the file; missing folders are created. `-` is stdout.
        content: Format of the file.
        kind: Kind of the file; None: there is no such file yet.

    Raises:
        ConfigError: There is a file of another kind.
        DataError: The file cannot be written.
    """

    def __init__(self, path: Path, content: TextFormat, kind: Kind | None = None) -> None:
        self.path = path
        self._content = content
        self._unfinished: Unfinished | None = None
        self._file: IO[str] | None = None
        if str(path) != "-":
            self._unfinished = Unfinished(path, kind)
            # Formats write their own line ends.
            self._file = self._unfinished.temporary.open("w", encoding="utf-8", newline="")
        self._append(content.start())

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Append the detections of a frame.

        Raises:
            DataError: The file cannot be written, e.g. because the disk is full.
        """
        self._append(self._content.frame(found, time_s))

    def finish(self, *, truncated: bool) -> None:
        """Write the end; call once, after the last frame. Raises as `write` does."""
        for text in self._content.end(truncated=truncated):
            self._append(text)

    def __enter__(self) -> ResultsText:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None or self._unfinished is None:
            return
        try:
            self._file.close()
        except OSError as failure:
            self._unfinished.discard()
            raise cannot_write(self.path, failure) from (error or failure)
        if kind is None:
            self._unfinished.publish()
        else:
            self._unfinished.discard()

    def _append(self, text: str) -> None:
        if self._file is None:
            write_stdout(text)
            return
        try:
            self._file.write(text)
        except OSError as error:
            raise cannot_write(self.path, error) from error
