"""RoIAlign over the pyramid, each box on the level that fits its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from sparsevod_core.boxes import area

FAR_OUTSIDE = -16384.0  # pixels; exact in bf16


class PyramidRoIAlign(nn.Module):
    """RoIAlign (He et al., ICCV 2017), aligned.

    Args:
        strides: of the pyramid levels, fine to coarse.
        output_size: bins per side, P.
        sampling_ratio: samples per bin and side.
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
        return self.over(pyramid)(boxes_xyxy)

    def over(self, pyramid: Sequence[Float[Tensor, "B C _ _"]]) -> Callable[[Tensor], Tensor]:
        """`forward` on this pyramid: what all stages share is done once."""
        if pyramid[0].is_cuda:
            return partial(self._everywhere, pyramid)
        rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in pyramid])
        return partial(self._bags, rows, [level.shape[2:] for level in pyramid])

    def _bags(
        self,
        rows: Float[Tensor, "positions C"],
        sizes: Sequence[Sequence[int]],
        boxes_xyxy: Float[Tensor, "B N 4"],
    ) -> Float[Tensor, "B N C P P"]:
        """Each bin as a bag of map positions with weights: an embedding lookup.

        On a CPU it is many times as fast as torchvision's operator, whose backward adds number by
        number, and takes bf16. No gradient reaches the boxes.

        Args:
            rows: all positions of all levels, level by level, image by image.
            sizes: height and width of each level.
        """
        boxes_xyxy = boxes_xyxy.detach().float()
        batch, num_boxes = boxes_xyxy.shape[:2]
        levels = self.levels(boxes_xyxy)
        height, width = torch.tensor(sizes)[levels].unbind(-1)  # [B, N]
        level_starts = torch.tensor([0, *(batch * h * w for h, w in sizes[:-1])]).cumsum(0)
        starts = level_starts[levels] + torch.arange(batch)[:, None] * height * width
        scaled = boxes_xyxy / torch.tensor(self.strides)[levels][..., None]
        x1, y1, x2, y2 = (scaled - 0.5).unbind(-1)  # aligned: pixel centres at .5
        columns, column_weights = self._samples(x1, x2, width)  # [B, N, P, samples]
        lines, line_weights = self._samples(y1, y2, height)
        place = (starts[..., None, None] + lines * width[..., None, None])[:, :, :, None, :, None]
        index = place + columns[:, :, None, :, None, :]  # [B, N, P, P, samples, samples]
        weights = line_weights[:, :, :, None, :, None] * column_weights[:, :, None, :, None, :]
        pooled = F.embedding_bag(
            index.flatten(4).flatten(0, 3),
            rows,
            per_sample_weights=weights.flatten(4).flatten(0, 3).to(rows),
            mode="sum",
        )
        pooled = pooled.view(batch, num_boxes, self.output_size, self.output_size, -1)
        return pooled.movedim(4, 2)

    def _samples(
        self, low: Float[Tensor, "B N"], high: Float[Tensor, "B N"], length: Int[Tensor, "B N"]
    ) -> tuple[Int[Tensor, "B N P samples"], Float[Tensor, "B N P samples"]]:
        """Positions that each bin reads along one side, two for each sample, and their weights.

        Borders as in torchvision's operator: a sample more than one position outside counts
        nothing; one nearer counts as the border.
        """
        samples = torch.arange(self.output_size * self.sampling_ratio)
        step = (high - low) / len(samples)
        points = low[..., None] + (samples + 0.5) * step[..., None]
        last = length[..., None] - 1
        is_inside = (points >= -1) & (points <= last + 1)
        points = points.clamp(min=0).minimum(last)
        before = points.floor()
        share = points - before
        position = before.long()
        positions = torch.stack([position, (position + 1).minimum(last)], dim=-1)
        weights = torch.stack([1 - share, share], dim=-1) * is_inside[..., None]
        bins = (self.output_size, self.sampling_ratio)
        weights = weights.unflatten(2, bins).flatten(3) / self.sampling_ratio
        return positions.unflatten(2, bins).flatten(3), weights

    def _everywhere(
        self, pyramid: Sequence[Float[Tensor, "B C _ _"]], boxes_xyxy: Float[Tensor, "B N 4"]
    ) -> Float[Tensor, "B N C P P"]:
        """torchvision's operator; each level pools all boxes, those of others far outside it.

        There they read nothing. The host need not know how many they are: no wait for the GPU.
        """
        batch, num_boxes = boxes_xyxy.shape[:2]
        levels = self.levels(boxes_xyxy).flatten()
        image = torch.arange(batch, device=boxes_xyxy.device).repeat_interleave(num_boxes)
        rois = torch.cat([image[:, None].float(), boxes_xyxy.flatten(0, 1).float()], dim=1)
        outside = torch.where(torch.arange(5, device=rois.device) == 0, rois, FAR_OUTSIDE)
        size = (self.output_size, self.output_size)
        pooled = []
        for level, (level_map, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            here = torch.where((levels == level)[:, None], rois, outside).to(level_map)
            pooled.append(roi_align(level_map, here, size, 1 / stride, self.sampling_ratio, True))
        return torch.stack(pooled).sum(0).unflatten(0, (batch, num_boxes))
