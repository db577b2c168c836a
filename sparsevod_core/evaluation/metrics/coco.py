"""COCO's box AP, equal to pycocotools' to the last digit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

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
from sparsevod_core.evaluation.metrics.ranking import MAX_DETECTIONS, RankedClass, map_classes

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Computed as in pycocotools, hence equal to the last digit."""

AT_50, AT_75 = 0, 5
"""Positions of 0.50 and 0.75 in `IOU_THRESHOLDS`."""

RECALL_POINTS = np.linspace(0.0, 1.0, 101)

DETECTION_LIMITS = (1, 10, 100)
"""Number of detections per class and frame that count for AR1, AR10 and AR100."""


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Precision and recall of K classes; NaN for a class without boxes that count.

    Attributes:
        precision: By IoU threshold, recall point and class: the highest at this recall or beyond.
        recall: By IoU threshold, class and detection limit.
    """

    precision: Float[np.ndarray, "10 101 K"]
    recall: Float[np.ndarray, "10 K 3"]


@dataclass(frozen=True, slots=True)
class ClassAP:
    """AP of one class, 0..1; NaN for a class without boxes."""

    AP: float
    AP50: float
    AP75: float
    num_boxes: int


@dataclass(frozen=True, slots=True)
class BoxAP:
    """COCO's AP and AR for boxes of all sizes, 0..1; NaN without ground-truth boxes.

    Attributes:
        AP: Mean over IoU 0.50, 0.55 .. 0.95 and over the classes that have boxes.
        AP50, AP75: AP at IoU 0.50 and 0.75.
        AR1, AR10, AR100: Mean recall with the 1, 10 or 100 best detections per class and frame.
        per_class: By class name, in the annotations' order.
        classes_without_boxes: Names of the classes whose AP is NaN, left out of all means.
        num_frames: Number of frames, including those without boxes or detections.
        num_boxes: Number of ground-truth boxes without crowds.
        num_detections: Number of detections before COCO's limit of 100 per class and frame.
        AP_by_iou: AP at each IoU threshold, by "0.50", "0.55" .. "0.95".
        curves: Precision and recall for figures; not in the JSON.
    """

    AP: float
    AP50: float
    AP75: float
    AR1: float
    AR10: float
    AR100: float
    per_class: dict[str, ClassAP]
    classes_without_boxes: list[str]
    num_frames: int
    num_boxes: int
    num_detections: int
    AP_by_iou: dict[str, float]
    curves: PrecisionRecall = field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON, None for NaN."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "curves"}
        per_class = {name: asdict(one) for name, one in self.per_class.items()}
        return nan_to_none(values | {"per_class": per_class})


def box_ap(truth: GroundTruth, curves: PrecisionRecall, num_detections: int) -> BoxAP:
    """Summarize the precision and recall of all classes."""
    precision = curves.precision
    categories = truth.categories[~truth.is_crowd]
    num_boxes = np.bincount(categories, minlength=len(truth.category_ids)).tolist()
    return BoxAP(
        **mean_ap(precision),
        **{f"AR{n}": mean_of_known(curves.recall[..., m]) for m, n in enumerate(DETECTION_LIMITS)},
        per_class={
            name: ClassAP(**mean_ap(precision[..., k]), num_boxes=num_boxes[k])
            for k, name in enumerate(truth.category_names)
        },
        classes_without_boxes=[
            name
            for name, is_undefined in zip(
                truth.category_names, np.isnan(precision[0, 0]).tolist(), strict=True
            )
            if is_undefined
        ],
        num_frames=len(truth.image_ids),
        num_boxes=sum(num_boxes),
        num_detections=num_detections,
        AP_by_iou={
            f"{iou:.2f}": mean_of_known(precision[t]) for t, iou in enumerate(IOU_THRESHOLDS)
        },
        curves=curves,
    )


def uncounted(truth: GroundTruth) -> Bool[np.ndarray, " M"]:
    """Return a mask of the boxes to ignore: crowds, and areas outside COCO's largest range."""
    return truth.is_crowd | has_odd_area(truth.areas)


def precision_and_recall(
    truth: GroundTruth,
    table: DetectionTable,
    ranking: Sequence[RankedClass],
    ignored: Sequence[Bool[np.ndarray, " M"]],
) -> list[PrecisionRecall]:
    """Compute precision and recall once for each choice of ignored boxes.

    A detection that matches an ignored box is neither a true nor a false positive. The same holds
    for one that matches no box and whose area is outside COCO's largest range.

    Args:
        ranking: The detections of every class, from `rank_all`.
        ignored: For each result, a mask of the M boxes that do not count.
    """
    num_classes = len(truth.category_ids)
    curves = [
        PrecisionRecall(
            np.full((10, 101, num_classes), np.nan), np.full((10, num_classes, 3), np.nan)
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

    map_classes(score, np.unique(truth.categories).tolist())
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
    is_unpaired = has_odd_size.copy()
    is_unpaired[detections] = False
    always_ignored = ranked.places[is_unpaired]
    precision = [
        interpolated_precision(
            np.sort(places[is_hit[:, t]]),
            np.sort(np.concatenate([places[is_ignored[:, t]], always_ignored])),
            num_boxes,
        )
        for t in range(len(IOU_THRESHOLDS))
    ]
    num_hits = [is_hit[ranks < limit].sum(axis=0) for limit in DETECTION_LIMITS]
    return np.stack(precision), np.stack(num_hits, axis=1) / num_boxes


def interpolated_precision(
    hits: Int[np.ndarray, " h"], ignored: Int[np.ndarray, " i"], num_boxes: int
) -> Float[np.ndarray, 101]:
    """Return the precision at the recall points.

    `hits` and `ignored` are the ascending places of true positives and of ignored detections in the
    ranking. All others are false positives.
    """
    # Precision falls between two hits, so its maximum beyond any recall is that of a hit.
    num_hits = np.arange(1, len(hits) + 1)
    counted = hits + 1 - np.searchsorted(ignored, hits)
    precision = num_hits / (counted + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(num_hits / num_boxes, RECALL_POINTS, side="left")
    return np.append(precision, 0.0)[reached]


def mean_ap(precision: Float[np.ndarray, "10 101 *K"]) -> dict[str, float]:
    """Return `AP`, `AP50` and `AP75`."""
    return {
        "AP": mean_of_known(precision),
        "AP50": mean_of_known(precision[AT_50]),
        "AP75": mean_of_known(precision[AT_75]),
    }


def mean_of_known(values: Float[np.ndarray, ...]) -> float:
    """Return the mean without NaN, which marks classes without boxes; NaN if nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def nan_to_none(value: Any) -> Any:
    """Replace NaN, which JSON lacks, in nested dicts."""
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
