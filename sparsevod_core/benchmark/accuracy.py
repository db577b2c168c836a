"""How far a fast detector is from the plain one, stage by stage.

Each stage is given the plain path's boxes and proposal features in fp32, so that what is seen is
the error of one stage, and not that of a box which went elsewhere three stages before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.fast import FastDetector
from sparsevod_core.model.detector import SparseVOD


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
) -> list[StageDifference]:
    """Of every stage, on target frames of a video with their support frames.

    Args:
        targets, supports: padded to a multiple of 32.
        image_size: unpadded (height, width) in pixels.
    """
    sizes: Int[Tensor, "B 2"] = torch.tensor([image_size] * len(targets), device=targets.device)
    memory, bank = detector.remember(supports, image_size), fast.remember(supports, image_size)
    plain_pool = detector.roi_align.over(detector.pyramid(targets, sizes))
    pyramid = fast.pyramid(targets, sizes)
    boxes, features = detector.proposals(sizes)
    differences = []
    for number, (plain, other) in enumerate(zip(detector.stages, fast.stages, strict=True)):
        logits, refined, refined_features = plain(
            features, boxes, plain_pool(boxes), memory, number
        )
        found_logits, found, _ = other(features, boxes, pyramid.pool(boxes), bank, number)
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
