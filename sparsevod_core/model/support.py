"""What is kept of the support frames: computed once per video, used by every target frame of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.kernels.similarity import SearchedKeys


@dataclass(frozen=True, slots=True)
class SupportMaps:
    """The support level of the support frames of V videos, for TFE.

    Attributes:
        rows: features of the L positions of each map, line by line.
        keys: their directions, to be searched.
        width: positions of a line.
    """

    rows: Float[Tensor, "V S L C"]
    keys: SearchedKeys
    width: int

    def joined(self, others: Sequence[SupportMaps]) -> SupportMaps:
        """These support frames and then those of `others`, of the same videos."""
        rows = torch.cat([self.rows, *(other.rows for other in others)], dim=1)
        return SupportMaps(rows, self.keys.joined([other.keys for other in others]), self.width)

    @property
    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        return [self.rows, *self.keys.tensors]


@dataclass(frozen=True, slots=True)
class StageMemory:
    """What one stage needs of the support frames.

    Attributes:
        maps: for TFE, the same for all stages; None where it is off.
        taps: what the stage's TFE keeps beside them, where it keeps any.
        proposals: what SPFA keeps of the support proposals, keys and values or values alone; empty
            where it is off.
    """

    maps: SupportMaps | None
    taps: Float[Tensor, "V S L taps C"] | None
    proposals: tuple[Float[Tensor, "V S N C"], ...]


@dataclass(frozen=True, slots=True)
class SupportMemory:
    """Support frames of V videos; in training V = B clips, at test time V = 1.

    Attributes:
        stages: what each stage needs of them.
        num_supports: S.
    """

    stages: tuple[StageMemory, ...]
    num_supports: int

    @classmethod
    def joined(cls, memories: Sequence[SupportMemory]) -> SupportMemory:
        """One memory of the support frames of several, all of the same videos."""
        first, *others = (memory.stages[0].maps for memory in memories)
        maps = None if first is None else first.joined([one for one in others if one is not None])
        stages = []
        for of_stage in zip(*(memory.stages for memory in memories), strict=True):
            taps = [one.taps for one in of_stage if one.taps is not None]
            proposals = zip(*(one.proposals for one in of_stage), strict=True)
            stages.append(
                StageMemory(
                    maps,
                    torch.cat(taps, dim=1) if taps else None,
                    tuple(torch.cat(parts, dim=1) for parts in proposals),
                )
            )
        return cls(tuple(stages), sum(memory.num_supports for memory in memories))

    @property
    def tensors(self) -> list[Tensor]:
        """All that is kept, each once."""
        maps = self.stages[0].maps
        kept = [] if maps is None else maps.tensors
        for stage in self.stages:
            kept += [*stage.proposals, *([] if stage.taps is None else [stage.taps])]
        return kept

    @property
    def nbytes(self) -> int:
        """Size of all that is kept, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)
