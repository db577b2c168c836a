"""The C library's allocator, set up for large tensors that come and go."""

from __future__ import annotations

import ctypes
import os
import sys

# Of glibc's mallopt, see its manual page.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Have this process keep freed memory for its next tensors, instead of giving it back.

    By default glibc asks the system for every large tensor anew, and the system fills every page
    with zeros at its first touch: a quarter of the time of a ResNet-50 detector on two cores
    (benchmarks/README.md). The process then stays as large as it once was.

    Returns:
        Whether it was done: not where there is no glibc, nor where the environment has settings of
        the allocator, or another one, already.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return all(mallopt(name, _NEVER) == 1 for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
