"""Assignment of anchors or proposals to ground truth by IoU, and their random sampling."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import box_iou

NEGATIVE = -1
IGNORED = -2


def assign(
    boxes_xyxy: Float[Tensor, "N 4"],
    truth_xyxy: Float[Tensor, "M 4"],
    positive_iou: float,
    negative_iou: float,
    min_positive_iou: float | None,
) -> Int[Tensor, " N"]:
    """Return the ground-truth box of each box, or `NEGATIVE` or `IGNORED`.

    The rules are those of MMDetection's `MaxIoUAssigner`: a box belongs to the ground-truth box
    that it overlaps most, if their IoU is at least `positive_iou`; it is negative if all its IoUs
    are below `negative_iou`. Then each ground-truth box takes the boxes that overlap it most, even
    those that overlap another one more. Of several that take the same box, the last one gets it.

    Args:
        boxes_xyxy: anchors or proposals.
        truth_xyxy: ground truth; without any, all boxes are negative.
        positive_iou, negative_iou: thresholds, 0..1; boxes between them are ignored.
        min_positive_iou: IoU from which a ground-truth box takes the boxes that overlap it most;
            boxes without overlap are never taken. None: no box is taken.
    """
    iou = box_iou(boxes_xyxy, truth_xyxy).nan_to_num()  # [N, M]; NaN: two boxes without area
    if not iou.numel():
        return torch.full_like(boxes_xyxy[:, 0], NEGATIVE, dtype=torch.long)
    best, nearest = iou.max(dim=1)
    assigned = torch.where(best < negative_iou, NEGATIVE, IGNORED)
    assigned = torch.where(best >= positive_iou, nearest, assigned)
    if min_positive_iou is not None:
        best_of_truth = iou.amax(dim=0)
        takes = (iou == best_of_truth) & (best_of_truth >= min_positive_iou) & (iou > 0)
        order = torch.arange(1, len(truth_xyxy) + 1, device=iou.device)
        last = (takes * order).amax(dim=1)  # [N]; 0: not taken
        assigned = torch.where(last > 0, last - 1, assigned)
    return assigned


def sample(
    assigned: Int[Tensor, " N"], num: int, positive_share: float
) -> tuple[Int[Tensor, " positives"], Int[Tensor, " negatives"]]:
    """Draw at most `num` boxes and return the indices of the positive and of the negative ones.

    At most `positive_share` of `num` are positive; negative ones fill the rest. The draw uses
    torch's global CPU generator, so that it is the same on every device.

    Args:
        assigned: result of `assign`.
        positive_share: 0..1.
    """
    positives = _draw((assigned >= 0).nonzero()[:, 0], int(num * positive_share))
    negatives = _draw((assigned == NEGATIVE).nonzero()[:, 0], num - len(positives))
    return positives, negatives


def _draw(indices: Int[Tensor, " n"], num: int) -> Int[Tensor, " drawn"]:
    """Return all indices, or `num` random ones of them if there are more, in ascending order."""
    if len(indices) <= num:
        return indices
    chosen = torch.randperm(len(indices))[:num].sort().values
    return indices[chosen.to(indices.device, non_blocking=True)]
