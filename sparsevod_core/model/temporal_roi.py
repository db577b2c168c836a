"""TFE: RoI features of the target enriched with the most similar features of the support frames.

Paper, section 3.1 "Temporal RoI Feature Extraction"; Temporal RoI Align (Gong et al., AAAI 2021).
RoI features and maps are taken as rows of C channels: Q bins of all boxes of all target frames of a
video, L positions of a support map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.kernels import BAGS, Kernels
from sparsevod_core.kernels.frame_attention import frame_weights
from sparsevod_core.kernels.similarity import NORM_EPS
from sparsevod_core.model.support import SupportMaps


class TemporalRoIFeatures(nn.Module):
    """For each RoI bin the most similar support features, then an aggregation over the frames."""

    def __init__(
        self, *, top_k: int, aggregation: TemporalAttention | TemporalMean, kernels: Kernels = BAGS
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.aggregation: TemporalAttention | TemporalMean = aggregation
        self.kernels = kernels

    def keep(self, maps: SupportMaps) -> Float[Tensor, "V S L taps C"] | None:
        """What this stage keeps of support maps beside themselves: nothing, here."""
        return None

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: SupportMaps,
        kept: Float[Tensor, "V S L taps C"] | None = None,
    ) -> Float[Tensor, "B N C P P"]:
        """Temporal RoI features.

        Args:
            roi_features: plain RoIAlign on the targets.
            maps: of the support frames; V = B, or V = 1 where all targets are of one video.
            kept: what `keep` gave.
        """
        bins = bins_of(roi_features, len(maps.rows))
        similar = self.similar(bins, maps)
        mixed = self.aggregation(bins, similar, roi_features.shape[-1], self.kernels)
        return mixed.view(roi_features.movedim(2, 4).shape).movedim(4, 2)

    def similar(self, bins: Float[Tensor, "V Q C"], maps: SupportMaps) -> Float[Tensor, "V S Q C"]:
        """For each bin and support frame a mix of the most similar features, un-normalised."""
        positions, cosines = maps.keys.top(bins.detach(), self.top_k)
        if torch.is_grad_enabled():
            with_gradients = _cosines(bins, maps.rows, positions)
            cosines = with_gradients.masked_fill(cosines.isinf(), float("-inf"))
        weights = shares(cosines, bins)
        videos, supports, length, _ = maps.rows.shape
        frame = torch.arange(videos * supports, device=bins.device) * length
        index = frame.view(videos, supports, 1, 1) + positions
        rows = maps.rows.flatten(0, 2)
        mixed = self.kernels.weighted_rows(rows, index.flatten(0, 2), weights.flatten(0, 2))
        return mixed.unflatten(0, index.shape[:3])

    def places(
        self, roi_features: Float[Tensor, "B N C P P"], maps: SupportMaps
    ) -> Int[Tensor, "V S Q"]:
        """Where on each support frame the most similar feature lies: line times W plus column."""
        positions, _ = maps.keys.top(bins_of(roi_features, len(maps.rows)), 1)
        return positions[..., 0]

    def weights(
        self, roi_features: Float[Tensor, "B N C P P"], maps: SupportMaps
    ) -> Float[Tensor, "V frames Q blocks"]:
        """Shares of the target frame, first, and of the support frames in what `forward` gives."""
        bins = bins_of(roi_features, len(maps.rows))
        return self.aggregation.weights(bins, self.similar(bins, maps), roi_features.shape[-1])


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
        bins: Float[Tensor, "V Q C"],
        similar: Float[Tensor, "V S Q C"],
        size: int,
        kernels: Kernels = BAGS,
    ) -> Float[Tensor, "V Q C"]:
        """Weighted mean over the S + 1 frames; RoIs have `size` bins a side."""
        embedded_bins, embedded_similar = self.embedded(bins, size), self.embedded(similar, size)
        return kernels.attend_frames(bins, similar, embedded_bins, embedded_similar, self.blocks)

    def weights(
        self, bins: Float[Tensor, "V Q C"], similar: Float[Tensor, "V S Q C"], size: int
    ) -> Float[Tensor, "V frames Q blocks"]:
        """Of each frame, the target first."""
        return frame_weights(self.embedded(bins, size), self.embedded(similar, size), self.blocks)

    def embedded(self, rows: Float[Tensor, "*n Q C"], size: int) -> Float[Tensor, "*n Q C"]:
        """The convolution on RoIs of `size` bins a side, whose bins are rows."""
        rois = rows.reshape(-1, size, size, rows.shape[-1]).permute(0, 3, 1, 2)
        return self.embed(rois).permute(0, 2, 3, 1).reshape(rows.shape)


class TemporalMean(nn.Module):
    """Plain mean over the target and the support frames ("Avg." of the paper's Table 4)."""

    def forward(
        self,
        bins: Float[Tensor, "V Q C"],
        similar: Float[Tensor, "V S Q C"],
        size: int,
        kernels: Kernels = BAGS,
    ) -> Float[Tensor, "V Q C"]:
        """Mean over the S + 1 frames."""
        return (bins + similar.sum(1)) / (similar.shape[1] + 1)

    def weights(
        self, bins: Float[Tensor, "V Q C"], similar: Float[Tensor, "V S Q C"], size: int
    ) -> Float[Tensor, "V frames Q 1"]:
        """All the same."""
        videos, supports, count, _ = similar.shape
        return bins.new_full((videos, supports + 1, count, 1), 1 / (supports + 1))


def bins_of(roi_features: Float[Tensor, "B N C P P"], videos: int) -> Float[Tensor, "V Q C"]:
    """The bins of all targets of each video as rows, one after the other."""
    return roi_features.movedim(2, 4).reshape(videos, -1, roi_features.shape[2])


def shares(
    cosines: Float[Tensor, "V S Q k"], bins: Float[Tensor, "V Q C"]
) -> Float[Tensor, "V S Q k"]:
    """Softmax of the cosines of the positions that were found (minus infinity: not).

    By hand: torch's is slow over so few. A bin of zero norm (outside the image) gets zeros: all its
    cosines are equal, and any choice would be arbitrary.
    """
    factors = (cosines - cosines[..., :1].detach()).exp()
    weights = factors / factors.sum(-1, keepdim=True)
    is_inside = bins.detach().abs().amax(-1) > 0  # on a CPU several times as fast as any(bins != 0)
    return weights * is_inside[:, None, :, None]


def _cosines(
    bins: Float[Tensor, "V Q C"],
    rows: Float[Tensor, "V S L C"],
    positions: Int[Tensor, "V S Q k"],
) -> Float[Tensor, "V S Q k"]:
    """Of the chosen positions alone, with gradients: no score matrix is kept for them.

    Products and sums, not einsum: that would be a matrix product for every bin.
    """
    videos, supports, length, _ = rows.shape
    frame = torch.arange(videos * supports, device=rows.device) * length
    index = (frame.view(videos, supports, 1, 1) + positions).flatten()
    wide = torch.promote_types(rows.dtype, torch.float32)
    directions = F.normalize(rows.to(wide), dim=-1, eps=NORM_EPS).flatten(0, 2)
    chosen = directions.index_select(0, index).unflatten(0, positions.shape)
    return (chosen * F.normalize(bins.to(wide), dim=-1, eps=NORM_EPS)[:, None, :, None]).sum(-1)
