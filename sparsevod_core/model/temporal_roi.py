"""TFE: target RoI features enriched with the most similar features of the support frames.

Paper, section 3.1 "Temporal RoI Feature Extraction"; Temporal RoI Align (Gong et al., AAAI 2021).
RoI features and support maps are rows of C channels. Q is the number of bins of all boxes of all
target frames of a video, HW the number of positions of a support map.
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
    """TFE: per RoI bin the top-k similar features of each support frame, aggregated over frames."""

    def __init__(
        self, *, top_k: int, aggregation: TemporalAttention | TemporalMean, kernels: Kernels = BAGS
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.aggregation: TemporalAttention | TemporalMean = aggregation
        self.kernels = kernels

    def precompute(self, maps: SupportMaps) -> Float[Tensor, "V S HW taps C"] | None:
        """Return what this stage computes of support maps in advance; nothing by default."""
        return None

    def forward(
        self,
        roi_features: Float[Tensor, "B N C P P"],
        maps: SupportMaps,
        taps: Float[Tensor, "V S HW taps C"] | None = None,
    ) -> Float[Tensor, "B N C P P"]:
        """Return temporal RoI features.

        Args:
            roi_features: RoIAlign features of the target frames.
            maps: support maps; V = B, or V = 1 if all targets are from one video.
            taps: result of `precompute`.
        """
        return self.mix(roi_features, self.similar(bins_of(roi_features, len(maps.rows)), maps))

    def mix(
        self, roi_features: Float[Tensor, "B N C P P"], similar: Float[Tensor, "V S Q C"]
    ) -> Float[Tensor, "B N C P P"]:
        """Return the RoI features aggregated with the similar features of the support frames."""
        bins = bins_of(roi_features, len(similar))
        mixed = self.aggregation(bins, similar, roi_features.shape[-1], self.kernels)
        return mixed.view(roi_features.movedim(2, 4).shape).movedim(4, 2)

    def similar(self, bins: Float[Tensor, "V Q C"], maps: SupportMaps) -> Float[Tensor, "V S Q C"]:
        """Return for each bin and support frame the weighted sum of its top-k features (raw)."""
        positions, cosines = maps.keys.top(bins.detach(), self.top_k)
        index = _row_index(maps.rows, positions)
        if torch.is_grad_enabled():
            with_gradients = _cosines(bins, maps.rows, index)
            cosines = with_gradients.masked_fill(cosines.isinf(), float("-inf"))
        weights = top_k_weights(cosines, bins)
        rows = maps.rows.flatten(0, 2)
        mixed = self.kernels.weighted_rows(rows, index.flatten(0, 2), weights.flatten(0, 2))
        return mixed.unflatten(0, index.shape[:3])

    def best_positions(
        self, roi_features: Float[Tensor, "B N C P P"], maps: SupportMaps
    ) -> Int[Tensor, "V S Q"]:
        """Return the most similar position per bin and support frame, as line * width + column."""
        positions, _ = maps.keys.top(bins_of(roi_features, len(maps.rows)), 1)
        return positions[..., 0]

    def weights(
        self, roi_features: Float[Tensor, "B N C P P"], maps: SupportMaps
    ) -> Float[Tensor, "V frames Q blocks"]:
        """Return the weights of the target frame (first) and the support frames in `forward`."""
        bins = bins_of(roi_features, len(maps.rows))
        return self.aggregation.weights(bins, self.similar(bins, maps), roi_features.shape[-1])


class TemporalAttention(nn.Module):
    """Attention of each target bin over target and support frames, in blocks of channels.

    One 3x3 convolution embeds all frames. There is no value or output projection and no residual:
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
        roi_size: int,
        kernels: Kernels = BAGS,
    ) -> Float[Tensor, "V Q C"]:
        """Return the weighted mean over the S + 1 frames."""
        embedded = self.embedded(bins, roi_size), self.embedded(similar, roi_size)
        return kernels.attend_frames(bins, similar, *embedded, self.blocks)

    def weights(
        self, bins: Float[Tensor, "V Q C"], similar: Float[Tensor, "V S Q C"], roi_size: int
    ) -> Float[Tensor, "V frames Q blocks"]:
        """Return the weights of the frames, the target first."""
        embedded = self.embedded(bins, roi_size), self.embedded(similar, roi_size)
        return frame_weights(*embedded, self.blocks)

    def embedded(self, rows: Float[Tensor, "*n Q C"], roi_size: int) -> Float[Tensor, "*n Q C"]:
        """Apply the embedding convolution to RoIs whose bins are rows."""
        rois = rows.reshape(-1, roi_size, roi_size, rows.shape[-1]).permute(0, 3, 1, 2)
        return self.embed(rois).permute(0, 2, 3, 1).reshape(rows.shape)


