"""Protocol through which long-running work reports messages and progress to any front end."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Progress of one running task, e.g. a bar on a terminal."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more units done; `note` is a short text to show next to them."""


class Reporter(Protocol):
    """Receiver of messages and progress. The command line shows them; the core never prints."""

    def progress(
        self, label: str, total: int | None, unit: str = "frames"
    ) -> AbstractContextManager[Progress]:
        """Open a task of `total` units (None if unknown)."""

    def message(self, text: str) -> None:
        """Report one line."""

    def warning(self, text: str) -> None:
        """Report one line that the user should not miss."""


class _SilentProgress:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class MessagesOnly:
    """Passes messages and warnings on to another reporter, without progress."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def progress(
        self, label: str, total: int | None, unit: str = "frames"
    ) -> AbstractContextManager[Progress]:
        return nullcontext(_SilentProgress())

    def message(self, text: str) -> None:
        self._reporter.message(text)

    def warning(self, text: str) -> None:
        self._reporter.warning(text)


class SilentReporter:
    """Reporter that discards everything; the default."""

    def progress(
        self, label: str, total: int | None, unit: str = "frames"
    ) -> AbstractContextManager[Progress]:
        return nullcontext(_SilentProgress())

    def message(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        pass
