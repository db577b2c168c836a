"""Errors of each frame: detections matched to boxes whatever their classes, as a viewer would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

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
KINDS = get_args(Kind)

Box = tuple[float, float, float, float]


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
    """Errors of every frame, from D detections above the minimum score and M boxes.

    Detections are assigned to boxes greedily: highest score first, each to its best free box. They
    match at an IoU of at least 0.5, whatever their classes. A detection that matches only a crowd
    is omitted: it is not a false alarm.

    Attributes:
        truth, detected: The ground truth and the detections.
        rows: [D], rows of the detections in the table given.
        box_of: [D], position in the ground truth of each detection's box, -1 for a false alarm.
        is_missed: [M], True for a box without a detection of any class, crowds excepted.
        counts: [3, F], numbers of missed boxes, wrong classes and false alarms.
        num_boxes: [F], numbers of boxes without crowds.
    """

    def __init__(self, truth: GroundTruth, table: DetectionTable) -> None:
        above = np.flatnonzero(table.scores > MIN_SCORE)
        ranked = rank_class(table, above, limit=len(above))
        boxes = np.arange(len(truth.images))
        pairs = overlapping_pairs(truth, table, ranked, boxes, coco_overlap(truth, MIN_IOU))
        crowd, least = truth.is_crowd, np.array([MIN_IOU])
        matched, matches = match_greedily(pairs, ranked, least, ignored=crowd, reusable=crowd)
        box = matches[:, 0]
        box_of = np.full(len(above), -1)
        box_of[np.searchsorted(above, ranked.rows[matched])] = box
        counts = (box_of < 0) | ~np.append(crowd, False)[box_of]
        self.truth, self.rows, self.box_of = truth, above[counts], box_of[counts]
        self.detected = table.select(self.rows)
        self.is_missed = ~crowd
        self.is_missed[box[box >= 0]] = False

        self._is_false = self.box_of < 0
        true = np.append(truth.categories, -1)[self.box_of]
        self._is_wrong = ~self._is_false & (self.detected.categories != true)
        *errors, self.num_boxes = (
            np.bincount(images, minlength=len(truth.image_ids))
            for images in (
                truth.images[self.is_missed],
                self.detected.images[self._is_wrong],
                self.detected.images[self._is_false],
                truth.images[~crowd],
            )
        )
        self.counts = np.stack(errors)

    def counts_of(self, image: int) -> ErrorCounts:
        """Count the errors of one frame."""
        return ErrorCounts(*self.counts[:, image].tolist())

    def outcomes(self, image: int) -> list[Outcome]:
        """List the boxes and detections of a frame, errors first, correct detections last."""
        truth, detected, names = self.truth, self.detected, self.truth.category_names
        missed = np.flatnonzero((truth.images == image) & self.is_missed)
        outcomes = [
            Outcome("missed", names[truth.categories[box]], true_xywh=_box(truth.boxes_xywh[box]))
            for box in missed.tolist()
        ]
        for row in range(*detected.of_image(image).indices(len(detected))):
            box = int(self.box_of[row])
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
