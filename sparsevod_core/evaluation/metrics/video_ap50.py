"""AP50 of each video on its own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sparsevod_core.evaluation.metrics.average_precision import (
    IOU_THRESHOLDS,
    interpolated_precision,
    uncounted,
)
from sparsevod_core.evaluation.metrics.coco import AT_50
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.matching import (
    coco_overlap,
    match_greedily,
    overlapping_pairs,
)
from sparsevod_core.evaluation.metrics.ranking import rank_class


def video_ap50(truth: GroundTruth, table: DetectionTable) -> Float[np.ndarray, " V"]:
    """AP50 of every video on its own, NaN for those without boxes that count."""
    ignored = uncounted(truth)
    num_videos, num_classes = len(truth.video_names), len(truth.category_ids)
    video_of_box = truth.video_of_image[truth.images]
    num_boxes = np.zeros((num_classes, num_videos), dtype=np.int64)
    np.add.at(num_boxes, (truth.categories[~ignored], video_of_box[~ignored]), 1)
    sums = np.zeros(num_videos)
    least = IOU_THRESHOLDS[[AT_50]]
    overlap = coco_overlap(truth, least[0])
    # Most detections are of classes that their video does not have.
    matter = np.flatnonzero(num_boxes[table.categories, truth.video_of_image[table.images]])
    for k in np.flatnonzero(num_boxes.any(axis=1)).tolist():
        ranked = rank_class(table, matter[table.categories[matter] == k])
        boxes = np.flatnonzero(truth.categories == k)
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        matched, matches = match_greedily(pairs, ranked, least, ignored, truth.is_crowd)
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
