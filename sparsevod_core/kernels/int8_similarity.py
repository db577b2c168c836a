"""Similarity search in 8-bit integers, the fastest on CPUs with instructions for them (VNNI).

The error is about that of a cosine rounded to bf16, typically 0.002. Scores are integers, so that
the result does not depend on the order of additions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int8, Int32
from torch import Tensor

from sparsevod_core.kernels.similarity import BLOCK, Found, Keys, lengths_of

MAX_SCORES = 2**20  # scores computed at a time, few enough for the caches of a processor
MAX_POSITIONS = 2**17 - BLOCK  # leaves 14 bits and the sign of 32 for the score

_SMALLEST = -(2**31)


def int8_keys(rows: Float[Tensor, "V S HW C"], valid: Bool[Tensor, "V HW"]) -> Int8Keys | Keys:
    """Return `Int8Keys` for the maps of one video if 32 bits suffice, else `Keys`."""
    fits = len(rows) == 1 and rows.shape[2] <= MAX_POSITIONS
    return Int8Keys.of(rows, valid) if fits else Keys.of(rows, valid)


@dataclass(frozen=True, slots=True)
class Int8Keys:
    """`Keys` of one video as 8-bit integers, padded to whole blocks.

    A score and its position are packed into one 32-bit integer with the score in the upper bits.
    The maximum thus gives both, and of equal scores the lower position wins.

    Attributes:
        directions: unit vectors of each support frame times its scale, rounded; zeros if not valid.
        codes: lower bits of each position, higher for lower positions; if not valid, smaller than
            any packed score.
        scales: scale of each support frame.
        position_bits: number of bits for the position.
    """

    directions: Int8[Tensor, "S padded C"]
    codes: Int32[Tensor, "S padded"]
    scales: Float[Tensor, " S"]
    position_bits: int

    @classmethod
    def of(cls, rows: Float[Tensor, "1 S HW C"], valid: Bool[Tensor, "1 HW"]) -> Int8Keys:
        """Index the rows of support maps; only valid positions are ever found."""
        padding = -rows.shape[2] % BLOCK
        directions = rows[0] / lengths_of(rows[0])[..., None] * valid[0, :, None]
        directions = F.pad(directions, (0, 0, 0, padding))
        bits = (directions.shape[1] - 1).bit_length()
        scales = _scales(directions.abs().amax(dim=(1, 2)), bits)
        codes = torch.arange(directions.shape[1] - 1, -1, -1, dtype=torch.int32)
        codes = torch.where(F.pad(valid[0], (0, padding)), codes, _SMALLEST)
        quantized = (directions * scales[:, None, None]).round().to(torch.int8)
        return cls(quantized, codes.expand(len(quantized), -1), scales, bits)

    def joined(self, others: Sequence[Int8Keys]) -> Int8Keys:
        """See `Keys.joined`."""
        parts = zip(*(one.tensors for one in (self, *others)), strict=True)
        directions, codes, scales = (torch.cat(part) for part in parts)
        return Int8Keys(directions, codes, scales, self.position_bits)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.directions, self.codes, self.scales]

    def top(self, queries: Float[Tensor, "1 Q C"], top_k: int) -> Found:
        """See `Keys.top`."""
        supports, padded, _ = self.directions.shape
        keys, codes = self.directions.flatten(0, 1).t(), self.codes.flatten()
        bins, lengths = queries[0], lengths_of(queries[0])
        scales = _scales(bins.abs().amax(dim=1).float() / lengths, self.position_bits)
        quantized = (bins * (scales / lengths)[:, None]).round_().to(torch.int8)
        found = []
        for part in quantized.split(max(1, MAX_SCORES // (supports * padded))):
            # torch has no public product of int8 matrices; this one returns int32.
            numbers = torch._int_mm(part, keys)
            torch.add(codes, numbers, alpha=1 << self.position_bits, out=numbers)
            found.append(_largest(numbers.view(len(part), supports, -1, BLOCK), top_k, padded))
        numbers = torch.cat(found).transpose(0, 1)[None]  # [1, S, Q, k]
        mask = (1 << self.position_bits) - 1
        positions = (padded - 1) - (numbers & mask)
        per_score = scales[:, None] * self.scales[:, None, None]  # [S, Q, 1]
        scores = (numbers >> self.position_bits) / per_score
        is_found = numbers >= _SMALLEST // 2
        return torch.where(is_found, positions, 0), torch.where(is_found, scores, -math.inf)


def _largest(
    numbers: Int32[Tensor, "q S blocks positions"], top_k: int, padded: int
) -> Int32[Tensor, "q S k"]:
    """Return the k largest distinct numbers: the maximum of each block, then the best block."""
    mask = (1 << (padded - 1).bit_length()) - 1
    of_blocks = numbers.amax(-1)  # [q, S, blocks]
    found = [of_blocks.amax(-1, keepdim=True)]
    while len(found) < top_k:
        last = found[-1]
        position = ((padded - 1) - (last & mask)).clamp(min=0)
        block = (position // BLOCK).long()
        index = block[..., None].expand(-1, -1, -1, BLOCK)
        rest = numbers.gather(2, index)  # [q, S, 1, BLOCK]
        rest = rest.masked_fill_(rest >= last[..., None], _SMALLEST).amax(-1)
        of_blocks.scatter_(-1, block, rest)
        found.append(of_blocks.amax(-1, keepdim=True))
    return torch.cat(found, dim=-1)


def _scales(largest: Float[Tensor, "*n"], position_bits: int) -> Float[Tensor, "*n"]:
    """Return scales that keep elements within int8 and scores clear of the position bits."""
    widest = math.sqrt(2 ** (30 - position_bits))
    return (127 / largest.clamp(min=1e-6)).clamp(max=widest)
