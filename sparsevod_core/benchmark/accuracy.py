"""How far a fast detector is from the plain one, stage by stage.

Each stage is given the plain path's boxes and proposal features in fp32, so that what is seen is
the error of one stage, and not that of a box which went elsewhere three stages before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.fast import FastDetector, SupportBank
from sparsevod_core.fast.temporal_roi import support_maps
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.support import SupportMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDifference:
    """Differences of one stage's output.

    Attributes:
        logits: the largest.
        logits_rms: root of the mean square.
        boxes_px: the largest of any coordinate, in pixels.
        boxes_share: of a box, its largest as a share of its size along that side, before or after
            the stage, whichever is larger; median, 99th percentile and maximum over the boxes.
    """

    logits: float
    logits_rms: float
    boxes_px: float
    boxes_share: tuple[float, float, float]


@torch.inference_mode()
def stage_differences(
    detector: SparseVOD,
    fast: FastDetector,
    targets: UInt8[Tensor, "B 3 H W"],
    supports: UInt8[Tensor, "S 3 H W"],
    image_size: tuple[int, int],
    *,
    shared_maps: bool,
) -> list[StageDifference]:
    """Of every stage, on target frames of a video with their support frames.

    Args:
        targets, supports: padded to a multiple of 32.
        image_size: unpadded (height, width) in pixels.
        shared_maps: the fast stages get the plain path's maps and RoI features too. Rounded the
            other way a map turns near ties of TFE's choice, and the chosen features then differ,
            however exact everything else is.
    """
    sizes: Int[Tensor, "B 2"] = torch.tensor([image_size] * len(targets), device=targets.device)
    memory = detector.remember(supports, image_size)
    bank = _bank_of(memory, fast) if shared_maps else fast.remember(supports, image_size)
    plain_pool = detector.roi_align.over(detector.pyramid(targets, sizes))
    pyramid = fast.pyramid(targets, sizes)
    boxes, features = detector.proposals(sizes)
    differences = []
    for number, (plain, other) in enumerate(zip(detector.stages, fast.stages, strict=True)):
        rois = plain_pool(boxes)
        logits, refined, refined_features = plain(features, boxes, rois, memory, number)
        rois = rois.to(fast.dtype) if shared_maps else pyramid.pool(boxes)
        found_logits, found, _ = other(features, boxes, rois, bank, number)
        size = torch.maximum(refined[..., 2:] - refined[..., :2], boxes[..., 2:] - boxes[..., :2])
        share = (found - refined).abs() / size.repeat(1, 1, 2).clamp(min=1e-3)
        of_boxes = share.amax(-1).flatten()
        differences.append(
            StageDifference(
                logits=(found_logits - logits).abs().max().item(),
                logits_rms=(found_logits - logits).square().mean().sqrt().item(),
                boxes_px=(found - refined).abs().max().item(),
                boxes_share=(
                    of_boxes.median().item(),
                    of_boxes.quantile(0.99).item(),
                    of_boxes.max().item(),
                ),
            )
        )
        boxes, features = refined, refined_features
    return differences


def _bank_of(memory: SupportMemory, fast: FastDetector) -> SupportBank:
    """What the fast detector keeps of support frames whose maps and features are known."""
    maps = None
    if fast.has_temporal_roi:
        searches = [stage.temporal_roi for stage in fast.stages]
        maps = support_maps(memory.maps[0].to(fast.dtype), memory.valid[0], searches)
    known = tuple(
        stage.aggregation.known(memory.proposals[0, number])
        for number, stage in enumerate(fast.stages)
        if stage.aggregation is not None
    )
    return SupportBank(maps, known)
