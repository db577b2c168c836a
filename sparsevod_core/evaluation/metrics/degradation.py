"""AP on degraded and on clean frames, where the annotations tell which are which."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsevod_core.evaluation.metrics.average_precision import (
    mean_of_known,
    precision_and_recall,
    uncounted,
)
from sparsevod_core.evaluation.metrics.coco import AT_50, AT_75
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import CLEAN, DEGRADED, GroundTruth
from sparsevod_core.evaluation.metrics.ranking import rank_all

CONDITIONS = {"degraded": DEGRADED, "clean": CLEAN}


def degradation_ap(truth: GroundTruth, table: DetectionTable) -> dict[str, Any]:
    """COCO's AP as if the set had only the degraded, or only the clean frames.

    Frames of which the annotations do not tell are in neither.

    Returns:
        `degraded` and `clean`: `AP`, `AP50`, `AP75` (0..1, NaN without boxes), `num_frames`,
        `num_boxes`; None for both where the annotations tell it of no frame.
    """
    if not np.isin(truth.conditions, list(CONDITIONS.values())).any():
        return dict.fromkeys(CONDITIONS)
    return {
        name: _ap_of_frames(truth, table, np.flatnonzero(truth.conditions == condition))
        for name, condition in CONDITIONS.items()
    }


def _ap_of_frames(truth: GroundTruth, table: DetectionTable, frames: np.ndarray) -> dict[str, Any]:
    truth = truth.restricted_to([truth.image_ids[position] for position in frames])
    table = table.restricted_to(frames)
    ranking = rank_all(table, len(truth.category_ids))
    (curve,) = precision_and_recall(truth, table, ranking, [uncounted(truth)])
    return {
        "AP": mean_of_known(curve.precision),
        "AP50": mean_of_known(curve.precision[AT_50]),
        "AP75": mean_of_known(curve.precision[AT_75]),
        "num_frames": len(frames),
        "num_boxes": int((~truth.is_crowd).sum()),
    }
