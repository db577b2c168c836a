"""How far an optimised detector is from the plain one, stage by stage.

Each stage is given the plain path's boxes and proposal features in fp32, so that what is seen is
the error of one stage, and not that of a box which went elsewhere three stages before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.pyramid import Pyramid
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
    fast: SparseVOD,
    targets: UInt8[Tensor, "B 3 H W"],
    supports: UInt8[Tensor, "S 3 H W"],
    image_size: tuple[int, int],
    *,
    shared_maps: bool,
) -> list[StageDifference]:
    """Of every stage, on target frames of a video with their support frames.

    Args:
        fast: the same detector, optimised; may lie on another device.
        targets, supports: padded to a multiple of 32.
        image_size: unpadded (height, width) in pixels.
        shared_maps: the fast stages get the plain path's maps too. Rounding a map can flip near
            ties in TFE's choice, and the chosen features then differ, however exact everything
            else is.
    """
    device, fast_device = (model.proposals.features.device for model in (detector, fast))
    plain_frames = [_encoded(detector, images, image_size) for images in (targets, supports)]
    if shared_maps:
        fast_frames = [_lent(frames, fast, fast_device) for frames in plain_frames]
    else:
        fast_frames = [_encoded(fast, images, image_size) for images in (targets, supports)]
    memory = detector.remember(plain_frames[1])
    fast_memory = fast.remember(fast_frames[1])
    if shared_maps:
        fast_memory = _with_proposals(fast, fast_memory, plain_frames[1], detector, fast_device)
    boxes, features = detector.proposals(plain_frames[0].image_sizes)
    differences = []
    refined_of_stages = detector.refine(plain_frames[0], memory)
    for number, refined in enumerate(refined_of_stages):
        inputs = (one.to(fast_device) for one in (features, boxes))
        found = fast.step(fast.stages[number], fast_frames[0], *inputs, fast_memory.stages[number])
        differences.append(_difference(boxes, refined, [one.to(device) for one in found]))
        _, boxes, features = refined
    return differences


def _difference(
    before: Tensor, refined: tuple[Tensor, ...], found: list[Tensor]
) -> StageDifference:
    logits, boxes = (ours - right for ours, right in zip(found[:2], refined[:2], strict=True))
    size = torch.maximum(
        refined[1][..., 2:] - refined[1][..., :2], before[..., 2:] - before[..., :2]
    )
    of_boxes = (boxes.abs() / size.repeat(1, 1, 2).clamp(min=1e-3)).amax(-1).flatten()
    return StageDifference(
        logits=logits.abs().max().item(),
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


class _Lent:
    """The plain path's maps in the fast path's precision."""

    def __init__(self, frames: Pyramid, dtype: torch.dtype, device: torch.device) -> None:
        self.image_sizes = frames.image_sizes.to(device)
        self._frames, self._dtype, self._device = frames, dtype, device

    def level(self, number: int) -> Tensor:
        return self._frames.level(number).to(self._device, self._dtype)

    def pool(self, boxes_xyxy: Tensor) -> Tensor:
        boxes_xyxy = boxes_xyxy.to(self._frames.image_sizes.device)
        return self._frames.pool(boxes_xyxy).to(self._device, self._dtype)


def _lent(frames: Pyramid, fast: SparseVOD, device: torch.device) -> Pyramid:
    return _Lent(frames, next(fast.backbone.parameters()).dtype, device)


def _with_proposals(
    fast: SparseVOD,
    memory: SupportMemory,
    supports: Pyramid,
    detector: SparseVOD,
    device: torch.device,
) -> SupportMemory:
    """The memory with what the fast SPFA keeps of the plain path's proposal features."""
    if not detector.has_aggregation:
        return memory
    stages = tuple(
        stage.keep(features.to(device), kept.maps, 1)
        for stage, kept, (features, _) in zip(
            fast.stages, memory.stages, detector.refine_alone(supports), strict=True
        )
    )
    return SupportMemory(stages, memory.num_supports)
