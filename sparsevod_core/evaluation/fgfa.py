"""AP by motion as FGFA (Zhu et al., ICCV 2017) publishes it for ImageNet VID.

It differs from COCO's in every part: boxes count pixels inclusively (width = xmax - xmin + 1),
small ones match at an IoU below 0.5, precision is integrated over every recall, and a false
positive counts by the speed of the box that it lies on, so that it may count a fraction.
"""

from __future__ import annotations

import sys

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.motion import inclusive_iou
from sparsevod_core.evaluation.detection_table import DetectionTable
from sparsevod_core.evaluation.ground_truth import GroundTruth
from sparsevod_core.evaluation.matching import (
    Overlap,
    expand,
    match_greedily,
    overlapping_pairs,
    rank_class,
    slices,
)

RANGES = {"all": (0.0, 1.0), "fast": (0.0, 0.7), "medium": (0.7, 0.9), "slow": (0.9, 1.0)}
"""Of motion IoU, closed at both ends: a box at 0.7 is fast and medium."""

NO_BOX, TIE = -1, -2
"""In place of the box that a detection lies on."""


def fgfa_ap(
    truth: GroundTruth, table: DetectionTable, motion_iou: Float[np.ndarray, " M"]
) -> dict[str, float]:
    """Mean AP for each of `RANGES`, 0..1, over the classes that have boxes in it; NaN without any.

    Best first, a detection takes the free box of its class that it overlaps most, of those that it
    overlaps by min(0.5, wh / ((w + 10) (h + 10))) or more, w and h being the box's. It counts as
    found where that box is in the range, and neither way where it is not. Without a box it is a
    false positive, which counts 1 if the box it overlaps most, of any class, is in the range, and
    0 if that is not; on a tie the share of the frame's boxes that are not; in a frame without
    boxes the share of all boxes that are. (So in the range of all, where no box is outside, one
    that overlaps none of several boxes does not count.)

    All detections are ranked, not 100 of a frame. Crowds, which ImageNet VID does not have, are
    left out.
    """
    counted = ~truth.is_crowd
    is_in = {
        name: counted & (motion_iou >= low) & (motion_iou <= high)
        for name, (low, high) in RANGES.items()
    }
    weights = _false_positive_weights(truth, table, list(is_in.values()))
    by_class = np.argsort(table.categories, kind="stable")
    ends = np.searchsorted(table.categories[by_class], np.arange(len(truth.category_ids) + 1))
    overlap = _inclusive_overlap(truth)
    nowhere = np.zeros(len(truth.images), dtype=bool)
    aps: dict[str, list[float]] = {name: [] for name in RANGES}
    for k in np.unique(truth.categories[counted]).tolist():
        # Backwards, so that of equal overlaps the first in the file is taken.
        boxes = np.flatnonzero(counted & (truth.categories == k))[::-1]
        ranked = rank_class(table, by_class[ends[k] : ends[k + 1]], limit=sys.maxsize)
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        detections, matches = match_greedily(pairs, ranked, np.zeros(1), nowhere, nowhere)
        got_one = matches[:, 0] >= 0
        places, matched = ranked.places[detections[got_one]], matches[got_one, 0]
        for (name, inside), weight in zip(is_in.items(), weights, strict=True):
            num_boxes = int(inside[boxes].sum())
            if num_boxes:
                false = np.empty(len(ranked.rows))
                false[ranked.places] = weight[ranked.rows]
                false[places] = 0
                hits = np.sort(places[inside[matched]])
                aps[name].append(_area_under_curve(hits, np.cumsum(false)[hits], num_boxes))
    return {name: float(np.mean(values)) if values else np.nan for name, values in aps.items()}


def _area_under_curve(
    hits: Int[np.ndarray, " h"], false: Float[np.ndarray, " h"], num_boxes: int
) -> float:
    """Every hit raises the recall by one box; precision there is the best from there on."""
    found = np.arange(1, len(hits) + 1)
    precision = found / (found + false)
    return float(np.maximum.accumulate(precision[::-1]).sum() / num_boxes)


def _inclusive_overlap(truth: GroundTruth) -> Overlap:
    sides = truth.boxes_xywh[:, 2:] + 1
    least = np.minimum(0.5, sides.prod(axis=1) / (sides + 10).prod(axis=1))

    def overlap(found: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ious = inclusive_iou(_corners(found), _corners(truth.boxes_xywh[boxes]))
        return ious, ious >= least[boxes]

    return overlap


def _corners(boxes_xywh: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def _false_positive_weights(
    truth: GroundTruth, table: DetectionTable, is_in: list[Bool[np.ndarray, " M"]]
) -> list[Float[np.ndarray, " D"]]:
    """What each detection counts in each range if it is a false positive."""
    counted = ~truth.is_crowd
    below = _boxes_below(truth, table, np.flatnonzero(counted))
    on_box, tie = below >= 0, below == TIE
    per_image = np.bincount(truth.images[counted], minlength=len(truth.image_ids))
    weights = []
    for inside in is_in:
        outside = np.bincount(truth.images[counted & ~inside], minlength=len(truth.image_ids))
        weight = np.full(len(table), inside.sum() / max(counted.sum(), 1))
        weight[on_box] = inside[below[on_box]]
        weight[tie] = (outside / np.maximum(per_image, 1))[table.images[tie]]
        weights.append(weight)
    return weights


def _boxes_below(
    truth: GroundTruth, table: DetectionTable, boxes: Int[np.ndarray, " b"]
) -> Int[np.ndarray, " D"]:
    """The box of its frame that each detection overlaps most, or `TIE`, or `NO_BOX`."""
    boxes = boxes[np.argsort(truth.images[boxes], kind="stable")]
    starts = np.searchsorted(truth.images[boxes], np.arange(len(truth.image_ids) + 1))
    counts = np.diff(starts)[table.images]
    below = np.full(len(table), NO_BOX, dtype=np.int32)
    for part in slices(counts):
        beside = part.start + np.flatnonzero(counts[part])
        if not len(beside):
            continue
        which, within = expand(counts[beside])
        rows = beside[which]
        chosen = boxes[starts[table.images[rows]] + within]
        ious = inclusive_iou(_corners(table.boxes_xywh[rows]), _corners(truth.boxes_xywh[chosen]))
        first = np.flatnonzero(within == 0)
        is_most = ious == np.maximum.reduceat(ious, first)[which]
        below[rows[is_most]] = chosen[is_most]
        below[beside[np.add.reduceat(is_most, first, dtype=np.int64) > 1]] = TIE
    return below
