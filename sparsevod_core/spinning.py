"""OpenMP's threads, set up for cores that other processes use as well."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
_THREADS = Path("/proc/self/task")
_PAUSE_SOFT = 1  # of OpenMP's omp_pause_resource_t

LOOK_EVERY_S = 0.2
COMPANY = 0.2
"""Share of the time that threads are without a core, from which on spinning costs more."""
LOOKS_ALONE = 5
"""In a row, until company counts as gone: between bursts of it a process seems to be alone."""


def spin_only_when_alone() -> bool:
    """Have OpenMP's threads spin for each other only while each of them has a core.

    A parallel loop ends with its last thread. In libgomp, which torch uses, those that are done
    spin meanwhile, so that they are there at once for the next loop: a detector has hundreds in a
    frame. Where another process takes a core, they spin for a thread that does not run, and a frame
    takes many times as long (benchmarks/README.md). So a thread of its own looks how long those of
    this process wait for a core, and as long as they do it has them sleep at the end of a loop.

    Returns:
        Whether it was done: not where the environment says how threads wait, or that there is one
        thread only; nor where the system does not say how long they wait (Linux does).
    """
    is_chosen = any(name in os.environ for name in _SETTINGS)
    if is_chosen or os.environ.get("OMP_NUM_THREADS") == "1" or not _seconds_without_core():
        return False
    threading.Thread(target=_watch, args=(_shares(),), name="watch cores", daemon=True).start()
    return True


def _watch(shares: Iterable[float]) -> None:
    """Change how threads wait, look by look; a share is that of the time without a core."""
    is_alone, looks_alone = True, 0
    for share in shares:
        looks_alone = 0 if share >= COMPANY else looks_alone + 1
        if is_alone and looks_alone == 0:
            is_alone = not _sleep_after_loops()
        elif not is_alone and looks_alone == LOOKS_ALONE:
            _spin_after_loops()
            is_alone = True


def _sleep_after_loops() -> bool:
    """After 100 spins, which is all that libgomp does while it has more threads than cores.

    It gets them here: a team of this thread, which does nothing. False where OpenMP is not loaded.
    """
    program = ctypes.CDLL(None)
    try:
        parallel = program.GOMP_parallel
    except AttributeError:
        return False
    parallel(program.getpid, None, len(os.sched_getaffinity(0)) + 1, 0)
    return True


def _spin_after_loops() -> None:
    """As libgomp does by itself: this thread gives up its team."""
    ctypes.CDLL(None).omp_pause_resource_all(_PAUSE_SOFT)


def _shares() -> Iterator[float]:
    """The time that all threads together waited for a core, of the time since the last look."""
    before, then = _seconds_without_core(), time.monotonic()
    while True:
        time.sleep(LOOK_EVERY_S)
        waited, now = _seconds_without_core(), time.monotonic()
        yield sum(waited[thread] - before.get(thread, 0) for thread in waited) / (now - then)
        before, then = waited, now


def _seconds_without_core() -> dict[Path, float]:
    """Of each thread since its start, ready to run but not running; empty where nobody says."""
    waited = {}
    for thread in _THREADS.iterdir() if _THREADS.exists() else ():
        with suppress(OSError):  # it has ended, or the kernel does not count
            waited[thread] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waited
