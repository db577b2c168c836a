"""The detector: backbone, learned proposals and temporal dynamic head (paper, Fig. 2).

`encode` computes feature pyramids of frames, `remember` builds the memory of the support frames,
and `detect` detects objects in target frames with that memory. Encoding does not depend on the use
of a frame, and one memory serves all target frames of its video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsevod_core.kernels import BAGS, Kernels
from sparsevod_core.model.backbone import STRIDES, Backbone
from sparsevod_core.model.padding import inside
from sparsevod_core.model.proposals import LearnedProposals
from sparsevod_core.model.pyramid import Pyramid, WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.stage import Refined, RefinementStage
from sparsevod_core.model.support import StageMemory, SupportMaps, SupportMemory
from sparsevod_core.model.video_detector import Found, Images, VideoDetector
from sparsevod_core.structures import Clip, DetectorOutput, Targets

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, of ImageNet
PIXEL_STD = (58.395, 57.12, 57.375)
PADDING_MULTIPLE = 32


class Normalize(nn.Module):
    """Normalization of RGB images in 0..255; the padding stays zero, as in the reference."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Float[Tensor, "B 3 H W"]:
        """Return the normalized images."""
        in_image = inside(image_sizes, images.shape[-2:], stride=1)
        return (images - self.mean) / self.std * in_image[:, None]


