"""COCO's results format, for pycocotools and `sparsevod eval --from-predictions`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, FrameDetections


class CocoResults:
    """List of {image_id, category_id, bbox, score}, with tracking also track_id (or null).

    `image_id` is the frame's index, from 0; `category_id` is the class's id in the annotations that
    the model was trained on; `bbox` is [x, y, width, height] in pixels.
    """

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._categories = categories
        self._is_first = True

    def start(self) -> str:
        return "["

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        text = ""
        entries = rounded(found.detections, self._categories)
        for (x1, y1, x2, y2), score, category, track_id in entries:
            entry = {
                "image_id": found.index,
                "category_id": category.id,
                "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                "score": score,
            }
            if found.track_ids is not None:
                entry["track_id"] = track_id
            text += ("\n" if self._is_first else ",\n") + json.dumps(entry, allow_nan=False)
            self._is_first = False
        return text

    def end(self, *, truncated: bool) -> list[str]:
        return ["\n]\n"]
