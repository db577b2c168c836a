"""Non-maximum suppression (NMS) with results of a fixed size, which exporters need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import nms

from sparsevod_core.model.two_stage.detections import (
    BoxHeadOutput,
    DetectionSelector,
    class_scores,
    decoded_boxes,
)
from sparsevod_core.model.two_stage.region_proposals import Proposals


def kept(
    boxes_xyxy: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], iou: float
) -> Bool[Tensor, " n"]:
    """Return which boxes NMS keeps."""
    is_kept = torch.zeros(len(boxes_xyxy), dtype=torch.bool)
    return is_kept.index_fill(0, nms(boxes_xyxy, scores, iou), True)


def best_proposals(
    boxes_xyxy: Float[Tensor, "1 M 4"],
    scores: Float[Tensor, "1 M"],
    is_valid: Bool[Tensor, "1 M"],
    *,
    iou: float,
    count: int,
) -> Proposals:
    """Return what `RegionProposals.proposals` does, given its candidates, for one frame."""
    boxes_xyxy, scores, is_valid = boxes_xyxy[0], scores[0], is_valid[0]
    length = len(scores)
    places = torch.arange(length)
    # Boxes without an area overlap nothing. Ranks instead of scores: equal scores keep their order.
    remain = kept(boxes_xyxy * is_valid[:, None], -places.float(), iou) & is_valid
    first = torch.where(remain, places, length).sort().values[:count]  # length: none
    first = F.pad(first, (0, count - len(first)), value=length)
    boxes_xyxy, scores = F.pad(boxes_xyxy, (0, 0, 0, 1)), F.pad(scores, (0, 1))
    number = remain.sum().clamp(max=count)
    return Proposals(boxes_xyxy[first][None], scores[first][None], number[None])


@dataclass(frozen=True, slots=True)
class ClassByClass(DetectionSelector):
    """Selector for one frame that suppresses duplicates class by class, in single precision."""

    def without_duplicates(
        self, output: BoxHeadOutput
    ) -> tuple[Float[Tensor, "B N K 4"], Float[Tensor, "B N K"]]:
        scores = class_scores(output)
        boxes_xyxy = decoded_boxes(output, self.stds, self.limits)
        remain = [
            kept(boxes_xyxy[0, :, label], scores[0, :, label], self.nms_iou)
            for label in range(scores.shape[2])
        ]
        is_detection = torch.stack(remain, dim=-1) & (scores > self.min_score)
        return boxes_xyxy, scores * is_detection
