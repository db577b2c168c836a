"""COCO's greedy matching of detections to boxes, an entire class at a time.

pycocotools loops over classes, frames, thresholds, detections and boxes. Here the best detections
of all frames are matched together, then the second best and so on. Detections that overlap no box
enough to match it are skipped.
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

_PAIRS_AT_A_TIME = 1 << 17  # few enough for their columns to stay in the processor's cache


class Pairs(NamedTuple):
    """P pairs of a detection and a box of the same class and frame, by detection, then by box.

    Attributes:
        detections: Position in a `RankedClass`.
        boxes: Position in the ground truth.
        ious: Overlap of the pair.
    """

    detections: Int[np.ndarray, " P"]
    boxes: Int[np.ndarray, " P"]
    ious: Float[np.ndarray, " P"]


def has_odd_area(areas: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Return True for each area outside COCO's largest range, 0 to 1e10 pixels."""
    return (areas < 0) | (areas > 1e10)


Overlap = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Function of detections [P, 4] and positions of boxes [P]: their IoU, and pairs that may match."""


def overlapping_pairs(
    truth: GroundTruth,
    table: DetectionTable,
    ranked: RankedClass,
    boxes: Int[np.ndarray, " b"],
    overlap: Overlap,
) -> Pairs:
    """Return all pairs that may match.

    Args:
        ranked: The detections of one class.
        boxes: Positions of the boxes of that class.
        overlap: Computes the IoU and decides which pairs may match.
    """
    boxes = boxes[np.argsort(truth.images[boxes], kind="stable")]
    starts = np.searchsorted(truth.images[boxes], ranked.images, side="left")
    counts = np.searchsorted(truth.images[boxes], ranked.images, side="right") - starts
    relevant = np.flatnonzero(counts)  # detections whose frame has boxes of their class
    starts, counts = starts[relevant], counts[relevant]
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for part in slices(counts):
        which, within = expand(counts[part])
        which += part.start
        chosen = boxes[starts[which] + within]
        ious, enough = overlap(table.boxes_xywh[ranked.rows[relevant[which]]], chosen)
        parts.append((relevant[which[enough]], chosen[enough], ious[enough]))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def coco_overlap(truth: GroundTruth, least: float) -> Overlap:
    """Return pycocotools' IoU, equal to the last bit, which must be at least `least`.

    For a crowd it is the fraction of the detection inside the crowd's box.
    """

    def overlap(detected: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y, width, height = detected.T
        left, top, box_width, box_height = truth.boxes_xywh[boxes].T
        with np.errstate(all="ignore"):  # boxes so large that products overflow
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
    """Match each detection, best first, to the free box of its frame that it overlaps most.

    A detection matches an ignored box only if it matches no other. Among equal overlaps the last
    pair wins.

    Args:
        pairs: Pairs that may match.
        ranked: The detections that `pairs` refers to.
        least: T minimum IoUs, each for a separate matching.
        ignored: Mask of the ground-truth boxes that do not count.
        reusable: Mask of the boxes that may be matched any number of times.

    Returns:
        The d detections that have pairs, as positions in `ranked`, and the position of the box that
        each of them matches at each minimum IoU, -1 for none.
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
            active = np.flatnonzero(counts[turn] > nth)
            pair = first[turn[active]] + nth
            box, iou = pairs.boxes[pair], pairs.ious[pair, None]
            so_far = best[active]
            only_ignored = (so_far >= 0) & ignored[so_far]
            counted = ~ignored[box, None]
            floor = np.where(only_ignored & counted, least, best_iou[active])
            better = ~taken[box] & ~(iou < floor) & (counted | only_ignored | (so_far < 0))
            best[active] = np.where(better, box[:, None], so_far)
            best_iou[active] = np.where(better, iou, best_iou[active])
        matched, threshold = np.nonzero(best >= 0)
        box = best[matched, threshold]
        taken[box, threshold] = ~reusable[box]
        matches[turn] = best
    return detections, matches


def _turns(images: Int[np.ndarray, " d"]) -> Iterator[Int[np.ndarray, " t"]]:
    """Yield the positions of the first detection of every frame, then of the second, and so on."""
    turn = count_within(images)
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))
    yield from (order[start:end] for start, end in pairwise([0, *ends.tolist()]))


def expand(counts: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Return 0, 0, 1, 1, 1 ... for counts 2, 3 ..., and the index in each run: 0, 1, 0, 1, 2 ..."""
    which = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - starts[which]


def slices(counts: Int[np.ndarray, " n"]) -> Iterator[slice]:
    """Yield consecutive slices whose counts add up to a bounded number of pairs."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        end = int(np.searchsorted(total, done + _PAIRS_AT_A_TIME, side="right"))
        end = max(end, start + 1)
        yield slice(start, end)
        start = end
