"""Choice of optimizations by device, precision and processor, all in one place.

`plan_for` returns the plan for a machine. Other plans can be written by hand. Nearly all run on a
CPU, where the tests compare them with the plain model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import torch

from sparsevod_core.fast.onednn import multiplied
from sparsevod_core.kernels import BAGS, GATHER, Kernels, triton_kernels
from sparsevod_core.kernels.similarity import Keys

Precision = Literal["fp32", "tf32", "bf16"]
FRAMES_WORTH_COMPILING = 2000
"""Number of frames from which compilation (about 15 s on a GPU) pays off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Optimizations of a detector. Results differ by rounding only.

    Attributes:
        precision: precision of maps and RoI features; boxes, coordinates, proposal features and
            class scores are always fp32.
        kernels: `bags` (embedding lookups, for CPUs), `gather` (plain tensor operations, for
            compilers) or `triton`.
        lazy_pyramid: compute P2..P5 only where boxes read them; for CPUs, as the host must know
            the boxes.
        taps: compute TFE's embedding from taps precomputed per support map; for CPUs. Temporal RoI
            Align then also pools the scores of its search.
        int8_search: let SparseVOD's TFE search 8-bit integers; for CPUs with instructions for them.
        fused: fuse convolutions with what follows them, by `onednn` (CPUs; it also computes the
            products of the similarity search) or `triton`. In training, only `onednn`, for the
            frozen stages of the backbone and the search.
        compiled: compile one stage of SparseVOD with `torch.compile` and use it for all stages.
        recorded: capture CUDA graphs of SparseVOD and replay them. The other systems launch kernel
            by kernel.
        one_by_one: process target frames one by one, so that results do not depend on the batch.
    """

    precision: Precision = "fp32"
    kernels: Literal["bags", "gather", "triton"] = "bags"
    lazy_pyramid: bool = False
    taps: bool = False
    int8_search: bool = False
    fused: Literal["none", "onednn", "triton"] = "none"
    compiled: bool = False
    recorded: bool = False
    one_by_one: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of maps and RoI features."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def chosen_kernels(self, *, trains: bool = False) -> Kernels:
        """Return the chosen kernels."""
        if self.kernels == "triton":
            precision = "tf32" if self.precision == "tf32" else "ieee"
            return triton_kernels(trains=trains, precision=precision)
        if self.kernels == "bags" and self.fused == "onednn":
            return replace(BAGS, keys=partial(Keys.of, linear=multiplied))
        return BAGS if self.kernels == "bags" else GATHER


def plan_for(device: torch.device, precision: Precision, *, compiled: bool = False) -> Plan:
    """Return the fastest plan for inference on a device.

    Args:
        compiled: if True, compile on a GPU.
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
        one_by_one=precision != "bf16",
    )


def compiling_pays(device: torch.device) -> bool:
    """Return True if compilation makes inference faster on a device."""
    return device.type == "cuda"


def batch_for(device: torch.device) -> int:
    """Return the default number of target frames per forward pass."""
    return 16 if device.type == "cuda" else 1


def plan_for_training(device: torch.device, precision: Precision, *, recorded: bool = True) -> Plan:
    """Return the fastest plan for training on a device.

    Args:
        recorded: if True, capture forward and backward as CUDA graphs on a GPU.
    """
    if device.type == "cuda":
        kernels: Literal["triton", "gather"] = "triton" if has_triton() else "gather"
        return Plan(precision=precision, kernels=kernels, recorded=recorded)
    return Plan(precision=precision, fused="onednn")


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Compute fp32 products on a GPU in full fp32 if `precision` is fp32, else in TF32.

    PyTorch's default is TF32 (10 bits of mantissa) for convolutions. If maps are bf16 (7 bits),
    TF32 is precise enough for the head too.
    """
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee" if precision == "fp32" else "tf32"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


@cache
def has_triton() -> bool:
    """Return True if Triton is installed, as with PyTorch's GPU builds on Linux."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def multiplies_int8() -> bool:
    """Return True if the processor has instructions to multiply 8-bit integers (VNNI)."""
    # Not all supported versions of torch have a public function for this.
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())
