"""What is kept of the support frames: computed once per video, used by every target frame of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SupportMemory:
    """Support frames of V videos; in training V = B clips, at test time V = 1.

    Attributes:
        maps: features of the support level, for TFE; no positions where TFE is off.
        valid: map positions that belong to the image, rounded up to the padding multiple.
        proposals: proposal features of every stage, for SPFA; no stages where SPFA is off.
    """

    maps: Float[Tensor, "V S C H W"]
    valid: Bool[Tensor, "V H W"]
    proposals: Float[Tensor, "V T S N C"]

    @classmethod
    def joined(cls, memories: Sequence[SupportMemory]) -> SupportMemory:
        """One memory of the support frames of several, all of the same video."""
        return cls(
            torch.cat([memory.maps for memory in memories], dim=1),
            memories[0].valid,
            torch.cat([memory.proposals for memory in memories], dim=2),
        )

    @property
    def num_supports(self) -> int:
        """S."""
        return self.maps.shape[1]

    def stage_proposals(self, stage: int, batch: int) -> Float[Tensor, "B M C"]:
        """The S N support proposals that stage `stage` of each of `batch` targets attends to."""
        features = self.proposals[:, stage].flatten(1, 2)
        return features.expand(batch, -1, -1)

    def select(self, supports: Sequence[int]) -> SupportMemory:
        """The memory of some of the support frames, in the order given."""
        index = torch.as_tensor(supports, device=self.maps.device)
        return SupportMemory(
            self.maps.index_select(1, index), self.valid, self.proposals.index_select(2, index)
        )

    @property
    def nbytes(self) -> int:
        """Size of all that is kept, in bytes."""
        return self.maps.nbytes + self.valid.nbytes + self.proposals.nbytes
