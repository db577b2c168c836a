"""Search of support maps in 8-bit integers: the fastest on CPUs that multiply them.

The error is about that of a cosine rounded to bf16, typically 0.002. Scores are whole numbers:
nothing depends on the order in which they are added.
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

AT_ONCE = 2**21  # scores held at a time: few, so that a processor's caches hold them
MOST_POSITIONS = 2**17 - BLOCK  # leaves 14 bits and the sign of 32 for the score

_SMALLEST = -(2**31)


def keys_for(rows: Float[Tensor, "V S L C"], valid: Bool[Tensor, "V L"]) -> QuantisedKeys | Keys:
    """Integers where 32 bits are enough for the positions of one video's maps."""
    fits = len(rows) == 1 and rows.shape[2] <= MOST_POSITIONS
    return QuantisedKeys.of(rows, valid) if fits else Keys.of(rows, valid)


@dataclass(frozen=True, slots=True)
class QuantisedKeys:
    """`Keys` of one video as 8-bit integers, in blocks.

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
    def of(cls, rows: Float[Tensor, "1 S L C"], valid: Bool[Tensor, "1 L"]) -> QuantisedKeys:
        """Keys of maps; only valid positions are ever chosen."""
        padding = -rows.shape[2] % BLOCK
        directions = rows[0] / lengths_of(rows[0])[..., None] * valid[0, :, None]
        directions = F.pad(directions, (0, 0, 0, padding))
        bits = (directions.shape[1] - 1).bit_length()
        scales = _scales(directions.abs().amax(dim=(1, 2)), bits)
        codes = torch.arange(directions.shape[1] - 1, -1, -1, dtype=torch.int32)
        codes = torch.where(F.pad(valid[0], (0, padding)), codes, _SMALLEST)
        quantised = (directions * scales[:, None, None]).round().to(torch.int8)
        return cls(quantised, codes.expand(len(quantised), -1), scales, bits)

    def joined(self, others: Sequence[QuantisedKeys]) -> QuantisedKeys:
        """See `Keys.joined`."""
        parts = [self, *others]
        return QuantisedKeys(
            torch.cat([each.directions for each in parts]),
            torch.cat([each.codes for each in parts]),
            torch.cat([each.scales for each in parts]),
            self.position_bits,
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        return [self.directions, self.codes, self.scales]

    def top(self, queries: Float[Tensor, "1 Q C"], top_k: int) -> Found:
        """See `Keys.top`."""
        supports, padded, _ = self.directions.shape
        keys, codes = self.directions.flatten(0, 1).t(), self.codes.flatten()
        bins, lengths = queries[0], lengths_of(queries[0])
        scales = _scales(bins.abs().amax(dim=1).float() / lengths, self.position_bits)
        quantised = (bins * (scales / lengths)[:, None]).round_().to(torch.int8)
        found = []
        for part in quantised.split(max(1, AT_ONCE // (supports * padded))):
            # torch has no public product of 8-bit matrices; this one gives 32-bit integers.
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


def _scales(largest: Float[Tensor, "*n"], position_bits: int) -> Float[Tensor, "*n"]:
    """Scale that keeps elements within 8 bits and scores within the bits not used for positions."""
    widest = math.sqrt(2 ** (30 - position_bits))
    return (127 / largest.clamp(min=1e-6)).clamp(max=widest)
