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
    pad_to_multiple,
    resize_image,
    resize_images,
    resized_size,
)
from sparsevod_core.errors import DataError
from sparsevod_core.inference.transfers import CudaTransfers, PlainTransfers, Transfers

Pixels: TypeAlias = np.ndarray | Tensor


class Intake:
    """Takes frames of any size in, a batch at a time.

    Args:
        data: sizes.
        transfers: the way to the device and back.
        where: frames are resized; `host`: by torchvision in integers; `device`: there, in one call
            for all frames of a size, equal to the host but for one grey level.
        ahead: batches that are made ready, and batches whose results are waited for, while the
            device computes; 0: one batch after the other.
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
    def of(cls, device: torch.device, data: DataConfig) -> Intake:
        """What suits the device."""
        if device.type == "cuda":
            return cls(data, CudaTransfers(device), where="device", ahead=1)
        return cls(data, PlainTransfers(device), where="host", ahead=0)

    def stage(self, frames: Sequence[Pixels]) -> Staged:
        """The first of three steps; see `Staged` for the others.

        Raises:
            DataError: what is no frame.
        """
        images = [as_frame(frame) for frame in frames]
        sizes = [self._resized_size(*image.shape[:2]) for image in images]
        kind = StagedForDevice if self._where == "device" else StagedOnHost
        return kind(images, sizes, self.transfers)

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        return resized_size(height, width, self._data.short_side, self._data.long_side)


class Staged(Protocol):
    """A batch of frames before they are on the device.

    Attributes:
        frames: as they were given.
        sizes: (height, width) to which they are resized.
    """

    frames: list[np.ndarray]
    sizes: list[tuple[int, int]]

    def fill(self) -> Staged:
        """The host's work; in any thread, as it leaves the device alone. Returns itself."""

    def load(self) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        """The padded batch on the device, and height and width of each frame without padding."""


class StagedOnHost:
    """See `Staged`: resized and padded by the host."""

    def __init__(
        self, frames: list[np.ndarray], sizes: list[tuple[int, int]], transfers: Transfers
    ) -> None:
        self.frames, self.sizes = frames, sizes
        self._transfers = transfers

    def fill(self) -> Staged:
        resized = []
        for frame, size in zip(self.frames, self.sizes, strict=True):
            resized.append(resize_image(_as_tensor(frame).permute(2, 0, 1), size))
        self._batch = pad_to_multiple(resized)
        return self

    def load(self) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        images, sizes = self._transfers.up(self._batch)
        return images, sizes


class StagedForDevice:
    """See `Staged`: the frames go up as they are, those of a size together."""

    def __init__(
        self, frames: list[np.ndarray], sizes: list[tuple[int, int]], transfers: Transfers
    ) -> None:
        self.frames, self.sizes = frames, sizes
        self._transfers = transfers
        alike: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, frame in enumerate(frames):
            alike[frame.shape].append(position)
        self._rooms = [
            (positions, transfers.room((len(positions), *shape), torch.uint8))
            for shape, positions in alike.items()
        ]
        self._sizes = transfers.room((len(frames), 2), torch.int64)

    @torch.inference_mode()  # whose tensors, if it was on when they were made, change in it only
    def fill(self) -> Staged:
        for positions, room in self._rooms:
            for row, position in zip(room, positions, strict=True):
                row.copy_(_as_tensor(self.frames[position]))
        self._sizes.copy_(torch.tensor(self.sizes))
        return self

    def load(self) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        sizes, *alike = self._transfers.up([self._sizes, *(room for _, room in self._rooms)])
        resized: dict[int, Tensor] = {}
        for (positions, _), pixels in zip(self._rooms, alike, strict=True):
            pictures = resize_images(pixels.permute(0, 3, 1, 2), self.sizes[positions[0]])
            resized.update(zip(positions, pictures, strict=True))
        images, _ = pad_to_multiple([resized[position] for position in range(len(resized))])
        return images, sizes


def as_frame(frame: Pixels) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels in the order of an array.

    Raises:
        DataError: what is no frame.
    """
    if isinstance(frame, Tensor):
        frame = frame.movedim(0, -1).cpu().numpy() if frame.ndim == 3 else frame.cpu().numpy()
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise DataError(
            f"a frame of shape {frame.shape} and type {frame.dtype}: expected RGB pixels "
            "[height, width, 3], or a tensor [3, height, width], of type uint8"
        )
    return frame


def _as_tensor(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "H W 3"]:
    """The same memory; a copy of what torch cannot share, as views from behind."""
    return torch.from_numpy(np.require(frame, requirements=["C", "W"]))
