"""COCO results files: a JSON list of {image_id, category_id, bbox, score}."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.coco import BoxAPEvaluator
from sparsevod_core.evaluation.json_entries import (
    Id,
    box_xywh,
    finite,
    kind,
    position_of,
    read_json,
)


def read_results(path: Path, evaluator: BoxAPEvaluator) -> None:
    """Give every detection of a results file to `evaluator`; their order within a frame is kept.

    Raises:
        DataError: unreadable file, or the first entry that is broken or names an image or class
            that the ground truth does not have.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: not a COCO results file: expected a list, got {kind(entries)}",
            hint='each entry is {"image_id": 1, "category_id": 1, "bbox": [x, y, w, h], '
            '"score": 0.5}, as `sparsevod eval CKPT --save-predictions` writes them',
        )
    truth = evaluator.truth
    image_at = {id_: position for position, id_ in enumerate(truth.image_ids)}
    category_at = {id_: position for position, id_ in enumerate(truth.category_ids)}
    among_images = f"among the images of {truth.path}"
    among_categories = f"among the categories of {truth.path}"
    frames: dict[int, list[tuple[list[float], float, Id]]] = defaultdict(list)
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        image = position_of(entry, "image_id", image_at, where, among_images)
        category = position_of(entry, "category_id", category_at, where, among_categories)
        frames[image].append(
            (box_xywh(entry, where), finite(entry, "score", where), truth.category_ids[category])
        )
    for image, detections in frames.items():
        boxes, scores, categories = zip(*detections, strict=True)
        evaluator.update(truth.image_ids[image], np.array(boxes), np.array(scores), categories)
