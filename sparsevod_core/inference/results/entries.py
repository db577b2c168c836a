"""A detection as the words and numbers that files hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.structures import Category, Detections, FrameDetections


def rounded(
    detections: Detections, categories: Sequence[Category]
) -> Iterator[tuple[tuple[float, float, float, float], float, Category]]:
    """Box (xyxy, to a thousandth of a pixel), score (to a millionth) and class of each."""
    values = zip(
        detections.boxes_xyxy.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        strict=True,
    )
    for box, score, label in values:
        x1, y1, x2, y2 = (round(value, 3) for value in box)
        yield (x1, y1, x2, y2), round(score, 6), categories[label]


def frame_entry(
    found: FrameDetections, time_s: Fraction | None, categories: Sequence[Category]
) -> dict[str, Any]:
    """A frame as the JSON files have it: index, time_s and detections."""
    return {
        "index": found.frame.index,
        "time_s": None if time_s is None else float(time_s),
        "detections": [
            {"box_xyxy": list(box), "score": score, "label": category.name, "class_id": category.id}
            for box, score, category in rounded(found.detections, categories)
        ],
    }


def header_entry(
    schema: str, header: dict[str, Any], categories: Sequence[Category]
) -> dict[str, Any]:
    """What JSON files say before the first frame."""
    classes = [{"id": category.id, "name": category.name} for category in categories]
    return {"schema": schema, **header, "categories": classes}
