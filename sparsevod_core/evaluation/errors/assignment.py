"""Which detection stands for which box, whatever its class: the errors that a viewer would see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.matching import (
    coco_overlap,
    match_greedily,
    overlapping_pairs,
)
from sparsevod_core.evaluation.metrics.ranking import rank_class

MIN_SCORE = 0.3
"""Detections with a score greater than this are looked at: those that are drawn by default."""

MIN_IOU = 0.5


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
    ranked = rank_class(table, above, limit=len(above))
    boxes = np.arange(len(truth.images))
    pairs = overlapping_pairs(truth, table, ranked, boxes, coco_overlap(truth, MIN_IOU))
    crowd = truth.is_crowd
    least = np.array([MIN_IOU])
    matched, matches = match_greedily(pairs, ranked, least, ignored=crowd, reusable=crowd)
    box = matches[:, 0]
    box_of = np.full(len(above), -1)
    box_of[np.searchsorted(above, ranked.rows[matched])] = box
    counts = (box_of < 0) | ~np.append(crowd, False)[box_of]
    is_found = np.zeros(len(boxes), dtype=bool)
    is_found[box[box >= 0]] = True
    return Assignment(above[counts], box_of[counts], is_found, ~crowd)
