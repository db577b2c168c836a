"""Differences between the outputs of an optimized detector and the plain one, stage by stage.

Each stage gets the boxes and proposal features of the plain detector in fp32, so that errors of
earlier stages do not accumulate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.fast.backbone import FoldedBackbone
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.pyramid import Pyramid
from sparsevod_core.model.support import SupportMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDifference:
    """Differences of the outputs of one stage.

    Attributes:
        logits: largest difference of a logit.
        logits_median: median over the proposals of the largest difference of their logits. A near
            tie in TFE's selection that rounding decides differently changes only a few proposals.
        logits_rms: root mean square of the differences of logits.
        boxes_px: largest difference of a box coordinate, in pixels.
        boxes_share: largest difference per box as a share of its size along that side, before or
            after the stage (the larger one); median, 99th percentile and maximum over the boxes.
    """

    logits: float
    logits_median: float
    logits_rms: float
    boxes_px: float
    boxes_share: tuple[float, float, float]


@torch.inference_mode()
def stage_differences(
    detector: SparseVOD,
    fast: SparseVOD,
    targets: UInt8[Tensor, "B 3 H W"],
    supports: UInt8[Tensor, "S 3 H W"],
    image_size: tuple[int, int],
    *,
    shared_maps: bool,
) -> list[StageDifference]:
    """Return the differences of each stage on target frames with support frames of a video.

    Args:
        detector: the plain detector.
        fast: the same detector, optimized; may be on another device.
        targets, supports: frames padded to a multiple of 32.
        image_size: unpadded (height, width) in pixels.
        shared_maps: if True, the optimized stages use the plain detector's feature maps. Rounding a
            map can flip near-ties in TFE's choice, and the chosen features then differ, however
            exact everything else is.
    """
    device, fast_device = (model.proposals.features.device for model in (detector, fast))
    plain_targets, plain_supports = (
        _encoded(detector, images, image_size) for images in (targets, supports)
    )
    fast_targets: Pyramid
    fast_supports: Pyramid
    if shared_maps:
        assert isinstance(fast.backbone, FoldedBackbone)
        dtype = fast.backbone.dtype
        fast_targets = _Converted(plain_targets, dtype, fast_device)
        fast_supports = _Converted(plain_supports, dtype, fast_device)
    else:
        fast_targets, fast_supports = (
            _encoded(fast, images, image_size) for images in (targets, supports)
        )
    memory = detector.remember(plain_supports)
    fast_memory = fast.remember(fast_supports)
    if shared_maps and detector.has_aggregation:
        fast_memory = _with_proposals(fast, fast_memory, detector, plain_supports, fast_device)
    boxes, features = detector.proposals(plain_targets.image_sizes)
    differences = []
    for number, refined in enumerate(detector.refine(plain_targets, memory)):
        inputs = (one.to(fast_device) for one in (features, boxes))
        stage, stage_memory = fast.stages[number], fast_memory.stages[number]
        outputs = fast.run_stage(stage, fast_targets, *inputs, stage_memory)
        differences.append(_difference(boxes, refined, [one.to(device) for one in outputs]))
        _, boxes, features = refined
    return differences


def _difference(
    before: Tensor, refined: tuple[Tensor, ...], outputs: list[Tensor]
) -> StageDifference:
    logits, boxes = (ours - plain for ours, plain in zip(outputs[:2], refined[:2], strict=True))
    size = torch.maximum(
        refined[1][..., 2:] - refined[1][..., :2], before[..., 2:] - before[..., :2]
    )
    of_boxes = (boxes.abs() / size.repeat(1, 1, 2).clamp(min=1e-3)).amax(-1).flatten()
    return StageDifference(
        logits=logits.abs().max().item(),
        logits_median=logits.abs().amax(-1).median().item(),
        logits_rms=logits.square().mean().sqrt().item(),
        boxes_px=boxes.abs().max().item(),
        boxes_share=(
            of_boxes.median().item(),
            of_boxes.quantile(0.99).item(),
            of_boxes.max().item(),
        ),
    )


def _encoded(model: SparseVOD, images: Tensor, image_size: tuple[int, int]) -> Pyramid:
    device = model.proposals.features.device
    sizes: Int[Tensor, "B 2"] = torch.tensor([image_size] * len(images), device=device)
    return model.encode(images.to(device), sizes)


class _Converted:
    """Pyramid of the plain detector in another precision and on another device."""

    def __init__(self, frames: Pyramid, dtype: torch.dtype, device: torch.device) -> None:
        self.image_sizes = frames.image_sizes.to(device)
        self._frames, self._dtype, self._device = frames, dtype, device

    def level(self, number: int) -> Tensor:
        return self._frames.level(number).to(self._device, self._dtype)

    def pool(self, boxes_xyxy: Tensor) -> Tensor:
        boxes_xyxy = boxes_xyxy.to(self._frames.image_sizes.device)
        return self._frames.pool(boxes_xyxy).to(self._device, self._dtype)


def _with_proposals(
    fast: SparseVOD,
    memory: SupportMemory,
    detector: SparseVOD,
    supports: Pyramid,
    device: torch.device,
) -> SupportMemory:
    """Return the memory of `fast`, with support proposals of the plain `detector`."""
    stages = tuple(
        stage.remember(features.to(device), one.maps, 1)
        for stage, one, (features, _) in zip(
            fast.stages, memory.stages, detector.refine_supports(supports), strict=True
        )
    )
    return SupportMemory(stages, memory.num_supports)
