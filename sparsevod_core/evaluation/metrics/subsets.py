"""AP on parts of the data set: by speed of the objects, by condition of the frame, by video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.motion import LARGEST_STEP, motion_iou
from sparsevod_core.evaluation.metrics.coco import (
    AT_50,
    IOU_THRESHOLDS,
    PrecisionRecall,
    interpolated_precision,
    mean_ap,
    precision_and_recall,
    uncounted,
)
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.fgfa import fgfa_ap
from sparsevod_core.evaluation.metrics.ground_truth import CLEAN, DEGRADED, NO_FRAME, GroundTruth
from sparsevod_core.evaluation.metrics.matching import (
    coco_overlap,
    match_greedily,
    overlapping_pairs,
)
from sparsevod_core.evaluation.metrics.ranking import RankedClass, rank_all, rank_class

SPEEDS = ("fast", "medium", "slow")
FAST_BELOW, SLOW_ABOVE = 0.7, 0.9
"""Limits of motion IoU, as in FGFA (Zhu et al., ICCV 2017); both belong to medium."""

CONDITIONS = {"degraded": DEGRADED, "clean": CLEAN}


class UnknownMotionError(Exception):
    """The annotations do not say how some boxes move."""


def speed_of(motion_iou: Float[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
    """Return the position in `SPEEDS` of each box; -1 where the motion is unknown (NaN)."""
    speeds = np.where(motion_iou < FAST_BELOW, 0, np.where(motion_iou <= SLOW_ABOVE, 1, 2))
    return np.where(np.isnan(motion_iou), -1, speeds)


def known_motion_iou(truth: GroundTruth) -> Float[np.ndarray, " M"]:
    """Return the motion IoU of every box: stored, or computed from the tracks.

    It is NaN for crowds, and where `motion_iou` is unknown, e.g. if only every 10th frame is
    labeled. These boxes belong to no speed.

    Raises:
        UnknownMotionError: Boxes have neither `motion_iou` nor `instance_id` and `frame_id`, or no
            box has a known motion.
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
        if np.isnan(known).all():
            raise UnknownMotionError(
                f"the boxes in {truth.path} are too far apart: no track has two boxes within "
                f"{LARGEST_STEP} frames"
            )
    return known


def ignored_by_speed(
    truth: GroundTruth, motion_iou: Float[np.ndarray, " M"]
) -> list[Bool[np.ndarray, " M"]]:
    """Return a mask for each of `SPEEDS` of the boxes to ignore, as COCO ignores other sizes."""
    speeds = speed_of(motion_iou)
    return [uncounted(truth) | (speeds != speed) for speed in range(len(SPEEDS))]


def ap_by_speed(
    truth: GroundTruth,
    table: DetectionTable,
    ranking: Sequence[RankedClass],
    motion_iou: Float[np.ndarray, " M"],
    curves: Sequence[PrecisionRecall],
) -> dict[str, Any]:
    """Return the AP by speed, 0..1, NaN where no box has that speed.

    Args:
        ranking: The detections of every class, from `rank_all`.
        motion_iou: From `known_motion_iou`.
        curves: Precision and recall for each of `ignored_by_speed`.

    Returns:
        `coco`: `AP`, `AP50`, `AP75` and `num_boxes` for fast, medium and slow.
        `fgfa`: AP by FGFA's rules for all, fast, medium and slow, see `fgfa_ap`.
        `num_unknown`: Number of boxes whose motion is unknown, which no speed counts.
    """
    ignored = ignored_by_speed(truth, motion_iou)
    coco = {
        speed: {**mean_ap(curve.precision), "num_boxes": int((~skipped).sum())}
        for speed, curve, skipped in zip(SPEEDS, curves, ignored, strict=True)
    }
    return {
        "coco": coco,
        "fgfa": fgfa_ap(truth, table, ranking, motion_iou),
        "num_unknown": int((np.isnan(motion_iou) & ~truth.is_crowd).sum()),
    }


def ap_by_condition(truth: GroundTruth, table: DetectionTable) -> dict[str, Any]:
    """Return COCO's AP on the degraded frames only, and on the clean frames only.

    Frames whose condition the annotations do not say are in neither.

    Returns:
        `degraded` and `clean`: `AP`, `AP50`, `AP75` (0..1, NaN without boxes), `num_frames` and
        `num_boxes`; None for both where the annotations say nothing about any frame.
    """
    if not np.isin(truth.conditions, list(CONDITIONS.values())).any():
        return dict.fromkeys(CONDITIONS)
    result = {}
    for name, condition in CONDITIONS.items():
        frames = np.flatnonzero(truth.conditions == condition)
        part = truth.restricted_to([truth.image_ids[position] for position in frames])
        detections = table.restricted_to(frames)
        ranking = rank_all(detections, len(truth.category_ids))
        (curve,) = precision_and_recall(part, detections, ranking, [uncounted(part)])
        counts = {"num_frames": len(frames), "num_boxes": int((~part.is_crowd).sum())}
        result[name] = {**mean_ap(curve.precision), **counts}
    return result


def ap50_by_video(truth: GroundTruth, table: DetectionTable) -> Float[np.ndarray, " V"]:
    """Return the AP50 of every video, as if it were the entire data set; NaN without boxes."""
    ignored = uncounted(truth)
    num_videos, num_classes = len(truth.video_names), len(truth.category_ids)
    video_of_box = truth.video_of_image[truth.images]
    num_boxes = np.zeros((num_classes, num_videos), dtype=np.int64)
    np.add.at(num_boxes, (truth.categories[~ignored], video_of_box[~ignored]), 1)
    sums = np.zeros(num_videos)
    least_iou = IOU_THRESHOLDS[[AT_50]]
    overlap = coco_overlap(truth, least_iou[0])
    # Most detections are of classes that their video lacks.
    relevant = np.flatnonzero(num_boxes[table.categories, truth.video_of_image[table.images]])
    for k in np.flatnonzero(num_boxes.any(axis=1)).tolist():
        ranked = rank_class(table, relevant[table.categories[relevant] == k])
        boxes = np.flatnonzero(truth.categories == k)
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        matched, matches = match_greedily(pairs, ranked, least_iou, ignored, truth.is_crowd)
        box_of = np.full(len(ranked.rows), -1)
        box_of[matched] = matches[:, 0]
        videos = truth.video_of_image[ranked.images]
        order = np.lexsort((ranked.places, videos))
        box_of, starts = box_of[order], np.searchsorted(videos[order], np.arange(num_videos + 1))
        is_ignored = (box_of >= 0) & ignored[box_of]
        is_hit = (box_of >= 0) & ~is_ignored
        for video in np.flatnonzero(num_boxes[k]).tolist():
            own = slice(starts[video], starts[video + 1])
            sums[video] += interpolated_precision(
                np.flatnonzero(is_hit[own]), np.flatnonzero(is_ignored[own]), num_boxes[k, video]
            ).mean()
    present = (num_boxes > 0).sum(axis=0)
    return np.divide(sums, present, out=np.full(num_videos, np.nan), where=present > 0)
