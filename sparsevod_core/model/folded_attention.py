"""TFE's attention without its convolution of the support frames, for many channels and bins.

The embedding E_s of a frame is a 3x3 convolution of its features X_s, so that a score is

    ⟨E_s(bin), E_0(bin)⟩ = Σ_d ⟨X_s(bin + d), W_dᵀ E_0(bin)⟩ + a term that is the same for all s,

where d runs over the nine taps. The transposed convolution runs once, on the target, and the
softmax cancels the term.
"""

from __future__ import annotations

import math

import torch
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
        query = self.embedded(bins[None], size)
        query = _with_borders(query, size).unflatten(-1, (self.blocks, -1))[0].transpose(0, 1)
        taps = self.embed.weight.permute(0, 2, 3, 1).flatten(1)  # [C, 9 C]
        folded = query.contiguous() @ taps.unflatten(0, (self.blocks, -1))  # [blocks, places, 9 C]
        folded = folded.unflatten(-1, (3, -1)).permute(2, 1, 3, 0)  # [lines, places, 3 C, blocks]

        margin = size + 2  # number of places from a bin to its first or last neighbor
        frames = _with_borders(torch.cat([bins[None], similar]), size, margin)
        num_frames, _, channels = frames.shape
        num_places = folded.shape[1]
        scores = bins.new_zeros(num_places, num_frames, self.blocks)
        for line, of_line in enumerate(folded):
            # Three neighbors in a line lie together: one product for all of them.
            neighbors = frames[:, line * (size + 1) :].as_strided(
                (num_places, num_frames, 3 * channels), (channels, frames.stride(0), 1)
            )
            scores.baddbmm_(neighbors, of_line)
        inside = scores.unflatten(0, (-1, size + 1, size + 1))[:, :size, :size]
        scores = inside.flatten(0, 2).transpose(0, 1).float()
        return scores / math.sqrt(bins.shape[-1] / self.blocks)


def _with_borders(
    rows: Float[Tensor, "n Q C"], size: int, margin: int = 0
) -> Float[Tensor, "n places C"]:
    """Return RoIs whose bins are rows with a column and a line of zeros after each.

    The border after one line or RoI is also that before the next, so that the neighbors of a bin
    are at fixed distances.

    Args:
        margin: number of zeros before all RoIs and after them.
    """
    num, num_bins, channels = rows.shape
    places = num_bins // size**2 * (size + 1) ** 2
    padded = rows.new_zeros(num, margin + places + margin, channels)
    rois = padded[:, margin : margin + places].unflatten(1, (-1, size + 1, size + 1))
    rois[:, :, :size, :size] = rows.unflatten(1, (-1, size, size))
    return padded
