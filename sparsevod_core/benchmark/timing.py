"""What measuring needs: a clock that waits for the device, and what to say of many times."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch


def now(device: torch.device) -> float:
    """Seconds of a clock, when the device has done all that it was given."""
    synchronise(device)
    return time.perf_counter()


def synchronise(device: torch.device) -> None:
    """Wait for a GPU; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """How long a call takes, the device's work included."""
    start = now(device)
    run()
    return now(device) - start


def summary(seconds: Sequence[float], count: int = 1) -> dict[str, float]:
    """Median, minimum and 95th percentile, each divided by the `count` of what was done."""
    each = np.asarray(seconds) / count
    return {
        "median": float(np.median(each)),
        "min": float(each.min()),
        "p95": float(np.percentile(each, 95)),
    }


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 where `precision` says so."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def peak_memory_mib(device: torch.device) -> float:
    """Of the device where it is a GPU, else of the whole process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
