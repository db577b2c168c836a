"""Detections as other libraries represent them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sparsevod_core.errors import ConfigError
from sparsevod_core.structures import Category, Detections, FrameDetections

if TYPE_CHECKING:
    import supervision


def to_torch(detections: Detections | FrameDetections) -> dict[str, Tensor]:
    """Return what torchvision's detectors do: `boxes` [M, 4] xyxy, `scores` [M], `labels` [M].

    Labels are positions in `Predictor.categories`.
    """
    return {
        "boxes": torch.from_numpy(detections.boxes_xyxy),
        "scores": torch.from_numpy(detections.scores),
        "labels": torch.from_numpy(detections.labels),
    }


def to_coco(detections: Detections | FrameDetections, *, image_id: int) -> list[dict[str, Any]]:
    """Return entries of COCO's results format, for pycocotools and `sparsevod eval`.

    `category_id` is the class's id in the annotations that the model was trained on. Tracked
    detections also have `track_id`, None if it is not known.

    Args:
        detections: Detections of one frame.
        image_id: Id of the frame in the annotations.

    Raises:
        ConfigError: Detections without categories.
    """
    categories = _categories(detections)
    boxes = detections.boxes_xyxy.astype(float)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    entries: list[dict[str, Any]] = []
    for box, one in zip(boxes_xywh.tolist(), detections, strict=True):
        category_id = categories[one.label].id
        entry = {"image_id": image_id, "category_id": category_id, "bbox": box, "score": one.score}
        if detections.track_ids is not None:
            entry["track_id"] = one.track_id
        entries.append(entry)
    return entries


def to_supervision(detections: Detections | FrameDetections) -> supervision.Detections:
    """Return `supervision.Detections` of one frame, for its trackers, zones and annotators.

    `class_id` is the position in `Predictor.categories`, `data["class_name"]` the name. Tracked
    detections have `tracker_id`, -1 if it is not known.

    Raises:
        ConfigError: The package `supervision` is not installed, or detections without categories.
    """
    try:
        import supervision
    except ImportError as error:
        raise ConfigError(
            "supervision is not installed", hint="pip install 'sparsevod[supervision]'"
        ) from error
    categories = _categories(detections)
    names = [categories[label].name for label in detections.labels.tolist()]
    return supervision.Detections(
        xyxy=detections.boxes_xyxy,
        confidence=detections.scores,
        class_id=detections.labels.astype(int),
        tracker_id=detections.track_ids,
        data={"class_name": np.array(names, dtype=str)},
    )


def _categories(detections: Detections | FrameDetections) -> tuple[Category, ...]:
    if len(detections) and not detections.categories:
        raise ConfigError(
            "the detections carry no categories",
            hint="use Detections(..., categories=predictor.categories)",
        )
    return detections.categories
