"""Protocol through which long-running work reports messages and progress to any front end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


def counted(number: int, what: str) -> str:
    """Return a number with its unit: 1 box, 2 boxes."""
    plural = f"{what}es" if what[-1] in "sx" else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def listed(names: Iterable[object]) -> str:
    """Return the names as a list: a, b and c."""
    *rest, last = map(str, names)
    return f"{', '.join(rest)} and {last}" if rest else last


def some_of(names: Sequence[str], limit: int = 10) -> str:
    """Return the first names, and how many more there are: a, b and 3 more."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


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
