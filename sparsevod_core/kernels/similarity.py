"""Search for the positions of support maps that are most similar to RoI bins, by cosine.

Ties are broken by a rule. Let v be the k-th largest cosine. Positions that exceed v by more than
the rounding error are found. Those within the error of v count as equal, and the lowest of them
fill the remaining places. Without the rule, the result in uniform regions, where many positions are
equal, would depend on the order in which a processor adds.
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

BLOCK = 32  # positions of which only the maximum is compared at first
NORM_EPS = 1e-6
TIE = 2.0**-20  # smaller differences of cosines count as ties
# Two orders of summation in fp32 differ by up to half of TIE (10 million cosines of 512 channels).
# A larger TIE would overrule clear differences: a map of 2,400 positions has many close ones, and
# MMTracking's Temporal RoI Align would then find other positions.

# Positions and their cosines.
Found = tuple[Int[Tensor, "V S Q k"], Float[Tensor, "V S Q k"]]


class SearchedKeys(Protocol):
    """Searchable index of support maps; see `Keys` for the members."""

    @property
    def tensors(self) -> list[Tensor]: ...

    def joined(self, others: Sequence[Any]) -> Self: ...

    def top(self, queries: Float[Tensor, "V Q C"], top_k: int) -> Found: ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Index of support maps: unit vectors of all positions.

    Attributes:
        directions: features scaled to length 1.
        bias: 0 for valid positions, minus infinity for others.
        max_scores: number of scores of a support frame computed at a time.
        linear: products of all pairs of rows plus a bias, as `F.linear`.
    """

    directions: Float[Tensor, "V S HW C"]
    bias: Float[Tensor, "V HW"]
    max_scores: int = 2**19  # few enough for the caches of a processor
    linear: Callable[[Tensor, Tensor, Tensor], Tensor] = F.linear

    @classmethod
    def of(cls, rows: Float[Tensor, "V S HW C"], valid: Bool[Tensor, "V HW"], **how: Any) -> Self:
        """Index the rows of support maps; only valid positions are ever found."""
        rows = rows.detach()
        bias = torch.where(valid, 0.0, -math.inf)
        return cls((rows / lengths_of(rows)[..., None]).to(rows.dtype), bias, **how)

    def joined(self, others: Sequence[Self]) -> Self:
        """Return the keys of these support frames followed by those of `others`."""
        parts = [self.directions, *(other.directions for other in others)]
        return replace(self, directions=torch.cat(parts, dim=1))

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.directions, self.bias]

    def top(self, queries: Float[Tensor, "V Q C"], top_k: int) -> Found:
        """Return the k most similar positions per query and support frame, in any order.

        Where fewer than k positions are valid, the remaining cosines are minus infinity.
        """
        videos, supports, length, _ = self.directions.shape
        top_k = min(top_k, length)
        queries = (queries / lengths_of(queries)[..., None]).float()
        padding = -length % BLOCK
        keys = self.directions.float()
        if padding:  # F.pad would copy them otherwise
            keys = F.pad(keys, (0, 0, 0, padding))
        keys = keys.flatten(1, 2)
        bias = F.pad(self.bias, (0, padding), value=-math.inf).repeat(1, supports)
        found = []
        with torch.autocast(queries.device.type, enabled=False):
            for video in range(videos):  # one product each, so that videos do not affect each other
                for part in queries[video].split(max(1, self.max_scores // (length + padding))):
                    scores = self.linear(part, keys[video], bias[video])
                    found.append(chosen(scores.view(len(part), supports, -1, BLOCK), top_k))
        positions, cosines = (torch.cat(parts) for parts in zip(*found, strict=True))
        shape = (videos, -1, supports, top_k)
        return positions.view(shape).transpose(1, 2), cosines.view(shape).transpose(1, 2)


def chosen(
    scores: Float[Tensor, "q S blocks positions"], top_k: int
) -> tuple[Int[Tensor, "q S k"], Float[Tensor, "q S k"]]:
    """Return the positions that the rule selects, and their scores."""
    best_of_block = scores.amax(-1)  # the only pass over all scores
    _, values = _top_of_blocks(scores, best_of_block, top_k)
    last = values[..., -1:]

    def level(some: Tensor) -> Tensor:  # monotonic: a block's best score has its best level
        return (some > last + TIE).to(torch.int8).add_(some >= last - TIE)

    positions, _ = _top_of_blocks(scores, best_of_block, top_k, level)
    return positions, scores.flatten(2).gather(2, positions)


def _top_of_blocks(
    scores: Float[Tensor, "*n blocks positions"],
    best_of_block: Float[Tensor, "*n blocks"],
    top_k: int,
    rank: Callable[[Tensor], Tensor] = lambda some: some,
) -> tuple[Int[Tensor, "*n k"], Shaped[Tensor, "*n k"]]:
    """Return the k best positions and their ranks, best first, ties to the lower position.

    Only the best block is searched each time. `max` returns the first of equal elements, whereas
    `topk` does not specify which one it returns.

    Args:
        rank: monotonic function of the scores; its values are compared instead of them.
    """
    best_of_block = rank(best_of_block)
    least = -math.inf if best_of_block.dtype.is_floating_point else -1
    place_in_block = torch.arange(scores.shape[-1], device=scores.device)
    positions: list[Tensor] = []
    values: list[Tensor] = []
    for _ in range(top_k):
        value, block = best_of_block.max(-1, keepdim=True)
        index = block[..., None].expand(*block.shape, scores.shape[-1])
        inside = rank(scores.gather(-2, index).squeeze(-2))  # [*n, positions]
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
    """Return L2 norms in at least fp32, never zero."""
    wide = torch.promote_types(features.dtype, torch.float32)
    norms = torch.linalg.vector_norm(features, dim=-1, dtype=wide)
    return norms.clamp(min=NORM_EPS)
