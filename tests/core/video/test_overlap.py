"""Threads that read ahead and write behind."""

from __future__ import annotations

import threading
import time

import pytest

from sparsevod_core.video.overlap import (
    DEPTH,
    WriteBehind,
    collected,
    depth_for,
    map_ahead,
    read_ahead,
)

PATIENCE_S = 60  # for a busy machine


def test_same_items_in_order():
    assert list(read_ahead(range(100), depth=3)) == list(range(100))
    assert list(read_ahead([])) == []


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    got = read_ahead(items())
    assert next(got) == 1
    with pytest.raises(ValueError, match="broken"):
        next(got)


def test_no_further_ahead_than_depth():
    produced, has_produced = [], threading.Semaphore(0)

    def items():
        for number in range(100):
            produced.append(number)
            has_produced.release()
            yield number

    got = read_ahead(items(), depth=4)
    for taken in range(1, 90):
        next(got)
        while len(produced) < taken + 5:
            assert has_produced.acquire(timeout=PATIENCE_S)
        assert len(produced) == taken + 5  # four queued, one waiting for room
    got.close()


def test_closing_ends_the_thread_and_the_producer():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = set(threading.enumerate())
    got = read_ahead(items(), depth=2)
    next(got)
    got.close()
    assert closed.is_set()
    assert set(threading.enumerate()) <= before


def test_the_next_items_are_made_while_one_is_used():
    third_is_made = threading.Event()

    def items():
        yield 1
        yield 2
        third_is_made.set()
        yield 3

    got = read_ahead(items())
    assert next(got) == 1
    assert third_is_made.wait(PATIENCE_S)  # although it was not requested
    assert list(got) == [2, 3]


def test_results_are_in_order_whatever_takes_longest():
    def slow_at_first(number):
        time.sleep(0.05 if number == 0 else 0)
        return -number

    for depth in (0, 1, 7):
        assert list(map_ahead(slow_at_first, range(20), threads=4, depth=depth)) == [
            -number for number in range(20)
        ]
    assert list(map_ahead(slow_at_first, [], threads=4, depth=2)) == []


def test_as_many_at_a_time_as_there_are_threads():
    together = threading.Barrier(3)

    def meet(number):
        together.wait(5)
        return number

    assert list(map_ahead(meet, range(6), threads=3, depth=3)) == list(range(6))


def test_at_most_depth_items_are_requested_ahead():
    asked = []

    def items():
        for number in range(100):
            asked.append(number)
            yield number

    for depth in (0, 3):
        asked.clear()
        got = map_ahead(lambda number: number, items(), threads=2, depth=depth)
        next(got)
        assert len(asked) == depth + 1
        got.close()


def test_what_fails_is_raised_after_the_results_before_it():
    def half(number):
        return 6 // number

    def items():
        yield from (3, 2)
        raise ValueError("broken")

    for depth in (0, 1, 9):
        got = map_ahead(half, (3, 0, 2), threads=2, depth=depth)
        assert next(got) == 2
        with pytest.raises(ZeroDivisionError):
            next(got)
        got = map_ahead(half, items(), threads=2, depth=depth)
        assert [next(got), next(got)] == [2, 3]
        with pytest.raises(ValueError, match="broken"):
            next(got)


def test_closing_ends_the_threads():
    before = threading.active_count()
    got = map_ahead(lambda number: number, range(100), threads=3, depth=5)
    next(got)
    got.close()
    assert threading.active_count() == before


def test_an_interrupt_is_not_delayed():
    def started():
        yield lambda: 1
        yield lambda: 2
        raise KeyboardInterrupt

    got = collected(started(), 1)
    assert next(got) == 1
    with pytest.raises(KeyboardInterrupt):
        next(got)


def test_there_is_room_for_the_next_batch_while_one_is_worked_on():
    assert [depth_for(batch) for batch in (1, 4, 16)] == [DEPTH, DEPTH, 32]


def test_all_is_written_in_order_before_the_block_ends():
    written = []
    with WriteBehind(lambda item: (time.sleep(0.005), written.append(item)), depth=3) as behind:
        for number in range(20):
            behind.put(number)
    assert written == list(range(20))


def test_an_error_of_the_writer_reaches_the_next_put():
    def write(_item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind(write, depth=1) as behind:
        for number in range(1000):
            behind.put(number)


def test_an_error_with_the_last_item_is_raised_on_leaving():
    def write(item):
        if item == 2:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind(write) as behind:
        behind.put(1)
        behind.put(2)


def test_an_exception_in_the_block_drops_what_waits():
    written = []

    def write(item):
        assert behind.is_over.wait(PATIENCE_S)
        written.append(item)

    with pytest.raises(KeyError), WriteBehind(write) as behind:
        for number in range(5):
            behind.put(number)
        raise KeyError
    assert len(written) <= 1
