"""The most similar positions of support maps, by cosine.

Ties are decided by rule. Let v be the k-th largest cosine. Positions above v by more than the error
of the arithmetic are taken; those within it of v count as equal, and the lowest of them fill up.
Without the rule flat parts of a frame, where many positions are the same, would be decided by the
order in which a processor adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

BLOCK = 32  # positions of which the best is found first
NORM_EPS = 1e-6
TIE = 2.0**-17  # cosines that differ by less are equal: some sixty times the error of fp32

Found = tuple[Int[Tensor, "V S Q k"], Float[Tensor, "V S Q k"]]


class SearchedKeys(Protocol):
    """What support maps are searched by; `Keys` says what each member means."""

    @property
    def tensors(self) -> list[Tensor]: ...

    def joined(self, others: Sequence[Any]) -> Self: ...

    def top(self, queries: Float[Tensor, "V Q C"], top_k: int) -> Found: ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Directions of the positions of support maps, ready to be searched.

    Attributes:
        directions: features at length 1.
        bias: 0 where a position may be chosen, else minus infinity.
        at_once: scores of a support frame held at a time.
    """

    directions: Float[Tensor, "V S L C"]
    bias: Float[Tensor, "V L"]
    at_once: int = 2**19  # few, so that a processor's caches hold them

    @classmethod
    def of(cls, rows: Float[Tensor, "V S L C"], valid: Bool[Tensor, "V L"], **how: Any) -> Self:
        """Keys of maps; only valid positions are ever chosen."""
        rows = rows.detach()
        bias = torch.where(valid, 0.0, -math.inf)
        return cls((rows / lengths_of(rows)[..., None]).to(rows.dtype), bias, **how)

    def joined(self, others: Sequence[Self]) -> Self:
        """Keys of these support frames and then of those of `others`, of the same video."""
        parts = [self.directions, *(other.directions for other in others)]
        return replace(self, directions=torch.cat(parts, dim=1))

    @property
    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        return [self.directions, self.bias]

    def top(self, queries: Float[Tensor, "V Q C"], top_k: int) -> Found:
        """Positions of the k largest cosines on each support frame, and these, in any order.

        A cosine is minus infinity where there are fewer valid positions than k.
        """
        videos, supports, length, _ = self.directions.shape
        top_k = min(top_k, length)
        queries = (queries / lengths_of(queries)[..., None]).float()
        padding = -length % BLOCK
        keys = self.directions.float()
        if padding:  # else it would copy them
            keys = F.pad(keys, (0, 0, 0, padding))
        keys = keys.flatten(1, 2)
        bias = F.pad(self.bias, (0, padding), value=-math.inf).repeat(1, supports)
        found = []
        with torch.autocast(queries.device.type, enabled=False):
            for video in range(videos):  # one product each: sums do not depend on other videos
                for part in queries[video].split(max(1, self.at_once // (length + padding))):
                    scores = torch.addmm(bias[video], part, keys[video].t())
                    found.append(_chosen(scores.view(len(part), supports, -1, BLOCK), top_k))
        positions, cosines = (torch.cat(parts) for parts in zip(*found, strict=True))
        shape = (videos, -1, supports, top_k)
        return positions.view(shape).transpose(1, 2), cosines.view(shape).transpose(1, 2)


def _chosen(
    scores: Float[Tensor, "q S blocks positions"], top_k: int
) -> tuple[Int[Tensor, "q S k"], Float[Tensor, "q S k"]]:
    """The positions that the rule takes, and their scores."""
    best_of_block = scores.amax(-1)  # the one pass over all of them
    _, values = top_of_blocks(scores, best_of_block, top_k)
    last = values[..., -1:]

    def level(some: Tensor) -> Tensor:  # never falls, so that a block's best has its best level
        return (some > last + TIE).to(torch.int8).add_(some >= last - TIE)

    positions, _ = top_of_blocks(scores, best_of_block, top_k, level)
    return positions, scores.flatten(2).gather(2, positions)


def top_of_blocks(
    scores: Float[Tensor, "*n blocks positions"],
    best_of_block: Float[Tensor, "*n blocks"],
    top_k: int,
    rank: Callable[[Tensor], Tensor] = lambda some: some,
) -> tuple[Int[Tensor, "*n k"], Shaped[Tensor, "*n k"]]:
    """The k best of all positions and their ranks, best first, ties to the lower position.

    Only the best block is looked at. `topk` does not say which of two equal ones it takes; `max`
    takes the first.

    Args:
        rank: what is compared in place of scores; must not fall where they rise.
    """
    best_of_block = rank(best_of_block)
    least = -math.inf if best_of_block.dtype.is_floating_point else -1
    place_in_block = torch.arange(scores.shape[-1], device=scores.device)
    positions: list[Tensor] = []
    values: list[Tensor] = []
    for _ in range(top_k):
        value, block = best_of_block.max(-1, keepdim=True)
        whole = block[..., None].expand(*block.shape, scores.shape[-1])
        inside = rank(scores.gather(-2, whole).squeeze(-2))  # [*n, positions]
        place = block * scores.shape[-1] + place_in_block
        for taken in positions:
            inside = inside.masked_fill(place == taken, least)
        best = inside.max(-1, keepdim=True).indices
        positions.append(block * scores.shape[-1] + best)
        values.append(value)
        rest = inside.masked_fill(place_in_block == best, least).amax(-1, keepdim=True)
        best_of_block = best_of_block.scatter(-1, block, rest)
    return torch.cat(positions, dim=-1), torch.cat(values, dim=-1)


def lengths_of(features: Float[Tensor, "*n C"]) -> Float[Tensor, "*n"]:
    """L2 norms in at least fp32, never zero."""
    wide = torch.promote_types(features.dtype, torch.float32)
    norms = torch.linalg.vector_norm(features, dim=-1, dtype=wide)
    return norms.clamp(min=NORM_EPS)
