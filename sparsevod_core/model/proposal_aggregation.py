"""SPFA: proposal features of the target enriched with those of the support frames.

Paper, section 3.1 "Semantic Proposal Feature Aggregation", equation (1), in the form of SELSA
(Wu et al., ICCV 2019), to which it refers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class AttentionAggregation(nn.Module):
    """Multi-head attention of target proposals over support proposals and themselves, added.

    The output layer starts at zero, so that the network starts exactly as Sparse R-CNN.
    """

    def __init__(self, *, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)  # theta
        self.key = nn.Linear(channels, channels)  # phi
        self.value = nn.Linear(channels, channels)  # sigma
        self.output = nn.Linear(channels, channels)

    def keep(self, features: Float[Tensor, "F N C"]) -> tuple[Float[Tensor, "F N C"], ...]:
        """K and V of proposals: all that is asked of those of support frames."""
        return self.key(features), self.value(features)

    def forward(
        self, features: Float[Tensor, "B N C"], kept: Sequence[Float[Tensor, "V S M C"]] | None
    ) -> Float[Tensor, "B N C"]:
        """Features plus what attention gathers from the support proposals and their own.

        Args:
            features: of the targets.
            kept: what `keep` gave of the support frames; V = B, or V = 1 where all targets are of
                one video. None: no support frames.
        """
        key, value = _with_own(kept, self.keep(features))
        return features + self.output(self.attend(features, key, value))

    def attend(
        self,
        features: Float[Tensor, "B N C"],
        key: Float[Tensor, "B keys C"],
        value: Float[Tensor, "B keys C"],
    ) -> Float[Tensor, "B N C"]:
        """softmax(Q K^T / sqrt(d)) V, before the output layer."""
        query, key, value = (self._heads(x) for x in (self.query(features), key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def weights(
        self, features: Float[Tensor, "B N C"], kept: Sequence[Float[Tensor, "V S M C"]] | None
    ) -> Float[Tensor, "B N keys"]:
        """softmax(Q K^T / sqrt(d)) over support proposals, then the target's own; mean of heads."""
        key, _ = _with_own(kept, self.keep(features))
        query, key = self._heads(self.query(features)), self._heads(key)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return scores.softmax(dim=-1).mean(dim=1)

    def _heads(self, x: Float[Tensor, "B n C"]) -> Float[Tensor, "B heads n d"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MeanAggregation(nn.Module):
    """Uniform weights in place of the softmax ("Avg." of the paper's Table 4)."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def keep(self, features: Float[Tensor, "F N C"]) -> tuple[Float[Tensor, "F N C"], ...]:
        """V of proposals."""
        return (self.value(features),)

    def forward(
        self, features: Float[Tensor, "B N C"], kept: Sequence[Float[Tensor, "V S M C"]] | None
    ) -> Float[Tensor, "B N C"]:
        """Features plus the same mean over all proposals for each."""
        (values,) = _with_own(kept, self.keep(features))
        return features + self.output(values.mean(1, keepdim=True))

    def weights(
        self, features: Float[Tensor, "B N C"], kept: Sequence[Float[Tensor, "V S M C"]] | None
    ) -> Float[Tensor, "B N keys"]:
        """All the same."""
        (values,) = _with_own(kept, self.keep(features))
        batch, num_kept = values.shape[:2]
        return features.new_full((batch, features.shape[1], num_kept), 1 / num_kept)


def _with_own(
    kept: Sequence[Float[Tensor, "V S M C"]] | None, own: Sequence[Float[Tensor, "B N C"]]
) -> list[Float[Tensor, "B keys C"]]:
    """What is kept of the support proposals, frame by frame, then the target's own."""
    if kept is None:
        return list(own)
    return [
        torch.cat([of_supports.flatten(1, 2).expand(len(of_target), -1, -1), of_target], dim=1)
        for of_supports, of_target in zip(kept, own, strict=True)
    ]
