"""Temporal RoI Align for frames of one video on a CPU, with scores and taps of map positions.

A frame has more RoI bins than map positions, so that what is linear in the features is computed for
the positions: products with the keys of the search (`pooled_search`), and taps of the embedding
(`taps`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.pooled_search import PooledBins
from sparsevod_core.fast.taps import MAX_POSITIONS, TAPS, Similar, mixed_bins, taps_of
from sparsevod_core.kernels.similarity import Keys
from sparsevod_core.model.support import SupportMaps
from sparsevod_core.model.temporal_roi import TemporalAttention, bins_of, top_k_weights
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames
from sparsevod_core.model.two_stage.troi import Troi, TroiMemory

ROIS_AT_A_TIME = 16  # their embeddings in 15 frames of 512 channels: 24 MB in fp32


@dataclass(frozen=True, slots=True)
class TappedTroiMemory(TroiMemory):
    """`TroiMemory` with taps of the maps of one video."""

    taps: Float[Tensor, "S HW taps C"]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [*self.proposals.tensors, *self.maps.tensors, self.taps]


class TappedTroi(Troi):
    """Temporal RoI Align with taps. Maps that are too large for them are processed as in `Troi`.

    Args:
        plain: parts to use.
        pack: packs the layer of the taps.
    """

    def __init__(self, plain: Troi, pack: Callable[[nn.Linear], nn.Module]) -> None:
        super().__init__(
            backbone=plain.backbone,
            rpn=plain.rpn,
            roi_align=plain.roi_align,
            head=plain.head,
            sampler=plain.sampler,
            selector=plain.selector,
            num_proposals=plain.num_proposals,
            num_train_proposals=plain.num_train_proposals,
            num_support_proposals=plain.num_support_proposals,
            temporal_roi=plain.temporal_roi,
        )
        assert isinstance(self.temporal_roi.aggregation, TemporalAttention)
        self.taps = pack(taps_of(self.temporal_roi.aggregation.embed))

    def remember(self, supports: EncodedFrames, videos: int = 1) -> TroiMemory:
        memory = super().remember(supports, videos)
        if videos > 1 or not _has_taps(memory.maps):
            return memory
        return TappedTroiMemory(memory.proposals, memory.maps, self._taps_of(memory.maps))

    def join(
        self, memories: Sequence[Any], global_memories: Sequence[Any] = ()
    ) -> TroiMemory | None:
        joined = super().join(memories)
        taps = [memory.taps for memory in memories if isinstance(memory, TappedTroiMemory)]
        if joined is None or len(taps) < len(memories):
            return joined
        return TappedTroiMemory(joined.proposals, joined.maps, torch.cat(taps))

    def temporal_rois(
        self, targets: EncodedFrames, rois: Float[Tensor, "B N C P P"], memory: TroiMemory | None
    ) -> Float[Tensor, "B N C P P"]:
        if not isinstance(memory, TappedTroiMemory):
            return super().temporal_rois(targets, rois, memory)
        return torch.stack(
            [self._of_target(targets.frame(i), rois[i], memory) for i in range(len(rois))]
        )

    def _of_target(
        self, target: EncodedFrames, rois: Float[Tensor, "N C P P"], memory: TappedTroiMemory
    ) -> Float[Tensor, "N C P P"]:
        bins = bins_of(rois[None], 1)
        boxes_xyxy = target.proposals.boxes[0]
        pooled = PooledBins.of(target.maps[0], boxes_xyxy, self.roi_align, bins[0])
        own = self.support_maps(target, videos=1)
        groups = []
        for maps, taps in ((memory.maps, memory.taps), (own, self._taps_of(own))):
            assert isinstance(maps.keys, Keys)
            positions, cosines = pooled.top(maps.keys, self.temporal_roi.top_k)
            weights = top_k_weights(cosines, bins)[0]
            groups.append(Similar(maps.rows[0], taps, positions[0].int(), weights))
        attention = self.temporal_roi.aggregation
        assert isinstance(attention, TemporalAttention)
        size = rois.shape[-1]
        step = ROIS_AT_A_TIME * size**2
        mixed = [
            mixed_bins(
                bins[0, start : start + step],
                [group.of_bins(slice(start, start + step)) for group in groups],
                attention,
                size,
            )
            for start in range(0, bins.shape[1], step)
        ]
        return torch.cat(mixed).view(rois.movedim(1, 3).shape).movedim(3, 1)

    def _taps_of(self, maps: SupportMaps) -> Float[Tensor, "S HW taps C"]:
        return self.taps(maps.rows[0]).unflatten(-1, (TAPS, -1))


def _has_taps(maps: SupportMaps) -> bool:
    return maps.rows.shape[2] <= MAX_POSITIONS
