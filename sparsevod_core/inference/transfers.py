"""Copies between the host and the device that computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Transfers(Protocol):
    """The way to a device and back, for the one thread that has the device compute."""

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the host to fill, and give to `up` once."""

    def up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors on the device, for kernels that are launched from now on."""

    def down(self, tensor: Tensor) -> Callable[[], Tensor]:
        """A tensor of the device; what comes back waits for it, and gives it on the host."""


class PlainTransfers:
    """Each copy is over when its call returns: for the CPU, where there is nothing to copy."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.to(self._device) for tensor in tensors]

    def down(self, tensor: Tensor) -> Callable[[], Tensor]:
        on_host = tensor.cpu()
        return lambda: on_host


class CudaTransfers:
    """Copies beside the kernels of a GPU: nothing waits but the call that reads a result.

    That takes page-locked memory on the host (which torch keeps, and gives out again once a copy is
    over) and, on the way up, a stream of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        with torch.cuda.stream(self._stream):
            copies = [tensor.to(self._device, non_blocking=True) for tensor in tensors]
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for copy in copies:
            copy.record_stream(computing)  # its memory is in use until that stream is done with it
        return copies

    def down(self, tensor: Tensor) -> Callable[[], Tensor]:
        on_host = tensor.to("cpu", non_blocking=True)  # page-locked
        is_there = torch.cuda.Event(blocking=True)  # leaves the core to whoever decodes
        is_there.record(torch.cuda.current_stream(self._device))

        def read() -> Tensor:
            is_there.synchronize()
            return on_host

        return read
