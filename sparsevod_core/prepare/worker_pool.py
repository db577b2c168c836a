"""Maps a function over many items in several processes, in order and with flat memory."""

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
"""Items that go to a process at once: few enough that Ctrl-C waits for a fraction of a second."""
_TASKS_PER_WORKER = 32
"""At least, of many items: the last ones to end then end at nearly the same time."""


@contextmanager
def ordered_results(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Iterator[Result]]:
    """Gives `function(item)` for every item, in the items' order.

    However far ahead some processes are, only a few results wait for their turn. On leaving, what
    has not begun is cancelled and the processes end; Ctrl-C is this process's alone to handle.

    Args:
        function: can be pickled, as are items and results.
        items: what to do.
        workers: processes; up to 1 works in this one.

    Raises:
        SparseVodError: on taking a result, if a process was killed.
    """
    if workers <= 1 or len(items) <= 1:
        yield map(function, items)
        return
    size = max(1, min(_LARGEST_TASK, len(items) // (_TASKS_PER_WORKER * workers)))
    tasks = (items[start : start + size] for start in range(0, len(items), size))
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_start, initargs=(function,)
    )
    try:
        # The first tasks go in here, because that forks, which is best done while nobody who gets
        # the results has started a thread, such as a progress bar's.
        waiting = deque(pool.submit(_run, task) for task in islice(tasks, 2 * workers + 1))
        yield _take(pool, waiting, tasks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _take(
    pool: ProcessPoolExecutor, waiting: deque[Future[list[Any]]], tasks: Iterator[Sequence[Any]]
) -> Iterator[Any]:
    try:
        while waiting:
            results = waiting.popleft().result()
            waiting.extend(pool.submit(_run, task) for task in islice(tasks, 1))
            yield from results
    except BrokenProcessPool as error:
        raise SparseVodError(
            "a process that reads the data was killed, perhaps for want of memory",
            hint="run the same command again, with fewer --workers",
        ) from error


_function: Callable[[Any], Any]
"""What this worker process does."""


def _start(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Parsers make many small objects and no circles: looking for these takes a tenth of the time.
    gc.disable()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers, which would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(items: Sequence[Any]) -> list[Any]:
    return [_function(item) for item in items]
