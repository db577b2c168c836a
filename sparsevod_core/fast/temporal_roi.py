"""TFE with everything about the support frames computed beforehand (model/temporal_roi.py).

Similarity is one matrix product a chunk. The 3x3 embedding never runs on what TFE composes of
support features: a tap of it is linear in the feature of one map position, so that each position's
nine taps are made once per video, and the embedding is a weighted sum of 9 k of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Shaped
from torch import Tensor, nn

from sparsevod_core.fast.search import ExactKeys, QuantisedKeys, can_quantise, lengths_of
from sparsevod_core.fast.support_bank import SupportMaps
from sparsevod_core.model.temporal_roi import TemporalAttention, TemporalRoIFeatures

TAPS = 9  # of a 3x3 convolution
MOST_POSITIONS = 4096  # of a map whose taps are kept: 19 MB a stage and support in bf16 at C = 256


@dataclass(frozen=True, slots=True)
class Similar:
    """For each RoI bin and support frame the chosen positions and their shares of the mix."""

    positions: Int32[Tensor, "S Q k"]
    weights: Float[Tensor, "S Q k"]


class FastTemporalRoI(nn.Module):
    """TFE of one stage."""

    def __init__(self, temporal_roi: TemporalRoIFeatures, dtype: torch.dtype) -> None:
        super().__init__()
        self.top_k = temporal_roi.top_k
        self.embed: nn.Conv2d | None = None
        self.blocks = 1
        aggregation = temporal_roi.aggregation
        if isinstance(aggregation, TemporalAttention):
            self.blocks = aggregation.blocks
            self.embed = copy.deepcopy(aggregation.embed).to(dtype)
            self.embed.to(memory_format=torch.channels_last)

    def taps(self, rows: Float[Tensor, "S L C"]) -> Float[Tensor, "S L 9 C"] | None:
        """What each tap of the embedding makes of each map position; None: not worth keeping."""
        if self.embed is None or rows.shape[1] > MOST_POSITIONS:
            return None
        weight = self.embed.weight.permute(2, 3, 0, 1).flatten(0, 2)  # [9 C, C]
        return F.linear(rows, weight).unflatten(-1, (TAPS, -1))

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: SupportMaps,
        stage: int,
    ) -> Float[Tensor, "B N C P P"]:
        """Temporal RoI features; all targets are of the video of `maps`."""
        batch, num, channels, size, _ = roi_features.shape
        bin_shape = (batch * num, size, size)
        bins = roi_features.permute(0, 1, 3, 4, 2).reshape(-1, channels)  # [Q, C]
        found = self.similar(bins, maps, frames=batch)
        if self.embed is None:
            similar = _weighted_rows(maps.rows, found.positions, found.weights)
            mixed = (bins + similar.sum(0)) / (len(similar) + 1)
        else:
            if maps.taps:
                embedded = _tapped(maps.taps[stage], found, bin_shape)
            else:
                similar = _weighted_rows(maps.rows, found.positions, found.weights)
                embedded = self._embedded(similar, bin_shape)
            weights = self._attention(self._embedded(bins[None], bin_shape)[0], embedded)
            mixed = _mixed(bins, maps.rows, found, weights)
        return mixed.view(batch, num, size, size, channels).permute(0, 1, 4, 2, 3)

    def similar(self, bins: Float[Tensor, "Q C"], maps: SupportMaps, *, frames: int) -> Similar:
        """The most similar positions of every support frame, for bins of so many target frames."""
        top_k = min(self.top_k, maps.rows.shape[1])
        lengths = lengths_of(bins)
        # Frame by frame: a product of another size may round another way, and turn a near tie.
        parts = [
            maps.keys.top(*of_frame, top_k)
            for of_frame in zip(bins.chunk(frames), lengths.chunk(frames), strict=True)
        ]
        positions, cosines = (torch.cat(part) for part in zip(*parts, strict=True))
        # The softmax by hand: torch's is slow over so few. A bin outside the image is all zeros.
        shares = (cosines - cosines[..., :1]).exp_() * (lengths > 0)[:, None, None]
        weights = shares / shares.sum(-1, keepdim=True).clamp_(min=1)  # [Q, S, k]
        return Similar(positions.int().transpose(0, 1), weights.transpose(0, 1))

    def _attention(
        self, target: Float[Tensor, "Q C"], supports: Float[Tensor, "S Q C"]
    ) -> Float[Tensor, "Q blocks F"]:
        """Shares of the F = S + 1 frames, the target first, from their embeddings without bias."""
        assert self.embed is not None and self.embed.bias is not None
        # The bias is needed once: in the other factor it adds the same to the scores of all frames.
        query = target + self.embed.bias
        scores = [
            (frames * query).unflatten(-1, (self.blocks, -1)).sum(-1, dtype=torch.float32)
            for frames in (target[None], supports)
        ]
        width = target.shape[-1] // self.blocks
        return (torch.cat(scores) / math.sqrt(width)).softmax(dim=0).permute(1, 2, 0)

    def _embedded(
        self, frames: Float[Tensor, "F Q C"], bin_shape: tuple[int, int, int]
    ) -> Float[Tensor, "F Q C"]:
        """The embedding convolution on RoI features, without its bias."""
        assert self.embed is not None
        rois = frames.unflatten(1, bin_shape).flatten(0, 1).permute(0, 3, 1, 2)  # [F n, C, P, P]
        embedded = F.conv2d(rois, self.embed.weight, padding=1)
        return embedded.permute(0, 2, 3, 1).reshape(frames.shape)


def _tapped(
    taps: Float[Tensor, "S L 9 C"], found: Similar, bin_shape: tuple[int, int, int]
) -> Float[Tensor, "S Q C"]:
    """The embedding of the composed features: of each bin's 9 neighbours the k mixed positions."""
    positions = _neighbours(found.positions * TAPS, bin_shape)  # [S, Q, 9, k]
    positions += torch.arange(TAPS, dtype=torch.int32, device=positions.device)[:, None]
    weights = _neighbours(found.weights, bin_shape)
    return _weighted_rows(taps.flatten(1, 2), positions.flatten(2), weights.flatten(2))


