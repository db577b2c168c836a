"""Memory of the support frames: computed once per video, used by all its target frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.kernels.similarity import SearchedKeys


@dataclass(frozen=True, slots=True)
class SupportMaps:
    """Feature maps of the support frames of V videos, in which TFE searches.

    Attributes:
        rows: features of all positions of each map, line by line.
        keys: index of the rows for the similarity search.
        width: number of positions per line.
    """

    rows: Float[Tensor, "V S HW C"]
    keys: SearchedKeys
    width: int

    def joined(self, others: Sequence[SupportMaps]) -> SupportMaps:
        """Return the maps of these support frames followed by those of `others`."""
        rows = torch.cat([self.rows, *(other.rows for other in others)], dim=1)
        return SupportMaps(rows, self.keys.joined([other.keys for other in others]), self.width)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.rows, *self.keys.tensors]


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Memory of one stage.

    Attributes:
        maps: support maps for TFE, shared by all stages; None if TFE is off.
        taps: what the stage's TFE has precomputed for the maps, or None; see `fast.taps`.
        proposals: SPFA's projections of the support proposals (keys and values, or only values);
            empty if SPFA is off.
    """

    maps: SupportMaps | None
    taps: Float[Tensor, "V S HW taps C"] | None
    proposals: tuple[Float[Tensor, "V S N C"], ...]


@dataclass(frozen=True, slots=True)
class SupportMemory:
    """Memory of the support frames of V videos; V = B clips in training, V = 1 at test time.

    Attributes:
        stages: memory of each stage.
        num_supports: S.
    """

    stages: tuple[StageMemory, ...]
    num_supports: int

    @classmethod
    def joined(cls, memories: Sequence[SupportMemory]) -> SupportMemory:
        """Return one memory of the support frames of several memories of the same videos."""
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
        """All tensors held, each once."""
        maps = self.stages[0].maps
        tensors = [] if maps is None else maps.tensors
        for stage in self.stages:
            tensors += [*stage.proposals, *([] if stage.taps is None else [stage.taps])]
        return tensors

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)
