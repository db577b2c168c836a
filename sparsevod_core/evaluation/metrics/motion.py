"""AP by how fast objects move: by COCO's rules and by those that FGFA publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.motion import motion_iou
from sparsevod_core.evaluation.metrics.average_precision import (
    PrecisionRecall,
    mean_of_known,
    uncounted,
)
from sparsevod_core.evaluation.metrics.coco import AT_50, AT_75
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.fgfa import fgfa_ap
from sparsevod_core.evaluation.metrics.ground_truth import NO_FRAME, GroundTruth
from sparsevod_core.evaluation.metrics.ranking import RankedClass

SPEEDS = ("fast", "medium", "slow")
FAST_BELOW, SLOW_ABOVE = 0.7, 0.9
"""Motion IoU, as in FGFA (Zhu et al., ICCV 2017); both ends are medium."""


class UnknownMotionError(Exception):
    """Boxes of which the annotations do not tell how they move."""


def speed_of(motion_iou: Float[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
    """Position in `SPEEDS` of each box."""
    return np.where(motion_iou < FAST_BELOW, 0, np.where(motion_iou <= SLOW_ABOVE, 1, 2))


def known_motion_iou(truth: GroundTruth) -> Float[np.ndarray, " M"]:
    """Motion IoU of every box: as stored, else from the tracks. NaN for a crowd's, which has none.

    Raises:
        UnknownMotionError: boxes that have neither `motion_iou` nor `instance_id` and `frame_id`.
    """
    known = truth.motion_iou.copy()
    frames = truth.frame_ids[truth.images]
    tracked = (truth.instance_ids >= 0) & (frames != NO_FRAME) & ~truth.is_crowd
    missing = np.isnan(known) & ~truth.is_crowd
    if unknown := int((missing & ~tracked).sum()):
        raise UnknownMotionError(
            f"{unknown:,} of {len(known):,} boxes in {truth.path} have neither `motion_iou` nor "
            "`instance_id` in an image with `frame_id`"
        )
    if missing.any():
        low, size = np.split(truth.boxes_xywh[tracked], 2, axis=1)
        videos = truth.video_of_image[truth.images[tracked]]
        tracks = videos * (truth.instance_ids.max() + 1) + truth.instance_ids[tracked]
        computed = np.full(len(known), np.nan)
        boxes_xyxy = np.concatenate([low, low + size], axis=1)
        computed[tracked] = motion_iou(boxes_xyxy, frames[tracked], tracks)
        known[missing] = computed[missing]
    return known


def ignored_by_speed(
    truth: GroundTruth, motion_iou: Float[np.ndarray, " M"]
) -> list[Bool[np.ndarray, " M"]]:
    """For each speed the boxes that do not count, as COCO ignores those of other sizes."""
    speeds = speed_of(motion_iou)
    return [uncounted(truth) | (speeds != speed) for speed in range(len(SPEEDS))]


def motion_ap(
    truth: GroundTruth,
    table: DetectionTable,
    ranking: Sequence[RankedClass],
    motion_iou: Float[np.ndarray, " M"],
    curves: list[PrecisionRecall],
) -> dict[str, Any]:
    """AP by speed, 0..1, NaN where no box has that speed.

    Args:
        truth, table: boxes and detections.
        ranking: the detections of every class, by `rank_all`.
        motion_iou: of every box.
        curves: of each speed, with the boxes of the others ignored.

    Returns:
        `coco`: for fast, medium and slow `AP`, `AP50`, `AP75`, `num_boxes`; `fgfa`: for all, fast,
        medium and slow the mean AP by FGFA's rules, see `fgfa_ap`.
    """
    counted = [~ignored for ignored in ignored_by_speed(truth, motion_iou)]
    coco = {
        speed: {
            "AP": mean_of_known(curve.precision),
            "AP50": mean_of_known(curve.precision[AT_50]),
            "AP75": mean_of_known(curve.precision[AT_75]),
            "num_boxes": int(boxes.sum()),
        }
        for speed, curve, boxes in zip(SPEEDS, curves, counted, strict=True)
    }
    return {"coco": coco, "fgfa": fgfa_ap(truth, table, ranking, motion_iou)}
