"""RoIAlign over the pyramid, each box on the level that fits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from sparsevod_core.boxes import area


class PyramidRoIAlign(nn.Module):
    """RoIAlign (He et al., ICCV 2017), aligned, two samples a bin side.

    Args:
        output_size: bins per side, P.
        strides: of the pyramid levels, fine to coarse.
        finest_scale: boxes up to twice this size in pixels use the finest level.
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        output_size: int = 7,
        sampling_ratio: int = 2,
        finest_scale: float = 56,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale

    def levels(self, boxes_xyxy: Float[Tensor, "*n 4"]) -> Int[Tensor, "*n"]:
        """Pyramid level of each box: floor(log2(sqrt(w h) / finest_scale + 1e-6)), clamped."""
        size = area(boxes_xyxy).clamp(min=0).sqrt()
        level = torch.floor(torch.log2(size / self.finest_scale + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()

    def forward(
        self,
        pyramid: Sequence[Float[Tensor, "B C _ _"]],
        boxes_xyxy: Float[Tensor, "B N 4"],
    ) -> Float[Tensor, "B N C P P"]:
        """Features of the boxes of each image."""
        batch, num_boxes = boxes_xyxy.shape[:2]
        flat = boxes_xyxy.flatten(0, 1).float()
        image = torch.arange(batch, device=flat.device).repeat_interleave(num_boxes)
        rois = torch.cat([image[:, None].to(flat), flat], dim=1)  # [B N, 5]
        levels = self.levels(flat)
        size = (self.output_size, self.output_size)
        features = pyramid[0].new_zeros(len(flat), pyramid[0].shape[1], *size)
        for level, (level_map, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            here = (levels == level).nonzero().squeeze(1)
            pooled = roi_align(
                level_map, rois[here].to(level_map), size, 1 / stride, self.sampling_ratio, True
            )
            features = features.index_copy(0, here, pooled.to(features))
        return features.unflatten(0, (batch, num_boxes))
