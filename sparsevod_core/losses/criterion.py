"""Set-prediction loss (paper, section 3.1 "Loss Function"; Sparse R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from sparsevod_core.boxes import generalized_iou
from sparsevod_core.config import LossConfig
from sparsevod_core.losses.losses import Losses
from sparsevod_core.losses.matcher import image_whwh, match
from sparsevod_core.structures import DetectorOutput, Targets


class SetCriterion:
    """Matching at every stage, followed by focal, L1 and GIoU losses."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def __call__(
        self,
        output: DetectorOutput,
        targets: Sequence[Targets],
        num_boxes: Float[Tensor, ""] | float,
    ) -> Losses:
        """Return the losses of a batch.

        Args:
            output: Predictions of all stages.
            targets: Ground truth of each clip; may have no boxes.
            num_boxes: Number of boxes in the batch, averaged over the ranks, at least 1. The lower
                bound is the original's. Without it (MMDetection), the loss of an image without
                boxes explodes.
        """
        config = self.config
        logits, predicted = output.logits.float(), output.boxes_xyxy.float()
        matched, box_index = self._matched(output, targets)
        boxes = torch.cat([t.boxes_xyxy for t in targets])[box_index]
        labels = torch.cat([t.labels for t in targets])[box_index]

        one_hot = torch.zeros_like(logits)
        one_hot[(*matched, labels)] = 1
        focal = sigmoid_focal_loss(logits, one_hot, config.focal_alpha, config.focal_gamma)
        stage, clip, _ = matched
        whwh = image_whwh(output.image_sizes)[clip]
        predicted = predicted[matched]
        l1 = F.l1_loss(predicted / whwh, boxes / whwh, reduction="none").sum(-1)
        giou = 1 - generalized_iou(predicted, boxes)
        per_stage = logits.new_zeros(len(logits))
        return Losses(
            {
                "class": config.class_weight * focal.sum((1, 2, 3)) / num_boxes,
                "l1": config.l1_weight * per_stage.index_add(0, stage, l1) / num_boxes,
                "giou": config.giou_weight * per_stage.index_add(0, stage, giou) / num_boxes,
            }
        )

    def _matched(
        self, output: DetectorOutput, targets: Sequence[Targets]
    ) -> tuple[tuple[Int[Tensor, " m"], Int[Tensor, " m"], Int[Tensor, " m"]], Int[Tensor, " m"]]:
        """Return (stage, clip, proposal) of every pair, and its box in the concatenated targets."""
        columns: list[list[Tensor]] = [[], [], [], []]
        for stage, stage_pairs in enumerate(match(output, targets, self.config)):
            first = 0
            for clip, (proposals, boxes) in enumerate(stage_pairs):
                values = (torch.full_like(boxes, stage), torch.full_like(boxes, clip))
                for column, value in zip(columns, (*values, proposals, first + boxes), strict=True):
                    column.append(value)
                first += len(targets[clip].labels)
        indices = torch.stack([torch.cat(column) for column in columns])
        stages, clips, proposals, boxes = indices.to(output.logits.device, non_blocking=True)
        return (stages, clips, proposals), boxes
