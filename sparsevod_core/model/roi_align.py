"""RoIAlign over the pyramid, each box on the level that fits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from sparsevod_core.boxes import area

DENSE_POSITIONS = 8192
"""Up to this many positions on the finest level two matrix products beat gather and scatter: in
training on a CPU by a factor of ten, because the scatter of RoIAlign's backward is serial."""

FAR_OUTSIDE = -16384.0  # pixels; exact in bf16


class PyramidRoIAlign(nn.Module):
    """RoIAlign (He et al., ICCV 2017), aligned.

    Args:
        strides: of the pyramid levels, fine to coarse.
        output_size: bins per side, P.
        sampling_ratio: samples per bin and side.
        finest_scale: boxes up to twice this size in pixels use the finest level.
        dense_positions: finest maps up to this many positions are pooled by `dense_roi_align`,
            larger ones by torchvision's operator; 0: always the operator.
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        output_size: int = 7,
        sampling_ratio: int = 2,
        finest_scale: float = 56,
        dense_positions: int = DENSE_POSITIONS,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale
        self.dense_positions = dense_positions

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
        levels = self.levels(boxes_xyxy)
        if pyramid[0][0, 0].numel() > self.dense_positions:
            on_their_level = self._everywhere if boxes_xyxy.is_cuda else self._gather
            return on_their_level(pyramid, boxes_xyxy, levels)
        pooled = [
            dense_roi_align(
                level_map,
                boxes_xyxy / stride,
                levels == level,
                self.output_size,
                self.sampling_ratio,
            )
            for level, (level_map, stride) in enumerate(zip(pyramid, self.strides, strict=True))
        ]
        return torch.stack(pooled).sum(0)

    def _gather(
        self, pyramid: Sequence[Tensor], boxes_xyxy: Tensor, levels: Tensor
    ) -> Float[Tensor, "B N C P P"]:
        """Each level pools its own boxes: the least work, but their number must be known."""
        rois, levels = _rois(boxes_xyxy), levels.flatten()
        size = (self.output_size, self.output_size)
        features = pyramid[0].new_zeros(len(rois), pyramid[0].shape[1], *size)
        for level, (level_map, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            here = (levels == level).nonzero().squeeze(1)
            pooled = roi_align(
                level_map, rois[here].to(level_map), size, 1 / stride, self.sampling_ratio, True
            )
            features = features.index_copy(0, here, pooled.to(features))
        return features.unflatten(0, boxes_xyxy.shape[:2])

    def _everywhere(
        self, pyramid: Sequence[Tensor], boxes_xyxy: Tensor, levels: Tensor
    ) -> Float[Tensor, "B N C P P"]:
        """Each level pools all boxes, those of other levels far outside, where they read nothing.

        The host need not know how many there are, so that it does not wait for a GPU.
        """
        rois, levels = _rois(boxes_xyxy), levels.flatten()
        outside = torch.where(torch.arange(5, device=rois.device) == 0, rois, FAR_OUTSIDE)
        size = (self.output_size, self.output_size)
        pooled = []
        for level, (level_map, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            here = torch.where((levels == level)[:, None], rois, outside).to(level_map)
            pooled.append(roi_align(level_map, here, size, 1 / stride, self.sampling_ratio, True))
        return torch.stack(pooled).sum(0).unflatten(0, boxes_xyxy.shape[:2])


def _rois(boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "BN 5"]:
    """The operator's form of boxes: number of the image, then xyxy."""
    batch, num_boxes = boxes_xyxy.shape[:2]
    image = torch.arange(batch, device=boxes_xyxy.device).repeat_interleave(num_boxes)
    return torch.cat([image[:, None].float(), boxes_xyxy.flatten(0, 1).float()], dim=1)


def dense_roi_align(
    level_map: Float[Tensor, "B C H W"],
    boxes_xyxy: Float[Tensor, "B N 4"],
    chosen: Tensor,
    output_size: int,
    sampling_ratio: int,
) -> Float[Tensor, "B N C P P"]:
    """RoIAlign as rows · map · columns: the mean of bilinear samples on a grid is separable.

    Args:
        boxes_xyxy: in positions of this map.
        chosen: [B, N] bool, boxes of this level; the others give zeros.
    """
    channels, height, width = level_map.shape[1:]
    x1, y1, x2, y2 = (boxes_xyxy.float() - 0.5).unbind(-1)  # aligned: pixel centres at .5
    columns = _interpolation(x1, x2, width, output_size, sampling_ratio).to(level_map)
    rows = _interpolation(y1, y2, height, output_size, sampling_ratio).to(level_map)
    rows = rows * chosen[..., None, None]
    by_column = level_map.flatten(1, 2) @ columns.flatten(1, 2).transpose(1, 2)  # [B, C H, N P]
    by_column = by_column.view(-1, channels, height, boxes_xyxy.shape[1], output_size)
    by_column = by_column.permute(0, 3, 2, 1, 4).flatten(3)  # [B, N, H, C P]
    pooled = rows @ by_column  # [B, N, P, C P]
    return pooled.unflatten(-1, (channels, output_size)).movedim(3, 2)


def _interpolation(
    low: Float[Tensor, "B N"],
    high: Float[Tensor, "B N"],
    length: int,
    output_size: int,
    sampling_ratio: int,
) -> Float[Tensor, "B N P length"]:
    """Weight of every position in every bin along one side, borders as in torchvision's operator.

    A sample more than one position outside counts nothing; one nearer counts as the border.
    """
    samples = torch.arange(output_size * sampling_ratio, device=low.device)
    step = (high - low) / (output_size * sampling_ratio)
    points = low[..., None] + (samples + 0.5) * step[..., None]
    inside = (points >= -1) & (points <= length)
    position = torch.arange(length, device=low.device)
    distance = (points.clamp(0, length - 1)[..., None] - position).abs()
    weights = (1 - distance).clamp(min=0) * inside[..., None]
    return weights.unflatten(2, (output_size, sampling_ratio)).mean(3)
