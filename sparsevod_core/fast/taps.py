"""TFE without running its 3x3 embedding on support features, for CPUs.

Each tap of the convolution is linear in the feature of one map position. The nine taps of every
position are computed once per video, and the embedding of the weighted top-k features is a weighted
sum of 9 k taps. This pays off where arithmetic is expensive and memory is close: on CPUs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Shaped
from torch import Tensor, nn

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
        return taps_of(self.aggregation.embed)(maps.rows).unflatten(-1, (TAPS, -1))

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
        similar = Similar(
            maps.rows[0], taps[0], positions[0].int(), top_k_weights(cosines, bins)[0]
        )
        mixed = mixed_bins(bins[0], [similar], self.aggregation, size)
        return mixed.view(batch, num, size, size, channels).permute(0, 1, 4, 2, 3)


def taps_of(embed: nn.Conv2d) -> nn.Linear:
    """Return the layer that computes the nine taps of a feature, one after the other."""
    weight = embed.weight.permute(2, 3, 0, 1).flatten(0, 2)  # [9 C, C]
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    return layer


@dataclass(frozen=True, slots=True)
class Similar:
    """Most similar features of each bin in some support frames of a video.

    Attributes:
        rows: features of all positions of each map.
        taps: their taps.
        positions: the top-k positions.
        weights: their weights.
    """

    rows: Float[Tensor, "S HW C"]
    taps: Float[Tensor, "S HW 9 C"]
    positions: Int32[Tensor, "S Q k"]
    weights: Float[Tensor, "S Q k"]

    def of_bins(self, part: slice) -> Similar:
        """Return the same for some of the bins."""
        return replace(self, positions=self.positions[:, part], weights=self.weights[:, part])

    def embedded(self, size: int) -> Float[Tensor, "S Q C"]:
        """Return the embedding of the weighted features, without bias, from taps of 3x3 bins."""
        shape = (-1, size, size)
        index = _neighbors(self.positions * TAPS, shape)  # [S, Q, 9, k]
        index += torch.arange(TAPS, dtype=torch.int32)[:, None]
        rows = self.taps.flatten(1, 2)
        index = index.flatten(2) + _starts(rows)
        mixed = _bags(rows.flatten(0, 1), index, _neighbors(self.weights, shape).flatten(2))
        return mixed.unflatten(0, self.positions.shape[:2])

    def summed(self, of_frames: Float[Tensor, "S Q blocks"]) -> Float[Tensor, "Q C"]:
        """Return the sum over frames, weighted per block of channels, directly from the rows."""
        (_, num_bins, blocks), top_k = of_frames.shape, self.positions.shape[-1]
        index = (self.positions + _starts(self.rows)).transpose(0, 1).flatten(1)  # [Q, S k]
        index = index[:, None] * blocks + torch.arange(blocks, dtype=torch.int32)[:, None]
        factors = of_frames.permute(1, 2, 0).repeat_interleave(top_k, dim=2)
        factors *= self.weights.transpose(0, 1).flatten(1)[:, None]
        parts = self.rows.reshape(-1, self.rows.shape[-1] // blocks)  # the blocks of each position
        return _bags(parts, index, factors).view(num_bins, -1)


def mixed_bins(
    bins: Float[Tensor, "Q C"],
    groups: Sequence[Similar],
    attention: TemporalAttention,
    size: int,
) -> Float[Tensor, "Q C"]:
    """Return the bins of RoIs aggregated with the similar features of groups of support frames.

    Args:
        bins: of entire RoIs, each of `size` times `size` bins.
        groups: the similar features.
        attention: attention over the frames.
        size: P.
    """
    query = attention.embedded(bins[None], size)[0]
    # The sums of taps lack the bias. On the side of the keys it would add the same to the scores
    # of all frames, so that only the query needs it.
    assert attention.embed.bias is not None
    embedded = [group.embedded(size) for group in groups]
    others = embedded[0] if len(embedded) == 1 else torch.cat(embedded)
    own = query - attention.embed.bias
    weights = frame_weights(own[None], others[None], attention.blocks, query[None])[0]
    counts = [len(group.rows) for group in groups]
    own_weights, *of_groups = weights.split([1, *counts])
    mixed = bins.unflatten(-1, (attention.blocks, -1)) * own_weights[0, :, :, None].to(bins)
    mixed = mixed.flatten(1)
    for group, of_group in zip(groups, of_groups, strict=True):
        mixed = mixed + group.summed(of_group)
    return mixed


def _neighbors(values: Shaped[Tensor, "S Q k"], bin_shape: tuple[int, int, int]) -> Tensor:
    """Return the values of the 3x3 neighbors of each bin, [S, Q, 9, k]; 0 outside the RoI."""
    grid = F.pad(values.unflatten(1, bin_shape), (0, 0, 1, 1, 1, 1))  # [S, n, P + 2, P + 2, k]
    windows = grid.unfold(2, 3, 1).unfold(3, 3, 1).movedim(4, -1)  # [S, n, P, P, 3, 3, k]
    return windows.reshape(*values.shape[:2], TAPS, -1)


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
