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
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, heads, n, d]
            for layer, x in ((self.query, features), (self.key, known), (self.value, known))
        )
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


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
