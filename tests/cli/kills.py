"""Runs that are killed between two steps of writing their outputs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def killed_before(number: int, run: Callable[[], object], last: str | None = None) -> bool:
    """Run in a child process, killed before its n-th rename or removal; False if it was not.

    Args:
        number: n, from 1.
        run: What the child process does.
        last: End of the name whose removal completes the run: what follows is not counted.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in ("os.rename", "os.remove"):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                if last is not None and str(arguments[0]).endswith(last):
                    os._exit(0)

        sys.addaudithook(hook)
        try:
            run()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
