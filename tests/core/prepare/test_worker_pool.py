"""Results of several processes arrive in order, and the processes end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from sparsevod_core.errors import DataError, SparseVodError
from sparsevod_core.prepare.conversion.worker_pool import ordered_results

num_counted = multiprocessing.Value("i", 0)
"""Shared with the forked processes."""


def count(number: int) -> int:
    with num_counted:
        num_counted.value += 1
    return os.getpid()


def square(number: int) -> tuple[int, int]:
    time.sleep(0.002 * (number % 5))
    return number * number, os.getpid()


def stumble(number: int) -> int:
    if number == 20:
        raise DataError("twenty", hint="not twenty")
    return number


def die(number: int) -> int:
    if number == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 47])
def test_results_are_in_order(workers: int, count: int) -> None:
    with ordered_results(square, range(count), workers) as results:
        found = list(results)
    assert [value for value, _ in found] == [number * number for number in range(count)]
    assert len({pid for _, pid in found}) <= max(min(workers, count), 1)
    own = {pid == os.getpid() for _, pid in found}
    assert own == ({workers <= 1 or count == 1} if count else set())


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_arrive_complete_and_after_earlier_results(workers: int) -> None:
    found = []
    with (
        pytest.raises(DataError, match="twenty") as error,
        ordered_results(stumble, range(60), workers) as results,
    ):
        for result in results:
            found.append(result)
    assert error.value.hint == "not twenty"
    assert found == list(range(len(found))) and 20 - 8 < len(found) <= 20


def test_a_killed_process_is_one_line() -> None:
    with (
        pytest.raises(SparseVodError, match="was killed") as error,
        ordered_results(die, range(60), 2) as results,
    ):
        list(results)
    assert error.value.hint is not None and "--workers" in error.value.hint


def test_leaving_early_ends_the_processes() -> None:
    num_counted.value = 0
    with ordered_results(count, range(10_000), 2) as results:
        pids = {next(results) for _ in range(40)}
    # Five tasks of eight items are consumed; up to as many more are in progress.
    assert 40 <= num_counted.value <= 80
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
