"""Proposals of frames with features: what MEGA's relation modules relate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ProposalFeatures:
    """Proposals of B videos: N of each of S frames `[B, S, N]`, or flat `[B, n]`.

    Frames hold their best proposals first.

    Attributes:
        features: Feature vectors.
        boxes_xyxy: Boxes in pixels, between the outer edges of their corner pixels (see `boxes`).
        is_valid: False for rows that fill up a frame with fewer than N proposals.
    """

    features: Float[Tensor, "B *n C"]
    boxes_xyxy: Float[Tensor, "B *n 4"]
    is_valid: Bool[Tensor, "B *n"]  # noqa: UP037 (a shape, not a product)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.features, self.boxes_xyxy, self.is_valid]

    def with_features(self, features: Float[Tensor, "B *n D"]) -> ProposalFeatures:
        """Return the same proposals with other features."""
        return replace(self, features=features)

    def flat(self) -> ProposalFeatures:
        """Return the proposals `[B, S, N]` of all frames as one list `[B, S·N]`."""
        return ProposalFeatures(*(tensor.flatten(1, 2) for tensor in self.tensors))

    def of_videos(self, videos: int) -> ProposalFeatures:
        """Return the proposals `[V·S, N]` of frames, video after video, as `[V, S, N]`."""
        return ProposalFeatures(*(tensor.unflatten(0, (videos, -1)) for tensor in self.tensors))

    def clone(self) -> ProposalFeatures:
        """Return a copy that shares no memory with this one."""
        return ProposalFeatures(*(tensor.clone() for tensor in self.tensors))

    def best(self, count: int) -> ProposalFeatures:
        """Return at most `count` proposals `[B, S, count]` of each frame."""
        return ProposalFeatures(*(tensor[:, :, :count] for tensor in self.tensors))

    def frames(self, part: slice) -> ProposalFeatures:
        """Return the proposals of some of the frames."""
        return ProposalFeatures(*(tensor[:, part] for tensor in self.tensors))

    @classmethod
    def joined(cls, parts: Sequence[ProposalFeatures]) -> ProposalFeatures:
        """Return the frames (or lists) of several parts of the same videos, one after another."""
        tensors = zip(*(part.tensors for part in parts), strict=True)
        return cls(*(torch.cat(of_parts, dim=1) for of_parts in tensors))