class TemporalMean(nn.Module):
    """Plain mean over target and support frames ("Avg." in the paper's Table 4)."""

    def forward(
        self,
        bins: Float[Tensor, "V Q C"],
        similar: Float[Tensor, "V S Q C"],
        roi_size: int,
        kernels: Kernels = BAGS,
    ) -> Float[Tensor, "V Q C"]:
        """Return the mean over the S + 1 frames."""
        return (bins + similar.sum(1)) / (similar.shape[1] + 1)

    def weights(
        self, bins: Float[Tensor, "V Q C"], similar: Float[Tensor, "V S Q C"], roi_size: int
    ) -> Float[Tensor, "V frames Q 1"]:
        """Return uniform weights."""
        videos, supports, count, _ = similar.shape
        return bins.new_full((videos, supports + 1, count, 1), 1 / (supports + 1))


def bins_of(roi_features: Float[Tensor, "B N C P P"], videos: int) -> Float[Tensor, "V Q C"]:
    """Return the RoI bins of all target frames of each video as rows."""
    return roi_features.movedim(2, 4).reshape(videos, -1, roi_features.shape[2])


def top_k_weights(
    cosines: Float[Tensor, "V S Q k"], bins: Float[Tensor, "V Q C"]
) -> Float[Tensor, "V S Q k"]:
    """Return the softmax of the top-k cosines; minus infinity stands for a missing position.

    Computed by hand, because torch's softmax is slow over so few elements. A bin of zero norm
    (outside the image) gets zero weights: its cosines are all equal, so any choice is arbitrary.
    """
    factors = (cosines - cosines[..., :1].detach()).exp()
    weights = factors / factors.sum(-1, keepdim=True)
    is_inside = (
        bins.detach().abs().amax(-1) > 0
    )  # on a CPU several times faster than any(bins != 0)
    return weights * is_inside[:, None, :, None]


def _row_index(
    rows: Float[Tensor, "V S HW C"], positions: Int[Tensor, "V S Q k"]
) -> Int[Tensor, "V S Q k"]:
    """Return the index of positions among the rows of all support frames of all videos."""
    videos, supports, length, _ = rows.shape
    frame = torch.arange(videos * supports, device=rows.device) * length
    return frame.view(videos, supports, 1, 1) + positions


def _cosines(
    bins: Float[Tensor, "V Q C"], rows: Float[Tensor, "V S HW C"], index: Int[Tensor, "V S Q k"]
) -> Float[Tensor, "V S Q k"]:
    """Return the cosines of the chosen rows only, with gradients; no score matrix is stored.

    Products and sums are used because einsum would run a matrix product for every bin. They take
    one of the k places at a time: on a CPU, the gradient of all at once takes five times as long.
    """
    wide = torch.promote_types(rows.dtype, torch.float32)
    directions = F.normalize(rows.to(wide), dim=-1, eps=NORM_EPS).flatten(0, 2)
    chosen = directions.index_select(0, index.flatten()).unflatten(0, index.shape)
    bins = F.normalize(bins.to(wide), dim=-1, eps=NORM_EPS)[:, None]
    return torch.stack([(of_place * bins).sum(-1) for of_place in chosen.unbind(-2)], dim=-1)
