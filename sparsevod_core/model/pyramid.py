"""Encoded frames: P2..P5 of target or support frames, computed without knowing their use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsevod_core.model.roi_align import PyramidRoIAlign, RowLayout


class Pyramid(Protocol):
    """P2..P5 of a batch of frames.

    Attributes:
        image_sizes: unpadded (height, width) of each frame in pixels.
    """

    image_sizes: Int[Tensor, "B 2"]

    def level(self, number: int) -> Float[Tensor, "B C _ _"]:
        """Return the feature map of a level; 0 is the finest."""

    def pool(self, boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C P P"]:
        """Return the RoI features of the boxes."""


class WholePyramid:
    """Pyramid of which all levels have been computed.

    Args:
        levels: P2..P5.
        image_sizes: unpadded (height, width) of each frame in pixels.
        roi_align: module that pools the boxes.
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
        # The maps of all levels as one list of rows, built once for all stages.
        rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])
        self._rows = rows.to(roi_align.kernels.pooled_dtype or rows.dtype)
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        self._layout = RowLayout.of(sizes, len(levels[0]))

    def level(self, number: int) -> Float[Tensor, "B C _ _"]:
        return self._levels[number]

    def pool(self, boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C P P"]:
        samples = self._roi_align.samples(self._layout.sizes, boxes_xyxy)
        return self._roi_align(self._rows, self._layout, samples).to(self._levels[0].dtype)
