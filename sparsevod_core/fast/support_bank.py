"""What fast paths keep of support frames: all that does not depend on the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.fast.search import ExactKeys, QuantisedKeys


@dataclass(frozen=True, slots=True)
class SupportMaps:
    """The support level of S frames of one video, for TFE.

    Attributes:
        rows: features of the L positions, line by line.
        keys: their directions, to be searched.
        taps: of every stage what each of the 9 taps of the embedding makes of each position,
            without the bias; empty where there is no embedding, or maps are too large for it.
    """

    rows: Float[Tensor, "S L C"]
    keys: ExactKeys | QuantisedKeys
    taps: tuple[Float[Tensor, "S L 9 C"], ...]


@dataclass(frozen=True, slots=True)
class SupportBank:
    """Support frames of one video.

    Attributes:
        maps: for TFE; None where it is off.
        proposals: of every stage what SPFA makes of the support proposals: keys and values, or
            values alone; empty where it is off.
    """

    maps: SupportMaps | None
    proposals: tuple[tuple[Float[Tensor, "S N C"], ...], ...]

    @classmethod
    def joined(cls, banks: Sequence[SupportBank]) -> SupportBank:
        """One bank of the support frames of several, all of the same video."""
        maps = [bank.maps for bank in banks if bank.maps is not None]
        proposals = tuple(
            tuple(torch.cat(parts) for parts in zip(*of_stage, strict=True))
            for of_stage in zip(*(bank.proposals for bank in banks), strict=True)
        )
        return cls(_joined_maps(maps) if maps else None, proposals)

    @property
    def num_supports(self) -> int:
        """S."""
        return len(self.proposals[0][0] if self.maps is None else self.maps.rows)

    @property
    def nbytes(self) -> int:
        """Size of all that is kept, in bytes."""
        tensors = [tensor for of_stage in self.proposals for tensor in of_stage]
        if self.maps is not None:
            tensors += [self.maps.rows, *self.maps.taps]
        keys = 0 if self.maps is None else self.maps.keys.nbytes
        return keys + sum(tensor.nbytes for tensor in tensors)


def _joined_maps(maps: Sequence[SupportMaps]) -> SupportMaps:
    return SupportMaps(
        torch.cat([each.rows for each in maps]),
        type(maps[0].keys).joined([each.keys for each in maps]),  # type: ignore[misc]
        tuple(torch.cat(taps) for taps in zip(*(each.taps for each in maps), strict=True)),
    )
