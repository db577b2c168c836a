"""An encoded frame: what is computed of it whatever it is used for, as target or as support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsevod_core.model.roi_align import MapsAsRows, PyramidRoIAlign


class Pyramid(Protocol):
    """P2..P5 of a batch of frames.

    Attributes:
        image_sizes: unpadded (height, width) of each frame in pixels.
    """

    image_sizes: Int[Tensor, "B 2"]

    def level(self, number: int) -> Float[Tensor, "B C _ _"]:
        """The whole map of a level, 0 the finest."""

    def pool(self, boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C P P"]:
        """RoIAlign: features of boxes."""


class WholePyramid:
    """All levels, computed at once.

    Args:
        levels: P2..P5.
        image_sizes: unpadded (height, width) of each frame in pixels.
        roi_align: how boxes are pooled.
    """

    def __init__(
        self,
        levels: Sequence[Float[Tensor, "B C _ _"]],
        image_sizes: Int[Tensor, "B 2"],
        roi_align: PyramidRoIAlign,
    ) -> None:
        self.image_sizes = image_sizes
        self._levels = levels
        self._roi_align = roi_align
        # The positions of all levels, side by side once for all stages.
        rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])
        self._rows = rows.to(roi_align.kernels.pooled_dtype or rows.dtype)
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        self._places = MapsAsRows.of(sizes, len(levels[0]))

    def level(self, number: int) -> Float[Tensor, "B C _ _"]:
        return self._levels[number]

    def pool(self, boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C P P"]:
        pooled = self._roi_align(self._rows, self._places, boxes_xyxy)
        return pooled.to(self._levels[0].dtype)
