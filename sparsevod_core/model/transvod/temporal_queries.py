"""The temporal part of TransVOD (He et al., ACM MM 2021): queries of other frames.

The target's queries attend to the best queries of all support frames three times, each time to
fewer of them, and then read the target's own map once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.model.transvod.image_map import ImageMap
from sparsevod_core.model.transvod.transformer import (
    DecoderLayer,
    box_branch,
    class_layer,
    feed_forward,
    initialize,
    refine,
)


@dataclass(frozen=True, slots=True)
class QueryMemory:
    """Queries of the support frames of V videos; V = B clips in training, V = 1 at test time.

    Attributes:
        queries: features after the last layer of the frame detector.
        scores: their class scores, 0..1.
    """

    queries: Float[Tensor, "V S N C"]
    scores: Float[Tensor, "V S N K"]

    @classmethod
    def joined(cls, memories: Sequence[QueryMemory]) -> QueryMemory:
        """Return one memory of the support frames of several memories of the same videos."""
        return cls(
            torch.cat([memory.queries for memory in memories], dim=1),
            torch.cat([memory.scores for memory in memories], dim=1),
        )

    @property
    def num_supports(self) -> int:
        """S."""
        return self.queries.shape[1]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.queries, self.scores]

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def best(self, count: int) -> Float[Tensor, "V n C"]:
        """Return the queries of the best (query, class) pairs of all support frames, best first.

        A query is returned once for each of its classes that is among the best.
        """
        rows = self.best_rows(count)
        queries = self.queries.flatten(1, 2)
        return queries.gather(1, rows[..., None].expand(-1, -1, queries.shape[-1]))

    def best_rows(self, count: int) -> Int[Tensor, "V n"]:
        """Return the place of each of the `best` queries: support frame times N plus query."""
        _, index = best_entries(self.scores.flatten(1), count)
        return index // self.scores.shape[-1]


class TemporalQueryLayer(nn.Module):
    """Self-attention of the target's queries, attention to support queries, and FFN."""

    def __init__(self, *, channels: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(
            channels, num_heads, dropout=dropout, batch_first=True
        )
        self.self_attention_norm = nn.LayerNorm(channels)
        self.support_attention = nn.MultiheadAttention(
            channels, num_heads, dropout=dropout, batch_first=True
        )
        self.support_attention_norm = nn.LayerNorm(channels)
        self.ffn = feed_forward(channels, ffn_dim, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        initialize(self)

    def forward(
        self, queries: Float[Tensor, "B N C"], supports: Float[Tensor, "B n C"]
    ) -> Float[Tensor, "B N C"]:
        """Return the refined queries."""
        attended, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = self.self_attention_norm(queries + self.dropout(attended))
        attended, _ = self.support_attention(queries, supports, supports, need_weights=False)
        queries = self.support_attention_norm(queries + self.dropout(attended))
        return self.ffn_norm(queries + self.ffn(queries))


class TemporalQueries(nn.Module):
    """Temporal query layers, a last decoder layer, and new class scores and boxes.

    Args:
        query_layers: the temporal query layers.
        rows_per_support: number of support queries that each of them reads, per support frame.
        decoder_layer: the last decoder layer.
        channels: C.
        num_classes: K.
        released_points: reproduce an error of the released code (SJTU-LuHe/TransVOD), with which
            its published weights were trained. There, the last decoder layer repeats the reference
            boxes S times for a kernel that expects them once: on a GPU, the j-th (query, head) pair
            reads where pair j // S should.
    """

    query_layers: Sequence[TemporalQueryLayer]

    def __init__(
        self,
        *,
        query_layers: Sequence[TemporalQueryLayer],
        rows_per_support: Sequence[int],
        decoder_layer: DecoderLayer,
        channels: int,
        num_classes: int,
        released_points: bool,
    ) -> None:
        super().__init__()
        self.query_layers = nn.ModuleList(query_layers)  # type: ignore[assignment]
        self.rows_per_support = tuple(rows_per_support)
        self.decoder_layer = decoder_layer
        self.class_logits = class_layer(channels, num_classes)
        # The boxes start as those of the frame detector. (The reference starts with smaller ones.)
        self.box_branch = box_branch(channels, size_delta=0.0)
        self.released_points = released_points

    def forward(
        self,
        queries: Float[Tensor, "B N C"],
        boxes_cxcywh: Float[Tensor, "B N 4"],
        image_map: ImageMap,
        memory: QueryMemory,
    ) -> tuple[Float[Tensor, "B N K"], Float[Tensor, "B N 4"]]:
        """Return logits and boxes (cx, cy, w, h, as shares of the image) of the targets' queries.

        Args:
            queries, boxes_cxcywh: of the targets, after the last layer of the frame detector.
            image_map: the targets' maps after the encoder.
            memory: support frames; V = B, or V = 1 if all targets are of one video.
        """
        boxes_cxcywh = boxes_cxcywh.detach()
        chosen = memory.best(max(self.rows_per_support) * memory.num_supports)
        for layer, rows in zip(self.query_layers, self.rows_per_support, strict=True):
            supports = chosen[:, : rows * memory.num_supports]
            queries = layer(queries, supports.expand(len(queries), -1, -1))
        queries = self.decoder_layer(
            queries,
            positions=0.0,
            references=boxes_cxcywh,
            image_map=image_map,
            padding=None,  # as in the reference; frames of a video have no padding, see `TransVOD`
            location_copies=memory.num_supports if self.released_points else 1,
        )
        return self.class_logits(queries), refine(boxes_cxcywh, self.box_branch(queries))


def best_entries(
    scores: Float[Tensor, "B n"], count: int
) -> tuple[Float[Tensor, "B m"], Int[Tensor, "B m"]]:
    """Return the `count` highest scores (fewer if there are fewer) and their indices, best first.

    Of equal scores, the one with the lower index comes first, on every device: the order of
    positive floats is that of their bits, to which the index is appended.

    Args:
        scores: 0..1.
        count: number of scores.
    """
    num_entries = scores.shape[1]
    last_first = torch.arange(num_entries - 1, -1, -1, device=scores.device)
    keys = scores.float().view(torch.int32).long() * num_entries + last_first
    _, index = keys.topk(min(count, num_entries), dim=1)
    return scores.gather(1, index), index
