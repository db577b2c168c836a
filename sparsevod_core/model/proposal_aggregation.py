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
        known = torch.cat([support_features, features], dim=1)
        return features + self.output(self.attend(features, known))

    def attend(
        self, features: Float[Tensor, "B N C"], known: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B N C"]:
        """softmax(Q K^T / sqrt(d)) V, before the output layer."""
        query, key = self._heads(self.query(features)), self._heads(self.key(known))
        value = self._heads(self.value(known))
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
        known = torch.cat([support_features, features], dim=1)
        return features + self.output(self.value(known).mean(1, keepdim=True))

    def weights(
        self, features: Float[Tensor, "B N C"], known: Float[Tensor, "B M C"]
    ) -> Float[Tensor, "B N M"]:
        """All the same."""
        batch, num_known = known.shape[:2]
        return features.new_full((batch, features.shape[1], num_known), 1 / num_known)
