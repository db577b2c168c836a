"""Which detection stands for which box, whatever its class: the errors that a viewer would see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.evaluation.detection_table import DetectionTable
from sparsevod_core.evaluation.ground_truth import GroundTruth

MIN_SCORE = 0.3
"""Detections with a score greater than this are looked at: those that are drawn by default."""

MIN_IOU = 0.5
_BLOCK = 1_000_000  # detections at a time: bounds the memory for pairs


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """D detections above the score, each given to at most one box of its frame.

    Attributes:
        detections: positions in the table, ascending.
        box_of: position in the ground truth of each detection's box, -1 for a false alarm.
        is_found: whether each of the M boxes has a detection, of any class.
        is_counted: boxes that a detection is asked for: all but crowds.
    """

    detections: Int[np.ndarray, " D"]
    box_of: Int[np.ndarray, " D"]
    is_found: Bool[np.ndarray, " M"]
    is_counted: Bool[np.ndarray, " M"]

    @property
    def is_missed(self) -> Bool[np.ndarray, " M"]:
        """The boxes that no detection stands for."""
        return self.is_counted & ~self.is_found


def assign(truth: GroundTruth, table: DetectionTable) -> Assignment:
    """Give detections to boxes greedily: the highest score first, each to its best free box.

    They match at an IoU of 0.5 or more, whatever their classes. A detection that lies by half or
    more in a crowd and finds no other box is left out: it is no false alarm.
    """
    above = np.flatnonzero(table.scores > MIN_SCORE)
    by_image = np.argsort(truth.images, kind="stable")
    starts = np.searchsorted(truth.images[by_image], np.arange(len(truth.image_ids) + 1))
    box_of = np.full(len(above), -1, dtype=np.int64)
    is_found = np.zeros(len(truth.images), dtype=bool)
    in_crowd = np.zeros(len(above), dtype=bool)
    for first in range(0, len(above), _BLOCK):
        rows, boxes = _pairs(table.images[above[first : first + _BLOCK]], starts)
        rows += first
        boxes = by_image[boxes]
        overlap = _overlap(
            table.boxes_xywh[above[rows]], truth.boxes_xywh[boxes], truth.is_crowd[boxes]
        )
        near = overlap >= MIN_IOU
        rows, boxes, overlap = rows[near], boxes[near], overlap[near]
        crowd = truth.is_crowd[boxes]
        in_crowd[rows[crowd]] = True
        rows, boxes, overlap = rows[~crowd], boxes[~crowd], overlap[~crowd]
        # Equal scores rank in the table's order, as for AP.
        order = np.lexsort((-overlap, rows, -table.scores[above[rows]]))
        for row, box in zip(rows[order].tolist(), boxes[order].tolist(), strict=True):
            if box_of[row] < 0 and not is_found[box]:
                box_of[row] = box
                is_found[box] = True
    kept = (box_of >= 0) | ~in_crowd
    return Assignment(above[kept], box_of[kept], is_found, ~truth.is_crowd)


def _pairs(
    images: Int[np.ndarray, " D"], starts: Int[np.ndarray, " F_plus_1"]
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Every detection with every box of its frame, as positions in `images` and in the boxes."""
    counts = starts[images + 1] - starts[images]
    rows = np.repeat(np.arange(len(images)), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(rows)) - np.repeat(ends - counts, counts)
    return rows, np.repeat(starts[images], counts) + within


def _overlap(
    found_xywh: Float[np.ndarray, "P 4"],
    true_xywh: Float[np.ndarray, "P 4"],
    is_crowd: Bool[np.ndarray, " P"],
) -> Float[np.ndarray, " P"]:
    """IoU, COCO's way: with a crowd, the share of the detection that lies in it."""
    low = np.maximum(found_xywh[:, :2], true_xywh[:, :2])
    high = np.minimum(found_xywh[:, :2] + found_xywh[:, 2:], true_xywh[:, :2] + true_xywh[:, 2:])
    common = (high - low).clip(0).prod(axis=1)
    areas = found_xywh[:, 2:].prod(axis=1)
    union = np.where(is_crowd, areas, areas + true_xywh[:, 2:].prod(axis=1) - common)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
