"""Ctrl-C as a KeyboardInterrupt that arrives where it is handled.

Python raises it wherever the program happens to be. In the import of a module, it may be swallowed,
wrapped in another error, or leave half a module behind; in a destructor, it is printed and lost.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_RETRY_S = 0.02
_IMPORTS = "<frozen importlib"


@contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """Raise KeyboardInterrupt upon Ctrl-C in the block, after an import that is in progress."""
    previous = signal.getsignal(signal.SIGINT)
    if previous == signal.SIG_IGN:
        yield
        return
    hook = sys.unraisablehook
    sys.unraisablehook = _raise_again
    signal.signal(signal.SIGALRM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTS):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _raise_again(lost: UnraisableHookArgs) -> None:
    if lost.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
    else:
        sys.__unraisablehook__(lost)
