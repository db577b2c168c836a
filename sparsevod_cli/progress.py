"""Reporters for the command line: rich bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparsevod_cli import console
from sparsevod_core.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from sparsevod_core.reporting import Progress

PLAIN_INTERVAL_S = 5.0


class _RichTask:
    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bar.update(self._task, advance=steps, note=printable(note))


class _PlainTask:
    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S or self._done == self._total:
            self._last = now
            of = "" if self._total is None else f"/{self._total}"
            rate = self._done / max(now - self._start, 1e-9)
            console.say(
                f"{self._label}: {self._done}{of} {self._unit}, {rate:.1f}/s {note}".rstrip()
            )


class ConsoleReporter:
    """Reporter that writes to stderr."""

    @contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames") -> Iterator[Progress]:
        """Show a bar on a terminal, or print a plain line every few seconds."""
        if not sys.stderr.isatty():
            yield _PlainTask(label, total, unit)
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import (
            Progress as RichProgress,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as bar:
            yield _RichTask(bar, bar.add_task(printable(label), total=total, note=""))

    def message(self, text: str) -> None:
        """Print one line."""
        console.say(console.one_line(text))

    def warning(self, text: str) -> None:
        """Print one line marked as a warning."""
        console.say(f"warning: {console.one_line(text)}")
