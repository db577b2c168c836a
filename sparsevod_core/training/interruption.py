"""Ctrl-C and SIGTERM deferred until the state of the run is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Context in which Ctrl-C and SIGTERM only set `requested`, which the loop checks.

    After saving, the loop calls `take_effect`, which does what the signal would have done: raise
    KeyboardInterrupt, or exit with code 128 + signal. A second Ctrl-C takes effect immediately,
    unless `patient`.

    Args:
        patient: If True, wait for the loop however often the signal arrives. Use it in launched
            processes: the launcher forwards a Ctrl-C that the terminal has sent them already.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.received: int | None = None
        self._patient = patient
        self._is_immediate = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.received is not None

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let signals take effect immediately within this context: no progress can be lost."""
        if self.requested:
            self.take_effect()
        self._is_immediate = True
        try:
            yield
        finally:
            self._is_immediate = False

    def take_effect(self) -> NoReturn:
        """Do what the signal asks for; if only another rank received one, act as on SIGTERM."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.received or signal.SIGTERM))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_second = self.requested and number == signal.SIGINT and not self._patient
        self.received = number
        if self._is_immediate or is_second:
            self.take_effect()
