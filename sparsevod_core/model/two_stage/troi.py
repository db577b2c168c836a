"""Temporal RoI Align (Gong et al., AAAI 2021) on SELSA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.kernels import Kernels
from sparsevod_core.model.padding import inside
from sparsevod_core.model.support import SupportMaps
from sparsevod_core.model.temporal_roi import TemporalRoIFeatures, bins_of
from sparsevod_core.model.two_stage.box_head import ClassesAndBoxes
from sparsevod_core.model.two_stage.detections import BoxHeadOutput
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.selsa_memory import SelsaMemory

ROIS_AT_A_TIME = 64  # their similar features in 15 frames of 512 channels: 96 MB in fp32


@dataclass(frozen=True, slots=True)
class TroiMemory:
    """What targets need of support frames.

    Attributes:
        proposals: keys and values of their proposals.
        maps: their maps, in which TFE searches.
    """

    proposals: SelsaMemory
    maps: SupportMaps

    @property
    def num_supports(self) -> int:
        """S, number of support frames of each video."""
        return self.proposals.num_supports

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return self.proposals.tensors + self.maps.tensors

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)


class Troi(Selsa):
    """SELSA whose target RoI features are mixed with the most similar ones of the support maps.

    At test time, the target's own map counts as one more support map. Proposals that serve as keys,
    the target's own too, have plain RoI features.

    Args:
        temporal_roi: Temporal RoI Align, called TFE in SparseVOD.
        parts: see `Selsa`.
    """

    def __init__(self, *, temporal_roi: TemporalRoIFeatures, **parts: Any) -> None:
        super().__init__(**parts)
        self.temporal_roi = temporal_roi

    def use_kernels(self, kernels: Kernels) -> None:
        super().use_kernels(kernels)
        self.temporal_roi.kernels = kernels

    def remember(self, supports: EncodedFrames, videos: int = 1) -> TroiMemory:
        return TroiMemory(super().remember(supports, videos), self.support_maps(supports, videos))

    def join(
        self, memories: Sequence[Any], global_memories: Sequence[Any] = ()
    ) -> TroiMemory | None:
        if not memories:
            return None
        first, *others = (memory.maps for memory in memories)
        proposals = SelsaMemory.joined([memory.proposals for memory in memories])
        return TroiMemory(proposals, first.joined(others))

    def detect(self, targets: EncodedFrames, memory: TroiMemory | None) -> BoxHeadOutput:
        rois = self.pool(targets)
        embedded = self.head.embed(self.temporal_rois(targets, rois, memory))
        supports = None if memory is None else memory.proposals
        keys = self.with_own(supports, self.head.embed(rois), targets)
        return self.output(targets, self.head(embedded, keys))

    def temporal_rois(
        self, targets: EncodedFrames, rois: Float[Tensor, "B N C P P"], memory: TroiMemory | None
    ) -> Float[Tensor, "B N C P P"]:
        """Return temporal RoI features of target frames, given their plain ones."""
        own_maps = self.support_maps(targets, videos=len(rois))
        return self.mixed(rois, [own_maps] if memory is None else [memory.maps, own_maps])

    def predict(
        self, rois: Float[Tensor, "B R C P P"], memory: TroiMemory | None
    ) -> ClassesAndBoxes:
        assert memory is not None  # each clip has support frames
        embedded = self.head.embed(self.mixed(rois, [memory.maps]))
        return self.head(embedded, memory.proposals)

    def mixed(
        self, rois: Float[Tensor, "B N C P P"], maps: Sequence[SupportMaps]
    ) -> Float[Tensor, "B N C P P"]:
        """Return temporal RoI features.

        Args:
            rois: plain RoI features of target frames.
            maps: support maps, in one or more groups; each of one video, or of one per target.
        """
        parts = rois.split(ROIS_AT_A_TIME, dim=1)
        return torch.cat([self._mixed(part, maps) for part in parts], dim=1)

    def _mixed(
        self, rois: Float[Tensor, "B N C P P"], maps: Sequence[SupportMaps]
    ) -> Float[Tensor, "B N C P P"]:
        similar = []
        for group in maps:
            of_group = self.temporal_roi.similar(bins_of(rois, len(group.rows)), group)
            # [V, S, Q of all targets of the video, C] -> [B, S, Q of one target, C]
            of_group = of_group.unflatten(2, (len(rois) // len(of_group), -1)).transpose(1, 2)
            similar.append(of_group.flatten(0, 1))
        return self.temporal_roi.mix(rois, torch.cat(similar, dim=1))

    def support_maps(self, frames: EncodedFrames, videos: int) -> SupportMaps:
        """Return maps in which TFE searches, without the padding of clips of another size."""
        rows = frames.maps.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (videos, -1))
        valid = inside(frames.image_sizes, frames.maps.shape[-2:], self.rpn.stride)
        valid = valid.flatten(1).unflatten(0, (videos, -1))[:, 0]  # [V, HW]
        keys = self.temporal_roi.kernels.keys(rows, valid)
        return SupportMaps(rows, keys, frames.maps.shape[-1])
