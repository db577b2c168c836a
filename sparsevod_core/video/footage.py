"""What all videos have in common, wherever their frames come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from sparsevod_core.structures import Frame


class Footage(Protocol):
    """The frames of one video, numbered from 0; `VideoReader` is one."""

    def num_frames(self) -> int:
        """How many there are."""

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Those of these numbers."""

    def __iter__(self) -> Iterator[Frame]:
        """All, in order."""
