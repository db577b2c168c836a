"""Faster R-CNN (Ren et al., NeurIPS 2015) with one dilated map (DC5), as MMTracking configures it.

It detects in single frames, and is what SELSA, Temporal RoI Align, MAMBA and FGFA extend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.kernels import Kernels
from sparsevod_core.model.detector import Normalize
from sparsevod_core.model.pyramid import WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.two_stage.box_head import BoxHead, ClassesAndBoxes
from sparsevod_core.model.two_stage.detections import BoxHeadOutput, DetectionSelector
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import Proposals, RegionProposals
from sparsevod_core.model.video_detector import Found, Images, VideoDetector
from sparsevod_core.structures import Clip, Targets, TwoStageOutput


@dataclass(frozen=True, slots=True)
class EncodedFrames:
    """Maps and proposals of frames.

    Attributes:
        image_sizes: unpadded (height, width) of each frame in pixels.
    """

    maps: Float[Tensor, "B C H W"]
    proposals: Proposals
    image_sizes: Int[Tensor, "B 2"]

    def best(self, num: int) -> EncodedFrames:
        """Return the frames with their best `num` proposals."""
        proposals = Proposals(
            self.proposals.boxes[:, :num],
            self.proposals.scores[:, :num],
            self.proposals.counts.clamp(max=num),
        )
        return replace(self, proposals=proposals)

    def frame(self, number: int) -> EncodedFrames:
        """Return one of the frames."""
        part = slice(number, number + 1)
        proposals = Proposals(
            self.proposals.boxes[part], self.proposals.scores[part], self.proposals.counts[part]
        )
        return EncodedFrames(self.maps[part], proposals, self.image_sizes[part])


class FasterRCNN(VideoDetector):
    """Two-stage detector: proposals of a map, then a class and a box for each.

    Args:
        backbone: normalized images to one map.
        rpn: map to proposals.
        roi_align: pools RoI features from the map.
        head: RoI features to classes and boxes.
        sampler: chooses the proposals on which the head is trained.
        selector: chooses the detections.
        num_proposals: N, number of proposals of a frame, except of a target frame in training.
        num_train_proposals: number of proposals of a target frame in training.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        rpn: RegionProposals,
        roi_align: PyramidRoIAlign,
        head: BoxHead,
        sampler: ProposalSampler,
        selector: DetectionSelector,
        num_proposals: int,
        num_train_proposals: int,
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.rpn = rpn
        self.roi_align = roi_align
        self.head = head
        self.sampler = sampler
        self.selector = selector
        self.num_proposals = num_proposals
        self.num_train_proposals = num_train_proposals

    def use_kernels(self, kernels: Kernels) -> None:
        """Set the kernels of all parts."""
        self.roi_align.kernels = kernels

    @property
    def uses_supports(self) -> bool:
        return False

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> EncodedFrames:
        return self.propose(self.feature_maps(images, image_sizes), image_sizes)

    def detect(self, targets: EncodedFrames, memory: Any | None) -> BoxHeadOutput:
        return self.output(targets, self.head(self.head.embed(self.pool(targets)), None))

    def top(self, output: BoxHeadOutput) -> Found:
        return self.selector(output)

    def forward(self, clip: Clip, targets: Sequence[Targets]) -> TwoStageOutput:
        maps = self.feature_maps(clip.images, clip.image_sizes)
        return self.samples(maps, clip.image_sizes, targets, None)

    def feature_maps(
        self, images: Images, image_sizes: Int[Tensor, "B 2"]
    ) -> Float[Tensor, "B C _ _"]:
        """Return the output of the backbone."""
        return self.backbone(self.normalize(images, image_sizes))

    def propose(
        self, maps: Float[Tensor, "B C H W"], image_sizes: Int[Tensor, "B 2"]
    ) -> EncodedFrames:
        """Return maps with their proposals, as at test time."""
        logits, deltas = self.rpn(maps)
        proposals = self.rpn.proposals(logits, deltas, image_sizes, self.num_proposals)
        return EncodedFrames(maps, proposals, image_sizes)

    def pool(self, frames: EncodedFrames) -> Float[Tensor, "B N C P P"]:
        """Return the RoI features of the proposals."""
        return self.pool_boxes(frames.maps, frames.image_sizes, frames.proposals.boxes)

    def pool_boxes(
        self,
        maps: Float[Tensor, "B C H W"],
        image_sizes: Int[Tensor, "B 2"],
        boxes_xyxy: Float[Tensor, "B N 4"],
    ) -> Float[Tensor, "B N C P P"]:
        """Return the RoI features of boxes."""
        return WholePyramid([maps], image_sizes, self.roi_align).pool(boxes_xyxy)

    def output(self, targets: EncodedFrames, predicted: ClassesAndBoxes) -> BoxHeadOutput:
        """Return the output for target frames, given the predictions of the head."""
        return BoxHeadOutput(*predicted, targets.proposals, targets.image_sizes)

    def samples(
        self,
        maps: Float[Tensor, "B C H W"],
        image_sizes: Int[Tensor, "B 2"],
        targets: Sequence[Targets],
        memory: Any | None,
    ) -> TwoStageOutput:
        """Return sampled anchors and proposals of target frames, with what is predicted for them.

        Args:
            maps: maps of the target frames.
            image_sizes: unpadded (height, width) of each frame in pixels.
            targets: ground truth of each frame; may have no boxes.
            memory: support frames of each target.
        """
        logits, deltas = self.rpn(maps)
        proposals = self.rpn.proposals(logits, deltas, image_sizes, self.num_train_proposals)
        sampled = self.sampler(proposals, targets)
        rois = self.pool_boxes(maps, image_sizes, sampled.boxes_xyxy)
        return TwoStageOutput(
            self.rpn.samples(logits, deltas, image_sizes, targets),
            sampled.with_predictions(*self.predict(rois, memory)),
        )

    def predict(self, rois: Float[Tensor, "B R C P P"], memory: Any | None) -> ClassesAndBoxes:
        """Return the predictions of the head for the RoI features of target frames in training."""
        return self.head(self.head.embed(rois), memory)
