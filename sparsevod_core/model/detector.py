"""The whole forward: backbone, learned proposals, temporal dynamic head (paper, Fig. 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsevod_core.model.backbone import STRIDES, Backbone
from sparsevod_core.model.proposals import LearnedProposals
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.stage import RefinementStage
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.structures import Clip, DetectorOutput

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, of ImageNet
PIXEL_STD = (58.395, 57.12, 57.375)
PADDING_MULTIPLE = 32

Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]


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
        backbone: images to P2..P5.
        proposals: learned boxes and features.
        roi_align: pyramid and boxes to RoI features.
        stages: the T stages; all have TFE and SPFA, or none has.
        support_level: index of the pyramid level in which TFE looks for similar features.

    Attributes:
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
        self.recompute_stages = False
        self.normalise = Normalise()

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
        if supports == 0:
            return self.detect(clip.images, clip.image_sizes, None)
        frames = torch.cat([clip.images, clip.supports.flatten(0, 1)])
        support_sizes = clip.image_sizes.repeat_interleave(supports, dim=0)
        pyramid = self.pyramid(frames, torch.cat([clip.image_sizes, support_sizes]))
        targets = [level[:batch] for level in pyramid]
        others = [level[batch:] for level in pyramid]
        memory = self._remember(others, clip.image_sizes, supports)
        return self.refine(targets, clip.image_sizes, memory)

    def remember(self, images: Images, image_size: tuple[int, int]) -> SupportMemory:
        """Everything that the targets of one video need of its support frames.

        Args:
            images: the S support frames, RGB 0..255, padded to a multiple of 32.
            image_size: unpadded (height, width) in pixels.
        """
        sizes = torch.tensor([image_size], device=images.device)
        pyramid = self.pyramid(images, sizes.expand(len(images), 2))
        return self._remember(pyramid, sizes, len(images))

    def detect(
        self, images: Images, image_sizes: Int[Tensor, "B 2"], memory: SupportMemory | None
    ) -> DetectorOutput:
        """Targets of one video with its memory; None: without supports."""
        return self.refine(self.pyramid(images, image_sizes), image_sizes, memory)

    def pyramid(
        self, images: Images, image_sizes: Int[Tensor, "B 2"]
    ) -> list[Float[Tensor, "B C _ _"]]:
        """P2..P5."""
        return self.backbone(self.normalise(images, image_sizes))

    def refine(
        self,
        pyramid: Sequence[Float[Tensor, "B C _ _"]],
        image_sizes: Int[Tensor, "B 2"],
        memory: SupportMemory | None,
    ) -> DetectorOutput:
        """The temporal dynamic head on the targets."""
        proposals_xyxy, features = self.proposals(image_sizes)
        boxes_xyxy = proposals_xyxy
        stage_logits, stage_boxes = [], []
        roi_align = self.roi_align.over(pyramid)
        for number, stage in enumerate(self.stages):
            roi_features = roi_align(boxes_xyxy.detach())
            logits, boxes_xyxy, features = self._run(
                stage, features, boxes_xyxy, roi_features, memory, number
            )
            stage_logits.append(logits)
            stage_boxes.append(boxes_xyxy)
            boxes_xyxy = boxes_xyxy.detach()  # from stage to stage only features carry gradients
        return DetectorOutput(
            torch.stack(stage_logits), torch.stack(stage_boxes), proposals_xyxy, image_sizes
        )

    def _remember(
        self,
        pyramid: Sequence[Float[Tensor, "F C _ _"]],
        image_sizes: Int[Tensor, "V 2"],
        supports: int,
    ) -> SupportMemory:
        """Memory of F = V S support frames, the frames of a video side by side."""
        maps = pyramid[self.support_level].unflatten(0, (-1, supports))
        if not self.has_temporal_roi:
            maps = maps[..., :0, :0]
        valid = valid_positions(image_sizes, maps.shape[-2:], self.support_level)
        frame_sizes = image_sizes.repeat_interleave(supports, dim=0)
        proposals = self._support_proposals(pyramid, frame_sizes)  # [T, F, N, C]
        return SupportMemory(maps, valid, proposals.unflatten(1, (-1, supports)).movedim(0, 1))

    def _support_proposals(
        self, pyramid: Sequence[Float[Tensor, "F C _ _"]], image_sizes: Int[Tensor, "F 2"]
    ) -> Float[Tensor, "T F N C"]:
        """Support frames pass all stages alone, without TFE and SPFA, so that no target matters."""
        boxes_xyxy, features = self.proposals(image_sizes)
        if not self.has_aggregation:
            return features.new_zeros(0, *features.shape)
        stage_features = []
        roi_align = self.roi_align.over(pyramid)
        for number, stage in enumerate(self.stages):
            boxes_xyxy = boxes_xyxy.detach()
            roi_features = roi_align(boxes_xyxy)
            features = self._run(stage.interact, features, roi_features)
            stage_features.append(features)
            if number + 1 < len(self.stages):  # nobody asks where the last stage's boxes are
                boxes_xyxy = stage.refine(boxes_xyxy, features)
        return torch.stack(stage_features)

    def _run(self, part: Callable[..., Any], *inputs: Any) -> Any:
        if self.recompute_stages and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
        return part(*inputs)


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
