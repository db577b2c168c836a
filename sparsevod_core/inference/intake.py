"""Frames on their way to the model: resized and padded, on the host or on the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.config import DataConfig
from sparsevod_core.data.transforms import (
    RESIZERS,
    Resizer,
    pad_to_multiple,
    resize_images,
    resized_size,
)
from sparsevod_core.errors import DataError
from sparsevod_core.inference.transfers import CudaTransfers, PlainTransfers, Transfers

Pixels: TypeAlias = np.ndarray | Tensor
"""RGB pixels of a frame, uint8: an array [H, W, 3], or a tensor [3, H, W]."""


class Intake:
    """Turns frames of any size into batches for the model.

    Args:
        data: `short_side`, `long_side`, `resize` and `pad_multiple` are used.
        transfers: Copies to the device and back.
        where: Where frames are resized. `host`: in integers. `device`: in one call for all frames
            of a size, with antialiasing; pixels differ from the host's by at most one gray level.
        ahead: Number of batches to prepare, and number of batches to launch, before the results of
            a batch are read; 0: one batch after the other.
    """

    def __init__(
        self,
        data: DataConfig,
        transfers: Transfers,
        *,
        where: Literal["host", "device"],
        ahead: int,
    ) -> None:
        self.transfers = transfers
        self.ahead = ahead
        self._data = data
        self._where = where

    @classmethod
    def for_device(cls, device: torch.device, data: DataConfig) -> Intake:
        """Return the intake that suits a device."""
        if device.type == "cuda":
            where: Literal["host", "device"] = "device" if data.resize == "antialias" else "host"
            return cls(data, CudaTransfers(device), where=where, ahead=1)
        return cls(data, PlainTransfers(device), where="host", ahead=0)

    def batch(self, frames: Sequence[Pixels]) -> InputBatch:
        """Check the frames and allocate a batch for them; `fill` and `load` come next.

        Raises:
            DataError: Something that is not a frame.
        """
        images = [as_frame(frame) for frame in frames]
        sizes = [self.resized_size(*image.shape[:2]) for image in images]
        settings = self.transfers, self._data.pad_multiple
        if self._where == "device":
            return DeviceResizedBatch(images, sizes, *settings)
        return HostResizedBatch(images, sizes, *settings, RESIZERS[self._data.resize])

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) to which a frame of that size is resized, without padding."""
        return resized_size(height, width, self._data.short_side, self._data.long_side)


class InputBatch(Protocol):
    """A batch of frames before it is on the device.

    Attributes:
        frames: The frames at their original sizes.
        sizes: (height, width) in pixels of each frame after resizing.
    """

    frames: list[np.ndarray]
    sizes: list[tuple[int, int]]

    def fill(self) -> InputBatch:
        """Do the host's work, in any thread: it does not touch the device. Returns `self`."""

    def load(self) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        """Return the padded batch on the device, and each frame's (height, width) in it."""


class HostResizedBatch:
    """`InputBatch` that the host resizes and pads."""

    def __init__(
        self,
        frames: list[np.ndarray],
        sizes: list[tuple[int, int]],
        transfers: Transfers,
        pad_multiple: int,
        resize: Resizer,
    ) -> None:
        self.frames, self.sizes = frames, sizes
        self._transfers = transfers
        self._pad_multiple = pad_multiple
        self._resize = resize

    def fill(self) -> InputBatch:
        resized = []
        for frame, size in zip(self.frames, self.sizes, strict=True):
            resized.append(self._resize(_as_tensor(frame).permute(2, 0, 1), size))
        self._padded = pad_to_multiple(resized, self._pad_multiple)
        return self

    def load(self) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        images, sizes = self._transfers.up(self._padded)
        return images, sizes


class DeviceResizedBatch:
    """`InputBatch` whose frames are copied at their original sizes and resized on the device."""

    def __init__(
        self,
        frames: list[np.ndarray],
        sizes: list[tuple[int, int]],
        transfers: Transfers,
        pad_multiple: int,
    ) -> None:
        self.frames, self.sizes = frames, sizes
        self._transfers = transfers
        self._pad_multiple = pad_multiple
        positions_by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, frame in enumerate(frames):
            positions_by_shape[frame.shape].append(position)
        self._buffers = [
            (positions, transfers.host_buffer((len(positions), *shape), torch.uint8))
            for shape, positions in positions_by_shape.items()
        ]
        self._sizes = transfers.host_buffer((len(frames), 2), torch.int64)

    @torch.inference_mode()  # buffers made in inference mode can only be changed in it
    def fill(self) -> InputBatch:
        for positions, buffer in self._buffers:
            for row, position in zip(buffer, positions, strict=True):
                row.copy_(_as_tensor(self.frames[position]))
        self._sizes.copy_(torch.tensor(self.sizes))
        return self

    def load(self) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        sizes, *groups = self._transfers.up([self._sizes, *(buffer for _, buffer in self._buffers)])
        resized: dict[int, Tensor] = {}
        for (positions, _), pixels in zip(self._buffers, groups, strict=True):
            images = resize_images(pixels.permute(0, 3, 1, 2), self.sizes[positions[0]])
            resized.update(zip(positions, images, strict=True))
        ordered = [resized[position] for position in range(len(resized))]
        images, _ = pad_to_multiple(ordered, self._pad_multiple)
        return images, sizes


def as_frame(frame: Pixels) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of a frame as an array.

    Raises:
        DataError: Pixels of another type or shape.
    """
    if isinstance(frame, Tensor):
        frame = frame.movedim(0, -1).cpu().numpy() if frame.ndim == 3 else frame.cpu().numpy()
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise DataError(
            f"frame: expected RGB pixels of type uint8, an array [height, width, 3] or a tensor "
            f"[3, height, width], got shape {frame.shape} and type {frame.dtype}"
        )
    return frame


def _as_tensor(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "H W 3"]:
    """Share the memory; copy only what torch cannot share, such as views with negative strides."""
    return torch.from_numpy(np.require(frame, requirements=["C", "W"]))
