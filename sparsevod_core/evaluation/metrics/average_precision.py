"""Precision and recall of matched detections, as pycocotools accumulates them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.matching import (
    Pairs,
    coco_overlap,
    has_odd_area,
    match_greedily,
    overlapping_pairs,
)
from sparsevod_core.evaluation.metrics.processors import of_classes
from sparsevod_core.evaluation.metrics.ranking import MAX_DETECTIONS, RankedClass

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
    truth: GroundTruth,
    table: DetectionTable,
    ranking: Sequence[RankedClass],
    ignored: Sequence[Bool[np.ndarray, " M"]],
) -> list[PrecisionRecall]:
    """Curves of all classes, once for each choice of boxes to be ignored.

    A detection that matches an ignored box counts neither way, nor does one that matches none and
    whose area is outside COCO's range of all sizes.

    Args:
        truth, table: boxes and detections.
        ranking: the detections of every class, by `rank_all`.
        ignored: boxes that need not be found.
    """
    num_classes = len(truth.category_ids)
    curves = [
        PrecisionRecall(
            np.full((len(IOU_THRESHOLDS), len(RECALL_POINTS), num_classes), np.nan),
            np.full((len(IOU_THRESHOLDS), num_classes, len(DETECTION_LIMITS)), np.nan),
        )
        for _ in ignored
    ]

    def score(k: int) -> None:
        boxes = np.flatnonzero(truth.categories == k)
        ranked = ranking[k].best(MAX_DETECTIONS)
        overlap = coco_overlap(truth, IOU_THRESHOLDS[0])
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        with np.errstate(over="ignore"):
            has_odd_size = has_odd_area(table.boxes_xywh[ranked.rows, 2:].prod(axis=1))
        for skipped, curve in zip(ignored, curves, strict=True):
            num_boxes = int((~skipped[boxes]).sum())
            if num_boxes:
                curve.precision[:, :, k], curve.recall[:, k] = _score_class(
                    truth, ranked, pairs, skipped, has_odd_size, num_boxes
                )

    of_classes(score, np.unique(truth.categories).tolist())
    return curves


def _score_class(
    truth: GroundTruth,
    ranked: RankedClass,
    pairs: Pairs,
    ignored: Bool[np.ndarray, " M"],
    has_odd_size: Bool[np.ndarray, " n"],
    num_boxes: int,
) -> tuple[Float[np.ndarray, "10 101"], Float[np.ndarray, "10 3"]]:
    detections, matches = match_greedily(pairs, ranked, IOU_THRESHOLDS, ignored, truth.is_crowd)
    places, ranks = ranked.places[detections], ranked.ranks[detections]
    is_match = matches >= 0
    is_hit = is_match & ~ignored[matches]
    is_ignored = (is_match & ~is_hit) | (~is_match & has_odd_size[detections, None])
    alone = has_odd_size.copy()
    alone[detections] = False
    always_ignored = ranked.places[alone]
    precision = [
        interpolated_precision(
            np.sort(places[is_hit[:, t]]),
            np.sort(np.concatenate([places[is_ignored[:, t]], always_ignored])),
            num_boxes,
        )
        for t in range(len(IOU_THRESHOLDS))
    ]
    found = [is_hit[ranks < limit].sum(axis=0) for limit in DETECTION_LIMITS]
    return np.stack(precision), np.stack(found, axis=1) / num_boxes


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


def mean_of_known(values: Float[np.ndarray, ...]) -> float:
    """Over what is there: NaN stands for a class without boxes."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
