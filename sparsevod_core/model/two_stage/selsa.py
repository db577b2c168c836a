"""SELSA (Wu et al., ICCV 2019): proposals attend to those of frames from the entire video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sparsevod_core.model.two_stage.detections import BoxHeadOutput
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames, FasterRCNN
from sparsevod_core.model.two_stage.selsa_memory import SelsaMemory
from sparsevod_core.structures import Clip, Targets, TwoStageOutput


class Selsa(FasterRCNN):
    """Faster R-CNN whose box head aggregates the proposals of the support frames.

    At test time, a target's own proposals are keys too, as those of one more support frame: they
    come from its plain RoI features, and nothing is aggregated in them.

    Args:
        num_support_proposals: number of best proposals of a frame that serve as keys.
        parts: see `FasterRCNN`. The head has aggregations.
    """

    def __init__(self, *, num_support_proposals: int, **parts: Any) -> None:
        super().__init__(**parts)
        self.num_support_proposals = num_support_proposals

    @property
    def uses_supports(self) -> bool:
        return True

    def remember(self, supports: EncodedFrames, videos: int = 1) -> Any:
        supports = supports.best(self.num_support_proposals)
        return self.project(self.head.embed(self.pool(supports)), supports, videos)

    def join(self, memories: Sequence[SelsaMemory], global_memories: Sequence[Any] = ()) -> Any:
        return SelsaMemory.joined(memories) if memories else None

    def detect(self, targets: EncodedFrames, memory: Any | None) -> BoxHeadOutput:
        embedded = self.head.embed(self.pool(targets))
        keys = self.with_own(memory, embedded, targets)
        return self.output(targets, self.head(embedded, keys))

    def forward(self, clip: Clip, targets: Sequence[Targets]) -> TwoStageOutput:
        batch, supports = clip.supports.shape[:2]
        frames = torch.cat([clip.images, clip.supports.flatten(0, 1)])
        sizes = torch.cat([clip.image_sizes, clip.image_sizes.repeat_interleave(supports, dim=0)])
        maps = self.feature_maps(frames, sizes)
        first = batch if supports else 0  # without support frames, a target is its own
        memory = self.remember(self.propose(maps[first:], sizes[first:]), videos=batch)
        return self.samples(maps[:batch], clip.image_sizes, targets, memory)

    def with_own(
        self, memory: SelsaMemory | None, embedded: Float[Tensor, "B N F"], targets: EncodedFrames
    ) -> SelsaMemory:
        """Return the keys of target frames: support frames, then the target itself."""
        own = self.project(
            embedded[:, : self.num_support_proposals],
            targets.best(self.num_support_proposals),
            len(embedded),
        )
        return own if memory is None else SelsaMemory.joined([memory, own])

    def project(
        self, embedded: Float[Tensor, "F N D"], frames: EncodedFrames, videos: int
    ) -> SelsaMemory:
        """Return the memory of frames, given the result of the head's first FC."""
        layers = tuple(
            (_by_video(key, videos), _by_video(value, videos))
            for key, value in self.head.project(embedded)
        )
        is_valid = _by_video(frames.proposals.valid, videos)
        return SelsaMemory(layers, is_valid, len(embedded) // videos)


def _by_video(rows: Shaped[Tensor, "F N *D"], videos: int) -> Shaped[Tensor, "V rows *D"]:
    return rows.unflatten(0, (videos, -1)).flatten(1, 2)
