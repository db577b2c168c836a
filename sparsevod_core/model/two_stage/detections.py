"""Detections of a two-stage detector: decoded predictions of the box head, without duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms

from sparsevod_core.model.two_stage.box_code import MMDETECTION, Limits, decode
from sparsevod_core.model.two_stage.region_proposals import Proposals
from sparsevod_core.model.video_detector import Found


@dataclass(frozen=True, slots=True)
class BoxHeadOutput:
    """Predictions of the box head for the proposals of target frames.

    Attributes:
        logits: K + 1 class scores before the softmax, the background last.
        deltas: 4 K box deltas, class by class.
        proposals: the proposals.
        image_sizes: unpadded (height, width) of each frame in pixels.
    """

    logits: Float[Tensor, "B N classes"]
    deltas: Float[Tensor, "B N deltas"]
    proposals: Proposals
    image_sizes: Int[Tensor, "B 2"]


@dataclass(frozen=True, slots=True)
class DetectionSelector:
    """Choice of detections among all (proposal, class) pairs.

    Attributes:
        stds: scales of the box deltas.
        min_score: pairs with this score or less are dropped, 0..1.
        nms_iou: IoU above which the lower of two boxes of a class is dropped.
        max_detections: M, number of detections of a frame.
        limits: bounds of the boxes.
    """

    stds: Sequence[float]
    min_score: float
    nms_iou: float
    max_detections: int
    limits: Limits = MMDETECTION

    def __call__(self, output: BoxHeadOutput) -> Found:
        """Return boxes, scores and labels of the M best detections of each frame."""
        return self._best(*self.without_duplicates(output))

    def without_duplicates(
        self, output: BoxHeadOutput
    ) -> tuple[Float[Tensor, "B N K 4"], Float[Tensor, "B N K"]]:
        """Return the box of each (proposal, class) pair, and its score; 0 for dropped pairs."""
        scores = class_scores(output)
        boxes_xyxy = decoded_boxes(output, self.stds, self.limits)
        pairs = (scores > self.min_score).nonzero(as_tuple=True)
        frame, _, label = pairs
        # Double precision, because batched_nms moves the boxes of each group far away from the
        # others: in single precision the result of a frame would depend on the batch.
        kept = batched_nms(
            boxes_xyxy[pairs].double(),
            scores[pairs].double(),
            frame * scores.shape[2] + label,
            self.nms_iou,
        )
        pairs = tuple(index[kept] for index in pairs)
        remaining = scores.new_zeros(scores.shape)
        remaining[pairs] = scores[pairs]
        return boxes_xyxy, remaining

    def _best(self, boxes_xyxy: Float[Tensor, "B N K 4"], scores: Float[Tensor, "B N K"]) -> Found:
        """Return the M pairs with the highest scores; a score of 0 stands for no detection."""
        num_classes = scores.shape[2]
        ranked, order = scores.flatten(1).sort(dim=1, descending=True, stable=True)
        ranked, order = ranked[:, : self.max_detections], order[:, : self.max_detections]
        boxes_xyxy = boxes_xyxy.flatten(1, 2).gather(1, order[..., None].expand(-1, -1, 4))
        is_detection = ranked > 0
        boxes_xyxy = boxes_xyxy * is_detection[..., None]
        labels = order % num_classes * is_detection
        missing = self.max_detections - ranked.shape[1]
        return (
            F.pad(boxes_xyxy, (0, 0, 0, missing)),
            F.pad(ranked, (0, missing)),
            F.pad(labels, (0, missing)),
        )


def class_scores(output: BoxHeadOutput) -> Float[Tensor, "B N K"]:
    """Return the softmax without the background; 0 for padding."""
    scores = output.logits.float().softmax(dim=-1)[..., :-1]
    return scores * output.proposals.valid[..., None]


def decoded_boxes(
    output: BoxHeadOutput, stds: Sequence[float], limits: Limits = MMDETECTION
) -> Float[Tensor, "B N K 4"]:
    """Return the box of each proposal and class, clipped to the image."""
    deltas = output.deltas.unflatten(-1, (-1, 4))
    proposals_xyxy = output.proposals.boxes[:, :, None]
    return decode(proposals_xyxy, deltas, stds, output.image_sizes, limits)
