"""Two-stage detectors: region proposals, boxes of the head, and what NMS leaves of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.figures.stage_view import StageNames
from sparsevod_core.inference.inspectors.inspector import Inspector, Stages, Step
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.two_stage.detections import BoxHeadOutput, class_scores
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN

HEAD = 1  # the stage in which proposals attend to others


class TwoStageInspector(Inspector):
    """Stages of Faster R-CNN and its descendants.

    The box head gives each proposal its best class. After NMS, a proposal has its best remaining
    class, or a score of 0.
    """

    def __init__(self, detector: FasterRCNN | MEGA) -> None:
        self._base = detector

    @property
    def names(self) -> StageNames:
        return StageNames(
            "Region proposals",
            "region proposal",
            f"best {self._base.num_proposals} by objectness",
            ("Box head", "After NMS"),
        )

    def stages(self, step: Step) -> Stages:
        output: BoxHeadOutput = step.output
        count = int(output.proposals.counts[0])
        boxes, remaining = self._base.selector.without_duplicates(output)
        scores = class_scores(output)[0, :count]
        boxes, remaining = boxes[0, :count], self._detected(remaining)[0, :count]
        before, after = scores.max(dim=-1), remaining.max(dim=-1)
        labels = torch.where(after.values > 0, after.indices, before.indices)
        labels = torch.stack([before.indices, labels])
        chosen = labels[..., None, None].expand(-1, -1, 1, 4)
        return Stages(
            proposals_xyxy=self.in_image(output.proposals.boxes[0, :count]),
            boxes_xyxy=self.in_image(boxes.expand(2, -1, -1, -1).gather(2, chosen)[:, :, 0]),
            scores=torch.stack([before.values, after.values]),
            labels=labels,
            proposal_scores=output.proposals.scores[0, :count],
        )

    def in_image(self, boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
        """Return boxes of the detector as its detections have them."""
        return boxes_xyxy

    def _detected(self, scores: Float[Tensor, "1 N K"]) -> Float[Tensor, "1 N K"]:
        """Return the scores with 0 for those that are not among the best detections."""
        count = min(self._base.selector.max_detections, scores.numel())
        least = scores.flatten().topk(count).values[-1]
        return scores * (scores >= least)
