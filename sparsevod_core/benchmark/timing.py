"""Timing with device synchronization, summaries of times, and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch


def now(device: torch.device) -> float:
    """Return the seconds of a clock after the device has finished its work."""
    synchronize(device)
    return time.perf_counter()


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, including the work of the device."""
    start = now(device)
    run()
    return now(device) - start


def summary(seconds: Sequence[float], count: int = 1) -> dict[str, float]:
    """Return median, minimum and 95th percentile of times, divided by the `count` of items."""
    each = np.asarray(seconds) / count
    return {
        "median": float(np.median(each)),
        "min": float(each.min()),
        "p95": float(np.percentile(each, 95)),
    }


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return bf16 autocast if `precision` is bf16."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory of a GPU, or of the process if the device is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
