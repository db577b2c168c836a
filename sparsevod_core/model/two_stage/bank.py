"""Memory bank of MAMBA (Sun et al., AAAI 2021): proposals of a whole video, at one FC.

Targets read a random part of the bank, and write their own proposals to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Draw = Callable[[int], Int[Tensor, " n"]]
"""Function that returns a random permutation of 0..n-1."""


def seeded_draw(seed: int, number: int) -> Draw:
    """Return the draw of the target with this number in its video, on the CPU on every device."""
    # torch's CPU generator uses 32 bits of its seed only.
    (mixed,) = np.random.SeedSequence((seed, number)).generate_state(1)
    generator = torch.Generator().manual_seed(int(mixed))
    return lambda length: torch.randperm(length, generator=generator)


@dataclass(frozen=True, slots=True)
class Bank:
    """Keys and values of proposals; a value that `written` replaces and never changes.

    The reference stores the features before their ReLU, and projects those that it reads again.
    """

    key: Float[Tensor, "rows F"]
    value: Float[Tensor, "rows F"]

    def __len__(self) -> int:
        return len(self.key)

    def read(
        self, max_rows: int, draw: Draw
    ) -> tuple[Float[Tensor, "1 n F"], Float[Tensor, "1 n F"]]:
        """Return keys and values of all rows, or of `max_rows` random ones if there are more."""
        if len(self) < max_rows:
            return self.key[None], self.value[None]
        index = draw(len(self))[:max_rows].to(self.key.device)
        return self.key[None, index], self.value[None, index]

    def written(
        self, key: Float[Tensor, "n F"], value: Float[Tensor, "n F"], max_rows: int, draw: Draw
    ) -> Bank:
        """Return the bank with new rows at its end.

        Once it has `max_rows` rows, each new row replaces a random one.
        """
        if len(self) < max_rows:
            return Bank(torch.cat([self.key, key]), torch.cat([self.value, value]))
        kept = draw(len(self))[: len(self) - len(key)].to(self.key.device)
        return Bank(_replaced(self.key, kept, key), _replaced(self.value, kept, value))


def _replaced(
    rows: Float[Tensor, "rows F"], kept: Int[Tensor, " kept"], new: Float[Tensor, "n F"]
) -> Float[Tensor, "rows F"]:
    """Return the kept rows, then the new ones; a full bank is too large to be copied twice."""
    result = torch.empty_like(rows)
    torch.index_select(rows, 0, kept, out=result[: len(kept)])
    result[len(kept) :] = new
    return result
