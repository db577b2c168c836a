"""Detections as rounded values for text files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sparsevod_core.structures import Category, Detections


def rounded(
    detections: Detections, categories: Sequence[Category]
) -> Iterator[tuple[tuple[float, float, float, float], float, Category]]:
    """Yield box (xyxy, to 0.001 pixels), score (to 0.000001) and class of each detection."""
    values = zip(
        detections.boxes_xyxy.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        strict=True,
    )
    for box, score, label in values:
        x1, y1, x2, y2 = (round(value, 3) for value in box)
        yield (x1, y1, x2, y2), round(score, 6), categories[label]
