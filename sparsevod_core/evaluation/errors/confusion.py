"""Confusion matrix of the classes, with missed boxes and false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from sparsevod_core.evaluation.errors.frame_errors import MIN_IOU, MIN_SCORE, FrameErrors

BACKGROUND = "background"
NUM_TOP = 10


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Number of boxes and detections by true and predicted class.

    Attributes:
        class_names: Names of the K classes, in the annotations' order.
        matrix: True class by predicted class. The last column has the missed boxes, the last row
            the false alarms.
    """

    class_names: tuple[str, ...]
    matrix: Int[np.ndarray, "K_plus_1 K_plus_1"]

    @classmethod
    def of(cls, errors: FrameErrors) -> Confusion:
        """Count the pairs of true and predicted class."""
        truth, predicted = errors.truth, errors.detected.categories.astype(np.int64)
        background = len(truth.category_names)
        # A false alarm has box -1, the background appended last.
        true = np.append(truth.categories, background)[errors.box_of]
        missed = truth.categories[errors.is_missed]
        matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
        np.add.at(matrix, (true, predicted), 1)
        np.add.at(matrix, (missed, background), 1)
        return cls(truth.category_names, matrix)

    def top(self, limit: int = NUM_TOP) -> list[dict[str, Any]]:
        """Return the pairs of classes that are confused most often.

        Keys: `true`, `predicted`, `count` and `share`, the fraction of all boxes of the true class.
        """
        between = self.matrix[:-1, :-1].copy()
        np.fill_diagonal(between, 0)
        boxes = self.matrix[:-1].sum(axis=1)
        order = np.argsort(-between, axis=None, kind="stable")[:limit]
        rows, columns = np.unravel_index(order, between.shape)
        return [
            {
                "true": self.class_names[row],
                "predicted": self.class_names[column],
                "count": count,
                "share": count / int(boxes[row]),
            }
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if (count := int(between[row, column]))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON.

        Keys: `score`, `iou`, `correct`, `wrong_class`, `missed`, `false_alarms`, `top`, `per_class`
        (the same four counts by name), `classes` (names of rows and columns) and `matrix`.
        """
        correct = self.matrix[:-1, :-1].diagonal()
        wrong = self.matrix[:-1, :-1].sum(axis=1) - correct
        counts = np.stack([correct, wrong, self.matrix[:-1, -1], self.matrix[-1, :-1]], axis=1)
        kinds = ("correct", "wrong_class", "missed", "false_alarms")
        return {
            "score": MIN_SCORE,
            "iou": MIN_IOU,
            **dict(zip(kinds, counts.sum(axis=0).tolist(), strict=True)),
            "top": self.top(),
            "per_class": {
                name: dict(zip(kinds, row, strict=True))
                for name, row in zip(self.class_names, counts.tolist(), strict=True)
            },
            "classes": [*self.class_names, BACKGROUND],
            "matrix": self.matrix.tolist(),
        }
