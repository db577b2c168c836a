"""TFE: RoI features of the target enriched with the most similar features of the support frames.

Paper, section 3.1 "Temporal RoI Feature Extraction"; Temporal RoI Align (Gong et al., AAAI 2021).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

SIMILARITY_CHUNK = 2**22  # elements of the score matrix held at once: few, so that caches hold them
BLOCK = 64  # positions of which the best is found first
NORM_EPS = 1e-6


class TemporalRoIFeatures(nn.Module):
    """For each RoI bin the most similar support features, then an aggregation over the frames."""

    def __init__(self, *, top_k: int, aggregation: TemporalAttention | TemporalMean) -> None:
        super().__init__()
        self.top_k = top_k
        self.aggregation: TemporalAttention | TemporalMean = aggregation

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: Float[Tensor, "V S C H W"],
        valid: Bool[Tensor, "V H W"],
    ) -> Float[Tensor, "B N C P P"]:
        """Temporal RoI features.

        Args:
            roi_features: plain RoIAlign on the targets.
            maps: support feature maps; V = B, or V = 1 where all targets are of one video.
            valid: map positions that belong to the (unpadded) image.
        """
        return self.aggregation(roi_features, self.similar(roi_features, maps, valid))

    def similar(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: Float[Tensor, "V S C H W"],
        valid: Bool[Tensor, "V H W"],
    ) -> Float[Tensor, "B S N C P P"]:
        """For each bin and support frame a mix of the most similar features."""
        batch, proposals, _, size, _ = roi_features.shape
        similar = most_similar_features(_queries(roi_features, maps), maps, valid, self.top_k)
        similar = similar.unflatten(2, (batch // len(maps), proposals, size, size))
        return similar.movedim(1, 2).flatten(0, 1).movedim(-1, 3)

    def places(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: Float[Tensor, "V S C H W"],
        valid: Bool[Tensor, "V H W"],
    ) -> Int[Tensor, "B S N P P"]:
        """Where on each support frame the most similar feature lies: row times W plus column."""
        batch, proposals, _, size, _ = roi_features.shape
        directions = F.normalize(_queries(roi_features, maps), dim=-1, eps=NORM_EPS)
        rows = maps.flatten(3).transpose(2, 3)
        index, _ = _top_positions(directions, rows, valid.flatten(1), 1)  # [V, S, Q, 1]
        index = index.squeeze(-1).unflatten(2, (batch // len(maps), proposals, size, size))
        return index.movedim(1, 2).flatten(0, 1)


class TemporalAttention(nn.Module):
    """Attention of each target bin over the target and the support frames, in channel blocks.

    One 3x3 convolution embeds all frames; there is no value or output projection and no residual:
    the output is a weighted mean of the raw features.
    """

    def __init__(self, *, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.embed = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        similar: Float[Tensor, "B S N C P P"],
    ) -> Float[Tensor, "B N C P P"]:
        """Weighted mean over the S + 1 frames."""
        frames = torch.cat([roi_features[:, None], similar], dim=1)  # [B, S+1, N, C, P, P]
        blocked = frames.unflatten(3, (self.blocks, -1))
        return (self.weights(frames)[:, :, :, :, None] * blocked).sum(1).flatten(2, 3)

    def weights(self, frames: Float[Tensor, "B F N C P P"]) -> Float[Tensor, "B F N blocks P P"]:
        """Of each of the F = S + 1 frames, the target first."""
        embedded = self.embed(frames.flatten(0, 2)).unflatten(0, frames.shape[:3])
        embedded = embedded.unflatten(3, (self.blocks, -1))  # [B, S+1, N, blocks, c, P, P]
        scores = (embedded * embedded[:, :1]).sum(4) / math.sqrt(embedded.shape[4])
        return scores.softmax(dim=1)


class TemporalMean(nn.Module):
    """Plain mean over the target and the support frames ("Avg." of the paper's Table 4)."""

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        similar: Float[Tensor, "B S N C P P"],
    ) -> Float[Tensor, "B N C P P"]:
        """Mean over the S + 1 frames."""
        return (roi_features + similar.sum(1)) / (similar.shape[1] + 1)

    def weights(self, frames: Float[Tensor, "B F N C P P"]) -> Float[Tensor, "B F N 1 P P"]:
        """All the same."""
        return torch.full_like(frames[:, :, :, :1], 1 / frames.shape[1])


