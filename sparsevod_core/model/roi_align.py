"""RoIAlign over the pyramid, each box on the level that fits its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from sparsevod_core.boxes import area

FAR_OUTSIDE = -16384.0  # pixels; exact in bf16


@dataclass(frozen=True, slots=True)
class Samples:
    """What RoI bins read of their level's map: `samples` lines times as many columns each.

    Attributes:
        levels: pyramid level of each box.
        lines, columns: positions, inside the map.
        line_weights, column_weights: their shares; a position counts with the product of both.
    """

    levels: Int[Tensor, "B N"]
    lines: Int[Tensor, "B N P samples"]
    line_weights: Float[Tensor, "B N P samples"]
    columns: Int[Tensor, "B N P samples"]
    column_weights: Float[Tensor, "B N P samples"]


@dataclass(frozen=True, slots=True)
class MapsAsRows:
    """Where the positions of maps lie in one list of rows.

    Attributes:
        starts: row of the first position of each image's map of each level.
        pitches: rows from a line of a level's maps to the next.
    """

    starts: Int[Tensor, "B levels"]
    pitches: Int[Tensor, " levels"]

    @classmethod
    def dense(cls, sizes: Sequence[tuple[int, int]], batch: int) -> MapsAsRows:
        """Level by level, image by image, line by line, of maps of `sizes` (height, width)."""
        areas = torch.tensor([height * width for height, width in sizes])
        starts = (batch * areas).cumsum(0) - batch * areas + torch.arange(batch)[:, None] * areas
        return cls(starts, torch.tensor([width for _, width in sizes]))


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
            return partial(self.everywhere, pyramid)
        rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in pyramid])
        sizes = [(level.shape[2], level.shape[3]) for level in pyramid]
        return partial(self._from_rows, rows, sizes)

    def _from_rows(
        self,
        rows: Float[Tensor, "positions C"],
        sizes: Sequence[tuple[int, int]],
        boxes_xyxy: Float[Tensor, "B N 4"],
    ) -> Float[Tensor, "B N C P P"]:
        samples = self.samples(sizes, boxes_xyxy)
        return self.pool(rows, samples, MapsAsRows.dense(sizes, len(boxes_xyxy)))

    def samples(
        self, sizes: Sequence[tuple[int, int]], boxes_xyxy: Float[Tensor, "B N 4"]
    ) -> Samples:
        """What each bin reads, on maps of `sizes` (height, width); boxes get no gradient."""
        boxes_xyxy = boxes_xyxy.detach().float()
        levels = self.levels(boxes_xyxy)
        height, width = torch.tensor(sizes)[levels].unbind(-1)  # [B, N]
        scaled = boxes_xyxy / torch.tensor(self.strides)[levels][..., None]
        x1, y1, x2, y2 = (scaled - 0.5).unbind(-1)  # aligned: pixel centres at .5
        columns, column_weights = self._samples(x1, x2, width)
        lines, line_weights = self._samples(y1, y2, height)
        return Samples(levels, lines, line_weights, columns, column_weights)

    def pool(
        self, rows: Float[Tensor, "positions C"], samples: Samples, places: MapsAsRows
    ) -> Float[Tensor, "B N C P P"]:
        """Each bin as a bag of map positions with weights: an embedding lookup.

        On a CPU it is many times as fast as torchvision's operator, whose backward adds number by
        number, and takes bf16.
        """
        index, weights = self.bags(samples, places)
        pooled = F.embedding_bag(index, rows, per_sample_weights=weights.to(rows), mode="sum")
        batch, num_boxes = samples.levels.shape
        pooled = pooled.view(batch, num_boxes, self.output_size, self.output_size, -1)
        return pooled.movedim(4, 2)

    def bags(
        self, samples: Samples, places: MapsAsRows
    ) -> tuple[Int[Tensor, "bins m"], Float[Tensor, "bins m"]]:
        """The m rows that each bin of all boxes sums, and their weights."""
        batch = len(samples.levels)
        pitch = places.pitches[samples.levels][..., None, None]
        starts = places.starts[torch.arange(batch)[:, None], samples.levels]
        place = (starts[..., None, None] + samples.lines * pitch)[:, :, :, None, :, None]
        index = place + samples.columns[:, :, None, :, None, :]  # [B, N, P, P, samples, samples]
        weights = samples.line_weights[:, :, :, None, :, None]
        weights = weights * samples.column_weights[:, :, None, :, None, :]
        return index.flatten(4).flatten(0, 3), weights.flatten(4).flatten(0, 3)

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

    def everywhere(
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
