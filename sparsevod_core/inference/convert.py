"""Detections in the forms of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sparsevod_core.errors import ConfigError
from sparsevod_core.structures import Category, Detections, FrameDetections

if TYPE_CHECKING:
    import supervision


def to_torch(detections: Detections | FrameDetections) -> dict[str, Tensor]:
    """As torchvision's detectors give them: `boxes` [M, 4] xyxy, `scores` [M], `labels` [M].

    Labels are positions in `Predictor.categories`.
    """
    return {
        "boxes": torch.from_numpy(detections.boxes_xyxy),
        "scores": torch.from_numpy(detections.scores),
        "labels": torch.from_numpy(detections.labels),
    }


def to_coco(
    detections: Detections | FrameDetections, categories: Sequence[Category], image_id: int
) -> list[dict[str, Any]]:
    """Entries of COCO's results format, which pycocotools and `sparsevod eval` read.

    Args:
        detections: of one frame.
        categories: `Predictor.categories`; `category_id` is the id in the annotations.
        image_id: of the frame in the annotations.
    """
    boxes = detections.boxes_xyxy.astype(float)
    corners_and_sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    entries = zip(
        corners_and_sizes.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        strict=True,
    )
    return [
        {"image_id": image_id, "category_id": categories[label].id, "bbox": box, "score": score}
        for box, score, label in entries
    ]


def to_supervision(
    detections: Detections | FrameDetections, categories: Sequence[Category]
) -> supervision.Detections:
    """`supervision.Detections`, for its trackers, zones and annotators.

    `class_id` is the position in `categories`, `data["class_name"]` the name.

    Args:
        detections: of one frame.
        categories: `Predictor.categories`.

    Raises:
        ConfigError: the package `supervision` is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ConfigError(
            "supervision is not installed", hint="pip install 'sparsevod[supervision]'"
        ) from error
    names = [categories[label].name for label in detections.labels.tolist()]
    return supervision.Detections(
        xyxy=detections.boxes_xyxy,
        confidence=detections.scores,
        class_id=detections.labels.astype(int),
        data={"class_name": np.array(names, dtype=str)},
    )
