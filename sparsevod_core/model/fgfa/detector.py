"""FGFA (Zhu et al., ICCV 2017): the maps of neighbors, aligned by optical flow, are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsevod_core.model.fgfa.flow import FlowNetSimple, halved
from sparsevod_core.model.fgfa.map_aggregation import MapAggregation
from sparsevod_core.model.fgfa.warp import warp
from sparsevod_core.model.two_stage.detections import BoxHeadOutput
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.video_detector import Images
from sparsevod_core.structures import Clip, Targets, TwoStageOutput

PAIRS = 8  # pairs of target and support frame whose flow is computed at once


@dataclass(frozen=True, slots=True)
class MapsAndFrames:
    """Encoded frames: what proposals, which come later, and flow need.

    Attributes:
        maps: output of the backbone.
        halved: frames as FlowNet reads them; None without FlowNet.
        image_sizes: unpadded (height, width) of each frame in pixels.
    """

    maps: Float[Tensor, "B C h w"]
    halved: Float[Tensor, "B 3 _ _"] | None
    image_sizes: Int[Tensor, "B 2"]

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return self.maps.nbytes + (0 if self.halved is None else self.halved.nbytes)

    def __getitem__(self, frames: slice) -> MapsAndFrames:
        """Return some of the frames."""
        halved = None if self.halved is None else self.halved[frames]
        return MapsAndFrames(self.maps[frames], halved, self.image_sizes[frames])


@dataclass(frozen=True, slots=True)
class FGFAMemory:
    """What targets need of the support frames of V videos; attributes as in `MapsAndFrames`."""

    maps: Float[Tensor, "V S C h w"]
    halved: Float[Tensor, "V S 3 _ _"] | None

    @property
    def num_supports(self) -> int:
        """S, number of support frames of each video."""
        return self.maps.shape[1]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [self.maps] if self.halved is None else [self.maps, self.halved]

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)


class FGFA(FasterRCNN):
    """Faster R-CNN on a weighted mean of the target's map and the warped maps of its neighbors.

    At test time, the support frames are the neighbors of the target on both sides. In training, the
    mean does not include the target's own map, as in MMTracking.

    Args:
        flow: optical flow between target and support frames; None: maps are not warped.
        map_aggregation: weighted mean.
        parts: see `FasterRCNN`. The head has no aggregations.
    """

    keeps_encodings: ClassVar[bool] = True

    def __init__(
        self,
        *,
        flow: FlowNetSimple | None,
        map_aggregation: MapAggregation,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.flow = flow
        self.map_aggregation = map_aggregation

    @property
    def uses_supports(self) -> bool:
        return True

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> MapsAndFrames:  # type: ignore[override]
        frames = None if self.flow is None else halved(images, image_sizes)
        return MapsAndFrames(self.feature_maps(images, image_sizes), frames, image_sizes)

    def remember(self, supports: MapsAndFrames, videos: int = 1) -> FGFAMemory:
        frames = supports.halved
        return FGFAMemory(
            supports.maps.unflatten(0, (videos, -1)),
            None if frames is None else frames.unflatten(0, (videos, -1)),
        )

    def join(
        self, memories: Sequence[FGFAMemory], global_memories: Sequence[FGFAMemory] = ()
    ) -> FGFAMemory | None:
        if not memories:
            return None
        maps = torch.cat([memory.maps for memory in memories], dim=1)
        frames = [memory.halved for memory in memories if memory.halved is not None]
        return FGFAMemory(maps, torch.cat(frames, dim=1) if frames else None)

    def detect(self, targets: MapsAndFrames, memory: FGFAMemory | None) -> BoxHeadOutput:  # type: ignore[override]
        maps = targets.maps
        if memory is not None:
            warped = self.warped(targets, memory)
            maps = self.map_aggregation(maps, warped, includes_targets=True)
        return super().detect(self.propose(maps, targets.image_sizes), None)

    def forward(self, clip: Clip, targets: Sequence[Targets]) -> TwoStageOutput:
        batch, supports = clip.supports.shape[:2]
        frames = torch.cat([clip.images, clip.supports.flatten(0, 1)])
        sizes = torch.cat([clip.image_sizes, clip.image_sizes.repeat_interleave(supports, dim=0)])
        encoded = self.encode(frames, sizes)
        own, maps = encoded[:batch], encoded.maps[:batch]
        if supports:
            warped = self.warped(own, self.remember(encoded[batch:], videos=batch))
            maps = self.map_aggregation(maps, warped, includes_targets=False)
        return self.samples(maps, clip.image_sizes, targets, None)

    def warped(
        self, targets: MapsAndFrames, memory: FGFAMemory
    ) -> Iterator[Float[Tensor, "B _ C h w"]]:
        """Yield the maps of the support frames, each warped to the targets, some frames at a time.

        Args:
            targets: one frame of each video of the memory, or any number of frames of one video.
            memory: the support frames.
        """
        batch = len(targets.maps)
        step = max(PAIRS // batch, 1)
        for start in range(0, memory.num_supports, step):
            chunk = slice(start, start + step)
            maps = memory.maps[:, chunk].expand(batch, -1, -1, -1, -1)
            if self.flow is not None:
                assert targets.halved is not None and memory.halved is not None
                others = memory.halved[:, chunk].expand(batch, -1, -1, -1, -1)
                own = targets.halved[:, None].expand_as(others)
                flow = self.flow(own.flatten(0, 1), others.flatten(0, 1))
                maps = warp(maps.flatten(0, 1), flow, self.rpn.stride).unflatten(0, (batch, -1))
            yield maps
