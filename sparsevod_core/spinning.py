"""Control of OpenMP's spinning threads on cores that other processes use too."""

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
_PAUSE_SOFT = 1  # omp_pause_soft of OpenMP's omp_pause_resource_t

CHECK_INTERVAL_S = 0.2
BUSY_SHARE = 0.2
"""Share of the time in which threads wait for a core, above which spinning does more harm."""
CHECKS_UNTIL_FREE = 5
"""Checks in a row below `BUSY_SHARE` until the cores count as free: other processes pause too."""


def spin_only_on_free_cores() -> bool:
    """Let OpenMP's threads spin only while each of them has a core.

    A parallel loop ends when its last thread does. In libgomp, which torch uses, the other threads
    spin meanwhile, to be ready at once for the next loop: a detector has hundreds per frame. If
    another process takes a core, they spin for a thread that does not run, and a frame takes many
    times as long (benchmarks/README.md). A background thread therefore measures how long the
    threads of this process wait for a core. While they do, it makes them sleep after a loop.

    Returns:
        True if the background thread was started. False if the environment sets how threads wait
        or limits them to one, or if the system does not report waiting times (Linux does).
    """
    is_set = any(name in os.environ for name in _SETTINGS)
    if is_set or os.environ.get("OMP_NUM_THREADS") == "1" or not _seconds_without_core():
        return False
    threading.Thread(target=_watch, args=(_shares(),), name="watch cores", daemon=True).start()
    return True


def _watch(shares: Iterable[float]) -> None:
    """Switch between spinning and sleeping.

    Args:
        shares: Share of the time without a core at each check.
    """
    is_spinning, free_checks = True, 0
    for share in shares:
        free_checks = 0 if share >= BUSY_SHARE else free_checks + 1
        if is_spinning and free_checks == 0:
            is_spinning = not _sleep_after_loops()
        elif not is_spinning and free_checks == CHECKS_UNTIL_FREE:
            _spin_after_loops()
            is_spinning = True


def _sleep_after_loops() -> bool:
    """Make threads sleep after 100 spins, and return False if OpenMP is not loaded.

    libgomp spins no longer than that while it has more threads than cores. A team of this thread,
    which does nothing, is enough to get there.
    """
    program = ctypes.CDLL(None)
    try:
        parallel = program.GOMP_parallel
    except AttributeError:
        return False
    parallel(program.getpid, None, len(os.sched_getaffinity(0)) + 1, 0)
    return True


def _spin_after_loops() -> None:
    """Restore libgomp's default by dissolving the team of this thread."""
    ctypes.CDLL(None).omp_pause_resource_all(_PAUSE_SOFT)


def _shares() -> Iterator[float]:
    """Yield the time all threads together waited for a core, relative to the time passed."""
    before, then = _seconds_without_core(), time.monotonic()
    while True:
        time.sleep(CHECK_INTERVAL_S)
        waited, now = _seconds_without_core(), time.monotonic()
        yield sum(waited[thread] - before.get(thread, 0) for thread in waited) / (now - then)
        before, then = waited, now


def _seconds_without_core() -> dict[Path, float]:
    """Return how long each thread was ready but not running; empty if the system cannot tell."""
    waited = {}
    for thread in _THREADS.iterdir() if _THREADS.exists() else ():
        with suppress(OSError):  # the thread has ended, or the kernel does not count
            waited[thread] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waited
