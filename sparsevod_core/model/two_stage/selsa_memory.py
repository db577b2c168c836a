"""Memory of SELSA: keys and values of the support proposals at every layer of the box head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SelsaMemory:
    """What targets need of the proposals of support frames of V videos.

    Attributes:
        layers: keys and values at each layer of the box head.
        is_valid: which rows are proposals; the others are padding.
    """

    layers: tuple[tuple[Float[Tensor, "V S N F"], Float[Tensor, "V S N F"]], ...]
    is_valid: Bool[Tensor, "V S N"]

    @classmethod
    def joined(cls, memories: Sequence[SelsaMemory]) -> SelsaMemory:
        """Return one memory of the support frames of several memories, in order.

        A memory of one video serves each of the V videos of the others.
        """
        layers = tuple(
            tuple(_joined(parts) for parts in zip(*of_layer, strict=True))
            for of_layer in zip(*(memory.layers for memory in memories), strict=True)
        )
        return cls(layers, _joined([memory.is_valid for memory in memories]))

    def keys(
        self, layer: int
    ) -> tuple[
        Float[Tensor, "V keys F"], Float[Tensor, "V keys F"], Bool[Tensor, "V 1 1 keys"]
    ]:
        """Return keys, values and the mask of the valid ones, frame after frame."""
        key, value = self.layers[layer]
        return key.flatten(1, 2), value.flatten(1, 2), self.is_valid.flatten(1)[:, None, None]

    def best(self, num: int) -> SelsaMemory:
        """Return the memory of the best `num` proposals of each frame."""
        layers = tuple((key[:, :, :num], value[:, :, :num]) for key, value in self.layers)
        return SelsaMemory(layers, self.is_valid[:, :, :num])

    @property
    def num_supports(self) -> int:
        """S, number of support frames of each video."""
        return self.is_valid.shape[1]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.is_valid, *(part for layer in self.layers for part in layer)]

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    videos = max(len(part) for part in parts)
    return torch.cat([part.expand(videos, *part.shape[1:]) for part in parts], dim=1)
