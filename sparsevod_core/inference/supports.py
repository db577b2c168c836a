"""The support frames of one video: each goes through the model once, and is kept while needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from sparsevod_core.inference.targets import Pictures, Target

Memory = TypeVar("Memory")


class VideoSupports(Generic[Memory]):
    """Gives batches of targets, in the order of the video, the memory of their supports.

    Args:
        pictures: of frames that may be supports; those that no target needs any more are dropped.
        remember: what the model keeps of one frame.
        joined: one memory of several frames, None of none.
    """

    def __init__(
        self,
        pictures: Pictures,
        remember: Callable[[np.ndarray], Memory],
        joined: Callable[[Sequence[Memory]], Memory | None],
    ) -> None:
        self._pictures = pictures
        self._remember = remember
        self._joined = joined
        self._memories: dict[int, Memory] = {}
        self._supports: list[int] = []
        self._memory: Memory | None = None

    def memory_of(self, batch: Sequence[Target]) -> Memory | None:
        """Of the supports that these targets share."""
        supports = batch[0].supports
        if supports != self._supports:
            self._supports = supports
            for number in dict.fromkeys(supports):
                if number not in self._memories:  # alone: the numbers do not depend on when
                    self._memories[number] = self._remember(self._pictures.pop(number))
            self._memory = self._joined([self._memories[number] for number in supports])
            # A frame that is ahead, or the target itself, is a support again further on.
            first = batch[0].frame.index
            self._memories = {
                n: memory for n, memory in self._memories.items() if n in supports or n >= first
            }
        return self._memory

    def drop_behind(self, batch: Sequence[Target]) -> None:
        """Drop the pictures that no target after these needs."""
        # Supports of a batch that was known are not remembered yet, and may be wanted.
        last, wanted = batch[-1].frame.index, batch[-1].supports
        for number in [n for n in self._pictures if n < last and n not in wanted]:
            del self._pictures[number]
