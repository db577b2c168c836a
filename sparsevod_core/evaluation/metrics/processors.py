"""Work for all processors of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sparsevod_core.machine import num_processors

Result = TypeVar("Result")


def of_classes(function: Callable[[int], Result], classes: Iterable[int]) -> list[Result]:
    """The results for each class; as many at a time as there are processors.

    Threads do: numpy lets go of Python's lock for most of what is done with a class.
    """
    with ThreadPoolExecutor(num_processors()) as pool:
        return list(pool.map(function, classes))
