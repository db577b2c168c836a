"""Relation module of MEGA: attention of proposals over the proposals of other frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparsevod_core.model.mega.geometry import GeometryWeight
from sparsevod_core.model.mega.proposal_features import ProposalFeatures


@dataclass(frozen=True, slots=True)
class Keys:
    """Proposals projected to what a relation module reads of them.

    Attributes:
        keys: They are compared with the queries.
        values: They are summed.
        boxes_xyxy: Boxes as in `ProposalFeatures`.
        is_valid: As in `ProposalFeatures`.
    """

    keys: Float[Tensor, "B R C"]
    values: Float[Tensor, "B R C"]
    boxes_xyxy: Float[Tensor, "B R 4"]
    is_valid: Bool[Tensor, "B R"]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.keys, self.values, self.boxes_xyxy, self.is_valid]

    def last(self, count: int) -> Keys:
        """Return at most the last `count` proposals."""
        return Keys(*(tensor[:, -count:] for tensor in self.tensors))

    @classmethod
    def joined(cls, parts: Sequence[Keys]) -> Keys:
        """Return several lists of proposals of the same videos, one after another."""
        tensors = zip(*(part.tensors for part in parts), strict=True)
        return cls(*(torch.cat(of_parts, dim=1) for of_parts in tensors))


class RelationModule(nn.Module):
    """Multi-head attention with a learned bias of the keys, without output layer and residual.

    Relation Networks (Hu et al., CVPR 2018) sum unprojected features and project the sums of each
    head; projecting first is the same and takes 1 / heads of the operations.

    Args:
        channels: number of channels of the features.
        num_heads: number of attention heads.
        with_geometry: if True, the weights also depend on the positions and sizes of the boxes.
    """

    def __init__(self, *, channels: int, num_heads: int, with_geometry: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.key_bias = nn.Parameter(torch.zeros(channels))  # u, head after head
        self.geometry = GeometryWeight(num_heads=num_heads) if with_geometry else None

    def project(self, proposals: ProposalFeatures) -> Keys:
        """Return what the module reads of proposals `[B, R]`."""
        features = proposals.features
        return Keys(
            self.key(features), self.value(features), proposals.boxes_xyxy, proposals.is_valid
        )

    def forward(self, queries: ProposalFeatures, others: Keys) -> Float[Tensor, "B N C"]:
        """Return what proposals `[B, N]` take from others; the caller adds it to their features."""
        query, bias = self._query_and_bias(queries, others)
        query, key, value = (self._heads(x) for x in (query, others.keys, others.values))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attended.transpose(1, 2).flatten(2)

    def weights(self, queries: ProposalFeatures, others: Keys) -> Float[Tensor, "B N R"]:
        """Return the weights of the others in `forward`, averaged over the heads."""
        query, bias = self._query_and_bias(queries, others)
        query, key = self._heads(query), self._heads(others.keys)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + bias
        return scores.softmax(dim=-1).mean(dim=1)

    def _query_and_bias(
        self, queries: ProposalFeatures, others: Keys
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B _ _ R"]]:
        query = self.query(queries.features) + self.key_bias  # (q + u) · k
        if self.geometry is None:
            bias = query.new_zeros((1, 1, 1, 1))
        else:
            bias = self.geometry(queries.boxes_xyxy, others.boxes_xyxy).to(query.dtype)
        # Not -inf, which would give NaN for a query whose keys are all filled up.
        bias = bias.masked_fill(~others.is_valid[:, None, None], torch.finfo(query.dtype).min)
        return query, bias

    def _heads(self, x: Float[Tensor, "B n C"]) -> Float[Tensor, "B heads n d"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
