"""The most similar positions of support maps: one matrix product a chunk, never the whole result.

Two kinds of keys with one interface: `ExactKeys` in the precision of the maps, and `QuantisedKeys`
in 8-bit integers, whose error is about that of a cosine rounded to bf16: typically 0.002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int8, Int32
from torch import Tensor

from sparsevod_core.model.temporal_roi import NORM_EPS, top_of_blocks

BLOCK = 32  # positions of which the best is found first
EXACT_AT_ONCE = 2**22  # scores held on a CPU: few, so that its caches hold them
QUANTISED_AT_ONCE = 2**21
AT_ONCE_GPU = 2**28

_SMALLEST = -(2**31)
_MOST_POSITION_BITS = 17  # leaves 14 bits and the sign for the score


@dataclass(frozen=True, slots=True)
class ExactKeys:
    """Directions of map positions, in blocks.

    Attributes:
        directions: features at length 1, zeros after the last position.
        bias: 0 where a position may be chosen, else minus infinity.
    """

    directions: Float[Tensor, "S padded C"]
    bias: Float[Tensor, "S padded"]

    @classmethod
    def of(cls, rows: Float[Tensor, "S L C"], valid: Bool[Tensor, " L"]) -> ExactKeys:
        """Keys of maps; only valid positions are ever chosen."""
        directions = _padded(_directions(rows).to(rows.dtype))
        bias = torch.where(_padded(valid[:, None])[:, 0], 0.0, -math.inf).to(rows.dtype)
        return cls(directions, bias.expand(len(rows), -1))

    @classmethod
    def joined(cls, keys: Sequence[ExactKeys]) -> ExactKeys:
        """Keys of the support frames of several."""
        return cls(
            torch.cat([each.directions for each in keys]), torch.cat([each.bias for each in keys])
        )

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.directions.nbytes + self.bias.nbytes

    def top(
        self, queries: Float[Tensor, "Q C"], lengths: Float[Tensor, " Q"], top_k: int
    ) -> tuple[Int[Tensor, "Q S k"], Float[Tensor, "Q S k"]]:
        """Positions of the k largest cosines on each support frame, and these, largest first.

        `lengths` are those of the queries.
        Exact ties go to the lower position. Minus infinity where there are fewer valid positions.
        """
        directions = (queries / lengths.clamp(min=NORM_EPS)[:, None]).to(queries.dtype)
        keys, bias = self.directions.flatten(0, 1), self.bias.flatten()
        found = []
        for part in _in_chunks(directions, len(keys), EXACT_AT_ONCE):
            scores = F.linear(part, keys, bias).float()
            scores = scores.view(len(part), len(self.directions), -1, BLOCK)
            found.append(top_of_blocks(scores, top_k))
        positions, cosines = (torch.cat(parts) for parts in zip(*found, strict=True))
        return positions, cosines


@dataclass(frozen=True, slots=True)
class QuantisedKeys:
    """Directions of map positions as 8-bit integers, in blocks.

    A score and its position share one 32-bit number, the score in front, so that the largest
    number tells both, and of equal scores the lower position wins.

    Attributes:
        directions: each support frame's times its scale, rounded; zeros where not valid.
        codes: what a position adds to its score: the lower it is, the more; where not valid, less
            than any score.
        scales: of each support frame.
        position_bits: of a number, for the position.
    """

    directions: Int8[Tensor, "S padded C"]
    codes: Int32[Tensor, "S padded"]
    scales: Float[Tensor, " S"]
    position_bits: int

    @classmethod
    def of(cls, rows: Float[Tensor, "S L C"], valid: Bool[Tensor, " L"]) -> QuantisedKeys:
        """Keys of maps; only valid positions are ever chosen."""
        directions = _padded(_directions(rows) * valid[:, None])
        valid = _padded(valid[:, None])[:, 0]
        bits = (len(valid) - 1).bit_length()
        scales = _scales(directions.abs().amax(dim=(1, 2)), bits)
        codes = torch.arange(len(valid) - 1, -1, -1, dtype=torch.int32)
        codes = torch.where(valid, codes, _SMALLEST)
        quantised = (directions * scales[:, None, None]).round().to(torch.int8)
        return cls(quantised, codes.expand(len(rows), -1), scales, bits)

    @classmethod
    def joined(cls, keys: Sequence[QuantisedKeys]) -> QuantisedKeys:
        """Keys of the support frames of several."""
        return cls(
            torch.cat([each.directions for each in keys]),
            torch.cat([each.codes for each in keys]),
            torch.cat([each.scales for each in keys]),
            keys[0].position_bits,
        )

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.directions.nbytes + self.codes.nbytes + self.scales.nbytes

    def top(
        self, queries: Float[Tensor, "Q C"], lengths: Float[Tensor, " Q"], top_k: int
    ) -> tuple[Int[Tensor, "Q S k"], Float[Tensor, "Q S k"]]:
        """As `ExactKeys.top`; cosines are within 0.01, typically 0.002."""
        supports, padded, _ = self.directions.shape
        keys, codes = self.directions.flatten(0, 1).t(), self.codes.flatten()
        lengths = lengths.clamp(min=NORM_EPS)
        scales = _scales(queries.abs().amax(dim=1).float() / lengths, self.position_bits)
        quantised = (queries * (scales / lengths)[:, None]).round_().to(torch.int8)
        found = []
        for part in _in_chunks(quantised, supports * padded, QUANTISED_AT_ONCE):
            # torch has no public product of 8-bit matrices; this one gives 32-bit integers.
            numbers = torch._int_mm(part, keys)
            torch.add(codes, numbers, alpha=1 << self.position_bits, out=numbers)
            found.append(_largest(numbers.view(len(part), supports, -1, BLOCK), top_k, padded))
        numbers = torch.cat(found)
        mask = (1 << self.position_bits) - 1
        positions = (padded - 1) - (numbers & mask)
        scores = (numbers >> self.position_bits) / (scales[:, None] * self.scales)[..., None]
        is_found = numbers >= _SMALLEST // 2
        return torch.where(is_found, positions, 0), torch.where(is_found, scores, -math.inf)


def can_quantise(device: torch.device, positions: int) -> bool:
    """Whether the processor multiplies 8-bit integers fast, and 32 bits are enough."""
    has_instructions = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    fits = (positions + BLOCK).bit_length() <= _MOST_POSITION_BITS
    return device.type == "cpu" and fits and has_instructions()


def _largest(
    numbers: Int32[Tensor, "q S blocks positions"], top_k: int, padded: int
) -> Int32[Tensor, "q S k"]:
    """The k largest of different numbers: of every block the largest, then the best block again."""
    mask = (1 << (padded - 1).bit_length()) - 1
    of_blocks = numbers.amax(-1)  # [q, S, blocks]
    found = [of_blocks.amax(-1, keepdim=True)]
    while len(found) < top_k:
        last = found[-1]
        position = ((padded - 1) - (last & mask)).clamp(min=0)
        block = (position // BLOCK).long()
        whole = block[..., None].expand(-1, -1, -1, BLOCK)
        rest = numbers.gather(2, whole)  # [q, S, 1, BLOCK]
        rest = rest.masked_fill_(rest >= last[..., None], _SMALLEST).amax(-1)
        of_blocks.scatter_(-1, block, rest)
        found.append(of_blocks.amax(-1, keepdim=True))
    return torch.cat(found, dim=-1)


def lengths_of(features: Float[Tensor, "*n C"]) -> Float[Tensor, "*n"]:
    """L2 norms, in fp32."""
    return torch.linalg.vector_norm(features, dim=-1, dtype=torch.float32)


def _directions(rows: Float[Tensor, "S L C"]) -> Float[Tensor, "S L C"]:
    return rows / lengths_of(rows).clamp(min=NORM_EPS)[..., None]


def _padded(values: Tensor) -> Tensor:
    """Zeros (False) after the last position, up to whole blocks."""
    return F.pad(values, (0, 0, 0, -values.shape[-2] % BLOCK))


def _scales(largest: Float[Tensor, "*n"], position_bits: int) -> Float[Tensor, "*n"]:
    """So that no element leaves 8 bits, and no score what the positions leave of 31."""
    widest = math.sqrt(2 ** (30 - position_bits))
    return (127 / largest.clamp(min=NORM_EPS)).clamp(max=widest)


def _in_chunks(queries: Tensor, num_keys: int, at_once: int) -> Sequence[Tensor]:
    if queries.is_cuda:
        at_once = AT_ONCE_GPU
    return queries.split(max(1, at_once // num_keys))
