"""TFE's attention without its convolution of the support frames, for many channels and bins.

The embedding E_s of a frame is a 3x3 convolution of its features X_s, so that a score is

    ⟨E_s(bin), E_0(bin)⟩ = Σ_d ⟨X_s(bin + d), W_dᵀ E_0(bin)⟩ + a term that is the same for all s,

where d runs over the nine taps. The transposed convolution runs once, on the target, and the
softmax cancels the term.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.kernels import BAGS, Kernels
from sparsevod_core.kernels.frame_attention import weighted_frames
from sparsevod_core.model.temporal_roi import TemporalAttention


class FoldedTemporalAttention(TemporalAttention):
    """`TemporalAttention` with the same weights and, up to rounding, the same result.

    With gradients the scores would store more than the embeddings, so that training computes those.
    """

    def forward(
        self,
        bins: Float[Tensor, "V Q C"],
        similar: Float[Tensor, "V S Q C"],
        roi_size: int,
        kernels: Kernels = BAGS,
    ) -> Float[Tensor, "V Q C"]:
        """Return the weighted mean over the S + 1 frames."""
        if torch.is_grad_enabled():
            return super().forward(bins, similar, roi_size, kernels)
        weights = [
            self._scores(*video, roi_size).softmax(dim=0)
            for video in zip(bins, similar, strict=True)
        ]
        return weighted_frames(bins, similar, torch.stack(weights))

    def _scores(
        self, bins: Float[Tensor, "Q C"], similar: Float[Tensor, "S Q C"], size: int
    ) -> Float[Tensor, "frames Q blocks"]:
        """Return the scores of the target frame (first) and the support frames of one video."""
        query = _with_borders(self.embedded(bins[None], size), size)[0]
        query = query.unflatten(-1, (self.blocks, -1)).transpose(0, 1)  # [blocks, places, c]
        taps = self.embed.weight.permute(0, 2, 3, 1).flatten(1)  # [C, 9 C]
        folded = query @ taps.unflatten(0, (self.blocks, -1))
        folded = folded.unflatten(-1, (9, -1)).permute(2, 1, 3, 0)  # [9, places, C, blocks]

        frames = _with_borders(torch.cat([bins[None], similar]), size)
        num_frames, places, _ = frames.shape
        margin = size + 2  # from a place to its last neighbor, in the order of the places
        frames = F.pad(frames, (0, 0, margin, margin)).transpose(0, 1)
        scores = bins.new_zeros(places, num_frames, self.blocks)
        for tap, of_tap in enumerate(folded):
            first = tap // 3 * (size + 1) + tap % 3
            scores.baddbmm_(frames[first : first + places], of_tap)
        inside = scores.unflatten(0, (-1, size + 1, size + 1))[:, :size, :size]
        scores = inside.flatten(0, 2).transpose(0, 1).float()
        return scores / math.sqrt(bins.shape[-1] / self.blocks)


def _with_borders(rows: Float[Tensor, "n Q C"], size: int) -> Float[Tensor, "n places C"]:
    """Return RoIs whose bins are rows with a column and a line of zeros after each.

    The border after one line or RoI is also that before the next, so that the neighbors of a bin
    are at fixed distances.
    """
    rois = rows.unflatten(1, (-1, size, size))
    return F.pad(rois, (0, 0, 0, 1, 0, 1)).flatten(1, 3)
