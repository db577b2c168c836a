"""Memory of SELSA: keys and values of the support proposals at every layer of the box head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SelsaMemory:
    """What targets need of the proposals of support frames of V videos, frame after frame.

    Attributes:
        layers: keys and values at each layer of the box head.
        is_valid: which rows are proposals; the others are padding.
        num_supports: S, number of support frames of each video.
    """

    layers: tuple[tuple[Float[Tensor, "V rows F"], Float[Tensor, "V rows F"]], ...]
    is_valid: Bool[Tensor, "V rows"]
    num_supports: int

    @classmethod
    def joined(cls, memories: Sequence[SelsaMemory]) -> SelsaMemory:
        """Return one memory of the support frames of several memories, in order.

        A memory of one video serves each of the V videos of the others.
        """
        layers = tuple(
            (_joined(keys), _joined(values))
            for keys, values in (
                zip(*of_layer, strict=True)
                for of_layer in zip(*(memory.layers for memory in memories), strict=True)
            )
        )
        is_valid = _joined([memory.is_valid for memory in memories])
        return cls(layers, is_valid, sum(memory.num_supports for memory in memories))

    @property
    def mask(self) -> Bool[Tensor, "V 1 1 rows"]:
        """Mask for the attention of target proposals."""
        return self.is_valid[:, None, None]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.is_valid, *(part for layer in self.layers for part in layer)]

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)


def _joined(parts: Sequence[Shaped[Tensor, "_ _ *F"]]) -> Shaped[Tensor, "V rows *F"]:
    videos = max(len(part) for part in parts)
    return torch.cat([part.expand(videos, *part.shape[1:]) for part in parts], dim=1)
