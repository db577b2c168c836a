"""Which detection finds which box: COCO's greedy matching, whole classes at a time.

pycocotools loops over classes, frames, thresholds, detections and boxes. Here the best detections
of all frames take their turn together, then the second best, and only those that overlap a box
enough to match it at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.ranking import RankedClass, count_within

_PAIRS_AT_A_TIME = 1 << 17  # few enough that their columns stay in the processor's cache


class Pairs(NamedTuple):
    """P pairs of a detection and a box of its class and frame, by detection, then by box.

    Attributes:
        detections: position in a `RankedClass`.
        boxes: position in the ground truth.
        ious: overlap.
    """

    detections: Int[np.ndarray, " P"]
    boxes: Int[np.ndarray, " P"]
    ious: Float[np.ndarray, " P"]


def has_odd_area(areas: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Outside COCO's range of all sizes, 0 to 1e10 pixels."""
    return (areas < 0) | (areas > 1e10)


Overlap = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""IoU of detections [P, 4] with boxes (positions [P]), and whether that is enough to match."""


def overlapping_pairs(
    truth: GroundTruth,
    table: DetectionTable,
    ranked: RankedClass,
    boxes: Int[np.ndarray, " b"],
    overlap: Overlap,
) -> Pairs:
    """All pairs that may match.

    Args:
        truth: all boxes.
        table: all detections.
        ranked: the detections of one class.
        boxes: positions of the boxes of that class.
        overlap: compares them.
    """
    boxes = boxes[np.argsort(truth.images[boxes], kind="stable")]
    starts = np.searchsorted(truth.images[boxes], ranked.images, side="left")
    counts = np.searchsorted(truth.images[boxes], ranked.images, side="right") - starts
    beside = np.flatnonzero(counts)  # detections in a frame with boxes of their class
    starts, counts = starts[beside], counts[beside]
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for part in slices(counts):
        which, within = expand(counts[part])
        which += part.start
        chosen = boxes[starts[which] + within]
        ious, enough = overlap(table.boxes_xywh[ranked.rows[beside[which]]], chosen)
        parts.append((beside[which[enough]], chosen[enough], ious[enough]))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def coco_overlap(truth: GroundTruth, least: float) -> Overlap:
    """IoU of at least `least`, computed in the order of pycocotools, hence equal to the last bit.

    With a crowd it is the share of the detection that lies within.
    """

    def overlap(found: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y, width, height = found.T
        left, top, box_width, box_height = truth.boxes_xywh[boxes].T
        with np.errstate(all="ignore"):  # boxes beyond all bounds
            w = np.minimum(width + x, box_width + left) - np.maximum(x, left)
            h = np.minimum(height + y, box_height + top) - np.maximum(y, top)
            both, area = w * h, width * height
            union = np.where(truth.is_crowd[boxes], area, area + box_width * box_height - both)
            ious = np.where((w <= 0) | (h <= 0), 0, both / union)
        return ious, ~(ious < least)

    return overlap


def match_greedily(
    pairs: Pairs,
    ranked: RankedClass,
    least: Float[np.ndarray, " T"],
    ignored: Bool[np.ndarray, " M"],
    reusable: Bool[np.ndarray, " M"],
) -> tuple[Int[np.ndarray, " d"], Int[np.ndarray, "d T"]]:
    """Give every detection, best first, the box of its frame that it overlaps most.

    A box is given away once. Ignored ones are for detections that match no other. Of equal
    overlaps the last in the order of `pairs` is taken.

    Args:
        pairs: what may match.
        ranked: the detections that `pairs` refers to.
        least: IoU that a match needs; each value is a matching of its own.
        ignored: of all boxes of the ground truth, those that do not count.
        reusable: those that may be found again and again.

    Returns:
        The d detections with pairs, as positions in `ranked`, and the position of the box that each
        of them got in each matching, -1 for none.
    """
    first = np.flatnonzero(np.diff(pairs.detections, prepend=-1))
    counts = np.diff(first, append=len(pairs.detections))
    detections = pairs.detections[first]
    taken = np.zeros((len(ignored), len(least)), dtype=bool)
    matches = np.full((len(detections), len(least)), -1, dtype=np.int32)
    for turn in _turns(ranked.images[detections]):
        best = np.full((len(turn), len(least)), -1, dtype=np.int32)
        best_iou = np.tile(least, (len(turn), 1))
        for nth in range(counts[turn].max()):
            going = np.flatnonzero(counts[turn] > nth)
            pair = first[turn[going]] + nth
            box, iou = pairs.boxes[pair], pairs.ious[pair, None]
            so_far = best[going]
            only_ignored = (so_far >= 0) & ignored[so_far]
            counted = ~ignored[box, None]
            floor = np.where(only_ignored & counted, least, best_iou[going])
            better = ~taken[box] & ~(iou < floor) & (counted | only_ignored | (so_far < 0))
            best[going] = np.where(better, box[:, None], so_far)
            best_iou[going] = np.where(better, iou, best_iou[going])
        found, threshold = np.nonzero(best >= 0)
        box = best[found, threshold]
        taken[box, threshold] = ~reusable[box]
        matches[turn] = best
    return detections, matches


def _turns(images: Int[np.ndarray, " d"]) -> Iterator[Int[np.ndarray, " t"]]:
    """The first of every frame, the second of every frame that has one ..."""
    turn = count_within(images)
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))
    yield from (order[start:end] for start, end in pairwise([0, *ends.tolist()]))


def expand(counts: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """0, 0, 1, 1, 1 ... as often as `counts` says, and 0, 1, 0, 1, 2 ... beside it."""
    which = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - starts[which]


def slices(counts: Int[np.ndarray, " n"]) -> Iterator[slice]:
    """Cut so that the counts of each slice sum to some bounded number."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        end = int(np.searchsorted(total, done + _PAIRS_AT_A_TIME, side="right"))
        end = max(end, start + 1)
        yield slice(start, end)
        start = end
