"""Precision and recall of matched detections, as pycocotools accumulates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.evaluation.detection_table import DetectionTable
from sparsevod_core.evaluation.ground_truth import GroundTruth
from sparsevod_core.evaluation.matching import (
    coco_overlap,
    has_odd_area,
    match_greedily,
    overlapping_pairs,
    rank_class,
)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Made as pycocotools makes them, to the last digit."""

RECALL_POINTS = np.linspace(0.0, 1.0, 101)

DETECTION_LIMITS = (1, 10, 100)
"""Best detections of a class and frame that count for AR1, AR10 and AR100."""


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Curves of K classes; NaN where a class has no boxes that count.

    Attributes:
        precision: by IoU threshold, recall point and class; the highest at this recall or beyond.
        recall: by IoU threshold, class and detection limit.
    """

    precision: Float[np.ndarray, "10 101 K"]
    recall: Float[np.ndarray, "10 K 3"]


def uncounted(truth: GroundTruth) -> Bool[np.ndarray, " M"]:
    """Boxes that need not be found: crowds, and areas outside COCO's range of all sizes."""
    return truth.is_crowd | has_odd_area(truth.areas)


def precision_and_recall(
    truth: GroundTruth, table: DetectionTable, ignored: Sequence[Bool[np.ndarray, " M"]]
) -> list[PrecisionRecall]:
    """Curves of all classes, once for each choice of boxes to be ignored.

    A detection that matches an ignored box counts neither way, nor does one that matches none and
    whose area is outside COCO's range of all sizes.
    """
    num_classes = len(truth.category_ids)
    curves = [_nothing_known(num_classes) for _ in ignored]
    by_class = np.argsort(table.categories, kind="stable")
    ends = np.searchsorted(table.categories[by_class], np.arange(num_classes + 1))
    overlap = coco_overlap(truth, IOU_THRESHOLDS[0])
    for k in np.unique(truth.categories).tolist():
        boxes = np.flatnonzero(truth.categories == k)
        ranked = rank_class(table, by_class[ends[k] : ends[k + 1]])
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        for skipped, curve in zip(ignored, curves, strict=True):
            num_boxes = int((~skipped[boxes]).sum())
            if not num_boxes:
                continue
            detections, matches = match_greedily(
                pairs, ranked, IOU_THRESHOLDS, skipped, truth.is_crowd
            )
            hits = (matches >= 0) & ~skipped[matches]
            misses = (matches >= 0) & ~hits
            places, ranks = ranked.places[detections], ranked.ranks[detections]
            for t in range(len(IOU_THRESHOLDS)):
                odd = np.setdiff1d(ranked.odd_places, places[matches[:, t] >= 0])
                curve.precision[t, :, k] = interpolated_precision(
                    np.sort(places[hits[:, t]]),
                    np.sort(np.concatenate([places[misses[:, t]], odd])),
                    num_boxes,
                )
            for m, limit in enumerate(DETECTION_LIMITS):
                curve.recall[:, k, m] = hits[ranks < limit].sum(axis=0) / num_boxes
    return curves


def _nothing_known(num_classes: int) -> PrecisionRecall:
    return PrecisionRecall(
        np.full((len(IOU_THRESHOLDS), len(RECALL_POINTS), num_classes), np.nan),
        np.full((len(IOU_THRESHOLDS), num_classes, len(DETECTION_LIMITS)), np.nan),
    )


def interpolated_precision(
    hits: Int[np.ndarray, " h"], ignored: Int[np.ndarray, " i"], num_boxes: int
) -> Float[np.ndarray, 101]:
    """Precision at the recall points, from where in the ranking boxes were found.

    Args:
        hits: places of the detections that found a box, ascending, counted from 0.
        ignored: places of those that count neither way, ascending. All others are false positives.
        num_boxes: boxes to be found.
    """
    # Precision falls between two hits, so that its maximum beyond any recall is that of a hit.
    found = np.arange(1, len(hits) + 1)
    counted = hits + 1 - np.searchsorted(ignored, hits)
    precision = found / (counted + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(found / num_boxes, RECALL_POINTS, side="left")
    return np.append(precision, 0.0)[reached]
