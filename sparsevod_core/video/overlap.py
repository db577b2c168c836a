"""Threads that overlap the work on a video: decoding ahead of the model, writing behind it.

Decoding, encoding and the model's kernels release Python's lock, so that a video takes as long as
the slowest of the three, not as their sum.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from sparsevod_core.structures import Frame
from sparsevod_core.video.opening import Footage

T = TypeVar("T")
R = TypeVar("R")

DEPTH = 8
"""Default maximum number of items waiting between two threads."""


def depth_for(batch: int) -> int:
    """Return the depth for a thread that gives or takes `batch` items at once."""
    return max(DEPTH, 2 * batch)


def collected(started: Iterable[Callable[[], R]], depth: int) -> Iterator[R]:
    """Yield the results of started work in order.

    A result is waited for once `depth` more items are started. An exception while starting an item
    is raised after the results of the items before it.
    """
    waiting: deque[Callable[[], R]] = deque()
    starting, failure = iter(started), None
    while True:
        try:
            waiting.append(next(starting))
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        if len(waiting) > depth:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()
    if failure is not None:
        raise failure


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, depth: int
) -> Iterator[R]:
    """Yield `function(item)` for each item in order, computed by threads, `depth` items ahead.

    Items are requested in the thread that requests results. An exception from an item or `function`
    is raised after the results before it. With depth 0 no threads are used, and each result is
    computed when it is requested.
    """
    if depth == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        yield from collected((pool.submit(function, item).result for item in items), depth)
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(items: Iterable[T], depth: int = DEPTH) -> Iterator[T]:
    """Yield the same items, produced in another thread, at most `depth` items ahead.

    An exception while producing them is raised here after the items before it. When this generator
    is closed early, the items and the thread are closed before `close` returns.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    is_over = threading.Event()

    def put(entry: tuple[bool, T | BaseException | None]) -> bool:
        while not is_over.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put((True, item)):
                    return
        except BaseException as error:
            put((False, error))
        else:
            put((False, None))
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # closes its files in the thread that opened them

    thread = threading.Thread(target=produce, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, content = ready.get()
            if not is_item:
                if isinstance(content, BaseException):
                    raise content
                return
            yield content  # type: ignore[misc]
    finally:
        is_over.set()
        thread.join()


class ReadAhead:
    """Footage that is decoded ahead in another thread when all frames are read in order."""

    def __init__(self, video: Footage, depth: int = DEPTH) -> None:
        self._video = video
        self._depth = depth
        self.num_frames = video.num_frames
        self.frames_at = video.frames_at

    def __iter__(self) -> Iterator[Frame]:
        return read_ahead(self._video, self._depth)


class WriteBehind(Generic[T]):
    """Passes items to `write` in order, in another thread, at most `depth` items behind.

    Use it as a context manager: leaving it waits for all items; leaving it with an exception drops
    the items that wait. An exception from `write` is raised by the next `put`, or on leaving;
    `write` is not called again after it.

    Attributes:
        is_over: Set once waiting items are dropped.
    """

    def __init__(self, write: Callable[[T], object], depth: int = DEPTH) -> None:
        self._write = write
        self._waiting: queue.Queue[T | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self.is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="write behind", daemon=True)

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def put(self, item: T) -> None:
        """Queue an item; waits while `depth` items are queued."""
        self._raise_error()
        self._waiting.put(item)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.is_over.set()
        self._waiting.put(None)
        self._thread.join()
        if kind is None:
            self._raise_error()

    def _work(self) -> None:
        # After an error, items are still taken, so that `put` does not wait forever.
        while (item := self._waiting.get()) is not None:
            if self._error is None and not self.is_over.is_set():
                try:
                    self._write(item)
                except BaseException as error:
                    self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            self.is_over.set()
            raise error