class SparseVOD(VideoDetector):
    """Video object detector: target and support frames in, refined proposals of every stage out.

    Args:
        backbone: normalized images to P2..P5.
        proposals: learned boxes and features.
        roi_align: pools RoI features from a pyramid.
        stages: the T refinement stages; TFE and SPFA are on or off in all of them alike.
        support_level: index of the pyramid level in which TFE searches for similar features.

    Attributes:
        kernels: implementation of similarity search, pooling and attention; see `use_kernels`.
        make_pyramid: builds a pyramid of the backbone's output.
        run_stage: applies one stage to target frames; see `run_stage` below.
        recompute_stages: if True, the stages are computed again in the backward pass instead of
            storing their activations (Chen et al., 2016).
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
        self.make_pyramid: Callable[..., Pyramid] = WholePyramid
        self.run_stage: Callable[..., Refined] = run_stage
        self.recompute_stages = False
        self.normalize = Normalize()
        self.kernels = BAGS

    def use_kernels(self, kernels: Kernels) -> None:
        """Set the kernels of all parts."""
        for part in (self, self.roi_align, *(stage.temporal_roi for stage in self.stages)):
            if part is not None:
                part.kernels = kernels

    @property
    def uses_supports(self) -> bool:
        return self.has_temporal_roi or self.has_aggregation

    @property
    def has_temporal_roi(self) -> bool:
        """Whether TFE is on."""
        return self.stages[0].temporal_roi is not None

    @property
    def has_aggregation(self) -> bool:
        """Whether SPFA is on."""
        return self.stages[0].aggregation is not None

    def forward(self, clip: Clip, targets: Sequence[Targets] = ()) -> DetectorOutput:
        """Detect objects in the target of each clip with its own supports, for training.

        Args:
            clip: target and support frames.
            targets: not used, as the loss matches all proposals.
        """
        batch, supports = clip.supports.shape[:2]
        frames = torch.cat([clip.images, clip.supports.flatten(0, 1)])
        sizes = torch.cat([clip.image_sizes, clip.image_sizes.repeat_interleave(supports, dim=0)])
        levels = self.feature_maps(frames, sizes)
        target_frames, others = (
            self.make_pyramid([level[part] for level in levels], sizes[part], self.roi_align)
            for part in (slice(batch), slice(batch, None))
        )
        memory = self.remember(others, videos=batch) if supports else None
        return self.detect(target_frames, memory)

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Pyramid:
        """Return the feature pyramids of frames.

        Args:
            images: RGB 0..255, padded to a multiple of 32.
            image_sizes: unpadded (height, width) of each frame in pixels.
        """
        return self.make_pyramid(
            self.feature_maps(images, image_sizes), image_sizes, self.roi_align
        )

    def feature_maps(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> list[Tensor]:
        """Return the output of the backbone."""
        return self.backbone(self.normalize(images, image_sizes))

    def remember(self, supports: Pyramid, videos: int = 1) -> SupportMemory:
        """Return the memory of the support frames of V videos.

        Args:
            supports: the S support frames of the first video, then those of the next.
        """
        maps = self.support_maps(supports, videos) if self.has_temporal_roi else None
        if self.has_aggregation:
            features_of_stages = [features for features, _ in self.refine_supports(supports)]
        else:
            features_of_stages = [self.proposals.features[None]] * len(self.stages)  # not read
        pairs = zip(self.stages, features_of_stages, strict=True)
        stages = tuple(stage.remember(features, maps, videos) for stage, features in pairs)
        return SupportMemory(stages, len(supports.image_sizes) // videos)

    def join(
        self, memories: Sequence[SupportMemory], global_memories: Sequence[SupportMemory] = ()
    ) -> SupportMemory | None:
        if len(memories) < 2:
            return memories[0] if memories else None
        return SupportMemory.joined(memories)

    def detect(self, targets: Pyramid, memory: SupportMemory | None) -> DetectorOutput:
        """Apply the temporal dynamic head to target frames.

        Args:
            targets: one frame of each video of the memory, or any number of frames of one video.
            memory: support frames; None: each frame is processed on its own.
        """
        proposals_xyxy, _ = self.proposals(targets.image_sizes)
        logits, boxes_xyxy, _ = zip(*self.refine(targets, memory), strict=True)
        return DetectorOutput(
            torch.stack(logits), torch.stack(boxes_xyxy), proposals_xyxy, targets.image_sizes
        )

    def top(self, output: DetectorOutput) -> Found:
        return top_detections(output)

    def refine(self, targets: Pyramid, memory: SupportMemory | None) -> Iterator[Refined]:
        """Yield logits, boxes and proposal features of target frames after each stage."""
        boxes_xyxy, features = self.proposals(targets.image_sizes)
        for number, stage in enumerate(self.stages):
            stage_memory = None if memory is None else memory.stages[number]
            refined = self._run(self.run_stage, stage, targets, features, boxes_xyxy, stage_memory)
            yield refined
            _, boxes_xyxy, features = refined
            boxes_xyxy = boxes_xyxy.detach()  # between stages gradients flow through features only

    def refine_supports(
        self, supports: Pyramid
    ) -> Iterator[tuple[Float[Tensor, "F N C"], Float[Tensor, "F N 4"]]]:
        """Yield proposal features and boxes of support frames after each stage.

        TFE and SPFA are skipped, so that the result does not depend on any target.
        """
        boxes_xyxy, features = self.proposals(supports.image_sizes)
        for stage in self.stages:
            features = self._run(stage.interact, features, supports.pool(boxes_xyxy))
            boxes_xyxy = stage.refine(boxes_xyxy.detach(), features)
            yield features, boxes_xyxy

    def support_maps(self, supports: Pyramid, videos: int = 1) -> SupportMaps:
        """Return the maps of support frames in which TFE searches."""
        level = supports.level(self.support_level)
        valid = _valid_positions(supports.image_sizes, level.shape[-2:], self.support_level)
        rows = level.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (videos, -1))  # [V, S, HW, C]
        valid = valid.flatten(1).unflatten(0, (videos, -1))[:, 0]  # [V, HW]
        return SupportMaps(rows, self.kernels.keys(rows, valid), level.shape[-1])

    def _run(self, part: Callable[..., Any], *inputs: Any) -> Any:
        if self.recompute_stages and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
        return part(*inputs)


def run_stage(
    stage: RefinementStage,
    targets: Pyramid,
    features: Float[Tensor, "B N C"],
    boxes_xyxy: Float[Tensor, "B N 4"],
    memory: StageMemory | None,
) -> Refined:
    """Pool the boxes, then refine them: logits, boxes and proposal features after one stage."""
    return stage(features, boxes_xyxy, targets.pool(boxes_xyxy), memory)


def top_detections(
    output: DetectorOutput, stage: int = -1
) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Return the N best (box, class) pairs per frame, best first: unclipped boxes, scores, labels.

    There is no NMS and no score threshold; a box may appear with more than one class.
    """
    scores = output.logits[stage].float().sigmoid()
    num_proposals, num_classes = scores.shape[1:]
    best, index = scores.flatten(1).topk(num_proposals, dim=1)
    boxes = output.boxes_xyxy[stage]
    proposal = (index // num_classes)[..., None].expand(-1, -1, 4)
    return boxes.gather(1, proposal), best, index % num_classes


def _valid_positions(
    image_sizes: Int[Tensor, "B 2"], map_size: Sequence[int], level: int
) -> Bool[Tensor, "B H W"]:
    """Return which positions of a map are inside the image, padded to a multiple of 32."""
    padded = image_sizes.add(PADDING_MULTIPLE - 1).div(PADDING_MULTIPLE, rounding_mode="floor")
    return inside(padded * PADDING_MULTIPLE, map_size, STRIDES[level])
