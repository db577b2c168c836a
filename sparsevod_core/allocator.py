"""Settings of the C library's allocator for large, short-lived tensors."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of glibc's mallopt, see its manual page.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Make this process reuse freed memory for its next tensors instead of returning it.

    By default, glibc requests new memory from the system for every large tensor, and the system
    zeroes every page at its first access. This takes a quarter of the time of a ResNet-50 detector
    on two cores (benchmarks/README.md). With this setting, the process stays at its peak size.

    Returns:
        True if the setting was made. False without glibc, or if the environment already configures
        the allocator or replaces it.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return all(mallopt(name, _NEVER) == 1 for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
