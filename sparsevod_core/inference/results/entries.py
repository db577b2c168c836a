"""Detections as rounded values for text files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

from sparsevod_core.structures import Category, Detections


def rounded(
    detections: Detections, categories: Sequence[Category]
) -> Iterator[tuple[tuple[float, float, float, float], float, Category, int | None]]:
    """Yield box (xyxy, to 0.001 pixels), score (to 0.000001), class and track of each detection.

    The track is None where it is not known.
    """
    track_ids = detections.track_ids
    values = zip(
        detections.boxes_xyxy.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        repeat(-1, len(detections)) if track_ids is None else track_ids.tolist(),
        strict=True,
    )
    for box, score, label, track_id in values:
        x1, y1, x2, y2 = (round(value, 3) for value in box)
        track = None if track_id < 0 else track_id
        yield (x1, y1, x2, y2), round(score, 6), categories[label], track
