"""How long work tells its progress without knowing a terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """One running task, e.g. a bar on a terminal."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more units done; `note` is a short text shown beside them."""


class Reporter(Protocol):
    """Receives what long work has to say; the command line shows it, the core never prints."""

    def progress(
        self, label: str, total: int | None, unit: str = "frames"
    ) -> AbstractContextManager[Progress]:
        """Open a task of `total` units (None where unknown)."""

    def message(self, text: str) -> None:
        """Say one line."""

    def warning(self, text: str) -> None:
        """Say one line that the user should not miss."""


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
    """The default: says nothing."""

    def progress(
        self, label: str, total: int | None, unit: str = "frames"
    ) -> AbstractContextManager[Progress]:
        return nullcontext(_SilentProgress())

    def message(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        pass
