"""Freed memory is kept, unless the user has configured the allocator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Page faults of allocating, touching and freeing 64 MiB, after a first time.
COUNT = """
import resource, sys
from sparsevod_core.allocator import keep_freed_memory
import numpy as np
print(keep_freed_memory())
def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**26, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
use()
print(sum(use() for _ in range(5)))
"""


def count(**environment: str) -> tuple[bool, int]:
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    is_set, faults = done.stdout.split()
    return is_set == "True", int(faults)


def test_freed_memory_is_kept() -> None:
    is_set, faults = count()
    if not is_set:
        pytest.skip("needs glibc")
    assert faults < 100  # of 5 times 16,384 pages


def test_settings_of_the_user_are_respected() -> None:
    assert count(MALLOC_TRIM_THRESHOLD_="100000")[0] is False