def _neighbours(values: Shaped[Tensor, "S Q k"], bin_shape: tuple[int, int, int]) -> Tensor:
    """Of each bin those of its 3x3 neighbours, [S, Q, 9, k]; 0 outside the RoI."""
    grid = F.pad(values.unflatten(1, bin_shape), (0, 0, 1, 1, 1, 1))  # [S, n, P + 2, P + 2, k]
    windows = grid.unfold(2, 3, 1).unfold(3, 3, 1).movedim(4, -1)  # [S, n, P, P, 3, 3, k]
    return windows.reshape(*values.shape[:2], TAPS, -1)


def _weighted_rows(
    rows: Float[Tensor, "S L C"], index: Int32[Tensor, "S Q m"], weights: Float[Tensor, "S Q m"]
) -> Float[Tensor, "S Q C"]:
    """Of each support frame and bin a weighted sum of m rows."""
    supports, length, _ = rows.shape
    index = index + _starts(supports, length, rows.device)[:, None, None]
    bags = _bags(rows.flatten(0, 1), index.flatten(0, 1), weights.flatten(0, 1))
    return bags.unflatten(0, (supports, -1))


def _mixed(
    bins: Float[Tensor, "Q C"],
    rows: Float[Tensor, "S L C"],
    found: Similar,
    weights: Float[Tensor, "Q blocks F"],
) -> Float[Tensor, "Q C"]:
    """The weighted mean over the frames, in channel blocks, straight from the maps' rows."""
    supports, length, channels = rows.shape
    num_bins, blocks, _ = weights.shape
    index = found.positions + _starts(supports, length, rows.device)[:, None, None]
    index = index.transpose(0, 1).flatten(1)[:, None] * blocks  # [Q, 1, S k]
    index = index + torch.arange(blocks, dtype=torch.int32, device=rows.device)[:, None]
    shares = weights[:, :, 1:].repeat_interleave(found.weights.shape[-1], dim=2)  # [Q, blocks, S k]
    shares *= found.weights.transpose(0, 1).flatten(1)[:, None]
    parts = rows.reshape(-1, channels // blocks)  # of each position its blocks
    gathered = _bags(parts, index.flatten(0, 1), shares.flatten(0, 1))
    own = bins.view(num_bins, blocks, -1) * weights[:, :, :1].to(bins)
    return (own + gathered.view_as(own)).flatten(1)


def _starts(supports: int, length: int, device: torch.device) -> Int32[Tensor, " S"]:
    return length * torch.arange(supports, dtype=torch.int32, device=device)


def _bags(
    rows: Float[Tensor, "R C"], index: Int32[Tensor, "n m"], weights: Float[Tensor, "n m"]
) -> Float[Tensor, "n C"]:
    """Weighted sums of rows as an embedding lookup, which copies none of them."""
    offsets = index.shape[1] * torch.arange(len(index), dtype=torch.int32, device=rows.device)
    weights = weights.flatten().to(rows)
    return F.embedding_bag(index.flatten(), rows, offsets, mode="sum", per_sample_weights=weights)


def support_maps(
    level: Float[Tensor, "S C H W"],
    valid: Bool[Tensor, "H W"],
    stages: Sequence[FastTemporalRoI | None],
) -> SupportMaps:
    """What TFE keeps of support frames.

    Args:
        level: their maps of the support level.
        valid: positions that belong to the image.
        stages: TFE of every stage.
    """
    rows = level.permute(0, 2, 3, 1).flatten(1, 2).contiguous()  # [S, L, C]
    quantised = rows.dtype == torch.bfloat16 and can_quantise(rows.device, rows.shape[1])
    keys = (QuantisedKeys if quantised else ExactKeys).of(rows, valid.flatten())
    taps = [stage.taps(rows) for stage in stages if stage is not None]
    return SupportMaps(rows, keys, tuple(tap for tap in taps if tap is not None))
