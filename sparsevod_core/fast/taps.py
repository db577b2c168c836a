"""TFE without running its 3x3 embedding on support features, for CPUs.

Each tap of the convolution is linear in the feature of one map position. The nine taps of every
position are computed once per video, and the embedding of the weighted top-k features is a weighted
sum of 9 k taps. This pays off where arithmetic is expensive and memory is close: on CPUs.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Shaped
from torch import Tensor

from sparsevod_core.kernels.frame_attention import frame_weights
from sparsevod_core.model.support import SupportMaps
from sparsevod_core.model.temporal_roi import (
    TemporalAttention,
    TemporalRoIFeatures,
    bins_of,
    top_k_weights,
)

TAPS = 9  # of a 3x3 convolution
MAX_POSITIONS = 4096  # per map with taps: 19 MB per stage and support frame in bf16 at C = 256


class TappedTemporalRoI(TemporalRoIFeatures):
    """TFE of one stage with precomputed taps, for target frames of one video."""

    aggregation: TemporalAttention

    def __init__(self, plain: TemporalRoIFeatures) -> None:
        super().__init__(
            top_k=plain.top_k,
            aggregation=copy.deepcopy(plain.aggregation),
            kernels=plain.kernels,
        )

    def precompute(self, maps: SupportMaps) -> Float[Tensor, "V S HW taps C"] | None:
        """Return the taps of each map position, or None if the map is too large."""
        if maps.rows.shape[2] > MAX_POSITIONS:
            return None
        weight = self.aggregation.embed.weight.permute(2, 3, 0, 1).flatten(0, 2)  # [9 C, C]
        return F.linear(maps.rows, weight).unflatten(-1, (TAPS, -1))

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: SupportMaps,
        taps: Float[Tensor, "1 S HW taps C"] | None = None,
    ) -> Float[Tensor, "B N C P P"]:
        """See `TemporalRoIFeatures.forward`."""
        if taps is None:
            return super().forward(roi_features, maps)
        batch, num, channels, size, _ = roi_features.shape
        bins = bins_of(roi_features, 1)
        positions, cosines = maps.keys.top(bins, self.top_k)
        weights = top_k_weights(cosines, bins)[0]  # [S, Q, k]
        embedded = _embedded(taps[0], positions[0].int(), weights, (batch * num, size, size))
        query = self.aggregation.embedded(bins, size)
        # The sums of taps lack the bias. On the side of the keys it would add the same to the
        # scores of all frames, so that only the query needs it.
        bias = self.aggregation.embed.bias
        assert bias is not None
        scores = frame_weights(query - bias, embedded[None], self.aggregation.blocks, query)
        mixed = _mixed(bins[0], maps.rows[0], positions[0].int(), weights, scores[0])
        return mixed.view(batch, num, size, size, channels).permute(0, 1, 4, 2, 3)


def _embedded(
    taps: Float[Tensor, "S HW 9 C"],
    positions: Int32[Tensor, "S Q k"],
    weights: Float[Tensor, "S Q k"],
    bin_shape: tuple[int, int, int],
) -> Float[Tensor, "S Q C"]:
    """Return the embedding of the top-k features, without bias, from taps of 3x3 neighbor bins."""
    index = _neighbors(positions * TAPS, bin_shape)  # [S, Q, 9, k]
    index += torch.arange(TAPS, dtype=torch.int32)[:, None]
    rows = taps.flatten(1, 2)
    index = index.flatten(2) + _starts(rows)
    mixed = _bags(rows.flatten(0, 1), index, _neighbors(weights, bin_shape).flatten(2))
    return mixed.unflatten(0, positions.shape[:2])


def _neighbors(values: Shaped[Tensor, "S Q k"], bin_shape: tuple[int, int, int]) -> Tensor:
    """Return the values of the 3x3 neighbors of each bin, [S, Q, 9, k]; 0 outside the RoI."""
    grid = F.pad(values.unflatten(1, bin_shape), (0, 0, 1, 1, 1, 1))  # [S, n, P + 2, P + 2, k]
    windows = grid.unfold(2, 3, 1).unfold(3, 3, 1).movedim(4, -1)  # [S, n, P, P, 3, 3, k]
    return windows.reshape(*values.shape[:2], TAPS, -1)


def _mixed(
    bins: Float[Tensor, "Q C"],
    rows: Float[Tensor, "S HW C"],
    positions: Int32[Tensor, "S Q k"],
    weights: Float[Tensor, "S Q k"],
    of_frames: Float[Tensor, "F Q blocks"],
) -> Float[Tensor, "Q C"]:
    """Return the mean over frames, weighted per block of channels, directly from the map rows."""
    num_bins, channels = bins.shape
    blocks, top_k = of_frames.shape[-1], positions.shape[-1]
    index = (positions + _starts(rows)).transpose(0, 1).flatten(1)[:, None] * blocks  # [Q, 1, S k]
    index = index + torch.arange(blocks, dtype=torch.int32)[:, None]
    supports = of_frames[1:].permute(1, 2, 0)  # [Q, blocks, S]
    factors = supports.repeat_interleave(top_k, dim=2)
    factors *= weights.transpose(0, 1).flatten(1)[:, None]
    parts = rows.reshape(-1, channels // blocks)  # the blocks of each position
    gathered = _bags(parts, index, factors)
    own = bins.view(num_bins, blocks, -1) * of_frames[0, :, :, None].to(bins)
    return (own + gathered.view_as(own)).flatten(1)


def _starts(rows: Float[Tensor, "S HW C"]) -> Int32[Tensor, "S 1 1"]:
    supports, length, _ = rows.shape
    return length * torch.arange(supports, dtype=torch.int32)[:, None, None]


def _bags(
    rows: Float[Tensor, "R C"], index: Int32[Tensor, "a b m"], weights: Float[Tensor, "a b m"]
) -> Float[Tensor, "a*b C"]:
    """Return weighted sums of rows by an embedding lookup in the dtype of the rows."""
    bags = index.flatten(0, 1)
    offsets = bags.shape[1] * torch.arange(len(bags), dtype=torch.int32)
    return F.embedding_bag(
        bags.flatten(), rows, offsets, mode="sum", per_sample_weights=weights.flatten().to(rows)
    )
