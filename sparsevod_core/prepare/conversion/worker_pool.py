"""Map of a function over many items in several processes, in order and with bounded memory."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from sparsevod_core.errors import SparseVodError

Item = TypeVar("Item")
Result = TypeVar("Result")

_LARGEST_TASK = 8
"""Most items per task: few enough that Ctrl-C waits for a fraction of a second."""
_TASKS_PER_WORKER = 32
"""Fewest tasks per worker, given enough items, so that all workers end at nearly the same time."""


@contextmanager
def ordered_results(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Iterator[Result]]:
    """Yield an iterator over `function(item)` for every item, in the order of the items.

    Only a few results are kept waiting, even if some processes are far ahead. On exit, tasks that
    have not started are cancelled and the processes end. Only this process handles Ctrl-C.

    Args:
        function: Must be picklable, as must items and results.
        workers: Number of processes; 0 or 1 runs in this process.

    Raises:
        SparseVodError: A process was killed; raised by the iterator.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield map(function, items)
        return
    size = max(1, min(_LARGEST_TASK, len(items) // (_TASKS_PER_WORKER * workers)))
    tasks = (items[start : start + size] for start in range(0, len(items), size))
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_start, initargs=(function,)
    )

    def results(waiting: deque[Future[list[Result]]]) -> Iterator[Result]:
        try:
            while waiting:
                finished = waiting.popleft().result()
                waiting.extend(pool.submit(_run, task) for task in islice(tasks, 1))
                yield from finished
        except BrokenProcessPool as error:
            raise SparseVodError(
                "a process that reads the data was killed, possibly for lack of memory",
                hint="run the same command again with fewer --workers",
            ) from error

    try:
        # Submitting forks the processes. Do it here, before the caller starts threads (e.g. for a
        # progress bar), since forking with threads is unsafe.
        yield results(deque(pool.submit(_run, task) for task in islice(tasks, 2 * workers + 1)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any]
"""Function that this worker process runs."""


def _start(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Parsers create many small objects and no cycles; looking for cycles takes 10 % of the time.
    gc.disable()
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit with the parent: if it is killed, its workers would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(items: Sequence[Any]) -> list[Any]:
    return [_function(item) for item in items]