def _queries(
    roi_features: Float[Tensor, "B N C P P"], maps: Float[Tensor, "V S C H W"]
) -> Float[Tensor, "V Q C"]:
    """All bins of all targets of a video, one after the other."""
    bins = roi_features.flatten(3).transpose(2, 3)  # [B, N, P P, C]
    return bins.reshape(len(maps), -1, bins.shape[-1])


def most_similar_features(
    queries: Float[Tensor, "V Q C"],
    maps: Float[Tensor, "V S C H W"],
    valid: Bool[Tensor, "V H W"],
    top_k: int,
) -> Float[Tensor, "V S Q C"]:
    """Per query and support frame: the top-k positions by cosine, mixed by their softmax.

    The mix is over the un-normalised support features. A query of zero norm (a RoI bin outside the
    image) gets zeros: all its cosines are equal, any choice would be arbitrary.
    """
    videos, supports = maps.shape[:2]
    rows = maps.flatten(3).transpose(2, 3)  # [V, S, H W, C]
    directions = F.normalize(queries, dim=-1, eps=NORM_EPS)
    with torch.no_grad():
        index, found = _top_positions(directions, rows, valid.flatten(1), top_k)
    # Only the chosen rows are looked at with gradients: the backward of a gather from the flat
    # list of rows is one index_add, and no score matrix is kept for it.
    frame = torch.arange(videos * supports, device=maps.device).view(videos, supports, 1, 1)
    chosen = (frame * rows.shape[2] + index).flatten()
    similar = rows.flatten(0, 2).index_select(0, chosen)
    similar = similar.unflatten(0, index.shape)  # [V, S, Q, k, C]
    lengths = similar.norm(dim=-1).clamp(min=NORM_EPS)
    # Products and sums, not einsum: that would be a matrix product for every query.
    cosines = (similar * directions[:, None, :, None]).sum(-1) / lengths
    weights = cosines.masked_fill(~found, -math.inf).softmax(dim=-1)
    inside = (queries.detach() != 0).any(-1)  # [V, Q]
    weights = weights * inside[:, None, :, None]
    return (weights[..., None] * similar).sum(3)


def _top_positions(
    directions: Float[Tensor, "V Q C"],
    rows: Float[Tensor, "V S L C"],
    valid: Bool[Tensor, "V L"],
    top_k: int,
) -> tuple[Int[Tensor, "V S Q k"], Bool[Tensor, "V S Q k"]]:
    """The k best positions, best first, exact ties to the lower; False where fewer exist."""
    length = rows.shape[2]
    top_k = min(top_k, length)
    padding = -length % BLOCK
    keys = F.normalize(rows, dim=-1, eps=NORM_EPS).transpose(2, 3)  # [V, S, C, L]
    keys = F.pad(keys, (0, padding))
    has_outside = not _host_may_look(valid) or not valid.all()
    chunk = max(1, SIMILARITY_CHUNK // (keys.shape[0] * keys.shape[1] * keys.shape[3]))
    indices, found = [], []
    for part in directions.split(chunk, dim=1):
        scores = part[:, None] @ keys
        scores[..., length:] = -math.inf
        if has_outside:
            scores[..., :length].masked_fill_(~valid[:, None, None], -math.inf)
        index, value = top_of_blocks(scores.unflatten(-1, (-1, BLOCK)), top_k)
        indices.append(index)
        found.append(value > -math.inf)
    return torch.cat(indices, dim=2), torch.cat(found, dim=2)


def _host_may_look(values: Tensor) -> bool:
    """Whether reading them costs no wait: then a pass over all scores can be spared."""
    return not values.is_cuda


def top_of_blocks(
    scores: Float[Tensor, "*n blocks positions"], top_k: int
) -> tuple[Int[Tensor, "*n k"], Float[Tensor, "*n k"]]:
    """The k best of all positions and their scores; writes into `scores`.

    One pass over all of them; then only the best block is looked at.

    `topk` does not say which of two equal ones it takes; `max` takes the first.
    """
    best_of_block = scores.amax(-1)  # [*n, blocks]
    indices, values = [], []
    for _ in range(top_k):
        value, block = best_of_block.max(-1, keepdim=True)
        whole = block[..., None].expand(*block.shape, scores.shape[-1])
        positions = scores.gather(-2, whole)  # [*n, 1, positions]
        place = positions.max(-1, keepdim=True).indices
        indices.append(block * scores.shape[-1] + place.squeeze(-1))
        values.append(value)
        positions.scatter_(-1, place, -math.inf)
        scores.scatter_(-2, whole, positions)
        best_of_block.scatter_(-1, block, positions.amax(-1))
    return torch.cat(indices, dim=-1), torch.cat(values, dim=-1)
