"""RoIAlign over a feature pyramid; each box is pooled from the level that fits its size.

The maps of all levels and images are one list of rows of C channels, one row per position. A bin is
a weighted sum of rows, so that all levels are pooled by one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.boxes import area
from sparsevod_core.kernels import BAGS, Kernels

_FARTHEST_PX = 1e7


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Order of the rows: level by level (fine to coarse), image by image, line by line.

    Attributes:
        sizes: (height, width) of the map of each level.
        pitches: number of rows from one line of a map to the next, per level.
        areas: number of rows from one image's map to the next, per level.
        starts: row of the first position of the first image, per level.
        num_rows: total number of rows.
    """

    sizes: tuple[tuple[int, int], ...]
    pitches: tuple[int, ...]
    areas: tuple[int, ...]
    starts: tuple[int, ...]
    num_rows: int

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], batch: int, tile: int = 1) -> RowLayout:
        """Lay out the maps of a batch, with sides rounded up to a multiple of `tile`."""
        lines, columns = ([-(-size[side] // tile) * tile for size in sizes] for side in (0, 1))
        areas = [height * width for height, width in zip(lines, columns, strict=True)]
        starts = [0]
        for level_area in areas:
            starts.append(starts[-1] + batch * level_area)
        return cls(tuple(sizes), tuple(columns), tuple(areas), tuple(starts[:-1]), starts[-1])


@dataclass(frozen=True, slots=True)
class Samples:
    """Positions that the RoI bins read: `samples` lines by `samples` columns of one level per bin.

    Attributes:
        levels: pyramid level of each box.
        lines, columns: positions, clamped to the map.
        line_weights, column_weights: bilinear weights; a position has the product of both.
    """

    levels: Int[Tensor, "B N"]
    lines: Int[Tensor, "B N P samples"]
    line_weights: Float[Tensor, "B N P samples"]
    columns: Int[Tensor, "B N P samples"]
    column_weights: Float[Tensor, "B N P samples"]


class PyramidRoIAlign(nn.Module):
    """Aligned RoIAlign (He et al., ICCV 2017); coordinates and weights are always fp32.

    Args:
        strides: strides of the pyramid levels, fine to coarse.
        output_size: P, number of bins per side.
        sampling_ratio: number of samples per bin and side.
        finest_scale: boxes of up to twice this size in pixels use the finest level.
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        output_size: int = 7,
        sampling_ratio: int = 2,
        finest_scale: float = 56,
        kernels: Kernels = BAGS,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale
        self.kernels = kernels

    def levels(self, boxes_xyxy: Float[Tensor, "*n 4"]) -> Int[Tensor, "*n"]:
        """Return the level of each box: floor(log2(sqrt(w h) / finest_scale + 1e-6)), clamped."""
        size = area(boxes_xyxy.float()).clamp(min=0).sqrt()
        level = torch.floor(torch.log2(size / self.finest_scale + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()

    def samples(
        self, sizes: Sequence[tuple[int, int]], boxes_xyxy: Float[Tensor, "B N 4"]
    ) -> Samples:
        """Return what each bin reads from maps of `sizes`; no gradient flows to the boxes."""
        boxes_xyxy = boxes_xyxy.detach().float()
        # If the features have overflowed, positions must still be valid; scores reveal it later.
        boxes_xyxy = boxes_xyxy.nan_to_num(0.0).clamp(-_FARTHEST_PX, _FARTHEST_PX)
        levels = self.levels(boxes_xyxy)
        heights, widths = (_per_level(levels, side) for side in zip(*sizes, strict=True))
        scaled = boxes_xyxy / _per_level(levels, self.strides)[..., None]
        x1, y1, x2, y2 = (scaled - 0.5).unbind(-1)  # aligned: pixel centers at .5
        columns, column_weights = self._samples_of_side(x1, x2, widths)
        lines, line_weights = self._samples_of_side(y1, y2, heights)
        return Samples(levels, lines, line_weights, columns, column_weights)

    def forward(
        self, rows: Float[Tensor, "rows C"], layout: RowLayout, samples: Samples
    ) -> Float[Tensor, "B N C P P"]:
        """Return RoI features: for each bin the weighted sum of the rows that it reads."""
        index, weights = rows_read(layout, samples)
        bins = index.shape[:4]
        index, weights = (x.flatten(0, 3) for x in (index, weights))
        return self.kernels.weighted_rows(rows, index, weights).unflatten(0, bins).movedim(4, 2)

    def _samples_of_side(
        self, low: Float[Tensor, "B N"], high: Float[Tensor, "B N"], length: Int[Tensor, "B N"]
    ) -> tuple[Int[Tensor, "B N P samples"], Float[Tensor, "B N P samples"]]:
        """Return the positions that each bin reads along one side (two per sample) and weights.

        Borders are as in torchvision: a sample more than one position outside the map counts as
        zero, a nearer one as the border.
        """
        count = self.output_size * self.sampling_ratio
        samples = torch.arange(count, device=low.device)
        step = (high - low) / count
        points = low[..., None] + (samples + 0.5) * step[..., None]
        last = length[..., None] - 1
        is_inside = (points >= -1) & (points <= last + 1)
        points = points.clamp(min=0).minimum(last)
        before = points.floor()
        fraction = points - before
        position = before.long()
        positions = torch.stack([position, (position + 1).minimum(last)], dim=-1)
        weights = torch.stack([1 - fraction, fraction], dim=-1) * is_inside[..., None]
        bins = (self.output_size, self.sampling_ratio)
        weights = weights.unflatten(2, bins).flatten(3) / self.sampling_ratio
        return positions.unflatten(2, bins).flatten(3), weights


def rows_read(
    layout: RowLayout, samples: Samples
) -> tuple[Int[Tensor, "B N P P reads"], Float[Tensor, "B N P P reads"]]:
    """Return the rows of which each bin is a weighted sum, and their weights."""
    levels = samples.levels
    image = torch.arange(len(levels), device=levels.device)[:, None]
    starts = _per_level(levels, layout.starts) + image * _per_level(levels, layout.areas)
    pitch = _per_level(levels, layout.pitches)[..., None, None]
    place = (starts[..., None, None] + samples.lines * pitch)[:, :, :, None, :, None]
    index = place + samples.columns[:, :, None, :, None, :]  # [B, N, P, P, samples, samples]
    weights = samples.line_weights[:, :, :, None, :, None]
    weights = weights * samples.column_weights[:, :, None, :, None, :]
    return index.flatten(4), weights.flatten(4)


def _per_level(levels: Int[Tensor, "B N"], values: Sequence[int]) -> Int[Tensor, "B N"]:
    """Return for each box the value of its level, without a table, which the host would upload."""
    result = torch.full_like(levels, values[0])
    for level, value in enumerate(values[1:], 1):
        result = torch.where(levels == level, value, result)
    return result
