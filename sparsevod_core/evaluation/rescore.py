"""Scores saved predictions again: no model, no GPU, not even torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsevod_core.embedded import checkpoint_name
from sparsevod_core.evaluation.metrics.average_precision import precision_and_recall, uncounted
from sparsevod_core.evaluation.metrics.coco import BoxAP, box_ap, nan_to_none
from sparsevod_core.evaluation.metrics.degradation import degradation_ap
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.motion import (
    UnknownMotionError,
    ignored_by_speed,
    known_motion_iou,
    motion_ap,
)
from sparsevod_core.evaluation.metrics.ranking import rank_all
from sparsevod_core.evaluation.predictions.results_file import read_results
from sparsevod_core.reporting import Reporter, SilentReporter

if TYPE_CHECKING:
    from sparsevod_core.evaluation.errors.report import ErrorReport

SCHEMA = "sparsevod.eval/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The numbers and what they are of.

    Attributes:
        boxes: COCO's box AP.
        annotations: the ground truth's file.
        checkpoint: the model's file, where a model was evaluated and came from one.
        predictions: the results file that was scored, or written with `save_predictions`.
        root: where the frames lie that the model saw; None where only predictions were scored.
        settings: how the model was used; None where only predictions were scored.
        run: version, device, precision and threads; None where only predictions were scored.
        classes_left_out: the model's classes that the annotations lack; their boxes were dropped.
        classes_unknown: the annotations' classes that the model lacks; they score 0.
        motion: AP by speed of the objects: `coco` and `fgfa`, see `motion.motion_ap`; None for
            both, and why under `unknown`, where the annotations do not tell the speed.
        degradation: AP on `degraded` and on `clean` frames, see `degradation.degradation_ap`; None
            for both where the annotations do not tell them apart.
        truth: what was scored against, for reports; not in the JSON.
        table: what was scored, for reports; not in the JSON. None in a process that only was told
            the numbers.
        errors: what was not found and what was wrong, see `report.with_report`.
    """

    boxes: BoxAP
    annotations: Path
    motion: dict[str, Any] = field(default_factory=dict)
    degradation: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    predictions: Path | None = None
    root: Path | None = None
    settings: dict[str, Any] | None = None
    run: dict[str, str | int] | None = None
    classes_left_out: tuple[str, ...] = ()
    classes_unknown: tuple[str, ...] = ()
    truth: GroundTruth | None = field(default=None, repr=False, compare=False)
    table: DetectionTable | None = field(default=None, repr=False, compare=False)
    errors: ErrorReport | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. AP values are 0..1, None for a class without boxes.

        Keys: `schema`, `AP`, `AP50`, `AP75`, `AR1`, `AR10`, `AR100`, `per_class` (by name: `AP`,
        `AP50`, `AP75`, `num_boxes`), `num_frames`, `num_boxes`, `num_detections`, `AP_by_iou`,
        `motion`, `degraded`, `clean`, with `errors` also `confusion`, `worst_frames` and
        `worst_videos`, then the fields of this class; `checkpoint` as `checkpoint_name` calls it.
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

    Every frame of the annotations counts, those without an entry as frames where nothing was found.
    The numbers are pycocotools' on the same files with annotation ids renumbered from 1: at most
    100 detections per class and frame.

    Raises:
        DataError: a file that cannot be read, or the first broken entry, named by its position.
    """
    reporter = reporter or SilentReporter()
    annotations, predictions = Path(annotations), Path(predictions)
    truth = GroundTruth.load(annotations)
    table = read_results(predictions, truth, reporter)
    scores = score(truth, table, reporter)
    return Evaluation(
        boxes=scores.boxes,
        motion=scores.motion,
        degradation=scores.degradation,
        annotations=annotations,
        predictions=predictions,
        truth=truth,
        table=table,
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """Everything that detections are scored by; see `Evaluation`."""

    boxes: BoxAP
    motion: dict[str, Any]
    degradation: dict[str, Any]


def score(truth: GroundTruth, table: DetectionTable, reporter: Reporter) -> Scores:
    """Compute, and say so first: it takes a while on a large set."""
    reporter.message(f"scoring {len(table):,} detections in {len(truth.image_ids):,} frames")
    ranking = rank_all(table, len(truth.category_ids))
    try:
        motion_iou = known_motion_iou(truth)
    except UnknownMotionError as error:
        (curves,) = precision_and_recall(truth, table, ranking, [uncounted(truth)])
        motion: dict[str, Any] = {"coco": None, "fgfa": None, "unknown": str(error)}
    else:
        ignored = [uncounted(truth), *ignored_by_speed(truth, motion_iou)]
        curves, *of_speeds = precision_and_recall(truth, table, ranking, ignored)
        motion = motion_ap(truth, table, ranking, motion_iou, of_speeds)
    return Scores(box_ap(truth, curves, len(table)), motion, degradation_ap(truth, table))
