"""What became of the boxes and detections of every frame: counts, and one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.evaluation.errors.assignment import Assignment
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth

Kind = Literal["correct", "wrong_class", "missed", "false_alarm"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A box, what was found in its place, or one of them alone.

    Attributes:
        kind: what it counts as.
        true, true_xywh: class and place of the annotated box; None for a false alarm.
        predicted, score, found_xywh: of the detection; None for a missed box.
    """

    kind: Kind
    true: str | None = None
    predicted: str | None = None
    score: float | None = None
    true_xywh: Box | None = None
    found_xywh: Box | None = None


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Of a frame or a video, at a score above the threshold."""

    missed: int
    wrong_class: int
    false_alarms: int


class FrameErrors:
    """Counts of errors of every frame, and what they are; of the detections, those above the score.

    Args:
        truth, table: boxes and detections.
        assignment: which belong together.
    """

    def __init__(self, truth: GroundTruth, table: DetectionTable, assignment: Assignment) -> None:
        self.truth, self.assignment = truth, assignment
        rows = assignment.detections
        self._found = DetectionTable.grouped(
            len(truth.image_ids),
            table.images[rows],
            table.categories[rows],
            table.boxes_xywh[rows],
            table.scores[rows],
        )
        self._is_false = assignment.box_of < 0
        true = np.append(truth.categories, -1)[assignment.box_of]
        self._is_wrong = ~self._is_false & (self._found.categories != true)
        missed = np.bincount(truth.images[assignment.is_missed], minlength=len(truth.image_ids))
        self.counts = np.stack(
            [missed, self._per_frame(self._is_wrong), self._per_frame(self._is_false)]
        )
        """[3, F]: missed, wrong class, false alarms."""
        self.num_boxes = np.bincount(
            truth.images[assignment.is_counted], minlength=len(truth.image_ids)
        )
        """[F]"""

    def _per_frame(self, chosen: Bool[np.ndarray, " D"]) -> Int[np.ndarray, " F"]:
        return np.bincount(self._found.images[chosen], minlength=len(self.truth.image_ids))

    def counts_of(self, image: int) -> ErrorCounts:
        """The errors of one frame."""
        return ErrorCounts(*self.counts[:, image].tolist())

    def outcomes(self, image: int) -> list[Outcome]:
        """What became of the boxes and detections of a frame: the errors first, the best last."""
        truth, found, assignment = self.truth, self._found, self.assignment
        names = truth.category_names
        outcomes = []
        for row in range(*found.of_image(image).indices(len(found))):
            box = int(assignment.box_of[row])
            kind: Kind = "correct"
            if self._is_false[row]:
                kind = "false_alarm"
            elif self._is_wrong[row]:
                kind = "wrong_class"
            outcomes.append(
                Outcome(
                    kind,
                    true=names[truth.categories[box]] if box >= 0 else None,
                    predicted=names[found.categories[row]],
                    score=float(found.scores[row]),
                    true_xywh=_box(truth.boxes_xywh[box]) if box >= 0 else None,
                    found_xywh=_box(found.boxes_xywh[row]),
                )
            )
        missed = np.flatnonzero((truth.images == image) & assignment.is_missed)
        outcomes += [
            Outcome(
                "missed",
                true=names[truth.categories[box]],
                true_xywh=_box(truth.boxes_xywh[box]),
            )
            for box in missed.tolist()
        ]
        return sorted(outcomes, key=lambda one: (_ORDER[one.kind], -(one.score or 0)))


_ORDER = {"missed": 0, "wrong_class": 1, "false_alarm": 2, "correct": 3}


def _box(box_xywh: np.ndarray) -> Box:
    x, y, width, height = box_xywh.tolist()
    return x, y, width, height
