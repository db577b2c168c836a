"""The model's classes and the annotations', matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sparsevod_core.data.json_fields import Id
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category, Detections

MAX_DETECTIONS = 100
"""Best detections of a frame that are scored (COCO's limit, among the classes in common)."""


class ClassMatch:
    """The model's classes and the annotations', matched by name.

    Attributes:
        left_out: names that only the model has.
        unknown: names that only the annotations have.

    Raises:
        DataError: no name in common.
    """

    def __init__(self, categories: Sequence[Category], truth: GroundTruth) -> None:
        ids = dict(zip(truth.category_names, truth.category_ids, strict=True))
        model_names = [category.name for category in categories]
        self._path = truth.path
        self._id_of_label = [ids.get(name) for name in model_names]
        self._is_scored = np.array([name in ids for name in model_names], dtype=bool)
        self.left_out = [name for name in model_names if name not in ids]
        self.unknown = [name for name in ids if name not in model_names]
        if not self._is_scored.any():
            raise DataError(
                f"{truth.path}: no class in common with the model: the annotations have "
                f"{_listing(list(ids))}; the model has {_listing(model_names)}",
                hint="classes are matched by name: rename those under `categories`",
            )

    def say(self, reporter: Reporter) -> None:
        """Tell what does not match."""
        if self.left_out:
            reporter.message(
                f"left out, because {self._path} lacks these classes: {_listing(self.left_out)}"
            )
        if self.unknown:
            reporter.warning(
                f"the model lacks these classes of {self._path}, they score 0: "
                f"{_listing(self.unknown)}"
            )

    def select(
        self, detections: Detections
    ) -> tuple[Float[np.ndarray, "M 4"], Float[np.ndarray, " M"], list[Id]]:
        """Boxes (xywh, float64), scores and the annotations' category ids of what is scored."""
        kept = detections[self._is_scored[detections.labels]][:MAX_DETECTIONS]
        low, high = np.split(kept.boxes_xyxy.astype(np.float64), 2, axis=1)
        ids: list[Any] = [self._id_of_label[label] for label in kept.labels.tolist()]
        return np.concatenate([low, high - low], axis=1), kept.scores.astype(np.float64), ids


def _listing(names: Sequence[str], limit: int = 10) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
