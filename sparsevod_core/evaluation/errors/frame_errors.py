"""Errors of each frame: detections matched to boxes whatever their classes, as a viewer would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
"""Only detections with a higher score count; the default of drawing, too."""

MIN_IOU = 0.5

Kind = Literal["missed", "wrong_class", "false_alarm", "correct"]
KINDS: tuple[Kind, ...] = ("missed", "wrong_class", "false_alarm", "correct")

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """D detections above the minimum score, each assigned to at most one box of its frame.

    Attributes:
        detections: Rows in the table, ascending.
        box_of: Position in the ground truth of each detection's box, -1 for a false alarm.
        is_missed: Which of the M boxes, crowds excepted, have no detection of any class.
    """

    detections: Int[np.ndarray, " D"]
    box_of: Int[np.ndarray, " D"]
    is_missed: Bool[np.ndarray, " M"]


def assign(truth: GroundTruth, table: DetectionTable) -> Assignment:
    """Assign detections to boxes greedily: highest score first, each to its best free box.

    They match at an IoU of at least 0.5, whatever their classes. A detection that matches only a
    crowd is omitted: it is not a false alarm.
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
    is_missed = ~crowd
    is_missed[box[box >= 0]] = False
    return Assignment(above[counts], box_of[counts], is_missed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A ground-truth box with its detection, or one of them without the other.

    Attributes:
        kind: Kind of error, or `correct`.
        true, true_xywh: Class and position of the ground-truth box; None for a false alarm.
        predicted, score, found_xywh: Class, score and position of the detection; None for a missed
            box.
    """

    kind: Kind
    true: str | None = None
    predicted: str | None = None
    score: float | None = None
    true_xywh: Box | None = None
    found_xywh: Box | None = None


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Number of errors in a frame or a video."""

    missed: int
    wrong_class: int
    false_alarms: int


class FrameErrors:
    """Errors of every frame, counted and listed.

    Attributes:
        truth: The ground truth.
        assignment: From `assign`.
        counts: [3, F], numbers of missed boxes, wrong classes and false alarms.
        num_boxes: [F], numbers of boxes that need a detection.
    """

    def __init__(self, truth: GroundTruth, table: DetectionTable, assignment: Assignment) -> None:
        self.truth, self.assignment = truth, assignment
        self._detected = table.select(assignment.detections)
        self._is_false = assignment.box_of < 0
        true = np.append(truth.categories, -1)[assignment.box_of]
        self._is_wrong = ~self._is_false & (self._detected.categories != true)
        detected_in = self._detected.images
        *counts, self.num_boxes = (
            np.bincount(images, minlength=len(truth.image_ids))
            for images in (
                truth.images[assignment.is_missed],
                detected_in[self._is_wrong],
                detected_in[self._is_false],
                truth.images[~truth.is_crowd],
            )
        )
        self.counts = np.stack(counts)

    def counts_of(self, image: int) -> ErrorCounts:
        """Count the errors of one frame."""
        return ErrorCounts(*self.counts[:, image].tolist())

    def outcomes(self, image: int) -> list[Outcome]:
        """List the boxes and detections of a frame, errors first, correct detections last."""
        truth, detected, assignment = self.truth, self._detected, self.assignment
        names = truth.category_names
        missed = np.flatnonzero((truth.images == image) & assignment.is_missed)
        outcomes = [
            Outcome("missed", names[truth.categories[box]], true_xywh=_box(truth.boxes_xywh[box]))
            for box in missed.tolist()
        ]
        for row in range(*detected.of_image(image).indices(len(detected))):
            box = int(assignment.box_of[row])
            is_wrong, is_false = self._is_wrong[row], self._is_false[row]
            outcomes.append(
                Outcome(
                    "false_alarm" if is_false else "wrong_class" if is_wrong else "correct",
                    true=None if is_false else names[truth.categories[box]],
                    predicted=names[detected.categories[row]],
                    score=float(detected.scores[row]),
                    true_xywh=None if is_false else _box(truth.boxes_xywh[box]),
                    found_xywh=_box(detected.boxes_xywh[row]),
                )
            )
        return sorted(outcomes, key=lambda one: (KINDS.index(one.kind), -(one.score or 0)))


def _box(box_xywh: np.ndarray) -> Box:
    x, y, width, height = box_xywh.tolist()
    return x, y, width, height
