"""Which detection finds which box: COCO's greedy matching, whole classes at a time.

pycocotools loops over classes, frames, thresholds, detections and boxes. Here the best detections
of all frames take their turn together, then the second best, and only those that overlap a box
enough to match it at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.evaluation.detection_table import DetectionTable
from sparsevod_core.evaluation.ground_truth import GroundTruth

MAX_DETECTIONS = 100
"""COCO's limit for each class and frame."""

Result = TypeVar("Result")

_PAIRS_AT_A_TIME = 1 << 17  # few enough that their columns stay in the processor's cache


class RankedClass(NamedTuple):
    """The detections of one class that count: n of them, by frame, in a frame the best first.

    Attributes:
        rows: where they stand in the table.
        images: the frame of each.
        ranks: how many in the frame come before it.
        places: how many of the whole set come before it; equal scores rank by frame, then as given.
    """

    rows: Int[np.ndarray, " n"]
    images: Int[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]

    def best(self, limit: int) -> RankedClass:
        """The `limit` best of each frame."""
        kept = self.ranks < limit
        if kept.all():
            return self
        counts = np.zeros(len(kept), dtype=np.int32)
        counts[self.places] = kept
        places = np.cumsum(counts, dtype=np.int32) - 1
        rows, images, ranks, old_places = (column[kept] for column in self)
        return RankedClass(rows, images, ranks, places[old_places])


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


def rank_class(
    table: DetectionTable, rows: Int[np.ndarray, " m"], limit: int = MAX_DETECTIONS
) -> RankedClass:
    """Rank the detections of one class, the `limit` best of each frame.

    Args:
        table: all detections.
        rows: those of the class, in the table's order.
        limit: how many of a frame count.
    """
    by_score = np.argsort(-table.scores[rows], kind="stable")
    by_image = by_score[np.argsort(table.images[rows[by_score]], kind="stable")]
    places = np.empty(len(rows), dtype=np.int32)
    places[by_score] = np.arange(len(rows), dtype=np.int32)
    rows = rows[by_image].astype(np.int32)
    images = table.images[rows]
    ranks = _count_within(images).astype(np.int32)
    return RankedClass(rows, images, ranks, places[by_image]).best(limit)


def rank_all(table: DetectionTable, num_classes: int) -> list[RankedClass]:
    """Every class, all detections; 16 bytes for each."""
    by_class = np.argsort(table.categories, kind="stable").astype(np.int32)
    ends = np.searchsorted(table.categories[by_class], np.arange(num_classes + 1))
    rows = [by_class[start:end] for start, end in pairwise(ends)]
    return of_classes(lambda k: rank_class(table, rows[k], limit=sys.maxsize), range(num_classes))


def of_classes(function: Callable[[int], Result], classes: Iterable[int]) -> list[Result]:
    """The results for each class; as many at a time as there are processors.

    Threads do: numpy lets go of Python's lock for most of what is done with a class.
    """
    with ThreadPoolExecutor(num_processors()) as pool:
        return list(pool.map(function, classes))


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
    turn = _count_within(images)
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))
    yield from (order[start:end] for start, end in pairwise([0, *ends.tolist()]))


def _count_within(groups: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0, 1, 2 ... within each run of equal values."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def num_processors() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
