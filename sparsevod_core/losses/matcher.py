"""Hungarian matching between predictions and ground truth, for all stages and clips at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sparsevod_core.boxes import generalized_iou
from sparsevod_core.config import LossConfig
from sparsevod_core.structures import DetectorOutput, Targets

COST_EPS = 1e-12  # inside the logarithms, as in MMDetection; 1e-8 in the original


@torch.no_grad()
def match(
    output: DetectorOutput, targets: Sequence[Targets], weights: LossConfig, eps: float = COST_EPS
) -> list[list[tuple[Int[Tensor, " m"], Int[Tensor, " m"]]]]:
    """Return the one-to-one pairs (proposals, boxes) with the lowest total cost.

    If a clip has more boxes than proposals, some boxes stay unmatched. The costs of all stages and
    clips move to the host in one copy.

    Returns:
        Pairs by stage, then by clip, on the CPU.
    """
    # A prediction that is not finite may get any pair: its loss is reported, not its matching.
    costs = matching_cost(output, targets, weights, eps).nan_to_num().cpu().numpy()
    pairs = []
    for stage_costs in costs:
        stage_pairs = []
        for cost, target in zip(stage_costs, targets, strict=True):
            proposals, boxes = linear_sum_assignment(cost[:, : len(target.labels)])
            stage_pairs.append((torch.as_tensor(proposals), torch.as_tensor(boxes)))
        pairs.append(stage_pairs)
    return pairs


def matching_cost(
    output: DetectorOutput, targets: Sequence[Targets], weights: LossConfig, eps: float = COST_EPS
) -> Float[Tensor, "T B N M"]:
    """Return the cost of every proposal and box: 2 focal + 5 L1 - 2 GIoU with default weights.

    L1 is between `xyxy` boxes divided by the image size. M is the largest number of boxes of a
    clip; other clips are padded.
    """
    boxes = pad_sequence([t.boxes_xyxy for t in targets], batch_first=True)  # [B, M, 4]
    labels = pad_sequence([t.labels for t in targets], batch_first=True)  # [B, M]
    predicted = output.boxes_xyxy.float()
    whwh = image_whwh(output.image_sizes)[:, None]  # [B, 1, 4]
    l1 = (predicted / whwh)[:, :, :, None] - (boxes / whwh)[:, None]
    giou = generalized_iou(predicted[:, :, :, None], boxes[:, None])
    focal = _focal_cost(output.logits.float().sigmoid(), weights, eps)  # [T, B, N, K]
    index = labels[None, :, None].expand(*focal.shape[:3], -1)
    return (
        weights.class_weight * focal.gather(-1, index)
        + weights.l1_weight * l1.abs().sum(-1)
        - weights.giou_weight * giou
    )


def image_whwh(image_sizes: Int[Tensor, "B 2"]) -> Float[Tensor, "B 4"]:
    """Return (width, height, width, height) of each image, which normalizes `xyxy` boxes."""
    return image_sizes.flip(-1).repeat(1, 2).float()


def _focal_cost(
    probability: Float[Tensor, "*n K"], weights: LossConfig, eps: float
) -> Float[Tensor, "*n K"]:
    alpha, gamma = weights.focal_alpha, weights.focal_gamma
    positive = -(probability + eps).log() * alpha * (1 - probability) ** gamma
    negative = -(1 - probability + eps).log() * (1 - alpha) * probability**gamma
    return positive - negative
