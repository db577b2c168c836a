"""RoIAlign over the pyramid, each box on the level that fits its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.boxes import area
from sparsevod_core.kernels import BAGS, Kernels


@dataclass(frozen=True, slots=True)
class MapsAsRows:
    """Where the positions of a batch's maps lie in one list of rows, by level, fine to coarse.

    Attributes:
        sizes: (height, width) of the maps.
        pitches: rows from a line of a map to the next.
        areas: rows from an image's map to the next image's.
        starts: row of the first position of the first image.
        num_rows: of all.
    """

    sizes: tuple[tuple[int, int], ...]
    pitches: tuple[int, ...]
    areas: tuple[int, ...]
    starts: tuple[int, ...]
    num_rows: int

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], batch: int, tile: int = 1) -> MapsAsRows:
        """Level by level, image by image, line by line; sides rounded up to whole tiles."""
        lines, columns = ([-(-size[side] // tile) * tile for size in sizes] for side in (0, 1))
        areas = [height * width for height, width in zip(lines, columns, strict=True)]
        starts = [0]
        for level_area in areas:
            starts.append(starts[-1] + batch * level_area)
        return cls(tuple(sizes), tuple(columns), tuple(areas), tuple(starts[:-1]), starts[-1])


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


class PyramidRoIAlign(nn.Module):
    """RoIAlign (He et al., ICCV 2017), aligned. Coordinates and weights are in fp32 always.

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
        kernels: Kernels = BAGS,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale
        self.kernels = kernels

    def levels(self, boxes_xyxy: Float[Tensor, "*n 4"]) -> Int[Tensor, "*n"]:
        """Pyramid level of each box: floor(log2(sqrt(w h) / finest_scale + 1e-6)), clamped."""
        size = area(boxes_xyxy.float()).clamp(min=0).sqrt()
        level = torch.floor(torch.log2(size / self.finest_scale + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()

    def forward(
        self,
        rows: Float[Tensor, "positions C"],
        places: MapsAsRows,
        boxes_xyxy: Float[Tensor, "B N 4"],
    ) -> Float[Tensor, "B N C P P"]:
        """Features of the boxes of each image, from the maps of all levels as rows."""
        return self.pool(rows, places, self.samples(places.sizes, boxes_xyxy))

    def samples(
        self, sizes: Sequence[tuple[int, int]], boxes_xyxy: Float[Tensor, "B N 4"]
    ) -> Samples:
        """What each bin reads, on maps of `sizes` (height, width); boxes get no gradient."""
        boxes_xyxy = boxes_xyxy.detach().float()
        levels = self.levels(boxes_xyxy)
        # Numbers of a level, not a table of them: a table would have to reach the device first.
        heights, widths = (_of_level(levels, side) for side in zip(*sizes, strict=True))
        scaled = boxes_xyxy / _of_level(levels, self.strides)[..., None]
        x1, y1, x2, y2 = (scaled - 0.5).unbind(-1)  # aligned: pixel centres at .5
        columns, column_weights = self._samples(x1, x2, widths)
        lines, line_weights = self._samples(y1, y2, heights)
        return Samples(levels, lines, line_weights, columns, column_weights)

    def pool(
        self, rows: Float[Tensor, "positions C"], places: MapsAsRows, samples: Samples
    ) -> Float[Tensor, "B N C P P"]:
        """Each bin as a weighted sum of the rows that it reads."""
        index, weights = self._bags(places, samples)
        pooled = self.kernels.weighted_rows(rows, index, weights)
        batch, num_boxes = samples.levels.shape
        pooled = pooled.view(batch, num_boxes, self.output_size, self.output_size, -1)
        return pooled.movedim(4, 2)

    def _bags(
        self, places: MapsAsRows, samples: Samples
    ) -> tuple[Int[Tensor, "bins m"], Float[Tensor, "bins m"]]:
        """The m rows that each bin of all boxes sums, and their weights."""
        levels = samples.levels
        image = torch.arange(len(levels), device=levels.device)[:, None]
        starts = _of_level(levels, places.starts) + image * _of_level(levels, places.areas)
        pitch = _of_level(levels, places.pitches)[..., None, None]
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
        count = self.output_size * self.sampling_ratio
        samples = torch.arange(count, device=low.device)
        step = (high - low) / count
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


def _of_level(levels: Int[Tensor, "B N"], numbers: Sequence[int]) -> Int[Tensor, "B N"]:
    """For each box the number of its level."""
    found = torch.full_like(levels, numbers[0])
    for level, number in enumerate(numbers[1:], 1):
        found = torch.where(levels == level, number, found)
    return found
