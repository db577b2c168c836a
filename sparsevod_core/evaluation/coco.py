"""COCO's box AP: detections in, frame by frame; pycocotools' numbers out."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.ground_truth import GroundTruth
from sparsevod_core.evaluation.json_entries import Id


@dataclass(frozen=True, slots=True)
class ClassAP:
    """AP of one class, 0..1; NaN where the class has no boxes."""

    AP: float
    AP50: float
    AP75: float
    num_boxes: int


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

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: None stands in for it."""
        return _nan_to_none(dataclasses.asdict(self))


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
            np.array(categories, dtype=np.int64),
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

    def compute(self) -> BoxAP:
        """Score everything collected so far, with pycocotools."""
        precision, recall = self._score()
        truth = self.truth
        counted = np.bincount(
            truth.categories[~truth.is_crowd], minlength=len(truth.category_ids)
        ).tolist()
        return BoxAP(
            AP=_mean(precision),
            AP50=_mean(precision[_AT_50]),
            AP75=_mean(precision[_AT_75]),
            AR1=_mean(recall[..., 0]),
            AR10=_mean(recall[..., 1]),
            AR100=_mean(recall[..., 2]),
            per_class={
                name: ClassAP(
                    AP=_mean(precision[:, :, k]),
                    AP50=_mean(precision[_AT_50, :, k]),
                    AP75=_mean(precision[_AT_75, :, k]),
                    num_boxes=counted[k],
                )
                for k, name in enumerate(truth.category_names)
            },
            num_frames=len(truth.image_ids),
            num_boxes=sum(counted),
            num_detections=self.num_detections,
        )

    def _score(self) -> tuple[Float[np.ndarray, "10 101 K"], Float[np.ndarray, "10 K 3"]]:
        """Precision by IoU, recall and class; recall at 1, 10, 100 detections. -1: no boxes."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        header = {
            "images": [{"id": position} for position in range(len(self.truth.image_ids))],
            "categories": [{"id": position} for position in range(len(self.truth.category_ids))],
        }
        truth, found = COCO(), COCO()
        truth.dataset = header | {"annotations": list(self._truth_entries())}
        found.dataset = header | {"annotations": list(self._found_entries())}
        with contextlib.redirect_stdout(io.StringIO()):  # it reports by print
            truth.createIndex()
            found.createIndex()
            scoring = COCOeval(truth, found, "bbox")
            # Boxes of all sizes only: COCO's three other size ranges would triple the time.
            scoring.params.areaRng = scoring.params.areaRng[:1]
            scoring.params.areaRngLbl = scoring.params.areaRngLbl[:1]
            scoring.evaluate()
            scoring.accumulate()
        return scoring.eval["precision"][:, :, :, 0, -1], scoring.eval["recall"][:, :, 0, :]

    def _truth_entries(self) -> Iterator[dict[str, Any]]:
        truth = self.truth
        # pycocotools marks a match with the annotation's id, so that a match to id 0 counts as a
        # miss: ids are renumbered from 1.
        columns = zip(
            truth.images.tolist(),
            truth.categories.tolist(),
            truth.boxes_xywh.tolist(),
            truth.areas.tolist(),
            truth.is_crowd.tolist(),
            strict=True,
        )
        for id_, (image, category, box, area, crowd) in enumerate(columns, start=1):
            yield {
                "id": id_,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }

    def _found_entries(self) -> Iterator[dict[str, Any]]:
        id_ = 0
        for image, frame in self._found.items():
            columns = zip(*(column.tolist() for column in frame), strict=True)
            for box, score, category in columns:
                id_ += 1
                yield {
                    "id": id_,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "score": score,
                    "area": box[2] * box[3],
                }


_AT_50, _AT_75 = 0, 5  # where these stand among 0.50, 0.55 .. 0.95


def _mean(values: np.ndarray) -> float:
    """Over what is there: pycocotools writes -1 where a class has no boxes."""
    present = values[values > -1]
    return float(present.mean()) if present.size else math.nan


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
