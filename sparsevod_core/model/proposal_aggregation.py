"""Aggregation of proposal features of other frames: SPFA, and SELSA's aggregator in it.

Paper, section 3.1 "Semantic Proposal Feature Aggregation", equation (1), in the form of SELSA
(Wu et al., ICCV 2019), to which the paper refers. SELSA itself uses `project` and `attend` only:
its callers choose the keys and add the residual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Projected = tuple[Float[Tensor, "F N C"], ...]


class AttentionAggregation(nn.Module):
    """Multi-head attention of target proposals over support proposals.

    Called as a module, it is SPFA: the target's own proposals are keys too, and there is a
    residual. `attend` has neither.
    """

    def __init__(self, *, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)  # theta
        self.key = nn.Linear(channels, channels)  # phi
        self.value = nn.Linear(channels, channels)  # sigma
        self.output = nn.Linear(channels, channels)

    def project(self, features: Float[Tensor, "F N C"]) -> Projected:
        """Return keys and values of proposals: all that targets need of support proposals."""
        return self.key(features), self.value(features)

    def forward(
        self, features: Float[Tensor, "B N C"], supports: Sequence[Float[Tensor, "V S n C"]] | None
    ) -> Float[Tensor, "B N C"]:
        """Return the features plus the attended support and target proposals.

        Args:
            features: proposal features of the target frames.
            supports: result of `project` for the support frames; V = B, or V = 1 if all targets
                are from one video. None: no support frames.
        """
        key, value = _with_target(supports, self.project(features))
        return features + self.attend(features, key, value)

    def attend(
        self,
        features: Float[Tensor, "B N C"],
        key: Float[Tensor, "B keys C"],
        value: Float[Tensor, "B keys C"],
        mask: Bool[Tensor, "B _ _ keys"] | Float[Tensor, "B _ _ keys"] | None = None,
    ) -> Float[Tensor, "B N C"]:
        """Return what the proposals receive from the keys.

        Args:
            features: proposal features of the target frames.
            key, value: result of `project` for the proposals to attend to.
            mask: which keys a proposal attends to, or what is added to its scores; None: all keys.
        """
        query, key, value = (self._heads(x) for x in (self.query(features), key, value))
        # softmax(Q K^T / sqrt(d)) V
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(attended.transpose(1, 2).flatten(2))

    def weights(
        self, features: Float[Tensor, "B N C"], supports: Sequence[Float[Tensor, "V S n C"]] | None
    ) -> Float[Tensor, "B N keys"]:
        """Return the attention over support, then target proposals, averaged over the heads."""
        key, _ = _with_target(supports, self.project(features))
        return self.shares(features, key)

    def shares(
        self,
        features: Float[Tensor, "B N C"],
        key: Float[Tensor, "B keys C"],
        mask: Bool[Tensor, "B _ _ keys"] | None = None,
    ) -> Float[Tensor, "B N keys"]:
        """Return the weights of the keys in `attend`, averaged over the heads."""
        query, key = self._heads(self.query(features)), self._heads(key)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        return scores.softmax(dim=-1).mean(dim=1)

    def _heads(self, x: Float[Tensor, "B n C"]) -> Float[Tensor, "B heads n d"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MeanAggregation(nn.Module):
    """Uniform weights instead of the softmax ("Avg." in the paper's Table 4)."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def project(self, features: Float[Tensor, "F N C"]) -> Projected:
        """Return the values of proposals."""
        return (self.value(features),)

    def forward(
        self, features: Float[Tensor, "B N C"], supports: Sequence[Float[Tensor, "V S n C"]] | None
    ) -> Float[Tensor, "B N C"]:
        """Return the features plus the mean over all proposals."""
        (values,) = _with_target(supports, self.project(features))
        return features + self.output(values.mean(1, keepdim=True))

    def weights(
        self, features: Float[Tensor, "B N C"], supports: Sequence[Float[Tensor, "V S n C"]] | None
    ) -> Float[Tensor, "B N keys"]:
        """Return uniform weights over all proposals."""
        (values,) = _with_target(supports, self.project(features))
        batch, num_keys = values.shape[:2]
        return features.new_full((batch, features.shape[1], num_keys), 1 / num_keys)


def _with_target(
    supports: Sequence[Float[Tensor, "V S n C"]] | None, target: Sequence[Float[Tensor, "B N C"]]
) -> list[Float[Tensor, "B keys C"]]:
    """Concatenate the projections of the support proposals, frame by frame, and the target's."""
    if supports is None:
        return list(target)
    return [
        torch.cat([of_supports.flatten(1, 2).expand(len(of_target), -1, -1), of_target], dim=1)
        for of_supports, of_target in zip(supports, target, strict=True)
    ]
