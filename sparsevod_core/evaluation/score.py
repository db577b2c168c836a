"""Scoring of detections against ground truth, without a model, a GPU or even torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sparsevod_core.embedded import checkpoint_name
from sparsevod_core.evaluation.errors.report import ErrorReport
from sparsevod_core.evaluation.metrics.coco import (
    BoxAP,
    box_ap,
    nan_to_none,
    precision_and_recall,
    uncounted,
)
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.ranking import rank_all
from sparsevod_core.evaluation.metrics.subsets import (
    UnknownMotionError,
    ap_by_condition,
    ap_by_speed,
    ignored_by_speed,
    known_motion_iou,
)
from sparsevod_core.evaluation.predictions.from_file import read_predictions
from sparsevod_core.reporting import Reporter, SilentReporter

SCHEMA = "sparsevod.eval/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        boxes: COCO's box AP.
        motion: AP by speed of the objects, `coco` and `fgfa`, see `ap_by_speed`. Both are None, and
            `unknown` is the reason, if the annotations do not say how objects move.
        degradation: AP on `degraded` and `clean` frames, see `ap_by_condition`. None for both if
            the annotations do not say which frames are degraded.
        annotations: Path of the ground truth.
        checkpoint: Path of the model; None for predictions and models without a file.
        predictions: Path of the results file that was scored, or that `save_predictions` wrote.
        root: Folder of the frames; None for predictions.
        settings: Settings of the model; None for predictions.
        run: What the result depends on, see `Predictor.run`; None for predictions.
        classes_left_out: Classes that the annotations lack; their detections were dropped.
        classes_unknown: Classes that the model lacks; they score 0.
        truth, table: The scored boxes and detections, not in the JSON. None after `with_errors` and
            on ranks other than 0.
        errors: Error report, see `with_errors`.
    """

    boxes: BoxAP
    motion: dict[str, Any]
    degradation: dict[str, Any]
    annotations: Path
    checkpoint: Path | None = None
    predictions: Path | None = None
    root: Path | None = None
    settings: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    classes_left_out: tuple[str, ...] = ()
    classes_unknown: tuple[str, ...] = ()
    truth: GroundTruth | None = field(default=None, repr=False, compare=False)
    table: DetectionTable | None = field(default=None, repr=False, compare=False)
    errors: ErrorReport | None = field(default=None, repr=False, compare=False)

    def with_errors(self) -> Evaluation:
        """Return a copy that has an error report instead of all boxes and detections.

        Raises:
            ValueError: The evaluation does not have its detections.
        """
        if self.truth is None or self.table is None:
            raise ValueError("this evaluation does not have its detections")
        errors = ErrorReport.of(self.truth, self.table)
        return replace(self, errors=errors, truth=None, table=None)

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON. AP is 0..1, None for a class without boxes.

        Keys: `schema`, `AP`, `AP50`, `AP75`, `AR1`, `AR10`, `AR100`, `per_class` (by name: `AP`,
        `AP50`, `AP75`, `num_boxes`), `classes_without_boxes`, `num_frames`, `num_boxes`,
        `num_detections`, `AP_by_iou`, `motion`, `degraded`, `clean`, with `errors` also
        `confusion`, `worst_frames` and `worst_videos`, then `annotations` and the attributes after
        it.
        """
        return {
            "schema": SCHEMA,
            **self.boxes.to_dict(),
            "motion": nan_to_none(self.motion),
            **nan_to_none(self.degradation),
            **({} if self.errors is None else self.errors.to_dict()),
            "annotations": str(self.annotations),
            "checkpoint": None if self.checkpoint is None else checkpoint_name(self.checkpoint),
            "predictions": None if self.predictions is None else str(self.predictions),
            "settings": self.settings,
            "run": self.run,
            "classes_left_out": list(self.classes_left_out),
            "classes_unknown": list(self.classes_unknown),
        }


def evaluate_predictions(
    annotations: Path | str, predictions: Path | str, *, reporter: Reporter | None = None
) -> Evaluation:
    """Score a COCO results file, a list of {image_id, category_id, bbox: xywh, score}.

    Every annotated frame counts, even without an entry. The AP equals that of pycocotools on the
    same files with annotation ids renumbered from 1: at most 100 detections per class and frame
    count.

    Raises:
        DataError: A file cannot be read, or an entry is invalid; the first one is reported.
    """
    reporter = reporter or SilentReporter()
    predictions = Path(predictions)
    truth = GroundTruth.load(Path(annotations))
    table = read_predictions(predictions, truth, reporter)
    return replace(score(truth, table, reporter), predictions=predictions)


def score(
    truth: GroundTruth, table: DetectionTable, reporter: Reporter | None = None
) -> Evaluation:
    """Compute all metrics."""
    if reporter is not None:  # it takes a while on a large data set
        reporter.message(f"scoring {len(table):,} detections in {len(truth.image_ids):,} frames")
    ranking = rank_all(table, len(truth.category_ids))
    ignored = [uncounted(truth)]
    try:
        motion_iou = known_motion_iou(truth)
    except UnknownMotionError as error:
        (curves,) = precision_and_recall(truth, table, ranking, ignored)
        motion: dict[str, Any] = {"coco": None, "fgfa": None, "unknown": str(error)}
    else:
        ignored += ignored_by_speed(truth, motion_iou)
        curves, *by_speed = precision_and_recall(truth, table, ranking, ignored)
        motion = ap_by_speed(truth, table, ranking, motion_iou, by_speed)
    return Evaluation(
        boxes=box_ap(truth, curves, len(table)),
        motion=motion,
        degradation=ap_by_condition(truth, table),
        annotations=truth.path,
        truth=truth,
        table=table,
    )
