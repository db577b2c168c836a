"""Ctrl-C and SIGTERM put off until the state is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While this context is open, Ctrl-C and SIGTERM are a request to be read between steps.

    The loop saves what it has and calls `take_effect`, which does what the signal would have done:
    KeyboardInterrupt, or an exit with code 128 + signal. A second Ctrl-C takes effect at once,
    except where a launcher passes on to its processes what the terminal already told them.

    Args:
        patient: wait for the loop however often the signal comes.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.received: int | None = None
        self._patient = patient
        self._at_once = False
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
        """Whether a signal has come."""
        return self.received is not None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of the work in which a signal takes effect immediately: nothing would be lost."""
        if self.requested:
            self.take_effect()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def take_effect(self) -> NoReturn:
        """Do what the signal asks for; SIGTERM where another rank received one and this did not."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.received or signal.SIGTERM))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.requested and number == signal.SIGINT and not self._patient
        self.received = number
        if self._at_once or again:
            self.take_effect()
