"""The whole forward: backbone, learned proposals, temporal dynamic head (paper, Fig. 2).

`encode` frames, `remember` support frames, `detect` objects in target frames with that memory. An
encoded frame does not depend on its use, and a memory serves all targets of its video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsevod_core.kernels import BAGS, Kernels
from sparsevod_core.model.backbone import STRIDES, Backbone
from sparsevod_core.model.proposals import LearnedProposals
from sparsevod_core.model.pyramid import Pyramid, WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.stage import RefinementStage
from sparsevod_core.model.support import StageMemory, SupportMaps, SupportMemory
from sparsevod_core.structures import Clip, DetectorOutput

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, of ImageNet
PIXEL_STD = (58.395, 57.12, 57.375)
PADDING_MULTIPLE = 32

Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
Refined = tuple[Float[Tensor, "B N K"], Float[Tensor, "B N 4"], Float[Tensor, "B N C"]]


class Normalise(nn.Module):
    """RGB 0..255 to what the backbone takes; the padding is zero there, as the reference has it."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Float[Tensor, "B 3 H W"]:
        """Normalised images."""
        height, width = images.shape[-2:]
        inside = _inside(image_sizes, height, width, stride=1)
        return (images - self.mean) / self.std * inside[:, None]


class SparseVOD(nn.Module):
    """Target frames and support frames in, refined proposals of every stage out.

    Args:
        backbone: normalised images to P2..P5.
        proposals: learned boxes and features.
        roi_align: pyramid and boxes to RoI features.
        stages: the T stages; all have TFE and SPFA, or none has.
        support_level: index of the pyramid level in which TFE looks for similar features.

    Attributes:
        kernels: what searches support maps, pools and attends; see `use_kernels`.
        pyramid_of: what the backbone gives to a pyramid.
        step: what a stage makes of targets, see `refine_once`.
        recompute_stages: in training, compute the stages a second time in the backward pass
            instead of keeping their activations (Chen et al., 2016).
    """

    stages: Sequence[RefinementStage]

    def __init__(
        self,
        *,
        backbone: Backbone,
        proposals: LearnedProposals,
        roi_align: PyramidRoIAlign,
        stages: Sequence[RefinementStage],
        support_level: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposals = proposals
        self.roi_align = roi_align
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]
        self.support_level = support_level
        self.pyramid_of: Callable[..., Pyramid] = WholePyramid
        self.step: Callable[..., Refined] = refine_once
        self.recompute_stages = False
        self.normalise = Normalise()
        self.kernels = BAGS

    def use_kernels(self, kernels: Kernels) -> None:
        """Have all parts compute with these."""
        for part in (self, self.roi_align, *(stage.temporal_roi for stage in self.stages)):
            if part is not None:
                part.kernels = kernels

    @property
    def has_temporal_roi(self) -> bool:
        """Whether TFE is on."""
        return self.stages[0].temporal_roi is not None

    @property
    def has_aggregation(self) -> bool:
        """Whether SPFA is on."""
        return self.stages[0].aggregation is not None

    def forward(self, clip: Clip) -> DetectorOutput:
        """Targets with their clip's own supports; gradients flow through both."""
        batch, supports = clip.supports.shape[:2]
        frames = torch.cat([clip.images, clip.supports.flatten(0, 1)])
        sizes = torch.cat([clip.image_sizes, clip.image_sizes.repeat_interleave(supports, dim=0)])
        levels = self.maps(frames, sizes)
        targets, others = (
            self.pyramid_of([level[part] for level in levels], sizes[part], self.roi_align)
            for part in (slice(batch), slice(batch, None))
        )
        memory = self.remember(others, videos=batch) if supports else None
        return self.detect(targets, memory)

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Pyramid:
        """What is computed of frames alone.

        Args:
            images: RGB 0..255, padded to a multiple of 32.
            image_sizes: unpadded (height, width) of each in pixels.
        """
        return self.pyramid_of(self.maps(images, image_sizes), image_sizes, self.roi_align)

    def maps(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> list[Tensor]:
        """What the backbone makes of frames."""
        return self.backbone(self.normalise(images, image_sizes))

    def remember(self, supports: Pyramid, videos: int = 1) -> SupportMemory:
        """Everything that the targets of V videos need of their support frames.

        Args:
            supports: the S frames of each video, side by side.
        """
        maps = self.support_maps(supports, videos) if self.has_temporal_roi else None
        if self.has_aggregation:
            alone = self.refine_alone(supports)
            features_of_stages = [features for features, _ in alone]
        else:
            features_of_stages = [self.proposals.features[None]] * len(self.stages)
        kept = zip(self.stages, features_of_stages, strict=True)
        stages = tuple(stage.keep(features, maps, videos) for stage, features in kept)
        return SupportMemory(stages, len(supports.image_sizes) // videos)

    def detect(self, targets: Pyramid, memory: SupportMemory | None) -> DetectorOutput:
        """The temporal dynamic head on target frames.

        Args:
            targets: of the memory's videos: one of each, or any number where it has one video.
            memory: None: every frame is seen alone.
        """
        proposals_xyxy, _ = self.proposals(targets.image_sizes)
        refined = list(self.refine(targets, memory))
        return DetectorOutput(
            torch.stack([logits for logits, _, _ in refined]),
            torch.stack([boxes_xyxy for _, boxes_xyxy, _ in refined]),
            proposals_xyxy,
            targets.image_sizes,
        )

    def refine(self, targets: Pyramid, memory: SupportMemory | None) -> Iterator[Refined]:
        """Logits, boxes and proposal features of target frames, stage by stage."""
        boxes_xyxy, features = self.proposals(targets.image_sizes)
        for number, stage in enumerate(self.stages):
            kept = None if memory is None else memory.stages[number]
            refined = self._run(self.step, stage, targets, features, boxes_xyxy, kept)
            yield refined
            _, boxes_xyxy, features = refined
            boxes_xyxy = boxes_xyxy.detach()  # from stage to stage only features carry gradients

    def refine_alone(
        self, frames: Pyramid
    ) -> Iterator[tuple[Float[Tensor, "F N C"], Float[Tensor, "F N 4"]]]:
        """Proposal features and boxes of support frames, stage by stage.

        They pass the stages without TFE and SPFA, so that no target matters.
        """
        boxes_xyxy, features = self.proposals(frames.image_sizes)
        for stage in self.stages:
            features = self._run(stage.interact, features, frames.pool(boxes_xyxy))
            boxes_xyxy = stage.refine(boxes_xyxy.detach(), features)
            yield features, boxes_xyxy

    def support_maps(self, supports: Pyramid, videos: int = 1) -> SupportMaps:
        """What TFE looks for similar features in."""
        level = supports.level(self.support_level)
        valid = valid_positions(supports.image_sizes, level.shape[-2:], self.support_level)
        rows = level.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (videos, -1))
        valid = valid.flatten(1).unflatten(0, (videos, -1))[:, 0]
        return SupportMaps(rows, self.kernels.keys(rows, valid), level.shape[-1])

    def _run(self, part: Callable[..., Any], *inputs: Any) -> Any:
        if self.recompute_stages and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
        return part(*inputs)


def refine_once(
    stage: RefinementStage,
    targets: Pyramid,
    features: Float[Tensor, "B N C"],
    boxes_xyxy: Float[Tensor, "B N 4"],
    memory: StageMemory | None,
) -> Refined:
    """Logits, boxes and proposal features after one stage: pool the boxes, then refine them."""
    return stage(features, boxes_xyxy, targets.pool(boxes_xyxy), memory)


def top_detections(
    output: DetectorOutput, stage: int = -1
) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """The N best (box, class) pairs of each frame, best first: unclipped boxes, scores, labels.

    No NMS and no threshold; a box may appear with more than one class.
    """
    scores = output.logits[stage].float().sigmoid()
    num_proposals, num_classes = scores.shape[1:]
    best, index = scores.flatten(1).topk(num_proposals, dim=1)
    boxes = output.boxes_xyxy[stage]
    proposal = (index // num_classes)[..., None].expand(-1, -1, 4)
    return boxes.gather(1, proposal), best, index % num_classes


def valid_positions(
    image_sizes: Int[Tensor, "B 2"], map_size: Sequence[int], level: int
) -> Bool[Tensor, "B H W"]:
    """Positions of a map of that level that belong to each image, rounded up to the padding."""
    padded = image_sizes.add(PADDING_MULTIPLE - 1).div(PADDING_MULTIPLE, rounding_mode="floor")
    height, width = map_size
    return _inside(padded * PADDING_MULTIPLE, height, width, STRIDES[level])


def _inside(
    image_sizes: Int[Tensor, "B 2"], height: int, width: int, stride: int
) -> Bool[Tensor, "B H W"]:
    """Positions of a map of stride `stride` that start inside each image."""
    device = image_sizes.device
    rows = torch.arange(height, device=device) * stride < image_sizes[:, :1]
    columns = torch.arange(width, device=device) * stride < image_sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]
