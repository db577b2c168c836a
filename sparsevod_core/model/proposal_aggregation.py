"""SPFA: proposal features of the target enriched with those of the support frames.

Paper, section 3.1 "Semantic Proposal Feature Aggregation", equation (1), in the form of SELSA
(Wu et al., ICCV 2019), to which it refers.
"""

from __future__ import annotations

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

    def forward(
        self,
        features: Float[Tensor, "B N C"],
        support_features: Float[Tensor, "B M C"],
    ) -> Float[Tensor, "B N C"]:
        """Features plus what attention gathers; M = S N support proposals, S = 0 allowed."""
        return self.gather(features, self.known(support_features))

    def known(self, features: Float[Tensor, "F n C"]) -> tuple[Float[Tensor, "F n C"], ...]:
        """K and V of proposals: all that is asked of those of support frames."""
        return self.key(features), self.value(features)

    def gather(
        self, features: Float[Tensor, "B N C"], known: tuple[Float[Tensor, "B M C"], ...]
    ) -> Float[Tensor, "B N C"]:
        """`forward` with what is known of the support proposals; the target's own come after."""
        pairs = zip(known, self.known(features), strict=True)
        key, value = (torch.cat([kept, own], dim=1) for kept, own in pairs)
        return features + self.output(self._attend(features, key, value))

    def attend(
        self, features: Float[Tensor, "B N C"], known: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B N C"]:
        """softmax(Q K^T / sqrt(d)) V, before the output layer."""
        return self._attend(features, *self.known(known))

    def _attend(
        self,
        features: Float[Tensor, "B N C"],
        key: Float[Tensor, "B M C"],
        value: Float[Tensor, "B M C"],
    ) -> Float[Tensor, "B N C"]:
        query, key, value = (self._heads(x) for x in (self.query(features), key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def weights(
        self, features: Float[Tensor, "B N C"], known: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B N M"]:
        """softmax(Q K^T / sqrt(d)), the mean of the heads: to be looked at."""
        query, key = self._heads(self.query(features)), self._heads(self.key(known))
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

    def forward(
        self,
        features: Float[Tensor, "B N C"],
        support_features: Float[Tensor, "B M C"],
    ) -> Float[Tensor, "B N C"]:
        """Features plus the same mean over all proposals for each."""
        return self.gather(features, self.known(support_features))

    def known(self, features: Float[Tensor, "F n C"]) -> tuple[Float[Tensor, "F n C"], ...]:
        """V of proposals."""
        return (self.value(features),)

    def gather(
        self, features: Float[Tensor, "B N C"], known: tuple[Float[Tensor, "B M C"], ...]
    ) -> Float[Tensor, "B N C"]:
        """`forward` with what is known of the support proposals."""
        values = torch.cat([*known, *self.known(features)], dim=1)
        return features + self.output(values.mean(1, keepdim=True))

    def weights(
        self, features: Float[Tensor, "B N C"], known: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B N M"]:
        """All the same."""
        batch, num_known = known.shape[:2]
        return features.new_full((batch, features.shape[1], num_known), 1 / num_known)
