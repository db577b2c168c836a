"""AP by speed of the objects as published by FGFA (Zhu et al., ICCV 2017) for ImageNet VID.

It differs from COCO's AP in four ways. Box sides include both ends (width = xmax - xmin + 1).
Small boxes match at an IoU below 0.5. Precision is integrated over all recalls. The weight of a
false positive depends on the speed of the boxes under it and may be a fraction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sparsevod_core.evaluation.metrics.coco import mean_of_known
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.matching import (
    Overlap,
    expand,
    match_greedily,
    overlapping_pairs,
    slices,
)
from sparsevod_core.evaluation.metrics.ranking import RankedClass, map_classes

RANGES = {"all": (0.0, 1.0), "fast": (0.0, 0.7), "medium": (0.7, 0.9), "slow": (0.9, 1.0)}
"""Ranges of motion IoU, closed at both ends: a box at 0.7 is both fast and medium."""

INSIDE = np.array([1, 2, 4, 8], dtype=np.uint8)
OUTSIDE = INSIDE << 4
"""One bit for each of `RANGES`, set for boxes that are in the range, and for those that are not."""


def fgfa_ap(
    truth: GroundTruth,
    table: DetectionTable,
    ranking: Sequence[RankedClass],
    motion_iou: Float[np.ndarray, " M"],
) -> dict[str, float]:
    """Return the AP for each of `RANGES`, 0..1, as a mean over the classes that have boxes in it.

    NaN where no class has any. Detections are matched best first, each to the free box of its class
    that it overlaps most. The overlap must be at least min(0.5, wh / ((w + 10) (h + 10))) for a box
    of width w and height h. A match is a true positive if the box is in the range, and is ignored
    if it is not. A detection without a match is a false positive. Let a be its largest overlap with
    a box of the frame, of any class, that is in the range, and b with one that is not: 0 if it
    touches none, less if the frame has none. The false positive has a weight:

    - 1 if a > b, and 0 if a < b;
    - if a = b, the fraction of the frame's boxes outside the range;
    - in a frame without boxes, the fraction of all boxes inside the range.

    Hence in the range `all`, every false positive in a frame with boxes has weight 1.

    All detections are ranked, not only 100 per frame. Crowds are omitted; ImageNet VID has none.
    """
    counted = ~truth.is_crowd
    is_in = [counted & (motion_iou >= low) & (motion_iou <= high) for low, high in RANGES.values()]
    is_in[0] = counted  # also boxes of unknown motion (NaN)
    sides = _sides_most_overlapped(truth, table, np.flatnonzero(counted), is_in)
    num_images = len(truth.image_ids)
    num_boxes = np.maximum(np.bincount(truth.images[counted], minlength=num_images), 1)
    fractions_outside = [  # of each frame's boxes
        np.bincount(truth.images[counted & ~inside], minlength=num_images) / num_boxes
        for inside in is_in
    ]
    overlap = _inclusive_overlap(truth)
    none = np.zeros(len(truth.images), dtype=bool)

    def score(k: int) -> list[float]:
        # Reversed, so that among equal overlaps the first box in the file wins.
        boxes = np.flatnonzero(counted & (truth.categories == k))[::-1]
        ranked = ranking[k]
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        detections, matches = match_greedily(pairs, ranked, np.zeros(1), none, none)
        is_match = matches[:, 0] >= 0
        places, matched = ranked.places[detections[is_match]], matches[is_match, 0]
        side = sides[ranked.rows]
        aps = []
        for n, (inside, fraction_outside) in enumerate(zip(is_in, fractions_outside, strict=True)):
            overlaps_inside = (side & INSIDE[n]) > 0
            is_tie = overlaps_inside & ((side & OUTSIDE[n]) > 0)
            weights = np.where(is_tie, fraction_outside[ranked.images], overlaps_inside)
            weights[side == 0] = inside.sum() / counted.sum()
            false = np.empty(len(weights))
            false[ranked.places] = weights
            false[places] = 0
            hits = np.sort(places[inside[matched]])
            aps.append(_area_under_curve(hits, np.cumsum(false)[hits], int(inside[boxes].sum())))
        return aps

    aps = np.array(map_classes(score, np.unique(truth.categories[counted]).tolist()))
    by_range = aps.reshape(-1, len(RANGES)).T
    return {name: mean_of_known(ap) for name, ap in zip(RANGES, by_range, strict=True)}


def _area_under_curve(
    hits: Int[np.ndarray, " h"], false: Float[np.ndarray, " h"], num_boxes: int
) -> float:
    """Integrate precision, made monotonic, over recall, which each hit raises by one box."""
    if not num_boxes:
        return np.nan
    num_hits = np.arange(1, len(hits) + 1)
    precision = num_hits / (num_hits + false)
    return float(np.maximum.accumulate(precision[::-1]).sum() / num_boxes)


def _inclusive_overlap(truth: GroundTruth) -> Overlap:
    sides = truth.boxes_xywh[:, 2:] + 1
    least = np.minimum(0.5, sides.prod(axis=1) / (sides + 10).prod(axis=1))

    def overlap(detected: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ious = _inclusive_iou(detected, truth.boxes_xywh[boxes])
        return ious, ious >= least[boxes]

    return overlap


def _inclusive_iou(
    detected_xywh: Float[np.ndarray, "n 4"], boxes_xywh: Float[np.ndarray, "n 4"]
) -> Float[np.ndarray, " n"]:
    x, y, width, height = detected_xywh.T
    left, top, box_width, box_height = boxes_xywh.T
    with np.errstate(all="ignore"):  # boxes so large that products overflow
        w = np.minimum(x + width, left + box_width) - np.maximum(x, left) + 1
        h = np.minimum(y + height, top + box_height) - np.maximum(y, top) + 1
        both = w.clip(min=0) * h.clip(min=0)
        areas = (width + 1) * (height + 1) + (box_width + 1) * (box_height + 1)
        ious = both / (areas - both)
    return np.where(np.isnan(ious), 0, ious)


def _sides_most_overlapped(
    truth: GroundTruth,
    table: DetectionTable,
    boxes: Int[np.ndarray, " b"],
    is_in: Sequence[Bool[np.ndarray, " M"]],
) -> UInt8[np.ndarray, " D"]:
    """Return where the boxes are that each detection overlaps most in its frame.

    Several boxes may be overlapped equally, as all those that it does not touch. Each contributes
    its bits of `INSIDE` and `OUTSIDE`; 0 in a frame without boxes.
    """
    bits = sum(np.where(inside, INSIDE[n], OUTSIDE[n]) for n, inside in enumerate(is_in))
    boxes = boxes[np.argsort(truth.images[boxes], kind="stable")].astype(np.int32)
    starts = np.searchsorted(truth.images[boxes], np.arange(len(truth.image_ids) + 1))
    counts = np.diff(starts)
    only_box = np.zeros(len(counts), dtype=np.uint8)
    only_box[counts == 1] = bits[boxes[starts[:-1][counts == 1]]]
    sides = only_box[table.images]
    among = np.flatnonzero((counts > 1)[table.images])
    for part in slices(counts[table.images[among]]):
        rows = among[part]
        images = table.images[rows]
        which, within = expand(counts[images])
        chosen = boxes[starts[images[which]] + within]
        ious = _inclusive_iou(table.boxes_xywh[rows[which]], truth.boxes_xywh[chosen])
        first = np.flatnonzero(within == 0)
        is_most = ious == np.maximum.reduceat(ious, first)[which]
        sides[rows] = np.bitwise_or.reduceat(bits[chosen] * is_most, first)
    return sides
