"""Similarity search for RoI features by pooling of scores, where RoIs have more bins than the map.

A bin is a weighted sum of a few map positions, and its cosines are the same sum of the products of
these positions with the keys, divided by the length of the bin. The products of all positions are
computed once. For the 14,700 bins of 300 RoIs on a map of 2,394 positions, this takes a sixth of
the multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparsevod_core.fast.onednn import multiplied
from sparsevod_core.kernels.similarity import BLOCK, Found, Keys, chosen, lengths_of
from sparsevod_core.model.roi_align import PyramidRoIAlign, RowLayout, rows_read

MAX_SCORES = 2**20  # of a support frame, computed at a time: few enough for a processor's caches
_LEAST = -1e30  # for positions that are not valid; zero times minus infinity would not be a number


@dataclass(frozen=True, slots=True)
class PooledBins:
    """RoI bins of one image as weighted sums of the rows of its map.

    Attributes:
        rows: features of all positions.
        index: rows that a bin reads.
        weights: their weights, of which those of repeated rows are added up.
        lengths: norm of each bin.
    """

    rows: Float[Tensor, "HW C"]
    index: Int[Tensor, "Q reads"]
    weights: Float[Tensor, "Q reads"]
    lengths: Float[Tensor, " Q"]

    @classmethod
    def of(
        cls,
        feature_map: Float[Tensor, "C H W"],
        boxes_xyxy: Float[Tensor, "N 4"],
        roi_align: PyramidRoIAlign,
        bins: Float[Tensor, "Q C"],
    ) -> PooledBins:
        """Return the bins of boxes.

        Args:
            feature_map: the only map.
            boxes_xyxy: RoIs in pixels.
            roi_align: has pooled `bins` from them.
            bins: RoI features.
        """
        size = (feature_map.shape[1], feature_map.shape[2])
        samples = roi_align.samples([size], boxes_xyxy[None])
        lines, columns = samples.lines, samples.columns
        samples = type(samples)(
            samples.levels,
            lines,
            _merged(lines, samples.line_weights),
            columns,
            _merged(columns, samples.column_weights),
        )
        index, weights = (x[0].flatten(0, 2) for x in rows_read(RowLayout.of([size], 1), samples))
        rows = feature_map.permute(1, 2, 0).flatten(0, 1)
        return cls(rows, index, weights, lengths_of(bins))

    def top(self, keys: Keys, top_k: int) -> Found:
        """Return the most similar positions and their cosines; see `Keys.top`.

        Args:
            keys: of the support frames of one video.
            top_k: k.
        """
        found = [self._top_of_frame(frame, keys.bias[0], top_k) for frame in keys.directions[0]]
        positions, cosines = (torch.stack(parts)[None] for parts in zip(*found, strict=True))
        return positions, cosines.masked_fill(cosines < -2, -math.inf)

    def _top_of_frame(
        self, directions: Float[Tensor, "HW C"], bias: Float[Tensor, " HW"], top_k: int
    ) -> tuple[Int[Tensor, "Q k"], Float[Tensor, "Q k"]]:
        top_k = min(top_k, len(directions))
        padding = -len(directions) % BLOCK
        directions = F.pad(directions.float(), (0, 0, 0, padding))
        least = F.pad(bias, (0, padding), value=-math.inf).clamp(min=_LEAST)
        products = multiplied(self.rows.float(), directions, least)  # [HW, padded keys]
        parts = []
        for index, starts, weights in self._bags(max(1, MAX_SCORES // len(directions))):
            scores = F.embedding_bag(
                index, products, starts, per_sample_weights=weights, mode="sum"
            )
            parts.append(chosen(scores.view(len(scores), 1, -1, BLOCK), top_k))
        positions, cosines = (torch.cat(part)[:, 0] for part in zip(*parts, strict=True))
        return positions, cosines

    def _bags(self, at_a_time: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the reads of some bins after the other, the start of each bin, and weights."""
        weights = self.weights / self.lengths[:, None]
        for index, of_index in zip(
            self.index.split(at_a_time), weights.split(at_a_time), strict=True
        ):
            is_read: Bool[Tensor, "q reads"] = of_index != 0
            starts = F.pad(is_read.sum(1).cumsum(0)[:-1], (1, 0))
            yield index[is_read], starts, of_index[is_read]


def _merged(
    positions: Int[Tensor, "*n samples"], weights: Float[Tensor, "*n samples"]
) -> Float[Tensor, "*n samples"]:
    """Return weights of which the first of equal positions has the sum, the others zero."""
    is_same = positions[..., :, None] == positions[..., None, :]
    order = torch.arange(positions.shape[-1], device=positions.device)
    is_first = is_same.int().argmax(-1) == order
    return (is_same * weights[..., None, :]).sum(-1) * is_first
