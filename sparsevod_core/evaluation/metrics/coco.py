"""COCO's box AP: detections in, frame by frame; pycocotools' numbers out, to the last digit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.json_fields import Id
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.average_precision import (
    IOU_THRESHOLDS,
    RECALL_POINTS,
    PrecisionRecall,
    mean_of_known,
    precision_and_recall,
    uncounted,
)
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable, compact_positions
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.ranking import rank_all


@dataclass(frozen=True, slots=True)
class ClassAP:
    """AP of one class, 0..1; NaN where the class has no boxes."""

    AP: float
    AP50: float
    AP75: float
    num_boxes: int


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionCurves:
    """Interpolated precision (the highest at this recall or beyond), of K classes.

    Attributes:
        ious: 0.50, 0.55 .. 0.95.
        recall: 0.00, 0.01 .. 1.00.
        precision: 0..1; NaN for a class without boxes.
    """

    ious: Float[np.ndarray, 10]
    recall: Float[np.ndarray, 101]
    precision: Float[np.ndarray, "10 101 K"]


@dataclass(frozen=True, slots=True)
class BoxAP:
    """COCO's numbers for boxes of all sizes, 0..1. NaN where nothing was there to be found.

    Attributes:
        AP: mean over IoU 0.50, 0.55 .. 0.95 and over the classes that have boxes.
        AP50: the same at IoU 0.50.
        AP75: the same at IoU 0.75.
        AR1: mean recall with the best detection of each class and frame.
        AR10: mean recall with the ten best.
        AR100: mean recall with the hundred best.
        per_class: by class name, in the annotations' order.
        num_frames: frames scored, those without boxes or detections included.
        num_boxes: ground-truth boxes, crowds left out.
        num_detections: as given, before COCO's limit of 100 per class and frame.
        AP_by_iou: AP at each IoU alone, by "0.50", "0.55" .. "0.95".
        curves: precision against recall, for figures; not in the JSON.
    """

    AP: float
    AP50: float
    AP75: float
    AR1: float
    AR10: float
    AR100: float
    per_class: dict[str, ClassAP]
    num_frames: int
    num_boxes: int
    num_detections: int
    AP_by_iou: dict[str, float]
    curves: PrecisionCurves = field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: None stands in for it."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "curves"}
        per_class = {name: asdict(one) for name, one in self.per_class.items()}
        return nan_to_none(numbers | {"per_class": per_class})


class _FrameBoxes(NamedTuple):
    boxes_xywh: Float[np.ndarray, "M 4"]
    scores: Float[np.ndarray, " M"]
    categories: Int[np.ndarray, " M"]


class BoxAPEvaluator:
    """Collects detections and scores them against the ground truth.

    Every frame of the ground truth counts, whether `update` was called for it or not. Processes
    that share the work each fill their own and `merge` them; the numbers do not depend on who saw
    which frame.

    Args:
        truth: what is there to be found.
    """

    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self._image_at = {id_: position for position, id_ in enumerate(truth.image_ids)}
        self._category_at = {id_: position for position, id_ in enumerate(truth.category_ids)}
        self._found: dict[int, _FrameBoxes] = {}

    @property
    def num_detections(self) -> int:
        """How many detections have been given so far."""
        return sum(len(frame.scores) for frame in self._found.values())

    def update(
        self,
        image_id: Id,
        boxes_xywh: Float[np.ndarray, "M 4"],
        scores: Float[np.ndarray, " M"],
        category_ids: Sequence[Id],
    ) -> None:
        """Add all detections of one frame, once; equal scores rank in the order given.

        Boxes are in pixels and in COCO's xywh, float64 where the source has it: a detour through
        xyxy costs the last digit, and with it the match of a box that overlaps by exactly 0.5.

        Raises:
            DataError: a box or score that is not finite.
            ValueError: an unknown image or category, or an image given twice.
        """
        if image_id not in self._image_at:
            raise ValueError(f"image {image_id!r} is not in {self.truth.path}")
        image = self._image_at[image_id]
        if image in self._found:
            raise ValueError(f"image {image_id!r}: its detections were already given")
        if unknown := set(category_ids) - self._category_at.keys():
            raise ValueError(f"image {image_id!r}: categories {unknown} are not in the annotations")
        if not (np.isfinite(boxes_xywh).all() and np.isfinite(scores).all()):
            raise DataError(
                f"image {image_id!r}: some detections have boxes or scores that are not finite",
                hint="the weights may have diverged: look at the loss in the run's metrics.jsonl",
            )
        categories = [self._category_at[id_] for id_ in category_ids]
        self._found[image] = _FrameBoxes(
            np.asarray(boxes_xywh, dtype=np.float64),
            np.asarray(scores, dtype=np.float64),
            np.array(categories, dtype=compact_positions(len(self._category_at))),
        )

    def merge(self, other: BoxAPEvaluator) -> None:
        """Take over what another process collected on frames of its own.

        Raises:
            ValueError: another ground truth, or frames that both have.
        """
        if other.truth.image_ids != self.truth.image_ids:
            raise ValueError("the evaluators score different images")
        if both := self._found.keys() & other._found.keys():
            raise ValueError(f"{len(both)} images were given to both evaluators")
        self._found.update(other._found)

    def table(self) -> DetectionTable:
        """Everything collected so far, by frame."""
        order = sorted(self._found)
        found = [self._found[image] for image in order]
        counts = [len(frame.scores) for frame in found]
        images = np.repeat(np.array(order, dtype=np.int32), counts)
        dtype = compact_positions(len(self.truth.category_ids))
        return DetectionTable.grouped(
            len(self.truth.image_ids),
            images,
            np.concatenate([np.zeros(0, dtype), *(frame.categories for frame in found)]),
            np.concatenate([np.zeros((0, 4)), *(frame.boxes_xywh for frame in found)]),
            np.concatenate([np.zeros(0), *(frame.scores for frame in found)]),
        )

    def compute(self) -> BoxAP:
        """Score everything collected so far."""
        table = self.table()
        ranking = rank_all(table, len(self.truth.category_ids))
        curves = precision_and_recall(self.truth, table, ranking, [uncounted(self.truth)])
        return box_ap(self.truth, curves[0], len(table))


def box_ap(truth: GroundTruth, curves: PrecisionRecall, num_detections: int) -> BoxAP:
    """COCO's numbers from the curves of all classes."""
    precision, recall = curves.precision, curves.recall
    counted = np.bincount(
        truth.categories[~truth.is_crowd], minlength=len(truth.category_ids)
    ).tolist()
    return BoxAP(
        AP=mean_of_known(precision),
        AP50=mean_of_known(precision[AT_50]),
        AP75=mean_of_known(precision[AT_75]),
        AR1=mean_of_known(recall[..., 0]),
        AR10=mean_of_known(recall[..., 1]),
        AR100=mean_of_known(recall[..., 2]),
        per_class={
            name: ClassAP(
                AP=mean_of_known(precision[:, :, k]),
                AP50=mean_of_known(precision[AT_50, :, k]),
                AP75=mean_of_known(precision[AT_75, :, k]),
                num_boxes=counted[k],
            )
            for k, name in enumerate(truth.category_names)
        },
        num_frames=len(truth.image_ids),
        num_boxes=sum(counted),
        num_detections=num_detections,
        AP_by_iou={
            f"{iou:.2f}": mean_of_known(at)
            for iou, at in zip(IOU_THRESHOLDS, precision, strict=True)
        },
        curves=PrecisionCurves(IOU_THRESHOLDS, RECALL_POINTS, precision),
    )


AT_50, AT_75 = 0, 5
"""Where these stand among `IOU_THRESHOLDS`."""


def nan_to_none(value: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
