"""AP by motion as FGFA (Zhu et al., ICCV 2017) publishes it for ImageNet VID.

It differs from COCO's in every part: boxes count pixels inclusively (width = xmax - xmin + 1),
small ones match at an IoU below 0.5, precision is integrated over every recall, and a false
positive counts by the speed of the box that it lies on, so that it may count a fraction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.evaluation.metrics.average_precision import mean_of_known
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.matching import (
    Overlap,
    expand,
    match_greedily,
    overlapping_pairs,
    slices,
)
from sparsevod_core.evaluation.metrics.processors import of_classes
from sparsevod_core.evaluation.metrics.ranking import RankedClass

RANGES = {"all": (0.0, 1.0), "fast": (0.0, 0.7), "medium": (0.7, 0.9), "slow": (0.9, 1.0)}
"""Of motion IoU, closed at both ends: a box at 0.7 is fast and medium."""

NO_BOX, TIE = -1, -2
"""In place of the box that a detection lies on."""


def fgfa_ap(
    truth: GroundTruth,
    table: DetectionTable,
    ranking: Sequence[RankedClass],
    motion_iou: Float[np.ndarray, " M"],
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
    is_in = [counted & (motion_iou >= low) & (motion_iou <= high) for low, high in RANGES.values()]
    below = _boxes_below(truth, table, np.flatnonzero(counted))
    shares_outside = [_share_outside(truth, counted, inside) for inside in is_in]
    overlap = _inclusive_overlap(truth)
    nowhere = np.zeros(len(truth.images), dtype=bool)

    def score(k: int) -> list[float]:
        # Backwards, so that of equal overlaps the first in the file is taken.
        boxes = np.flatnonzero(counted & (truth.categories == k))[::-1]
        ranked = ranking[k]
        pairs = overlapping_pairs(truth, table, ranked, boxes, overlap)
        detections, matches = match_greedily(pairs, ranked, np.zeros(1), nowhere, nowhere)
        got_one = matches[:, 0] >= 0
        places, matched = ranked.places[detections[got_one]], matches[got_one, 0]
        lies_on = below[ranked.rows]
        aps = []
        for inside, share_outside in zip(is_in, shares_outside, strict=True):
            weights = np.where(lies_on >= 0, inside[lies_on], share_outside[ranked.images])
            weights[lies_on == NO_BOX] = inside.sum() / counted.sum()
            false = np.empty(len(weights))
            false[ranked.places] = weights
            false[places] = 0
            hits = np.sort(places[inside[matched]])
            aps.append(_area_under_curve(hits, np.cumsum(false)[hits], int(inside[boxes].sum())))
        return aps

    aps = np.array(of_classes(score, np.unique(truth.categories[counted]).tolist()))
    by_range = aps.reshape(-1, len(RANGES)).T
    return {name: mean_of_known(ap) for name, ap in zip(RANGES, by_range, strict=True)}


def _share_outside(
    truth: GroundTruth, counted: Bool[np.ndarray, " M"], inside: Bool[np.ndarray, " M"]
) -> Float[np.ndarray, " F"]:
    """Of each frame's boxes."""
    num_images = len(truth.image_ids)
    outside = np.bincount(truth.images[counted & ~inside], minlength=num_images)
    return outside / np.maximum(np.bincount(truth.images[counted], minlength=num_images), 1)


def _area_under_curve(
    hits: Int[np.ndarray, " h"], false: Float[np.ndarray, " h"], num_boxes: int
) -> float:
    """Every hit raises the recall by one box; precision there is the best from there on."""
    if not num_boxes:
        return np.nan
    found = np.arange(1, len(hits) + 1)
    precision = found / (found + false)
    return float(np.maximum.accumulate(precision[::-1]).sum() / num_boxes)


def _inclusive_overlap(truth: GroundTruth) -> Overlap:
    sides = truth.boxes_xywh[:, 2:] + 1
    least = np.minimum(0.5, sides.prod(axis=1) / (sides + 10).prod(axis=1))

    def overlap(found: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ious = _inclusive_iou(found, truth.boxes_xywh[boxes])
        return ious, ious >= least[boxes]

    return overlap


def _inclusive_iou(
    found_xywh: Float[np.ndarray, "n 4"], boxes_xywh: Float[np.ndarray, "n 4"]
) -> Float[np.ndarray, " n"]:
    x, y, width, height = found_xywh.T
    left, top, box_width, box_height = boxes_xywh.T
    with np.errstate(all="ignore"):  # boxes beyond all bounds
        w = np.minimum(x + width, left + box_width) - np.maximum(x, left) + 1
        h = np.minimum(y + height, top + box_height) - np.maximum(y, top) + 1
        both = w.clip(min=0) * h.clip(min=0)
        areas = (width + 1) * (height + 1) + (box_width + 1) * (box_height + 1)
        return both / (areas - both)


def _boxes_below(
    truth: GroundTruth, table: DetectionTable, boxes: Int[np.ndarray, " b"]
) -> Int[np.ndarray, " D"]:
    """The box of its frame that each detection overlaps most, or `TIE`, or `NO_BOX`."""
    boxes = boxes[np.argsort(truth.images[boxes], kind="stable")].astype(np.int32)
    starts = np.searchsorted(truth.images[boxes], np.arange(len(truth.image_ids) + 1))
    counts = np.diff(starts)
    below_in_image = np.full(len(counts), NO_BOX, dtype=np.int32)
    below_in_image[counts == 1] = boxes[starts[:-1][counts == 1]]
    below = below_in_image[table.images]
    among = np.flatnonzero((counts > 1)[table.images])
    for part in slices(counts[table.images[among]]):
        rows = among[part]
        images = table.images[rows]
        which, within = expand(counts[images])
        chosen = boxes[starts[images[which]] + within]
        ious = _inclusive_iou(table.boxes_xywh[rows[which]], truth.boxes_xywh[chosen])
        first = np.flatnonzero(within == 0)
        is_most = ious == np.maximum.reduceat(ious, first)[which]
        below[rows[which[is_most]]] = chosen[is_most]
        below[rows[np.add.reduceat(is_most, first, dtype=np.int32) > 1]] = TIE
    return below
