"""TFE's attention of each RoI bin over the frames, given the embeddings."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def frame_weights(
    embedded_bins: Float[Tensor, "V Q C"],
    embedded_similar: Float[Tensor, "V S Q C"],
    blocks: int,
    query: Float[Tensor, "V Q C"] | None = None,
) -> Float[Tensor, "V frames Q blocks"]:
    """Return the attention weights of the target frame (first) and the support frames, in fp32.

    Args:
        embedded_bins: embedded RoI bins of the target frames.
        embedded_similar: embedded similar features of the support frames.
        blocks: number of blocks into which the channels are split, as attention heads are.
        query: features to compare the embeddings with; None: `embedded_bins`.
    """
    query = embedded_bins if query is None else query
    scores = [
        (frames * query[:, None]).unflatten(-1, (blocks, -1)).sum(-1, dtype=_wide(frames))
        for frames in (embedded_bins[:, None], embedded_similar)
    ]
    width = query.shape[-1] // blocks
    return (torch.cat(scores, dim=1) / math.sqrt(width)).softmax(dim=1)


def attend_frames(
    bins: Float[Tensor, "V Q C"],
    similar: Float[Tensor, "V S Q C"],
    embedded_bins: Float[Tensor, "V Q C"],
    embedded_similar: Float[Tensor, "V S Q C"],
    blocks: int,
) -> Float[Tensor, "V Q C"]:
    """Return the mean of the raw features over all frames, weighted per block of channels."""
    weights = frame_weights(embedded_bins, embedded_similar, blocks)
    return weighted_frames(bins, similar, weights)


def weighted_frames(
    bins: Float[Tensor, "V Q C"],
    similar: Float[Tensor, "V S Q C"],
    weights: Float[Tensor, "V frames Q blocks"],
) -> Float[Tensor, "V Q C"]:
    """Return the mean of target (first) and support features with weights for each block."""
    blocks = weights.shape[-1]
    weights = weights[..., None]
    own = weights[:, 0] * bins.unflatten(-1, (blocks, -1))
    others = weights[:, 1:] * similar.unflatten(-1, (blocks, -1))
    return (own + others.sum(1)).flatten(2).to(bins.dtype)


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
