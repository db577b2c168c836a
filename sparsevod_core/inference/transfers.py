"""Copies between the host and the device that runs the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Transfers(Protocol):
    """Copies to and from a device, for the one thread that launches its kernels."""

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialized tensor on the host, to be filled and passed to `up` once."""

    def up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Copy tensors to the device, for kernels that are launched after this call."""

    def down(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Start a copy to the host; the returned function waits for it and returns the copy."""


class PlainTransfers:
    """Synchronous copies: for the CPU, where there is nothing to copy."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.to(self._device) for tensor in tensors]

    def down(self, tensor: Tensor) -> Callable[[], Tensor]:
        on_host = tensor.cpu()
        return lambda: on_host


class CudaTransfers:
    """Copies that run beside a GPU's kernels: only reading a result waits.

    This takes page-locked memory on the host (torch caches it, and reuses it after the copy) and a
    separate CUDA stream for copies to the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        with torch.cuda.stream(self._stream):
            copies = [tensor.to(self._device, non_blocking=True) for tensor in tensors]
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for copy in copies:
            copy.record_stream(computing)  # keeps its memory until that stream has used it
        return copies

    def down(self, tensor: Tensor) -> Callable[[], Tensor]:
        on_host = tensor.to("cpu", non_blocking=True)  # page-locked
        is_copied = torch.cuda.Event(blocking=True)  # waiting leaves the core to the decoder
        is_copied.record(torch.cuda.current_stream(self._device))

        def read() -> Tensor:
            is_copied.synchronize()
            return on_host

        return read
