"""What a machine gets: every choice by device, precision and processor, in one place.

A plan is a plain value. `plan_for` makes the one that fits a machine; any other can be written by
hand, and nearly all of them run on a CPU, where the tests compare them with the plain model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from sparsevod_core.kernels import BAGS, GATHER, Kernels, triton_kernels

Precision = Literal["fp32", "tf32", "bf16"]
FRAMES_WORTH_COMPILING = 2000
"""Frames of a video or data set that pay back the compiler's quarter of a minute on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a detector computes. The results differ by rounding only.

    Attributes:
        precision: of maps and RoI features; boxes, coordinates, proposal features and class scores
            are in fp32 always.
        kernels: `bags` (embedding lookups, for CPUs), `gather` (plain tensor operations, for
            compilers) or `triton`.
        lazy_pyramid: P2..P5 are made where a box looks, which the host has to know: for CPUs.
        taps: TFE's embedding as a sum of taps made once per support map: for CPUs.
        int8_search: TFE searches 8-bit integers: for CPUs that multiply them.
        fused: what follows a convolution goes in one pass with it (`onednn`, for CPUs, where
            weights are packed too) or in one after it (`triton`).
        compiled: `torch.compile` of one stage, which serves as all.
        recorded: one CUDA graph for a batch of frames.
        apart: target frames go through the model one by one, so that nothing depends on how many
            come together.
    """

    precision: Precision = "fp32"
    kernels: Literal["bags", "gather", "triton"] = "bags"
    lazy_pyramid: bool = False
    taps: bool = False
    int8_search: bool = False
    fused: Literal["none", "onednn", "triton"] = "none"
    compiled: bool = False
    recorded: bool = False
    apart: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of maps and RoI features."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def chosen_kernels(self, *, trains: bool = False) -> Kernels:
        """The kernels of that name."""
        if self.kernels == "triton":
            precision = "tf32" if self.precision == "tf32" else "ieee"
            return triton_kernels(trains=trains, precision=precision)
        return BAGS if self.kernels == "bags" else GATHER


def plan_for(device: torch.device, precision: Precision, *, compiled: bool = False) -> Plan:
    """The quickest plan for a device.

    Args:
        compiled: the compiler is worth its time.
    """
    if device.type == "cuda":
        return Plan(
            precision=precision,
            kernels="triton" if has_triton() else "gather",
            fused="triton" if has_triton() else "none",
            compiled=compiled,
            recorded=True,
        )
    return Plan(
        precision=precision,
        lazy_pyramid=True,
        taps=True,
        int8_search=precision == "bf16" and multiplies_int8(),
        fused="onednn",
        apart=precision != "bf16",
    )


def compiling_pays(device: torch.device) -> bool:
    """Whether the compiler makes frames faster there at all."""
    return device.type == "cuda"


def batch_for(device: torch.device) -> int:
    """Target frames that go through the model together where nobody says how many."""
    return 16 if device.type == "cuda" else 1


def plan_for_training(device: torch.device, precision: Precision, *, recorded: bool = True) -> Plan:
    """The quickest plan for training on a device.

    Args:
        recorded: forward and backward as CUDA graphs, on a GPU.
    """
    if device.type == "cuda":
        kernels: Literal["triton", "gather"] = "triton" if has_triton() else "gather"
        return Plan(precision=precision, kernels=kernels, recorded=recorded)
    return Plan(precision=precision)


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Products of fp32 numbers on a GPU are exact to fp32 where that is the precision, else TF32.

    By default PyTorch takes TF32, whose numbers have 10 bits, in convolutions. With maps in bf16,
    which have 7, the head's products may have them too.
    """
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee" if precision == "fp32" else "tf32"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@cache
def has_triton() -> bool:
    """Whether Triton is installed; it comes with PyTorch's builds for GPUs on Linux."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def multiplies_int8() -> bool:
    """Whether the processor has instructions for products of 8-bit integers."""
    # torch has no public name for it in all versions that are supported here.
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())
